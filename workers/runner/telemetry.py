"""What a worker shows to Prometheus: what it has committed, what it holds, and what waits.

Counts what the ledger takes and reads the rest when it is asked, so that a worker that nobody asks does nothing for it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

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
from defsurvey.storage.runs.outbox import Waiting, remaining, waiting_by_model
from defsurvey.storage.runs.run import Answer, Participant
from defsurvey.workers.engines.base import Counting, Engine
from defsurvey.workers.engines.machine import resolved
from defsurvey.workers.runner.dead_letters import counts
from defsurvey.workers.runner.participant_runner import ParticipantRunner

log = logging.getLogger(__name__)

#: Upper ends in seconds of the classes into which the time for an answer is counted.
ANSWER_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class MetricsUnavailable(BadInput, ValueError):
    """Nothing can be shown at the address that was given; the message names it."""


class CountedLedger(Ledger):
    """A ledger that counts what it takes and what it refuses, in metrics of the registry."""

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
        """Take a participant up, and count whether there was something to take."""
        held = super().claim(participant)
        self._claims.labels("nothing to do" if held is None else "claimed").inc()
        return held

    def checkpoint(
        self, held: Participant, answer: Answer, memory: tuple[int, ...], more: Sequence[Answer] = ()
    ) -> None:
        """Commit an answer and count it, or that it was refused."""
        with self._counted(held, (answer, *more)):
            super().checkpoint(held, answer, memory, more)

    def replace(self, held: Participant, answer: Answer) -> None:
        """Commit an answer that was asked again and count it, or that it was refused."""
        with self._counted(held, (answer,)):
            super().replace(held, answer)

    @contextmanager
    def _counted(self, held: Participant, answers: Sequence[Answer]) -> Iterator[None]:
        try:
            yield
        except StaleLease:
            self._fenced.inc()
            raise
        model = held.cell.model
        for answer in answers:
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


#: Metrics of what waits for each model: name, what it is, attribute of ``storage.runs.outbox.Waiting``.
_BACKLOG = (
    ("backlog_participants", "Participants that nobody holds.", "participants"),
    ("backlog_answers", "Answers that participants whom nobody holds still have to give.", "answers"),
    ("queue_wait_seconds", "Seconds for which the oldest message waits.", "seconds"),
)
#: Metrics of the transformers engine: name of its counter, what it is.
_BATCH = {
    "steps": "Forwards.",
    "rows": "Tokens computed over all forwards, prompts included; by steps: the mean number of rows in a forward.",
    "beam_rows": "Rows of beams over all forwards; by steps: the mean number of beams in a forward.",
    "prefilled_tokens": "Tokens of prompts computed.",
    "reused_tokens": "Tokens of prompts taken over from earlier ones.",
    "reply_tokens": "Tokens of finished replies.",
    "restarted": "Requests begun again, for want of memory or after a failure.",
}


class Gauges(Collector):
    """What is read at the moment it is asked for.

    Args:
        stage: whose leases and engine are shown.
        database: where the backlog is seen.
        device: see ``workers.engines.machine.resolved``.
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
        model, engine = self._stage.resident
        yield _gauge("model_resident", "1 for the model in memory.", {} if engine is None else {model: 1})
        yield from _batch(model, engine)
        yield from _device_memory(self._device)
        yield from self._backlog()
        letters: dict[str, int] = {}
        try:
            letters = counts(self._broker)
        except redis.RedisError as error:
            log.warning("metrics: dead letters: %s", error)
        yield _counter("dead_letters", "Items of the broker's queues that were not messages of ours.", "queue", letters)

    def _backlog(self) -> Iterator[Metric]:
        found: Sequence[Waiting] = ()
        to_come: Mapping[str, int] = {}
        up = 1
        try:
            found, to_come = waiting_by_model(self._database), remaining(self._database)
        except SQLAlchemyError as error:
            log.warning("metrics: backlog: %s", getattr(error, "orig", None) or error)
            up = 0
        yield GaugeMetricFamily("defsurvey_database_up", "1 while the database answers.", value=up)
        for name, what, attribute in _BACKLOG:
            yield _gauge(name, what, {each.model: getattr(each, attribute) for each in found})
        yield _gauge("remaining_answers", "Answers still to be given, whoever holds the participant.", to_come)


def _gauge(name: str, what: str, values: Mapping[str, float]) -> Metric:
    """A gauge with a value for each model."""
    family = GaugeMetricFamily(f"defsurvey_{name}", what, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def _counter(name: str, what: str, label: str, values: Mapping[str, float], of: tuple[str, ...] = ()) -> Metric:
    """A counter with a value for each value of a label, under the model ``of`` where there is one."""
    family = CounterMetricFamily(f"defsurvey_{name}", what, labels=[*(["model"] if of else []), label])
    for key, value in values.items():
        family.add_metric([*of, key], value)
    return family


def _batch(model: str, engine: Engine | None) -> Iterator[Metric]:
    """The counters of an engine that batches; they begin anew with every model that is loaded."""
    if not isinstance(engine, Counting):
        return
    read = engine.counters()
    for name, what in _BATCH.items():
        yield _counter(f"batch_{name}", what, "model", {model: getattr(read, name)})
    yield _counter("batch_seconds", "Seconds by phase of a step.", "phase", read.seconds, (model,))
    yield _gauge("batch_kv_bytes", "Keys and values held now.", {model: read.kv_bytes})


def _device_memory(device: str) -> Iterator[Metric]:
    """A GPU's memory; on the CPU the process's own (``process_resident_memory_bytes``) says it."""
    torch = sys.modules.get("torch")
    if torch is None or not (device := resolved(device)).startswith("cuda"):
        return
    memory = GaugeMetricFamily("defsurvey_device_memory_bytes", "The GPU's memory.", labels=["device", "kind"])
    free, total = torch.cuda.mem_get_info(device)
    for kind, size in (("total", total), ("used", total - free), ("tensors", torch.cuda.memory_allocated(device))):
        memory.add_metric([device, kind], size)
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
