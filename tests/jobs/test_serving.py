"""What daemons are made of: which models a worker serves, and how a reporter ends."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from defsurvey.jobs.broker import JUDGE, BrokerUnavailable, EmbeddedBroker
from defsurvey.jobs.cli.daemons import stay_idle
from defsurvey.jobs.daemons import serving
from defsurvey.jobs.daemons.startup import open_database, when_told_to_end
from defsurvey.jobs.judging import judge
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.system import UNAVAILABLE
from defsurvey.storage.schema import OtherSchema
from defsurvey.workers.models import UnknownModel
from tests.jobs.small_study import study, typed
from tests.workers.test_affinity import Consumer


@pytest.fixture
def home(tmp_path: Path, running_broker: EmbeddedBroker) -> dict[str, str]:
    return {"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_BROKER_URL": running_broker.url}


@pytest.mark.parametrize("named", [(), ("human",)])
def test_a_model_without_a_card_is_left_to_others(
    tmp_path: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]
) -> None:
    """However much of it waits: who took it up would end, and so would every worker that it was left to."""
    cards = tmp_path / "cards.toml"
    cards.write_text('[human]\nengine = "scripted"\nrespondent = "human"\n')
    settings = Settings.from_environment(home | {"DEFSURVEY_MODELS": str(cards)})
    with open_database(settings) as database:
        enqueue(database, None, study(name="newer", models="[tiny-model]", participants="9"))
        enqueue(database, None, study(models="[human]", participants="1"))
    consumer = Consumer()

    def serve(_app: Celery, *, steps: Sequence[Any], **_: object) -> int:
        step = steps[0](consumer)
        step.start(consumer)
        step.stop(consumer)
        return 0

    monkeypatch.setattr("defsurvey.workers.runner.daemon.serve", serve)
    options: dict[str, Any] = dict.fromkeys(("concurrency", "threads", "metrics", "only", "parent"))
    assert serving.worker(settings, device="cpu", models=named, profiled=False, events=False, **options) == 0
    assert consumer.heard == ["+simulate.human"]


def test_a_reporter_that_is_told_to_end_asks_its_judge_no_more_and_ends(
    home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever judges is told; who cannot stop (a judge that computes for minutes) is ended with the process."""
    leaving: list[bool] = []
    ended: list[float] = []

    def judge_run(*_: object, leaving: Callable[[], bool], **__: object) -> str:
        told.append(leaving)
        return ""

    def serve(app: Celery, *, on_stop: Callable[[], None], **_: object) -> int:
        app.tasks[JUDGE]("first")
        leaving.append(told[0]())
        on_stop()
        leaving.append(told[0]())
        app.tasks[JUDGE]("first")
        return 0

    told: list[Callable[[], bool]] = []
    monkeypatch.setattr("defsurvey.jobs.daemons.tasks.judgements.is_due", lambda *_: True)
    monkeypatch.setattr("defsurvey.jobs.daemons.tasks.outbox.revision", lambda *_: 0)
    monkeypatch.setattr(judge, "judge_run", judge_run)
    monkeypatch.setattr(judge, "in_words", str)
    monkeypatch.setattr("defsurvey.workers.runner.daemon.serve", serve)
    monkeypatch.setattr("defsurvey.workers.runner.watchdog.end_after", lambda seconds, **_: ended.append(seconds))
    assert serving.reporter(Settings.from_environment(home), device="cpu", events=False, only=None, parent=None) == 0
    assert (leaving, ended, len(told)) == ([False, True], [8.0], 1)


@pytest.mark.parametrize(
    ("tasks", "queues"), [(None, ["reports", "judge"]), ("reports", ["reports"]), ("judging", ["judge"])]
)
def test_a_reporter_serves_the_tasks_that_it_is_given(
    tasks: str | None, queues: list[str], home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[object] = []
    monkeypatch.setattr(
        "defsurvey.workers.runner.daemon.serve", lambda _app, **options: served.extend(options["queues"]) or 0
    )
    assert typed("reporter", *(("--tasks", tasks) if tasks else ()), **home).exit_code == 0
    assert served == queues


ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_end_that_starting_again_may_mend_is_an_end() -> None:
    """Told to stop, a defect, a hung engine; a broker comes back; a defect is shown with its traceback."""
    for status in (0, 1, 70):
        assert stay_idle(lambda status=status: status) == status
    for error in (BrokerUnavailable("away"), KeyError("ours")):
        with pytest.raises(type(error)):
            stay_idle(_raising(error))


@pytest.mark.parametrize("number", ALL)
def test_what_stays_waits_to_be_told(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """The status is what it was; the reason is in the log."""
    newer = _raising(OtherSchema("database schema: update defsurvey"))
    for work, status in ((lambda: UNAVAILABLE, UNAVAILABLE), (_raising(UnknownModel("no model x")), 2), (newer, 1)):
        timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
        timer.start()
        assert stay_idle(work) == status
        timer.join()
    assert "update defsurvey" in caplog.text
    assert "stays idle and unhealthy" in caplog.text


def _raising(error: Exception) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_tells_so_unless_that_is_ignored(nohup: bool) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    told: list[int] = []
    when_told_to_end(lambda number, _frame: told.append(number))
    for number in ALL:
        os.kill(os.getpid(), number)
    assert told == [*ALL[:2], *([] if nohup else ALL[2:])]
