"""Which ends of a daemon are for good, which are left to whoever starts it again, and which signals end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from defsurvey.jobs.broker import BrokerUnavailable
from defsurvey.jobs.cli.daemons import stay_idle
from defsurvey.jobs.daemons.startup import when_told_to_end
from defsurvey.jobs.system import UNAVAILABLE
from defsurvey.storage.schema import OtherSchema
from defsurvey.workers.models import UnknownModel

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The process's own handlers are put back."""
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("status", [0, 1, 70])
def test_an_end_that_starting_again_may_mend_is_an_end(status: int) -> None:
    """Told to stop, a defect, a hung engine."""
    assert stay_idle(lambda: status) == status


def test_what_may_pass_is_raised_and_so_is_a_defect() -> None:
    """A broker comes back; a defect is shown with its traceback."""
    with pytest.raises(BrokerUnavailable):
        stay_idle(_raising(BrokerUnavailable("away")))
    with pytest.raises(KeyError):
        stay_idle(_raising(KeyError("ours")))


@pytest.mark.parametrize("number", ALL)
def test_what_stays_waits_to_be_told(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """The status is what it was; the reason is in the log."""
    for work, status in ((lambda: UNAVAILABLE, UNAVAILABLE), (_raising(UnknownModel("no model x")), 2)):
        timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
        timer.start()
        assert stay_idle(work) == status
        timer.join()
    assert "no model x" in caplog.text
    assert caplog.text.count("stays idle and unhealthy") == 2


def test_a_database_of_a_newer_version_stays_so(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever starts this version again finds the same; the status is what it is without staying."""
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
    """``nohup`` has SIGHUP ignored, and whoever uses it means that."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
    told: list[int] = []
    when_told_to_end(lambda number, _frame: told.append(number))
    for number in ALL:
        os.kill(os.getpid(), number)
    assert told == [*ALL[:2], *([] if nohup else ALL[2:])]
