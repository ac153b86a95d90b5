"""What daemons are made of: which models a worker serves, and how a reporter ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from defsurvey.jobs.broker import JUDGE, BrokerUnavailable, EmbeddedBroker
from defsurvey.jobs.cli.daemons import stay_idle
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.daemons import serving
from defsurvey.jobs.daemons.startup import open_database, when_told_to_end
from defsurvey.jobs.judging import judge
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.producer import enqueue
from defsurvey.jobs.system import UNAVAILABLE
from defsurvey.storage.schema import OtherSchema
from defsurvey.workers.models import UnknownModel
from tests.jobs.small_study import study
from tests.workers.test_affinity import Consumer


@pytest.mark.parametrize("named", [(), ("human",)])
def test_a_model_without_a_card_is_left_to_others(
    tmp_path: Path,
    running_broker: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
    named: tuple[str, ...],
) -> None:
    (tmp_path / "cards.toml").write_text('[human]\nengine = "scripted"\nrespondent = "human"\n')
    settings = Settings.from_environment(
        {
            "DEFSURVEY_HOME": str(tmp_path),
            "DEFSURVEY_BROKER_URL": running_broker.url,
            "DEFSURVEY_MODELS": str(tmp_path / "cards.toml"),
        }
    )
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
    tmp_path: Path, running_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = {"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_BROKER_URL": running_broker.url}
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
    settings = Settings.from_environment(home)
    assert serving.reporter(settings, device="cpu", events=False, only=None, parent=None) == 0
    assert (leaving, ended, len(told)) == ([False, True], [8.0], 1)


@pytest.mark.parametrize(
    ("tasks", "queues"), [(None, ["reports", "judge"]), ("reports", ["reports"]), ("judging", ["judge"])]
)
def test_a_reporter_serves_the_tasks_that_it_is_given(
    tasks: str | None,
    queues: list[str],
    tmp_path: Path,
    running_broker: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = {"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_BROKER_URL": running_broker.url}
    served: list[object] = []
    monkeypatch.setattr(
        "defsurvey.workers.runner.daemon.serve", lambda _app, **options: served.extend(options["queues"]) or 0
    )
    command = ["reporter", *(("--tasks", tasks) if tasks else ())]
    assert CliRunner().invoke(main, command, env=home).exit_code == 0
    assert served == queues


ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("status", [0, 1, 70])
def test_an_end_that_starting_again_may_mend_is_an_end(status: int) -> None:
    assert stay_idle(lambda: status) == status


def test_what_may_pass_is_raised_and_so_is_a_defect() -> None:
    with pytest.raises(BrokerUnavailable):
        stay_idle(_raising(BrokerUnavailable("away")))
    with pytest.raises(KeyError):
        stay_idle(_raising(KeyError("ours")))


@pytest.mark.parametrize("number", ALL)
def test_what_stays_waits_to_be_told(number: int, caplog: pytest.LogCaptureFixture) -> None:
    for work, status in ((lambda: UNAVAILABLE, UNAVAILABLE), (_raising(UnknownModel("no model x")), 2)):
        timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
        timer.start()
        assert stay_idle(work) == status
        timer.join()
    assert "no model x" in caplog.text
    assert caplog.text.count("stays idle and unhealthy") == 2


def test_a_database_of_a_newer_version_stays_so(caplog: pytest.LogCaptureFixture) -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert stay_idle(_raising(OtherSchema("database schema: update defsurvey"))) == 1
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
