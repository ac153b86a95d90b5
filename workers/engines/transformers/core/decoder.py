"""The batch: admit, plan, compute, select, deliver; and again.

Puts scheduler, runner and searches together. Not safe to call from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from traceback import clear_frames

import torch
from torch import Tensor

from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core.blocks import Blocks
from defsurvey.workers.engines.transformers.core.drawing import Draws
from defsurvey.workers.engines.transformers.core.memory import failed_for_good, out_of_memory
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.runner import Runner
from defsurvey.workers.engines.transformers.core.scheduler import Delivery, Limits, Planned, Scheduler, Work
from defsurvey.workers.engines.transformers.core.search import start
from defsurvey.workers.engines.transformers.core.selection import select
from defsurvey.workers.engines.transformers.core.tally import Tally


class Decoder:
    """Decodes any number of requests together, each as if it were alone.

    Args:
        runner: Computes the steps; it is closed with the decoder.
        limits: How much is done at once.
        draws: How tokens are drawn.
    """

    def __init__(self, runner: Runner, limits: Limits, draws: Draws) -> None:
        self._runner = runner
        blocks = Blocks(runner.blocks, runner.block_size, runner.block_bytes, keep=limits.keep)
        self._scheduler = Scheduler(limits, blocks, partial(start, draws=draws))
        self.tally = Tally()  #: where whoever gives it work counts the time of that, and of waiting for some

    def add(self, request: ResolvedRequest, delivery: Delivery) -> None:
        """Queue a request."""
        self._scheduler.add(request, delivery)

    def step(self) -> bool:
        """Compute the next tokens of all that run; False where there was nothing to do."""
        with self.tally.phase("admit"):
            self._scheduler.admit()
            planned = self._scheduler.plan()
        if not planned:
            return False
        try:
            with self.tally.phase("forward"):
                logits = self._compute(planned)
        except Exception as error:  # noqa: BLE001 -- a device that has failed for good is told from all else there
            self._recover(planned, error)
            return True
        self._count(planned)
        self._scheduler.computed(planned)
        self._deliver(self._select(planned, logits))
        return True

    @property
    def unfinished(self) -> int:
        """Requests that are running or waiting."""
        return len(self._scheduler.running) + len(self._scheduler.waiting)

    def counters(self) -> Counters:
        """What has been done so far; safe to call from any thread."""
        blocks = self._scheduler.blocks
        return self.tally.read(
            restarted=self._scheduler.restarted,
            reused_tokens=self._scheduler.reused,
            kv_bytes=blocks.held * blocks.bytes,
            peak_kv_bytes=blocks.most_held * blocks.bytes,
        )

    def close(self) -> None:
        """Give all memory back; what is unfinished is forgotten."""
        self._scheduler.close()
        self._runner.close()

    def _compute(self, planned: Sequence[Planned]) -> Tensor:
        self._runner.copy(self._scheduler.copies)
        self._scheduler.copies.clear()
        return self._runner.run([row for one in planned for row in one.rows])

    def _recover(self, planned: Sequence[Planned], error: Exception) -> None:
        """A step has failed: less of it is tried at once, and it fails only for whom it must."""
        clear_frames(error.__traceback__)  # what was computed so far is in the way of the next try
        if failed_for_good(error):
            raise error
        if out_of_memory(error):
            if self._scheduler.shrink(planned):
                return
        elif len(planned) > 1:
            self._scheduler.suspect(planned)
            return
        self._fail(planned[0].work, error)

    def _fail(self, work: Work, error: Exception) -> None:
        self._scheduler.finish(work)
        work.delivery.fail(error)

    def _count(self, planned: Sequence[Planned]) -> None:
        self.tally.steps += 1
        for one in planned:
            if one.work.following:
                tokens = len(one.rows)
                self.tally.beam_rows += tokens
            else:
                tokens = sum(len(row.tokens) for row in one.rows)
                self.tally.prefilled_tokens += tokens
            self.tally.rows += tokens

    def _select(self, planned: Sequence[Planned], logits: Tensor) -> list[Work]:
        """Let every search that got logits go on; returns those that have found their reply."""
        found = []
        waiting = [(one.work, len(one.rows)) for one in planned if one.rows[0].logits]
        with self.tally.phase("select"), torch.inference_mode():
            try:
                choose = getattr(self._runner, "select", select)
                chosen = choose([work.search for work, _ in waiting], logits, [count for _, count in waiting])
            except Exception as error:
                if not out_of_memory(error):
                    raise
                clear_frames(error.__traceback__)
                self._begin_again(planned, error)
                return []
            for (work, _), following in zip(waiting, chosen, strict=True):
                if isinstance(following, Exception):  # a defect of the model, for this prompt, or of who asks
                    self._fail(work, following)
                    continue
                work.following = following
                if following is None:
                    found.append(work)
        return found

    def _begin_again(self, planned: Sequence[Planned], error: Exception) -> None:
        """There was no memory to choose: some numbers may have been drawn, so that nothing can go on from here."""
        self._scheduler.shrink(planned)
        works = [one.work for one in planned if one.rows[0].logits]
        if len(self._scheduler.running) == 1:
            self._fail(works[0], error)
            return
        for work in reversed(works):  # each is put before all that wait
            self._scheduler.restart(work)

    def _deliver(self, found: list[Work]) -> None:
        with self.tally.phase("deliver"):
            for work in found:
                self._scheduler.replied(work)
                reply = work.search.reply()
                self.tally.replied(len(reply))
                try:
                    work.delivery.reply(reply, work.search.probabilities)
                except Exception as error:  # noqa: BLE001 -- a defect belongs to its request; all others still wait
                    work.delivery.fail(error)
