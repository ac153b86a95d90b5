"""Counts what the batch has done so far, for ``Counters``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

from defsurvey.workers.engines.base import Counters

#: What a step consists of; ``idle`` is the time in which there is nothing to do. Of a model that is served one request
#: at a time, ``forward`` is all that the library does for a reply.
PHASES = ("admit", "build", "forward", "select", "deliver", "idle")


class Tally:
    """Counts. One thread writes; any thread may take a reading."""

    def __init__(self) -> None:
        self.steps = self.rows = self.beam_rows = 0
        self.prefilled_tokens = self.reply_tokens = self.finished = 0
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase: tuple[str, float] | None = None  # which it is, and since when
        self._changing = threading.Lock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time spent here belongs to this phase; phases do not overlap."""
        with self._changing:
            self._phase = name, time.perf_counter()
        try:
            yield
        finally:
            with self._changing:
                self._seconds, self._phase = self._spent(), None

    def replied(self, tokens: int) -> None:
        """A reply of so many tokens is finished."""
        self.finished += 1
        self.reply_tokens += tokens

    def read(self, **others: int) -> Counters:
        """A reading, together with what others have counted."""
        with self._changing:
            spent = self._spent()
        return Counters(
            steps=self.steps,
            rows=self.rows,
            beam_rows=self.beam_rows,
            prefilled_tokens=self.prefilled_tokens,
            reply_tokens=self.reply_tokens,
            finished=self.finished,
            seconds=MappingProxyType(spent),
            **others,
        )

    def _spent(self) -> dict[str, float]:
        """Seconds by phase, of the one that it is so far: who waits for an hour is seen to be idle."""
        spent = dict(self._seconds)
        if self._phase is not None:
            name, since = self._phase
            spent[name] += time.perf_counter() - since
        return spent
