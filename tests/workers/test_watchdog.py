"""A process whose engine hangs is ended, and one that is told to end ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest

from defsurvey.storage.runs.run import Decoding, EngineDescription
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, Message, Request
from defsurvey.workers.runner.watchdog import EXIT_HUNG, Watchdog, Watched, end_after

#: Seconds that something may take which is to happen.
PATIENCE = 10.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


class Slow(Engine):
    """Answers when a test says so; some requests it refuses."""

    def __init__(self) -> None:
        self.asked: list[Future[Completion]] = []

    def submit(self, request: Request) -> Future[Completion]:
        """Note a request."""
        if not request.messages:
            raise EngineUnavailable("nothing is asked")
        self.asked.append(Future())
        return self.asked[-1]

    def describe(self) -> EngineDescription:
        """Its speed."""
        return {"weights": "slow"}

    def close(self) -> None:
        """Cancel what is asked."""
        for future in self.asked:
            future.cancel()


REQUEST = Request(messages=(Message(role="user", content="How?"),), decoding=Decoding(), seed=0)


def test_each_completion_of_an_engine_is_seen_and_each_request_for_as_long_as_it_lasts() -> None:
    """Whether it is answered, fails, is cancelled or was never taken; replies that nobody waits for count as well."""
    clock, slow = Clock(), Slow()
    watchdog = Watchdog(10.0, clock=clock)
    engine = Watched(slow, watchdog)
    assert engine.describe() == {"weights": "slow"}
    clock.now += 1000
    assert not watchdog.hung()
    for _ in range(3):
        engine.submit(REQUEST)
    with pytest.raises(EngineUnavailable):
        engine.submit(replace(REQUEST, messages=()))
    clock.now += 8
    slow.asked[0].set_exception(RuntimeError())
    clock.now += 8
    assert not watchdog.hung()
    clock.now += 3
    assert watchdog.hung()
    engine.close()
    clock.now += 100
    assert not watchdog.hung()


def test_time_in_which_the_process_did_not_run_does_not_count() -> None:
    """The engine has its limit again but for what it had used; no more is forgiven than has passed."""
    clock = Clock()
    watchdog = Watchdog(10.0, clock=clock)
    watchdog.asked()
    clock.now += 1006
    watchdog.forgive(1000.0)
    assert not watchdog.hung()
    watchdog.forgive(-1000.0)  # it computed on several cores
    clock.now += 3.9
    assert not watchdog.hung()
    clock.now += 0.2
    assert watchdog.hung()
    watchdog.forgive(5000.0)
    clock.now += 10.1
    assert watchdog.hung()


@pytest.mark.parametrize("paused", [True, False])
def test_a_process_that_was_paused_goes_on(paused: bool) -> None:
    """SIGSTOP for longer than the limit, as by ``docker pause`` or Ctrl-Z; one that hangs for as long is ended."""
    program = (
        "import threading; from defsurvey.workers.runner.watchdog import Watchdog\n"
        "dog = Watchdog(0.6); dog.start()\n"
        "dog.asked(); print(flush=True)\n"
        f"threading.Event().wait({0.3 if paused else 60.0})\n"
        "raise SystemExit(3)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if paused:
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            process.send_signal(signal.SIGCONT)
        assert process.wait(30) == (3 if paused else EXIT_HUNG)


def test_it_ends_the_process_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """With nothing but time passing, what it was given to end the process is called, once."""
    ended = threading.Event()
    watchdog = Watchdog(0.2, end=ended.set)
    watchdog.start()
    assert not ended.wait(0.4)
    watchdog.asked()
    assert ended.wait(PATIENCE)
    assert "while 1 are asked: the engine hangs" in caplog.text


def test_a_process_that_does_not_end_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    """After its time, and after its last words."""
    said, ended = [], threading.Event()
    began = time.monotonic()
    end_after(0.1, first=lambda: said.append(time.monotonic()), end=ended.set)
    assert ended.wait(PATIENCE)
    assert said[0] - began >= 0.1
    assert "this process ends as it is" in caplog.text


def test_last_words_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer does not keep the process either."""
    monkeypatch.setattr("defsurvey.workers.runner.watchdog.LAST_SECONDS", 0.1)
    ended, never = threading.Event(), threading.Event()
    end_after(0.0, first=lambda: never.wait() and None, end=ended.set)
    assert ended.wait(PATIENCE)
    never.set()


def test_a_process_that_ends_by_itself_keeps_its_own_status() -> None:
    """Nothing is waited for, and no thread holds it back."""
    program = (
        "from defsurvey.workers.runner.watchdog import end_after\n"
        "end_after(60, first=lambda: None)\n"
        "raise SystemExit(3)"
    )
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 3
    assert time.monotonic() - began < 30
