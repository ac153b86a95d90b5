"""Holds the one engine of a process, which all its participants share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from defsurvey.workers.engines.base import Engine, EngineUnavailable


class Resident:
    """One engine, opened when it is first needed and closed when another is.

    ``on_close`` is called with the engine's name and the engine before it is closed.
    """

    def __init__(self, on_close: Callable[[str, Engine], None] = lambda _name, _engine: None) -> None:
        self.loads = 0  #: engines opened since the process began
        self._on_close = on_close
        self._key: tuple[str, str] | None = None
        self._engine: Engine | None = None
        self._users = 0
        self._served: set[str] = set()  #: runs of which it is noted that this engine serves them
        self._noting = threading.Lock()
        self._cancelled = False
        self._changed = threading.Condition()  # reentrant: its lock is an RLock

    @property
    def now(self) -> tuple[str, Engine | None]:
        """Name of the engine in memory (the first part of its key) and the engine; ``("", None)`` for none."""
        # read without waiting: the lock is held for as long as an engine takes to open
        key, engine = self._key, self._engine
        return (key[0], engine) if key is not None else ("", None)

    @contextmanager
    def use(self, key: tuple[str, str], open_it: Callable[[], Engine]) -> Iterator[Engine]:
        """The engine of that key, as soon as nobody uses another; EngineUnavailable after ``cancel``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._key == key)
            if not self._cancelled and self._key != key:
                self.close()
                self._engine, self._key = open_it(), key
                self._served.clear()
                self.loads += 1
            engine = self._engine
            if self._cancelled or engine is None:  # it may have been cancelled while the engine was opened
                raise EngineUnavailable("this process is told to stop")
            self._users += 1
        try:
            yield engine
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def note_once(self, run: str, note: Callable[[], None]) -> None:
        """Note once for each engine that it serves a run; where ``note`` raises, the next caller tries again.

        Whoever comes meanwhile waits, so that nobody asks an engine that the run may not be served by.
        """
        with self._noting:
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
