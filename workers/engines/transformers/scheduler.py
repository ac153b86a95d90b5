"""Who is computed in the next forward, and who has to wait.

Requests are admitted in order of arrival as long as their beams, and the room for their keys and values, fit. Prompts
are computed in chunks beside the beams of others. Where memory does not suffice after all, the youngest request gives
its room back and begins again later: its reply is the same. Deliberately knows nothing of tensors or searches' insides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from workers.engines.transformers.batch import Piece
from workers.engines.transformers.beams import Rows, Search
from workers.engines.transformers.kv import KV, KVStore, OutOfRoom
from workers.engines.transformers.prefix import PrefixIndex
from workers.engines.transformers.request import ResolvedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is done at once."""

    rows: int = 128  #: beams of all running requests together
    tokens: int = 512  #: tokens in one forward, beams and pieces of prompts together
    kv_bytes: int = 1 << 31  #: keys and values of all requests, kept prompts included
    kept_bytes: int = 1 << 29  #: of these, at most so much for kept prompts; 0: none is kept


#: However little memory there is, so much of a prompt is computed at once.
_LEAST_TOKENS = 32


class TooLarge(Exception):
    """A request does not fit into the memory for keys and values even alone; the message has both numbers."""


class Delivery(Protocol):
    """Where a reply goes."""

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        ...

    def reply(self, tokens: list[int]) -> None:
        """Take the reply."""
        ...

    def fail(self, error: Exception) -> None:
        """Take note that there is none."""
        ...


@dataclass(slots=True, eq=False)
class Work:
    """A request on its way."""

    request: ResolvedRequest
    delivery: Delivery
    search: Search | None = None
    kv: KV | None = None
    prefilled: int = 0  #: tokens of the prompt whose keys and values are there
    following: Rows | None = None  #: the beams' next tokens; None: the prompt is not through yet
    depth: int = 0  #: tokens generated


class Scheduler:
    """Queues, running requests and the limits between them."""

    def __init__(self, limits: Limits, store: KVStore, begin: Callable[[ResolvedRequest], Search]) -> None:
        self.limits = limits
        self.rows, self.tokens = limits.rows, limits.tokens  # lowered when the device runs out of memory
        self.kept = PrefixIndex()
        self.reused = self.restarted = 0
        self.waiting: deque[Work] = deque()
        self.running: list[Work] = []
        self._store = store
        self._begin = begin

    def add(self, request: ResolvedRequest, delivery: Delivery) -> None:
        """Put a request at the end of the queue."""
        self.waiting.append(Work(request, delivery))

    def admit(self) -> None:
        """Let go whom nobody waits for, and let in who fits."""
        for work in [work for work in self.running if work.delivery.cancelled()]:
            self.finish(work)
        while self.waiting and self._fits(self.waiting[0]):
            work = self.waiting.popleft()
            if not work.delivery.cancelled():
                self._start(work)
        if not self.running:
            self.rows, self.tokens = self.limits.rows, self.limits.tokens

    def plan(self) -> list[tuple[Work, Piece]]:
        """What is computed next: every running beam, then pieces of prompts as far as there is room."""
        pieces: list[tuple[Work, Piece]] = []
        # Oldest first: who has to make room for another is never planned yet.
        for work in [work for work in self.running if work.following is not None]:
            if work in self.running and self._grow(work):
                self._plan_beams(work, pieces)
        room = self.tokens - sum(len(piece.tokens) for _, piece in pieces)
        for work in self.running:
            if work.following is None and room > 0:
                pieces.append((work, self._chunk(work, room)))
                room -= len(pieces[-1][1].tokens)
        return pieces

    def finish(self, work: Work, *, keep: bool = False) -> None:
        """A request is done: its room is given back, or its prompt kept for the next one."""
        self.running.remove(work)
        kv, work.kv = work.kv, None
        if kv is None:
            return
        if keep and self.limits.kept_bytes:
            self.kept.keep(work.request.prompt, kv)
            while self.kept.bytes > self.limits.kept_bytes:
                self.kept.drop_oldest()
        else:
            kv.close()

    def restart(self, work: Work) -> None:
        """Give a request's room back and let it begin again, before all that wait; its reply will be the same."""
        self.finish(work)
        self.restarted += 1
        self.waiting.appendleft(Work(work.request, work.delivery))

    def shrink(self) -> None:
        """The device has run out of memory: do with half of it from here on, until nothing is running."""
        self.kept.clear()
        self.rows = max(1, min(self.rows, sum(work.request.num_beams for work in self.running)) // 2)
        self.tokens = max(_LEAST_TOKENS, self.tokens // 2)

    def close(self) -> None:
        """Give all room back and forget everyone."""
        for work in self.running[:]:
            self.finish(work)
        self.waiting.clear()
        self.kept.clear()

    def _fits(self, work: Work) -> bool:
        if work.delivery.cancelled() or not self.running:
            return True
        rows = sum(other.request.num_beams for other in self.running) + work.request.num_beams
        return rows <= self.rows and self._make_free(self._first_room(work))

    def _first_room(self, work: Work) -> int:
        """Bytes for the prompt and a first few tokens of every beam."""
        return self._store.bytes_for(len(work.request.prompt) + 8 * work.request.num_beams)

    def _make_free(self, wanted: int) -> bool:
        """Whether so many bytes can be had within the limit; kept prompts give way."""
        while self._store.bytes + wanted > self.limits.kv_bytes:
            if not self.kept.drop_oldest():
                return False
        return True

    def _start(self, work: Work) -> None:
        prompt = work.request.prompt
        if not self._make_free(self._first_room(work)):
            self._refuse(work, self._first_room(work))
            return
        try:
            work.kv = self._store.open(len(prompt) + 8 * work.request.num_beams)
        except OutOfRoom as error:
            self._without_room(work, error)
            return
        work.search = self._begin(work.request)
        work.prefilled = self.kept.copy_into(work.kv, prompt)
        self.reused += work.prefilled
        self.running.append(work)

    def _grow(self, work: Work) -> bool:
        """Whether there is room for the next token of every beam; the youngest requests give theirs if need be."""
        assert work.kv is not None
        wanted = work.kv.wants(work.request.num_beams)
        while wanted and not self._make_free(wanted):
            youngest = self.running[-1]
            if youngest is not work:
                self.restart(youngest)
            elif len(self.running) > 1:
                self.restart(work)
                return False
            else:
                self.running.remove(work)
                needed = work.kv.bytes + wanted
                work.kv.close()
                self._refuse(work, needed)
                return False
        return True

    def _refuse(self, work: Work, needed: int) -> None:
        work.delivery.fail(
            TooLarge(f"keys and values take {needed:,} bytes, and there is room for {self.limits.kv_bytes:,}")
        )

    def _without_room(self, work: Work, error: OutOfRoom) -> None:
        """The device cannot hold one more buffer: wait until another request is done, unless there is none."""
        if work in self.running:
            self.finish(work)
        if not self.running and not len(self.kept):
            work.delivery.fail(error)
            return
        self.kept.clear()
        self.rows = min(self.rows, sum(other.request.num_beams for other in self.running))
        self.restarted += 1
        self.waiting.appendleft(Work(work.request, work.delivery))

    def _plan_beams(self, work: Work, pieces: list[tuple[Work, Piece]]) -> None:
        assert work.kv is not None
        assert work.following is not None
        try:
            at = work.kv.branch(work.following.parents)
        except OutOfRoom as error:
            self._without_room(work, error)
            return
        first = len(work.request.prompt) + work.depth
        work.depth += 1
        pieces.append((work, Piece(work.kv, work.following.tokens, at, first, tree=True, logits=True)))

    def _chunk(self, work: Work, room: int) -> Piece:
        assert work.kv is not None
        prompt, start = work.request.prompt, work.prefilled
        stop = min(len(prompt), start + room)
        at = work.kv.extend(stop - start)
        work.prefilled = stop
        return Piece(work.kv, prompt[start:stop], at, start, tree=False, logits=stop == len(prompt))
