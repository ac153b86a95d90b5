"""What a worker shows to Prometheus: what it has committed, what it holds, and what waits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import prometheus_client as prometheus
import redis
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from defsurvey.storage.database import Database
from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs.ledger import LEASE_SECONDS, Backlog, Ledger, StaleLease, backlogs
from defsurvey.storage.runs.outbox import remaining
from defsurvey.storage.runs.run import Answer, Participant
from defsurvey.workers.engines.base import Counting, Engine
from defsurvey.workers.engines.machine import resolved
from defsurvey.workers.runner.dead_letters import counts
from defsurvey.workers.runner.lease import Leases
from defsurvey.workers.runner.resident import Resident

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

        def counter(name: str, what: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"defsurvey_{name}", what, labels, registry=registry)

        self._answers = counter("answers", "Answers committed, by how they ended.", "model", "state")
        tokens = "Tokens of prompts and completions whose answers were committed."
        self._tokens = counter("tokens", tokens, "model", "kind")
        self._claims = counter("claims", "Messages by whether their participant could be claimed.", "outcome")
        self._fenced = counter("fenced_writes", "Answers refused because another worker has the participant.")
        seconds = "Seconds from submitting a question to its completion."
        self._seconds = prometheus.Histogram(
            "defsurvey_answer_seconds", seconds, ("model",), buckets=ANSWER_SECONDS, registry=registry
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
    prometheus.ProcessCollector(registry=registry)
    prometheus.PlatformCollector(registry=registry)
    return registry


def show(registry: CollectorRegistry, address: tuple[str, int]) -> Callable[[], None]:
    """Answer Prometheus at that host and port. Returns what ends it; raises MetricsUnavailable."""
    host, port = address
    try:
        server, thread = prometheus.start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise MetricsUnavailable(f"--metrics {host}:{port}: {error.strerror or error}") from None
    log.info("metrics: http://%s:%d/metrics", host, port)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


_COUNTER = CounterMetricFamily
#: Metrics of what waits for each model: name, what it is, attribute of ``storage.runs.ledger.Backlog``.
_BACKLOG = (
    ("backlog_participants", "Participants that nobody holds.", "claimable"),
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
    """What is read at the moment it is asked for; ``broker`` counts dead letters."""

    def __init__(
        self, leases: Leases, resident: Resident, *, database: Database, device: str, broker: redis.Redis
    ) -> None:
        self._leases, self._resident = leases, resident
        self._database, self._device, self._broker = database, device, broker

    def collect(self) -> Iterator[Metric]:
        """Every metric, read now; without the backlog while the database is away."""
        yield GaugeMetricFamily("defsurvey_leases", "Participants in flight.", value=len(self._leases.holding()))
        yield CounterMetricFamily("defsurvey_model_loads", "Engines opened.", value=self._resident.loads)
        model, engine = self._resident.now
        yield _family("model_resident", "1 for the model in memory.", {} if engine is None else {(model,): 1})
        yield from _batch(model, engine)
        yield from _device_memory(self._device)
        yield from self._backlog()
        letters: dict[str, int] = {}
        try:
            letters = counts(self._broker)
        except redis.RedisError as error:
            log.warning("metrics: dead letters: %s", error)
        what = "Items of the broker's queues that were not messages of ours."
        yield _family("dead_letters", what, {(queue,): n for queue, n in letters.items()}, ("queue",), _COUNTER)

    def _backlog(self) -> Iterator[Metric]:
        found: Sequence[Backlog] = ()
        to_come: Mapping[str, int] = {}
        up = 1
        try:
            found = sorted(backlogs(self._database), key=lambda backlog: backlog.model)
            to_come = remaining(self._database)
        except SQLAlchemyError as error:
            log.warning("metrics: backlog: %s", getattr(error, "orig", None) or error)
            up = 0
        yield GaugeMetricFamily("defsurvey_database_up", "1 while the database answers.", value=up)
        for name, what, attribute in _BACKLOG:
            yield _family(name, what, {(each.model,): getattr(each, attribute) for each in found})
        what = "Answers still to be given, whoever holds the participant."
        yield _family("remaining_answers", what, {(model,): n for model, n in to_come.items()})


def _family(
    name: str,
    what: str,
    values: Mapping[tuple[str, ...], float],
    labels: tuple[str, ...] = ("model",),
    kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    """A metric with a value for each of some labels."""
    family = kind(f"defsurvey_{name}", what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _batch(model: str, engine: Engine | None) -> Iterator[Metric]:
    """The counters of an engine that batches; they begin anew with every model that is loaded."""
    if not isinstance(engine, Counting):
        return
    read = engine.counters()
    for name, what in _BATCH.items():
        yield _family(f"batch_{name}", what, {(model,): getattr(read, name)}, kind=_COUNTER)
    seconds = {(model, phase): spent for phase, spent in read.seconds.items()}
    yield _family("batch_seconds", "Seconds by phase of a step.", seconds, ("model", "phase"), _COUNTER)
    yield _family("batch_kv_bytes", "Keys and values held now.", {(model,): read.kv_bytes})


def _device_memory(device: str) -> Iterator[Metric]:
    """A GPU's memory; on the CPU the process's own (``process_resident_memory_bytes``) says it."""
    torch = sys.modules.get("torch")
    if torch is None or not (device := resolved(device)).startswith("cuda"):
        return
    free, total = torch.cuda.mem_get_info(device)
    sizes = {"total": total, "used": total - free, "tensors": torch.cuda.memory_allocated(device)}
    values: dict[tuple[str, ...], float] = {(device, kind): size for kind, size in sizes.items()}
    yield _family("device_memory_bytes", "The GPU's memory.", values, ("device", "kind"))


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
    yield (
        f"  {counters.steps} steps of {counters.rows_per_step:.1f} rows;"
        f" prompts: {counters.prefilled_tokens} tokens computed, {counters.reused_tokens} taken over"
    )
    yield (
        f"  keys and values: at most {counters.peak_kv_bytes / 1e6:.0f} MB; {counters.restarted} requests begun again"
    )
    for phase, seconds in counters.seconds.items():
        share = f"{seconds / busy:6.1%}" if busy and phase != "idle" else ""
        yield f"  {phase:8} {seconds:9.2f} s {share}".rstrip()
