"""The batch: admit, build, forward, select, deliver; and again.

Puts scheduler, attention and searches together. Not safe to call from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor

from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core.attention import forward
from defsurvey.workers.engines.transformers.core.batch import Piece, build
from defsurvey.workers.engines.transformers.core.beams import start
from defsurvey.workers.engines.transformers.core.failing import failed_for_good, out_of_memory
from defsurvey.workers.engines.transformers.core.kv import Layout
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.scheduler import Delivery, Limits, Scheduler, Work
from defsurvey.workers.engines.transformers.core.selection import select
from defsurvey.workers.engines.transformers.core.selector import Draws
from defsurvey.workers.engines.transformers.core.tally import Tally
from defsurvey.workers.engines.transformers.gpu.pool import store_for

Planned = Sequence[tuple[Work, Piece]]


class Decoder:
    """Decodes any number of requests together, each as if it were alone.

    Args:
        model: A model that uses the packed attention, see ``support.adopt``.
        layout: What it keeps for one token.
        limits: How much is done at once.
        compacting: Whether dead branches of beams are squeezed out.
        pooled: Whether keys and values are in one pool, all of it taken at once; None: on anything but a CPU.
    """

    def __init__(
        self,
        model: Any,
        layout: Layout,
        limits: Limits,
        *,
        compacting: bool = True,
        pooled: bool | None = None,
    ) -> None:
        self._model = model
        self._device = layout.device
        tokens = limits.kv_bytes // layout.bytes_per_token
        self._store = store_for(layout, tokens, compacting=compacting, pooled=pooled)
        self._scheduler = Scheduler(limits, self._store, partial(start, draws=draws_for(layout)))
        self.tally = Tally()  #: where whoever gives it work counts the time of that, and of waiting for some

    def add(self, request: ResolvedRequest, delivery: Delivery) -> None:
        """Queue a request."""
        self._scheduler.add(request, delivery)

    def step(self) -> bool:
        """One forward for all that run; False where there was nothing to do."""
        planned = self._admit()
        for group, logits in self._forward(planned):
            self._deliver(self._select(group, logits))
        return bool(planned)

    @property
    def unfinished(self) -> int:
        """Requests that are running or waiting."""
        return len(self._scheduler.running) + len(self._scheduler.waiting)

    def counters(self) -> Counters:
        """What has been done so far; safe to call from any thread."""
        return self.tally.read(
            restarted=self._scheduler.restarted,
            reused_tokens=self._scheduler.reused,
            compactions=self._store.compactions,
            kv_bytes=self._store.bytes,
            peak_kv_bytes=self._store.peak_bytes,
        )

    def close(self) -> None:
        """Give all memory back; what is unfinished is forgotten."""
        self._scheduler.close()

    def _admit(self) -> Planned:
        with self.tally.phase("admit"):
            self._scheduler.admit()
            return self._scheduler.plan()

    def _forward(self, planned: Planned) -> list[tuple[Planned, Tensor]]:
        """Logits of everyone planned. One that fails is tried again in halves, and fails only for whom it must."""
        if not planned:
            return []
        try:
            rows, logits = self._compute([piece for _, piece in planned])
        except Exception as error:
            clear_frames(error.__traceback__)  # what was computed so far is in the way of the next try
            if failed_for_good(error):
                raise
            return [done for half in self._halves(planned, error) for done in self._forward(half)]
        self.tally.steps += 1
        self.tally.rows += rows
        for _, piece in planned:
            if piece.tree:
                self.tally.beam_rows += len(piece.tokens)
            else:
                self.tally.prefilled_tokens += len(piece.tokens)
        return [(planned, logits)]

    def _halves(self, planned: Planned, error: Exception) -> list[Planned]:
        """What is tried instead of a forward that failed; nothing where one request has failed by itself."""
        if out_of_memory(error):
            self._scheduler.shrink()
        if len(planned) > 1:
            middle = len(planned) // 2
            return [planned[:middle], planned[middle:]]
        ((work, piece),) = planned
        if out_of_memory(error) and (half := self._scheduler.halve(work, piece)) is not None:
            return [[(work, half)]]
        self._scheduler.finish(work)
        work.delivery.fail(error)
        return []

    def _compute(self, pieces: Sequence[Piece]) -> tuple[int, Tensor]:
        """How many rows a forward has, and its logits."""
        with self.tally.phase("build"):
            batch = build(pieces, device=self._device)
        with self.tally.phase("forward"):
            return batch.rows, forward(self._model, batch)

    def _select(self, planned: Planned, logits: Tensor) -> list[Work]:
        """Let every search that got logits go on; returns those that have found their reply."""
        found = []
        with self.tally.phase("select"), torch.inference_mode():
            waiting = [(work, len(piece.tokens) if piece.tree else 1) for work, piece in planned if piece.logits]
            searches = [work.search for work, _ in waiting if work.search is not None]
            try:
                chosen = select(searches, logits, [count for _, count in waiting])
            except Exception as error:
                if not out_of_memory(error):
                    raise
                clear_frames(error.__traceback__)
                self._begin_again([work for work, _ in waiting], error)
                return []
            for (work, _), following in zip(waiting, chosen, strict=True):
                if isinstance(following, Exception):  # a defect of the model, for this prompt, or of who asks
                    self._scheduler.finish(work)
                    work.delivery.fail(following)
                    continue
                work.following = following
                if following is None:
                    found.append(work)
        return found

    def _begin_again(self, works: Sequence[Work], error: Exception) -> None:
        """There was no memory to choose: some numbers may have been drawn, so that nothing can go on from here."""
        self._scheduler.shrink()
        alone = len(self._scheduler.running) == 1
        for work in reversed(works):  # each is put before all that wait
            if alone:
                self._scheduler.finish(work)
                work.delivery.fail(error)
            else:
                self._scheduler.restart(work)

    def _deliver(self, found: list[Work]) -> None:
        with self.tally.phase("deliver"):
            for work in found:
                assert work.search is not None
                reply = work.search.reply()
                self._scheduler.finish(work, keep=True)
                self.tally.replied(len(reply))
                try:
                    work.delivery.reply(reply)
                except Exception as error:  # noqa: BLE001 -- a defect belongs to its request; all others still wait
                    work.delivery.fail(error)


def draws_for(layout: Layout) -> Draws:
    """How tokens are drawn for a model's device and number format.

    Only in float32 do a packed forward and a single one agree closely enough for the same draws to give the same
    tokens, so only there are they made the library's costly way.
    """
    if layout.device.type != "cpu":
        return Draws.HASHED
    return Draws.LIBRARY if layout.dtype is torch.float32 else Draws.CUMULATIVE
