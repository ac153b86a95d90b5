"""What a worker shows to Prometheus is what the ledger took, what the stage holds and what the engine counts."""

import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from defsurvey.jobs.broker import client_of
from defsurvey.storage.database import Database
from defsurvey.storage.runs.ledger import Ledger, StaleLease
from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine
from defsurvey.workers.runner import telemetry
from defsurvey.workers.runner.participant_runner import Outcome, ParticipantRunner
from defsurvey.workers.runner.telemetry import CountedLedger, Gauges, MetricsUnavailable, new_registry, profile, show
from tests.storage.what_is_there import answers_of
from tests.workers.working import add_run, make_stage, respondent

CARDS = {"quick": respondent("quick")}


@pytest.fixture
def registry() -> CollectorRegistry:
    return new_registry()


@pytest.fixture
def stage(database: Database, registry: CollectorRegistry) -> Iterator[ParticipantRunner]:
    made = make_stage(database, CARDS, [])
    made.ledger = CountedLedger(database, owner="here:1:token", registry=registry)
    away = client_of("redis+socket:///nowhere/broker.sock")
    registry.register(Gauges(made.leases, made.resident, database=database, device="cpu", broker=away))
    yield made
    made.close()


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"defsurvey_{name}", labels)


def test_answers_are_counted_as_they_are_committed(
    database: Database, stage: ParticipantRunner, registry: CollectorRegistry
) -> None:
    """By model and by how they ended; what waits becomes less, and what is held is read when asked for."""
    add_run(database)

    def of_model(name: str, **labels: str) -> float | None:
        return value(registry, name, model="quick", **labels)

    assert [of_model(f"backlog_{what}") for what in ("participants", "answers")] == [2, 8]
    assert (of_model("model_resident"), value(registry, "model_loads_total")) == (None, 0)
    elsewhere = Ledger(database, owner="there:2:b")
    held = elsewhere.claim(1)
    assert held is not None
    assert (of_model("backlog_answers"), of_model("remaining_answers")) == (4, 8)
    elsewhere.release(held)
    assert stage.simulate(1) is Outcome.FINISHED
    assert stage.simulate(1) is Outcome.NOT_CLAIMED
    assert (of_model("answers_total", state="answered"), of_model("answer_seconds_count")) == (4, 4)
    assert [value(registry, "claims_total", outcome=each) for each in ("claimed", "nothing to do")] == [1, 1]
    assert (of_model("backlog_answers"), of_model("queue_wait_seconds")) == (4, 0)
    assert (of_model("model_resident"), value(registry, "model_loads_total")) == (1, 1)
    assert (value(registry, "fenced_writes_total"), value(registry, "leases")) == (0, 0)
    assert registry.get_sample_value("process_resident_memory_bytes") is not None


def test_a_late_writer_is_counted_as_fenced(database: Database, registry: CollectorRegistry) -> None:
    add_run(database)
    late = CountedLedger(database, owner="here:1:late", registry=registry)
    stage = make_stage(database, CARDS, [])
    held = late.claim(1)
    assert held is not None
    late.release(held)
    stage.simulate(1)
    stage.close()
    first = answers_of(database, 1)[0]
    with pytest.raises(StaleLease):
        late.checkpoint(held, first, ())
    with pytest.raises(StaleLease):
        late.replace(held, first)
    assert value(registry, "fenced_writes_total") == 2
    assert value(registry, "answers_total", model="quick", state="answered") is None


def test_an_answer_asked_again_is_counted_with_its_tokens(
    registry: CollectorRegistry, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = CountedLedger(database, owner="here:1:x", registry=registry)
    monkeypatch.setattr(Ledger, "replace", lambda *_: None)
    held = cast(Any, SimpleNamespace(cell=SimpleNamespace(model="m")))
    state = SimpleNamespace(value="refused")
    for prompt, completion in ((100, 7), (None, None), (50, 3)):
        answer = SimpleNamespace(state=state, seconds=1.5, prompt_tokens=prompt, completion_tokens=completion)
        ledger.replace(held, cast(Any, answer))
    assert value(registry, "answers_total", model="m", state="refused") == 3
    assert value(registry, "tokens_total", model="m", kind="prompt") == 150
    assert value(registry, "tokens_total", model="m", kind="completion") == 10
    assert value(registry, "answer_seconds_sum", model="m") == 4.5


def test_without_the_database_everything_else_is_shown(
    stage: ParticipantRunner, registry: CollectorRegistry, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    assert value(registry, "database_up") == 1
    database.close()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE participant")
    assert value(registry, "database_up") == 0
    assert value(registry, "leases") == 0
    assert "metrics: backlog: no such table: participant" in caplog.text


def test_a_gpu_tells_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(mem_get_info=lambda _: (30, 80), memory_allocated=lambda _: 40)
    monkeypatch.setitem(telemetry.sys.modules, "torch", cast(Any, SimpleNamespace(cuda=cuda)))
    (metric,) = telemetry._device_memory("cuda:1")
    shown = {sample.labels["kind"]: sample.value for sample in metric.samples}
    assert shown == {"total": 80, "used": 50, "tensors": 40}
    assert {sample.labels["device"] for sample in metric.samples} == {"cuda:1"}
    assert list(telemetry._device_memory("cpu")) == []


def test_prometheus_is_answered_until_it_is_ended(registry: CollectorRegistry, stage: ParticipantRunner) -> None:
    """In the format it reads, on the address that was given and no other; a taken port is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    end = show(registry, ("127.0.0.1", port))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            names = {line.split()[2] for line in answer.read().decode().splitlines() if line.startswith("# TYPE")}
        assert names == {
            line.split()[2] for line in generate_latest(registry).decode().splitlines() if "# TYPE" in line
        }
        assert {"defsurvey_leases", "defsurvey_fenced_writes_total"} <= names
        with pytest.raises(MetricsUnavailable, match=rf"--metrics 127\.0\.0\.1:{port}: Address already in use"):
            show(registry, ("127.0.0.1", port))
    finally:
        end()
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0


def test_every_metric_is_documented_and_nothing_else(
    database: Database, stage: ParticipantRunner, registry: CollectorRegistry, tiny_engine: TransformersEngine
) -> None:
    """The table of docs/monitoring.md, held against what is shown."""
    add_run(database)
    rows = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text().splitlines()
    documented = {name for row in rows if row.startswith("| `defsurvey_") for name in re.findall(r"`(.+?)`", row)[:1]}
    metrics = [*registry.collect(), *telemetry._batch("tiny", tiny_engine)]
    shown = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in metrics
        if metric.name.startswith("defsurvey_")
    }
    assert documented == shown | {"defsurvey_device_memory_bytes"}  # the one that needs a GPU


def test_a_profile_names_rates_reuse_and_phases() -> None:
    counters = Counters(
        steps=10,
        rows=400,
        prefilled_tokens=300,
        reused_tokens=120,
        reply_tokens=80,
        finished=4,
        restarted=1,
        peak_kv_bytes=2_500_000,
        seconds={"forward": 3.0, "select": 1.0, "idle": 6.0},
    )
    assert list(profile("tiny", SimpleNamespace(counters=lambda: counters))) == [
        "profile of tiny: 4 replies, 80 tokens in 4.0 s (20.0 tokens/s)",
        "  10 steps of 40.0 rows; prompts: 300 tokens computed, 120 taken over",
        "  keys and values: at most 2 MB; 1 requests begun again",
        "  forward       3.00 s  75.0%",
        "  select        1.00 s  25.0%",
        "  idle          6.00 s",
    ]
