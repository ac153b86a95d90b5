"""What the batch has done so far, counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

#: What a step consists of; ``idle`` is the time in which there is nothing to do. Of a model that is served one request
#: at a time, ``forward`` is all that the library does for a reply.
PHASES = ("admit", "build", "forward", "select", "deliver", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """A reading. Tokens and steps are totals since the engine was opened."""

    steps: int = 0  #: forwards
    rows: int = 0  #: tokens computed over all forwards, prompts included
    beam_rows: int = 0  #: rows of beams over all forwards: each one a token of one beam
    prefilled_tokens: int = 0  #: tokens of prompts computed
    reused_tokens: int = 0  #: tokens of prompts taken over from earlier ones
    reply_tokens: int = 0  #: tokens of finished replies
    finished: int = 0  #: replies delivered
    restarted: int = 0  #: requests that were begun again, for want of memory or after a failure
    compactions: int = 0
    kv_bytes: int = 0  #: held now, kept prompts included
    peak_kv_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  #: by phase

    @property
    def rows_per_step(self) -> float:
        """Mean number of rows in a forward."""
        return self.rows / self.steps if self.steps else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Reply tokens for each second that was not idle."""
        busy = sum(seconds for phase, seconds in self.seconds.items() if phase != "idle")
        return self.reply_tokens / busy if busy else 0.0


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
