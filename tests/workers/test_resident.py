"""One engine in memory: shared, exchanged when nobody uses it, never opened once told to stop."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import pytest

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.runner.resident import Resident

PATIENCE = 10.0
MOMENT = 0.1
ONE, OTHER = ("one", ""), ("other", "")


def test_the_same_engine_serves_everybody_until_it_is_closed_at_rest() -> None:
    resident, start = Resident(), threading.Barrier(4)

    def use(_: int) -> Any:
        with resident.use(ONE, Mock) as engine:
            start.wait(PATIENCE)
            resident.rest()
            assert resident.now == ("one", engine)
            return engine

    with ThreadPoolExecutor(4) as pool:
        engines = set(pool.map(use, range(4)))
    (engine,) = engines
    resident.rest()
    resident.close()
    assert (resident.loads, engine.close.call_count, resident.now) == (1, 1, ("", None))
    with resident.use(ONE, Mock) as again:
        assert again is not engine
        assert resident.now == ("one", again)


def test_another_engine_waits_until_the_first_is_not_used() -> None:
    """The first is closed, and shown to who wants to see it before, ahead of the second: memory holds one."""
    events: list[str] = []
    resident, used = Resident(lambda name, _engine: events.append(f"{name} goes")), threading.Event()

    def opens() -> Any:
        events.append("opened")
        return Mock(close=lambda: events.append("closed"))

    def use_other() -> None:
        with resident.use(OTHER, opens):
            used.set()

    with resident.use(ONE, opens):
        thread = threading.Thread(target=use_other)
        thread.start()
        assert not used.wait(MOMENT)
    assert used.wait(PATIENCE)
    thread.join()
    assert events == ["opened", "one goes", "closed", "opened"]


def test_a_run_is_noted_once_for_each_engine() -> None:
    resident, noted = Resident(), Mock()
    for key in (ONE, OTHER):
        with resident.use(key, Mock):
            for run in ("a", "b", "a"):
                resident.note_once(run, noted)
    assert noted.call_count == 4


@pytest.mark.parametrize("when", ["in use", "being opened"])
def test_cancelling_closes_under_the_users_and_opens_nothing_more(when: str) -> None:
    """It returns at once, although a model takes minutes to load; whoever waited for another is told."""
    resident, opening, go_on = Resident(), threading.Event(), threading.Event()

    def slowly() -> Any:
        opening.set()
        assert go_on.wait(PATIENCE)
        return Mock()

    def use(key: tuple[str, str]) -> None:
        with resident.use(key, slowly):
            pass

    with ThreadPoolExecutor(1) as pool:
        if when == "in use":
            with resident.use(ONE, Mock) as engine:
                waiting = pool.submit(use, OTHER)
                resident.cancel()
                engine.close.assert_called_once()  # type: ignore[attr-defined]
                assert not waiting.done()
        else:
            waiting = pool.submit(use, OTHER)
            assert opening.wait(PATIENCE)
            resident.cancel()
        go_on.set()
        assert isinstance(waiting.exception(PATIENCE), EngineUnavailable)
