"""The one engine in a worker's memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from defsurvey.workers.engines.base import Engine, EngineUnavailable


class Resident:
    """Holds one engine, opened when it is first needed and closed when another is.

    Args:
        on_close: called with the engine's name and the engine before it is closed.
    """

    def __init__(self, on_close: Callable[[str, Engine], None] = lambda _name, _engine: None) -> None:
        self._on_close = on_close
        self.loads = 0  #: engines opened since the process began
        self._key: tuple[str, str] | None = None
        self._engine: Engine | None = None
        self._users = 0
        self._served: set[str] = set()  #: runs of which it is noted that this engine serves them
        self._noting = threading.Lock()
        self._cancelled = False
        self._changed = threading.Condition()  # reentrant: its lock is an RLock

    @contextmanager
    def use(self, key: tuple[str, str], open_it: Callable[[], Engine]) -> Iterator[Engine]:
        """The engine of that key, for as long as the block runs.

        Args:
            key: what makes it the same engine; another one waits until nobody uses the present one.
            open_it: opens it.

        Raises:
            EngineUnavailable: ``cancel`` was called.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._key == key)
            if not self._cancelled and (self._engine is None or self._key != key):
                self._exchange(key, open_it)
            if self._cancelled:  # it may have been while the engine was opened
                raise EngineUnavailable("this process is told to stop")
            engine = self._engine
            assert engine is not None
            self._users += 1
        try:
            yield engine
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def _exchange(self, key: tuple[str, str], open_it: Callable[[], Engine]) -> None:
        self.close()
        self._engine, self._key = open_it(), key
        self._served.clear()
        self.loads += 1

    @property
    def now(self) -> tuple[str, Engine | None]:
        """Name of the engine in memory (the first part of its key) and the engine; ``("", None)`` for none.

        Read without waiting: the lock is held for as long as an engine takes to open.
        """
        key, engine = self._key, self._engine
        return (key[0], engine) if key is not None else ("", None)

    def note_once(self, run: str, note: Callable[[], None]) -> None:
        """Note that the engine in use serves a run, once for each engine.

        Whoever comes meanwhile waits, so that nobody asks an engine that the run may not be served by.

        Args:
            run: which run.
            note: notes it; where it raises nothing is noted, and whoever comes next tries.
        """
        with self._noting:  # one for all runs: what is waited for is the same database
            if run not in self._served:
                note()
                self._served.add(run)

    def cancel(self) -> None:
        """Close the engine under its users, whose pending futures are cancelled, and open none any more."""
        self._cancelled = True  # not under the lock: it is held for as long as an engine takes to open
        engine = self._engine
        if engine is not None:
            engine.close()

    def rest(self) -> None:
        """Give the memory back unless somebody uses the engine; whoever needs it next opens it again."""
        with self._changed:
            if not self._users:
                self.close()

    def close(self) -> None:
        """Give the memory back."""
        with self._changed:
            name, engine = self.now
            self._engine = self._key = None
        if engine is not None:
            self._on_close(name, engine)
            engine.close()
