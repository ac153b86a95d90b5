"""One resident model, asked by any number of threads.

Read on in ``decoder`` (one step), ``scheduler`` (who is computed in it), ``blocks`` (where keys and values are),
``runner`` and ``forward`` (how it is computed), ``selection`` and ``search`` (what each reply does next).
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import torch

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.workers.engines.base import Completion, Counters, EngineUnavailable, Request, give_up
from defsurvey.workers.engines.transformers.core import plain
from defsurvey.workers.engines.transformers.core.answering import Question, read_request
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.memory import failed_for_good, give_back
from defsurvey.workers.engines.transformers.core.scheduler import TooLarge
from defsurvey.workers.engines.transformers.core.tally import Tally
from defsurvey.workers.models import ModelCard

#: So many requests may be unfinished at once; who submits one more waits until another is done.
BACKLOG = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answering:
    """A question, and who waits for its answer."""

    loaded: LoadedModel
    question: Question
    future: Future[Completion]

    def cancelled(self) -> bool:
        return self.future.cancelled()

    def reply(self, tokens: list[int], probabilities: Sequence[float]) -> None:
        _settle(self.future, self.question.completion(self.loaded, tokens, probabilities))

    def fail(self, error: Exception) -> None:
        # Too little memory or a device that fails costs an answer; anything else is a defect and reaches who asked.
        expected = isinstance(error, (RuntimeError, MemoryError, TooLarge))
        _settle(self.future, self.question.failure(error) if expected else error)


class TransformersEngine:
    """Serves one loaded model to all who ask, together. ``submit`` is safe to call from any thread.

    On the CPU in float32 a reply depends on the request alone and is the one that ``generate`` gives: not on what else
    is asked at the same time, nor by how many threads.

    Args:
        card: The model's card.
        loaded: The model.
        decoder: The batch that serves it; None: the library generates one reply at a time.
        at_once: How many participants' requests it has room for at once.
        batching: How it is served, in words.
        computed_by: What computes a step, in words.
        threads: CPU threads; None leaves it to the library.
        backlog: How many requests may be unfinished before ``submit`` waits.
    """

    def __init__(
        self,
        card: ModelCard,
        loaded: LoadedModel,
        decoder: Decoder | None,
        *,
        at_once: int = 2,  # the second one's prompt is there when the first is done
        batching: str = "continuous",
        computed_by: str = "generate",
        threads: int | None = None,
        backlog: int = BACKLOG,
    ) -> None:
        self._card = card
        self._threads = threads
        self._backlog = backlog
        self._inbox: deque[tuple[Request, Future[Completion]]] = deque()
        self._pending: set[Future[Completion]] = set()
        self._cancelled: list[Future[Completion]] = []  # by whoever asked, and whoever waits is not told yet
        self._changed = threading.Condition()
        self._closed = False
        self._at_once = at_once
        tally = Tally()
        self._read: Callable[[], Counters] = tally.read if decoder is None else decoder.counters
        self._description = {
            **loaded.description,
            "threads": str(threads or "library default"),
            "batching": batching,
            "computed_by": computed_by,
            "generation_defaults_dropped": loaded.dropped,
            "decoding": "as each answer says; typical_p, penalties and minimum length switched off",
        }
        run = partial(self._run_alone, loaded, tally) if decoder is None else partial(self._run, loaded, decoder)
        self._runner = threading.Thread(target=run, name=f"model {card.name}", daemon=True)
        self._runner.start()

    def submit(self, request: Request) -> Future[Completion]:
        """Queue a request; waits while the backlog is full. Raises EngineUnavailable after ``close``.

        Whoever loses interest may cancel the future at any time: its place goes to others.
        """
        future: Future[Completion] = Future()
        with self._changed:
            while len(self._pending) >= self._backlog and not self._closed:
                self._changed.wait()
            if self._closed:
                raise EngineUnavailable(f"model {self._card.name}: its engine is closed")
            self._pending.add(future)
            self._inbox.append((request, future))
            self._changed.notify_all()
        future.add_done_callback(self._forget)
        return future

    @property
    def at_once(self) -> int:
        """How many participants' requests it has room for at once, by memory and by rows; 2 without a batch."""
        return self._at_once

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def describe(self) -> EngineDescription:
        """Weights and their hash or commit, number format, device, threads, library versions, decoding, batching."""
        return self._description

    def counters(self) -> Counters:
        """What has been computed so far; there are no steps where the model is served one request at a time."""
        return self._read()

    def close(self) -> None:
        """Cancel every reply that is not there yet, within one forward, and give the memory back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._runner.join()
        gc.collect()
        give_back()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _run(self, loaded: LoadedModel, decoder: Decoder) -> None:
        self._set_threads()
        try:
            while not self._closed:
                for answering in self._take(loaded, decoder.tally, wait=not decoder.unfinished):
                    decoder.add(answering.question.resolved, answering)
                decoder.step()
        finally:
            self._end()
            decoder.close()
            self._read = partial(replace, decoder.counters())  # no longer holds the model

    def _run_alone(self, loaded: LoadedModel, tally: Tally) -> None:
        self._set_threads()
        try:
            while not self._closed:
                for answering in self._take(loaded, tally, most=1):
                    self._answer(answering, tally)
        finally:
            self._end()

    def _answer(self, answering: _Answering, tally: Tally) -> None:
        """Let the library generate one reply, as long as somebody waits for it."""
        asked = answering.question.resolved
        try:
            reply: list[int] = []
            weighed: Sequence[float] = ()
            with tally.phase("forward"):
                if asked.choices:
                    weighed = plain.weigh(answering.loaded, asked)
                else:
                    reply = plain.generate(answering.loaded, asked, lambda: self._in_vain(answering.future))
            if self._in_vain(answering.future):
                return  # it may not be finished
            tally.replied(len(reply))
            tally.prefilled_tokens += len(asked.prompt)
            with tally.phase("deliver"):
                answering.reply(reply, weighed)
        except Exception as error:
            if failed_for_good(error):
                raise
            answering.fail(error)  # a defect belongs to its request; all others still need this thread

    def _take(
        self, loaded: LoadedModel, tally: Tally, *, wait: bool = True, most: int | None = None
    ) -> Iterator[_Answering]:
        """What has arrived and can be answered; waits for something where there is nothing else to do."""
        with self._changed:
            if wait:
                with tally.phase("idle"):
                    self._changed.wait_for(lambda: self._inbox or self._cancelled or self._closed)
            count = len(self._inbox) if most is None else min(most, len(self._inbox))
            taken = [self._inbox.popleft() for _ in range(count)]
            cancelled, self._cancelled = self._cancelled, []
        for future in cancelled:
            give_up(future)
        for request, future in taken:
            if self._in_vain(future):
                continue
            with tally.phase("admit"):
                asked = self._asked(loaded, request, future)
            if asked is not None:
                yield _Answering(loaded=loaded, question=asked, future=future)

    def _in_vain(self, future: Future[Completion]) -> bool:
        """Whether nobody waits any more for what would be computed."""
        return self._closed or future.cancelled()

    def _asked(self, loaded: LoadedModel, request: Request, future: Future[Completion]) -> Question | None:
        """What the model is asked; None where the future has its outcome already."""
        try:
            asked = read_request(self._card, loaded, request)
        except Exception as error:
            if failed_for_good(error):
                raise
            _settle(future, error)  # a defect belongs to its request; all others still need this thread
            return None
        if isinstance(asked, Completion):
            _settle(future, asked)
            return None
        return asked

    def _set_threads(self) -> None:
        if self._threads is not None:
            # The setting belongs to the thread that computes, so it is made here.
            torch.set_num_threads(self._threads)

    def _forget(self, future: Future[Completion]) -> None:
        with self._changed:
            self._pending.discard(future)
            if future.cancelled():
                self._cancelled.append(future)
            self._changed.notify_all()

    def _end(self) -> None:
        """Take nothing more and let nobody wait: also where a defect of the batch, or of the device, ended the loop."""
        with self._changed:
            self._closed = True
            pending = [*self._pending, *self._cancelled]
        for future in pending:
            give_up(future)


def _settle(future: Future[Completion], outcome: Completion | Exception) -> None:
    """Hand over an outcome; nothing happens where nobody waits for it any more."""
    if future.cancelled() or not future.set_running_or_notify_cancel():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
