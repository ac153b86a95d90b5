"""What a worker shows to Prometheus: what it has committed, what it holds, and what waits.

Counts what the ledger takes and reads the rest when it is asked, so that a worker that nobody asks does nothing for it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence

import redis
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.storage.database import Database
from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs.ledger import LEASE_SECONDS, Ledger, StaleLease
from defsurvey.storage.runs.run import Answer, Participant
from defsurvey.storage.runs.waiting import remaining, waiting
from defsurvey.workers.engines.base import Counting, Engine
from defsurvey.workers.engines.device import resolved
from defsurvey.workers.runner.dead_letters import counts
from defsurvey.workers.runner.participant_runner import ParticipantRunner

log = logging.getLogger(__name__)

#: Upper ends in seconds of the classes into which the time for an answer is counted.
ANSWER_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class MetricsUnavailable(BadInput, ValueError):
    """Nothing can be shown at the address that was given; the message names it."""


class CountedLedger(Ledger):
    """A ledger that counts what it takes and what it refuses.

    Args:
        database: where the ledger is kept.
        owner: name of the process that claims.
        ttl: seconds for which a claim holds without a heartbeat.
        registry: gets the counters.
    """

    def __init__(
        self, database: Database, *, owner: str, ttl: float = LEASE_SECONDS, registry: CollectorRegistry
    ) -> None:
        super().__init__(database, owner=owner, ttl=ttl)
        self._answers = Counter(
            "defsurvey_answers", "Answers committed, by how they ended.", ("model", "state"), registry=registry
        )
        self._tokens = Counter(
            "defsurvey_tokens",
            "Tokens of prompts and completions whose answers were committed.",
            ("model", "kind"),
            registry=registry,
        )
        self._seconds = Histogram(
            "defsurvey_answer_seconds",
            "Seconds from submitting a question to its completion.",
            ("model",),
            buckets=ANSWER_SECONDS,
            registry=registry,
        )
        self._claims = Counter(
            "defsurvey_claims",
            "Messages by whether their participant could be claimed.",
            ("outcome",),
            registry=registry,
        )
        self._fenced = Counter(
            "defsurvey_fenced_writes", "Answers refused because another worker has the participant.", registry=registry
        )

    def claim(self, participant: int) -> Participant | None:
        """Take a participant up, see ``Ledger.claim``, and count whether there was something to take."""
        held = super().claim(participant)
        self._claims.labels("nothing to do" if held is None else "claimed").inc()
        return held

    def checkpoint(
        self, held: Participant, answer: Answer, memory: tuple[int, ...], more: Sequence[Answer] = ()
    ) -> None:
        """Commit an answer, see ``Ledger.checkpoint``, and count it; a refused one is counted as fenced."""
        try:
            super().checkpoint(held, answer, memory, more)
        except StaleLease:
            self._fenced.inc()
            raise
        for one in (answer, *more):
            self._count(held, one)

    def replace(self, held: Participant, answer: Answer) -> None:
        """Commit an answer that was asked again, see ``Ledger.replace``, and count it."""
        try:
            super().replace(held, answer)
        except StaleLease:
            self._fenced.inc()
            raise
        self._count(held, answer)

    def _count(self, held: Participant, answer: Answer) -> None:
        model = held.cell.model
        self._answers.labels(model, answer.state.value).inc()
        self._seconds.labels(model).observe(answer.seconds)
        for kind, tokens in (("prompt", answer.prompt_tokens), ("completion", answer.completion_tokens)):
            if tokens is not None:
                self._tokens.labels(model, kind).inc(tokens)


def new_registry() -> CollectorRegistry:
    """A registry of this process alone, with what every process shows: memory, CPU time, open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def show(registry: CollectorRegistry, address: tuple[str, int]) -> Callable[[], None]:
    """Answer Prometheus at that host and port. Returns what ends it.

    Raises:
        MetricsUnavailable: the port is taken, or is not ours to take.
    """
    host, port = address
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise MetricsUnavailable(f"--metrics {host}:{port}: {error.strerror or error}") from None
    log.info("metrics: http://%s:%d/metrics", host, port)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


class Gauges(Collector):
    """What is read at the moment it is asked for.

    Args:
        stage: whose leases and engine are shown.
        database: where the backlog is seen.
        device: see ``workers.engines.device.resolved``.
        broker: where dead letters are counted.
    """

    def __init__(self, stage: ParticipantRunner, *, database: Database, device: str, broker: redis.Redis) -> None:
        self._stage = stage
        self._database = database
        self._device = device
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Every metric, read now; without the backlog while the database is away."""
        yield GaugeMetricFamily("defsurvey_leases", "Participants in flight.", value=self._stage.in_flight)
        yield CounterMetricFamily("defsurvey_model_loads", "Engines opened.", value=self._stage.loads)
        resident = GaugeMetricFamily("defsurvey_model_resident", "1 for the model in memory.", labels=["model"])
        model, engine = self._stage.resident
        if engine is not None:
            resident.add_metric([model], 1)
        yield resident
        yield from _batch(model, engine)
        yield from _device_memory(self._device)
        yield from self._backlog()
        yield from _dead_letters(self._broker)

    def _backlog(self) -> Iterator[Metric]:
        try:
            found, to_come = waiting(self._database), remaining(self._database)
        except SQLAlchemyError as error:
            log.warning("metrics: backlog: %s", getattr(error, "orig", None) or error)
            found, to_come = None, {}
        up = "1 while the database answers."
        yield GaugeMetricFamily("defsurvey_database_up", up, value=0 if found is None else 1)
        participants = GaugeMetricFamily(
            "defsurvey_backlog_participants", "Participants that nobody holds.", labels=["model"]
        )
        answers = GaugeMetricFamily(
            "defsurvey_backlog_answers",
            "Answers that participants whom nobody holds still have to give.",
            labels=["model"],
        )
        all_answers = GaugeMetricFamily(
            "defsurvey_remaining_answers", "Answers still to be given, whoever holds the participant.", labels=["model"]
        )
        seconds = GaugeMetricFamily(
            "defsurvey_queue_wait_seconds", "Seconds for which the oldest message waits.", labels=["model"]
        )
        for model in found or ():
            participants.add_metric([model.model], model.participants)
            answers.add_metric([model.model], model.answers)
            seconds.add_metric([model.model], model.seconds)
        for name, number in to_come.items():
            all_answers.add_metric([name], number)
        yield from (participants, answers, all_answers, seconds)


def _dead_letters(broker: redis.Redis) -> Iterator[Metric]:
    letters = CounterMetricFamily(
        "defsurvey_dead_letters", "Items of the broker's queues that were not messages of ours.", labels=["queue"]
    )
    try:
        for queue, number in counts(broker).items():
            letters.add_metric([queue], number)
    except redis.RedisError as error:
        log.warning("metrics: dead letters: %s", error)
    yield letters


#: Of the transformers engine's counters: name here, what it is.
_BATCH = {
    "steps": "Forwards.",
    "rows": "Tokens computed over all forwards, prompts included; by steps: the mean number of rows in a forward.",
    "beam_rows": "Rows of beams over all forwards; by steps: the mean number of beams in a forward.",
    "prefilled_tokens": "Tokens of prompts computed.",
    "reused_tokens": "Tokens of prompts taken over from earlier ones.",
    "reply_tokens": "Tokens of finished replies.",
    "restarted": "Requests begun again, for want of memory or after a failure.",
}


def _batch(model: str, engine: Engine | None) -> Iterator[Metric]:
    """The counters of an engine that batches; they begin anew with every model that is loaded."""
    loaded = "defsurvey.workers.engines.transformers.engine" in sys.modules  # torch is not loaded to find out
    if engine is None or not loaded:
        return
    from defsurvey.workers.engines.transformers.engine import TransformersEngine

    if not isinstance(engine, TransformersEngine):
        return
    read = engine.counters()
    for name, what in _BATCH.items():
        family = CounterMetricFamily(f"defsurvey_batch_{name}", what, labels=["model"])
        family.add_metric([model], getattr(read, name))
        yield family
    phases = CounterMetricFamily("defsurvey_batch_seconds", "Seconds by phase of a step.", labels=["model", "phase"])
    for phase, seconds in read.seconds.items():
        phases.add_metric([model, phase], seconds)
    yield phases
    kept = GaugeMetricFamily("defsurvey_batch_kv_bytes", "Keys and values held now.", labels=["model"])
    kept.add_metric([model], read.kv_bytes)
    yield kept


def _device_memory(device: str) -> Iterator[Metric]:
    """A GPU's memory; on the CPU the process's own (``process_resident_memory_bytes``) says it."""
    torch = sys.modules.get("torch")
    if torch is None or not (device := resolved(device)).startswith("cuda"):
        return
    memory = GaugeMetricFamily("defsurvey_device_memory_bytes", "The GPU's memory.", labels=["device", "kind"])
    free, total = torch.cuda.mem_get_info(device)
    memory.add_metric([device, "total"], total)
    memory.add_metric([device, "used"], total - free)
    memory.add_metric([device, "tensors"], torch.cuda.memory_allocated(device))
    yield memory


def profile(model: str, engine: object) -> Iterator[str]:
    """Lines for a worker's log: what an engine has computed and where the time went."""
    if not isinstance(engine, Counting):
        yield f"profile of {model}: its engine counts nothing"
        return
    counters = engine.counters()
    busy = sum(seconds for phase, seconds in counters.seconds.items() if phase != "idle")
    yield (
        f"profile of {model}: {counters.finished} replies, {counters.reply_tokens} tokens in {busy:.1f} s"
        f" ({counters.tokens_per_second:.1f} tokens/s)"
    )
    if counters.finished and not counters.steps:
        yield f"  one request at a time; prompts: {counters.prefilled_tokens} tokens computed"
    else:
        yield (
            f"  {counters.steps} steps of {counters.rows_per_step:.1f} rows;"
            f" prompts: {counters.prefilled_tokens} tokens computed, {counters.reused_tokens} taken over"
        )
        yield (
            f"  keys and values: at most {counters.peak_kv_bytes / 1e6:.0f} MB; {counters.compactions} compactions,"
            f" {counters.restarted} requests begun again"
        )
    for phase, seconds in counters.seconds.items():
        share = f"{seconds / busy:6.1%}" if busy and phase != "idle" else ""
        yield f"  {phase:8} {seconds:9.2f} s {share}".rstrip()
