"""One engine in memory: shared, exchanged when nobody uses it, not opened once told to stop; how many it lets in."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from defsurvey.workers.engines.base import Completion, EngineUnavailable, Request
from defsurvey.workers.runner.resident import Resident

PATIENCE = 10.0
MOMENT = 0.1


class Quiet:
    """An engine that is never asked, and notes that it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    def submit(self, request: Request) -> Future[Completion]:
        """Nobody asks."""
        raise AssertionError

    def describe(self) -> dict[str, str]:
        """Nothing to tell."""
        return {}

    def close(self) -> None:
        """Note it."""
        self.closed += 1


ONE, OTHER = ("one", ""), ("other", "")


def test_the_same_engine_serves_everybody() -> None:
    """It is opened once, for those at once and for those after them."""
    resident = Resident()
    start = threading.Barrier(4)

    def use(_: int) -> Quiet:
        with resident.use(ONE, Quiet) as engine:
            start.wait(PATIENCE)
            assert isinstance(engine, Quiet)
            return engine

    with ThreadPoolExecutor(4) as pool:
        engines = set(pool.map(use, range(4)))
    with resident.use(ONE, Quiet) as again:
        assert engines == {again}
    assert (resident.loads, next(iter(engines)).closed) == (1, 0)


def test_an_engine_at_rest_is_closed_unless_somebody_uses_it() -> None:
    """Whoever needs it later opens it again."""
    resident = Resident()
    with resident.use(ONE, Quiet) as engine:
        resident.rest()
        assert isinstance(engine, Quiet)
        assert (engine.closed, resident.now) == (0, ("one", engine))
    resident.rest()
    resident.rest()
    assert (engine.closed, resident.now) == (1, ("", None))
    with resident.use(ONE, Quiet) as again:
        assert again is not engine
    assert resident.loads == 2


def test_another_engine_waits_until_the_first_is_not_used() -> None:
    """The first is closed before the second is opened: memory holds one."""
    resident, events = Resident(), []

    class Noted(Quiet):
        def __init__(self) -> None:
            super().__init__()
            events.append("opened")

        def close(self) -> None:
            events.append("closed")

    used = threading.Event()

    def use_other() -> None:
        with resident.use(OTHER, Noted):
            used.set()

    with resident.use(ONE, Noted):
        thread = threading.Thread(target=use_other)
        thread.start()
        assert not used.wait(MOMENT)
    assert used.wait(PATIENCE)
    thread.join()
    assert events == ["opened", "closed", "opened"]
    assert resident.loads == 2


def test_nobody_goes_on_before_it_is_noted_that_the_run_is_served() -> None:
    """Where that is refused everybody is refused: it is not taken for noted."""
    resident, begun, go_on = Resident(), threading.Event(), threading.Event()

    def refuse() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        raise ValueError("other weights")

    def use(_: int) -> str:
        with resident.use(ONE, Quiet):
            try:
                resident.note_once("a", refuse)
            except ValueError:
                return "refused"
            return "served"

    with ThreadPoolExecutor(3) as pool:
        using = [pool.submit(use, number) for number in range(3)]
        assert begun.wait(PATIENCE)
        assert not threading.Event().wait(MOMENT)
        assert not any(each.done() for each in using)
        go_on.set()
        assert [each.result(PATIENCE) for each in using] == 3 * ["refused"]


def test_cancelling_closes_under_the_users_and_opens_nothing_more() -> None:
    """Pending futures end, and whoever waited for another model is told instead of loading it."""
    resident, told = Resident(), threading.Event()

    def use_other() -> None:
        try:
            with resident.use(OTHER, Quiet):
                pass
        except EngineUnavailable:
            told.set()

    with resident.use(ONE, Quiet) as engine:
        thread = threading.Thread(target=use_other)
        thread.start()
        resident.cancel()
        assert isinstance(engine, Quiet)
        assert engine.closed == 1
        assert not told.wait(MOMENT)
    assert told.wait(PATIENCE)
    thread.join()
    assert resident.loads == 1


def test_cancelling_does_not_wait_for_an_engine_that_is_being_opened() -> None:
    """A model takes minutes to load; the signal to stop returns at once, and the engine is not used."""
    resident, opening, go_on = Resident(), threading.Event(), threading.Event()
    outcome: list[str] = []

    def slowly() -> Quiet:
        opening.set()
        assert go_on.wait(PATIENCE)
        return Quiet()

    def use() -> None:
        try:
            with resident.use(ONE, slowly):
                outcome.append("used")
        except EngineUnavailable:
            outcome.append("told")

    thread = threading.Thread(target=use)
    thread.start()
    assert opening.wait(PATIENCE)
    resident.cancel()
    go_on.set()
    thread.join(PATIENCE)
    assert outcome == ["told"]


def test_whoever_wants_to_look_at_an_engine_before_it_goes_can() -> None:
    """It is told name and engine, while the engine is still open; nothing where there is none."""
    seen: list[tuple[str, int]] = []

    def look(name: str, engine: object) -> None:
        assert isinstance(engine, Quiet)
        seen.append((name, engine.closed))

    resident = Resident(look)
    resident.close()
    for key in (ONE, OTHER):
        with resident.use(key, Quiet):
            pass
    resident.close()
    assert seen == [("one", 0), ("other", 0)]
