"""Who is computed in the next forward, and who has to wait.

Requests are admitted in order of arrival as long as their beams, and the room that they are expected to need for their
keys and values, fit. Prompts are computed in chunks beside the beams of others. Who outgrows the memory there is waits
until others are done; if everyone waits, the youngest gives its room back and begins again later: its reply is the
same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from defsurvey.workers.engines.transformers.core.batch import Piece
from defsurvey.workers.engines.transformers.core.beams import Rows, Search
from defsurvey.workers.engines.transformers.core.kv import KV, KVStore, OutOfRoom
from defsurvey.workers.engines.transformers.core.prefix import PrefixIndex
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is done at once."""

    rows: int = 128  #: beams of all running requests together
    tokens: int = 512  #: tokens in one forward, beams and pieces of prompts together
    kv_bytes: int = 1 << 31  #: keys and values of all requests, kept prompts included
    kept_bytes: int = 1 << 29  #: of these, at most so much for kept prompts; 0: none is kept


#: However little memory there is, so much of a prompt is computed at once; no less of one is halved.
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
    again: bool = False  #: whether it had begun before, and there was no room for it to go on


class Scheduler:
    """Queues, running requests and the limits between them."""

    def __init__(self, limits: Limits, store: KVStore, begin: Callable[[ResolvedRequest], Search]) -> None:
        self.limits = limits
        self.rows, self.tokens = limits.rows, limits.tokens  # lowered when the device runs out of memory
        self.kept = PrefixIndex()
        self.reused = self.restarted = 0
        self._stalled = False  # whether someone waits for room to grow, before whom nobody is let in
        self._replies = self._reply_tokens = 0  # of those that are done, to guess the length of others
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
        # Who begins again comes first, and has found out what there is no memory for.
        if not self.running and not (self.waiting and self.waiting[0].again):
            self.rows, self.tokens = self.limits.rows, self.limits.tokens
        self._stalled = self._stalled and bool(self.running)
        while self.waiting and not self._stalled and self._fits(self.waiting[0]):
            work = self.waiting.popleft()
            if not work.delivery.cancelled():
                self._start(work)

    def plan(self) -> list[tuple[Work, Piece]]:
        """What is computed next: every running beam, then pieces of prompts as far as there is room."""
        pieces: list[tuple[Work, Piece]] = []
        stalled: list[Work] = []
        for work in [work for work in self.running if work.following is not None]:
            if self._make_free(_wanted(work)):
                self._plan_beams(work, pieces)
            else:
                stalled.append(work)
        room = self.tokens - sum(len(piece.tokens) for _, piece in pieces)
        for work in self.running:
            if work.following is None and room > 0:
                pieces.append((work, self._chunk(work, room)))
                room -= len(pieces[-1][1].tokens)
        if not pieces and stalled and self._make_room(stalled[0]):
            self._plan_beams(stalled.pop(0), pieces)
        self._stalled = bool(stalled)
        return pieces

    def finish(self, work: Work, *, keep: bool = False) -> None:
        """A request is done: its room is given back, or its prompt kept for the next one."""
        self.running.remove(work)
        kv, work.kv = work.kv, None
        if kv is None:
            return
        if keep:
            self._replies += 1
            self._reply_tokens += work.depth
        if keep and self.limits.kept_bytes:
            self.kept.keep(work.request.prompt, kv)
            while self.kept.bytes > self.limits.kept_bytes:
                self.kept.drop_oldest()
            self._make_free(0)
        else:
            kv.close()

    def restart(self, work: Work) -> None:
        """Give a request's room back and let it begin again, before all that wait; its reply will be the same."""
        self.finish(work)
        self._put_back(work)

    def halve(self, work: Work, piece: Piece) -> Piece | None:
        """The first half of a piece of a prompt, the rest of which is planned anew; None for beams, and for little."""
        if piece.tree or len(piece.tokens) <= _LEAST_TOKENS:
            return None
        half = len(piece.tokens) // 2
        piece.kv.take_back(len(piece.tokens) - half)
        work.prefilled = piece.first + half
        return replace(piece, tokens=piece.tokens[:half], logits=False)

    def shrink(self) -> None:
        """The device has run out of memory: do with half of it until nothing is running, nor waits to begin again."""
        if self._store.gives_back:
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
        return rows <= self.rows and self._make_free(self._store.bytes_for(self._expected(work)))

    def _expected(self, work: Work) -> int:
        """How many tokens a request may come to, going by the replies so far: who starts should not have to restart.

        Beams have most of their tokens in common, and dead branches are squeezed out.
        """
        request, longest = work.request, work.request.max_new_tokens
        reply = min(longest, 2 * self._reply_tokens // self._replies) if self._replies else longest
        return max(_least(work), len(request.prompt) + min(request.num_beams, 2) * reply)

    def _make_free(self, wanted: int) -> bool:
        """Whether so many bytes can be had within the limit; kept prompts give way, if that is enough."""
        missing = self._store.bytes + wanted - self.limits.kv_bytes
        if missing > 0 and missing > self.kept.bytes:  # summed up only where it is asked for
            return False
        while self._store.bytes + wanted > self.limits.kv_bytes:
            if not self.kept.drop_oldest():
                return False
        return True

    def _start(self, work: Work) -> None:
        prompt, tokens = work.request.prompt, self._expected(work)
        if not self._make_free(self._store.bytes_for(tokens)):
            tokens = _least(work)
            if not self._make_free(needed := self._store.bytes_for(tokens)):
                self._refuse(work, needed)
                return
        try:
            work.kv = self._store.open(tokens)
        except OutOfRoom as error:
            self._without_room(work, error)
            return
        work.search = self._begin(work.request)
        work.prefilled = self.kept.copy_into(work.kv, prompt)
        self.reused += work.prefilled
        self.running.append(work)

    def _make_room(self, work: Work) -> bool:
        """Whether there is room for the next token of every beam once the youngest others have given theirs."""
        assert work.kv is not None
        wanted = _wanted(work)
        while not self._make_free(wanted):
            if len(self.running) > 1:
                self.restart(next(other for other in reversed(self.running) if other is not work))
                continue
            needed = self._store.bytes_for(work.kv.filled + work.request.num_beams)
            self.finish(work)
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
        self._put_back(work)

    def _put_back(self, work: Work) -> None:
        """Let a request that has no room any more begin again, before all that wait."""
        self.restarted += 1
        self.waiting.appendleft(Work(work.request, work.delivery, again=True))

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


def _least(work: Work) -> int:
    """Tokens of the prompt and a first few of every beam."""
    return len(work.request.prompt) + 8 * work.request.num_beams


def _wanted(work: Work) -> int:
    """Bytes that its beams' next tokens take beyond what it has."""
    assert work.kv is not None
    assert work.following is not None
    return work.kv.wants(work.following.parents)
