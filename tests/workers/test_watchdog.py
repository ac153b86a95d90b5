"""A process whose engine hangs is ended, and one that is told to end ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from unittest.mock import Mock

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import Completion, EngineUnavailable, Message, Request
from defsurvey.workers.runner.watchdog import Watchdog, Watched, end_after

#: Seconds that something may take which is to happen.
PATIENCE = 10.0


REQUEST = Request(messages=(Message(role="user", content="How?"),), decoding=Decoding(), seed=0)


def test_each_completion_of_an_engine_is_seen_and_each_request_for_as_long_as_it_lasts() -> None:
    """Whether it is answered, fails, is cancelled or was never taken; replies that nobody waits for count as well."""
    now, replies = [100.0], [Future[Completion]() for _ in range(3)]
    watchdog = Watchdog(10.0, clock=lambda: now[0])
    slow = Mock(submit=Mock(side_effect=[*replies, EngineUnavailable("nothing is asked")]))
    engine = Watched(slow, watchdog)
    now[0] += 1000
    assert not watchdog.hung()
    for _ in range(3):
        engine.submit(REQUEST)
    with pytest.raises(EngineUnavailable):
        engine.submit(REQUEST)
    now[0] += 8
    replies[0].set_exception(RuntimeError())
    now[0] += 8
    assert not watchdog.hung()
    now[0] += 3
    assert watchdog.hung()
    engine.close()
    slow.close.assert_called_once()
    for reply in replies:
        reply.cancel()
    now[0] += 100
    assert not watchdog.hung()


def test_it_ends_the_process_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    watchdog = Watchdog(0.2, end=ended.set)
    watchdog.start()
    assert not ended.wait(0.4)
    watchdog.asked()
    assert ended.wait(PATIENCE)
    assert "while 1 are asked: the engine hangs" in caplog.text


def test_a_process_that_does_not_end_is_ended(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defsurvey.workers.runner.watchdog.LAST_SECONDS", 0.1)
    said, ended, never = [], threading.Event(), threading.Event()
    began = time.monotonic()
    end_after(0.1, first=lambda: said.append(time.monotonic()) or (never.wait() and None), end=ended.set)
    assert ended.wait(PATIENCE)
    assert said[0] - began >= 0.1
    assert "this process ends as it is" in caplog.text
    never.set()


def test_a_process_that_ends_by_itself_keeps_its_own_status() -> None:
    program = "from defsurvey.workers.runner.watchdog import end_after; end_after(60, first=lambda: None); exit(3)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 3
