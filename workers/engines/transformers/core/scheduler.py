"""Who is computed in the next step, and who has to wait.

Requests are admitted in order of arrival as long as their beams, and the blocks that they are expected to come to, fit.
A step computes the next token of every beam, and beside them pieces of prompts. What several prompts have in common is
computed by whichever of them comes first. Where blocks run out, the youngest request gives its own back and begins
again later: its reply is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from defsurvey.workers.engines.transformers.core.blocks import Block, Blocks
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.runner import Copy, Row
from defsurvey.workers.engines.transformers.core.search import Following, Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is done at once."""

    rows: int = 128  #: beams of all running requests together
    tokens: int = 512  #: tokens in one step, beams and pieces of prompts together
    kv_bytes: int = 1 << 31  #: keys and values of all requests, kept prompts included
    keep: bool = True  #: whether prompts that were answered are kept for others that begin alike


#: However little memory there is, so much of a prompt is computed at once.
_LEAST_TOKENS = 32


class TooLarge(Exception):
    """A request does not fit into the memory for keys and values even alone; the message has both numbers."""


class Delivery(Protocol):
    """Where a reply goes."""

    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        ...

    def reply(self, tokens: list[int], probabilities: Sequence[float]) -> None:
        """Take the reply; where texts were weighed, how probable each of them is, and no tokens."""
        ...

    def fail(self, error: Exception) -> None:
        """Take note that there is none."""
        ...


@dataclass(slots=True, eq=False)
class Work:
    """A request on its way."""

    request: ResolvedRequest
    search: Search
    delivery: Delivery
    path: list[Block] = field(default_factory=list)  #: the prompt's blocks; empty while it waits
    ends: list[Block] = field(default_factory=list)  #: the last block of each beam
    computed: int = 0  #: tokens of the prompt that it has computed itself
    length: int = 0  #: tokens of a beam whose keys and values are there, or are computed next
    following: Following | None = None  #: the beams' next tokens; None: the prompt is not through yet
    rows: list[Row] = field(default_factory=list)  #: the beams' rows that are to be computed
    again: bool = False  #: whether it had begun before, and had to give its blocks back


@dataclass(frozen=True, slots=True)
class Planned:
    """What one request computes in a step."""

    work: Work
    rows: Sequence[Row]


class Scheduler:
    """Queues, running requests and the limits between them.

    Args:
        limits: How much is done at once.
        blocks: Where keys and values go.
        begin: The search that a request asks for.
    """

    def __init__(self, limits: Limits, blocks: Blocks, begin: Callable[[ResolvedRequest], Search]) -> None:
        self.blocks = blocks
        self.waiting: deque[Work] = deque()
        self.running: list[Work] = []
        self.copies: list[Copy] = []  #: blocks to be copied before the next step is computed
        self.reused = self.restarted = 0
        self._limits = limits
        self._rows, self._tokens = limits.rows, limits.tokens  # lowered when the device runs out of memory
        self._begin = begin
        self._suspects: deque[Work] = deque()
        self._replies = self._reply_tokens = 0  # of those that are done, to guess the length of others

    def add(self, request: ResolvedRequest, delivery: Delivery) -> None:
        """Put a request at the end of the queue."""
        self.waiting.append(Work(request, self._begin(request), delivery))

    def admit(self) -> None:
        """Let go whom nobody waits for, and let in who fits."""
        for work in [work for work in self.running if work.delivery.cancelled()]:
            self.finish(work)
        if not self.running and not (self.waiting and self.waiting[0].again):
            self._rows, self._tokens = self._limits.rows, self._limits.tokens
        while self.waiting:
            work = self.waiting[0]
            if not work.delivery.cancelled():
                if self.running and not self._fits(work):
                    break
                self._start(work)
            self.waiting.popleft()

    def plan(self) -> list[Planned]:
        """What is computed next, in order: rows of beams, then pieces of prompts as far as there is room."""
        while self._suspects and self._suspects[0] not in self.running:
            self._suspects.popleft()
        works = [self._suspects[0]] if self._suspects else self.running
        self._make_room([work for work in works if work.following and not work.rows])
        planned: list[Planned] = []
        room = self._tokens
        going = [work for work in works if work.following and work in self.running]
        for work in sorted(going, key=lambda work: work.search.choosing.order):
            if not work.rows:
                self._branch(work)
            if planned and len(work.rows) + self._tokens - room > self._rows:
                break
            planned.append(Planned(work, work.rows))
            room -= len(work.rows)
        coming: dict[Block, int] = {}  # how far blocks will be filled when this step is done
        for work in works:
            if work.following is None and room > 0:
                row = self._piece(work, room, coming)
                planned.append(Planned(work, [row]))
                room -= len(row.tokens)
        return planned

    def computed(self, planned: Sequence[Planned]) -> None:
        """Take note that a plan has been carried out."""
        for one in planned:
            work, (row, *_) = one.work, one.rows
            if work.rows:
                work.rows = []
            else:
                work.computed += len(row.tokens)
                self._fill(work, row.past + len(row.tokens))
                if row.logits:
                    self.reused += len(work.request.prompt) - work.computed
        if self._suspects and planned and planned[0].work is self._suspects[0]:
            self._suspects.popleft()

    def suspect(self, planned: Sequence[Planned]) -> None:
        """A step has failed, for want of anything but memory: compute each of its requests by itself."""
        self._suspects = deque(one.work for one in planned)

    def shrink(self, planned: Sequence[Planned]) -> bool:
        """The device has run out of memory: do with half of it until nothing runs. False where it cannot be less."""
        tokens = sum(len(row.tokens) for one in planned for row in one.rows)
        rows = sum(len(one.rows) for one in planned)
        if len(planned) == 1 and (rows > 1 or tokens <= _LEAST_TOKENS):
            return False
        self._rows = max(1, min(self._rows, rows) // 2)
        self._tokens = max(_LEAST_TOKENS, min(self._tokens, tokens) // 2)
        return True

    def finish(self, work: Work) -> None:
        """A request is done, or given up: its blocks are for others, and those of its prompt kept."""
        self.running.remove(work)
        self.blocks.close(work.ends)

    def replied(self, work: Work) -> None:
        """A request has its reply."""
        self._replies += 1
        self._reply_tokens += work.length - len(work.request.prompt)
        self.finish(work)

    def restart(self, work: Work) -> None:
        """Take a request's blocks and let it begin again, before all that wait; its reply will be the same."""
        self.finish(work)
        self.restarted += 1
        self.waiting.appendleft(Work(work.request, self._begin(work.request), work.delivery, again=True))

    def close(self) -> None:
        """Give all blocks back and forget everyone."""
        for work in self.running[:]:
            self.finish(work)
        self.waiting.clear()
        self.blocks.forget()

    def _fits(self, work: Work) -> bool:
        rows = sum(other.search.most_rows for other in self.running) + work.search.most_rows
        if rows > self._rows:
            return False
        spoken_for = sum(max(0, self._expected(other) - self._held(other)) for other in self.running)
        own = self._expected(work) - self.blocks.shared(work.request.prompt)
        return own <= self.blocks.available - spoken_for

    def _expected(self, work: Work) -> int:
        """How many blocks a request may come to, going by the replies so far: who starts should not have to restart."""
        request, longest = work.request, work.request.max_new_tokens
        known = self._replies and not work.again
        reply = min(longest, 2 * self._reply_tokens // self._replies) if known else longest
        return self.blocks.needed(len(request.prompt)) + work.search.most_rows * (1 + self.blocks.needed(reply))

    def _held(self, work: Work) -> int:
        behind = self.blocks.needed(work.length) - len(work.path) + 1
        return len(work.path) + behind * len(work.ends)

    def _start(self, work: Work) -> None:
        needed = self.blocks.needed(len(work.request.prompt))
        if needed > self.blocks.available:
            self._refuse(work, needed)
            return
        work.path = self.blocks.open(work.request.prompt)
        work.ends = work.path[-1:]
        work.length = len(work.request.prompt)
        self.running.append(work)

    def _make_room(self, works: Sequence[Work]) -> None:
        """Let the youngest begin again until there are blocks for the next token of every beam."""

        def wanted() -> int:
            going = [work for work in works if work in self.running and work.following]
            return sum(self.blocks.wanted(len(w.ends), w.following.parents, w.length) for w in going if w.following)

        while (needed := wanted()) > self.blocks.available:
            if len(self.running) > 1:
                self.restart(self.running[-1])
            else:
                (work,) = self.running
                needed += self.blocks.count - self.blocks.available
                self.finish(work)
                self._refuse(work, needed)

    def _refuse(self, work: Work, needed: int) -> None:
        wanted, room = (count * self.blocks.bytes for count in (needed, self.blocks.count))
        work.delivery.fail(TooLarge(f"keys and values take {wanted:,} bytes, and there is room for {room:,}"))

    def _branch(self, work: Work) -> None:
        """Give every beam a place for its next token."""
        assert work.following
        work.ends, copies = self.blocks.branch(work.ends, work.following.parents, work.length)
        self.copies += copies
        tokens = zip(work.following.tokens, work.ends, strict=True)
        work.rows = [Row((token,), work.length, end.table, logits=True) for token, end in tokens]
        work.length += 1

    def _piece(self, work: Work, room: int, coming: dict[Block, int]) -> Row:
        """The next piece of a prompt, behind what anybody has computed of it or does in this step."""
        prompt, size, last = work.request.prompt, self.blocks.size, len(work.path) - 1
        at = next((n for n, block in enumerate(work.path[:-1]) if coming.get(block, block.filled) < size), last)
        start = at * size + coming.get(work.path[at], work.path[at].filled)
        stop = min(len(prompt), start + room)
        if stop == len(prompt) - 1 and stop - start > 1:
            stop -= 1  # the last token is not left alone, see ``Blocks.open``
        for n in range(at, self.blocks.needed(stop)):
            coming[work.path[n]] = min(size, stop - n * size)
        table = work.path[-1].table[: self.blocks.needed(stop)]
        return Row(prompt[start:stop], start, table, logits=stop == len(prompt))

    def _fill(self, work: Work, stop: int) -> None:
        """Take note that a prompt has been computed so far."""
        size = self.blocks.size
        for n in range(self.blocks.needed(stop)):
            block = work.path[n]
            block.filled = max(block.filled, min(size, stop - n * size))
