"""The steps towards one answer: asked together where they can be, kept one by one, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Protocol

from defsurvey.storage.runs.run import CompletedStep
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, FinishReason, Request, outcome, submit


@dataclass(frozen=True, slots=True, kw_only=True)
class Towards:
    """Which answer steps are for."""

    participant: int
    item: int
    attempt: int


class Notes(Protocol):
    """Where the steps of an answer are kept until it is there."""

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:
        """The steps towards this answer that were kept before."""
        ...

    def keep(self, step: CompletedStep) -> None:
        """Keep a step; it is not asked again."""
        ...


class NoNotes:
    """Keeps nothing: for an answer that nobody takes up again half-way."""

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:  # noqa: ARG002 -- as Notes has it
        """Nothing was kept."""
        return ()

    def keep(self, step: CompletedStep) -> None:
        """Let it go."""


NO_NOTES = NoNotes()
#: How an engine that serves no more ends what it was asked.
_GONE = (CancelledError, EngineUnavailable)


@dataclass(frozen=True, slots=True)
class Cost:
    """What steps took: tokens as far as the engine told them, None where it told none; seconds."""

    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float

    @classmethod
    def of(cls, steps: Sequence[CompletedStep]) -> Cost:
        """Of all these together."""
        prompt = [step.prompt_tokens for step in steps if step.prompt_tokens is not None]
        completion = [step.completion_tokens for step in steps if step.completion_tokens is not None]
        return cls(
            sum(prompt) if prompt else None, sum(completion) if completion else None, sum(s.seconds for s in steps)
        )


class GaveUp(Exception):
    """The engine gave up at a step; the completion says why."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(completion.error)
        self.completion = completion


class Steps:
    """The steps of one answer: taken from the notes, or asked and noted."""

    def __init__(self, towards: Towards, *, engine: Engine, notes: Notes, clock: Callable[[], float]) -> None:
        self._towards, self._engine, self._notes, self._clock = towards, engine, notes, clock
        self._done = {step.number: step for step in notes.done(towards.item, towards.attempt)}
        self.taken: list[CompletedStep] = []
        self.asked: list[CompletedStep] = []  #: of these, what was asked here

    def take(self, number: int, request: Request) -> CompletedStep:
        """One step."""
        return self.take_all(number, [request])[0]

    def take_all(self, first: int, requests: Sequence[Request]) -> list[CompletedStep]:
        """Steps that do not depend on each other, asked together; where one fails, the others are kept and count.

        Where the engine is gone nobody waits for any more of them; those that are there are kept.
        """
        began, numbered = self._clock(), list(enumerate(requests, start=first))
        asked = [None if number in self._done else self._submit(request) for number, request in numbered]
        taken: list[CompletedStep] = []
        failed: list[Exception] = []
        for (number, request), future in zip(numbered, asked, strict=True):
            if future is not None and not future.done() and any(isinstance(error, _GONE) for error in failed):
                continue
            try:
                step = self._done[number] if future is None else self._keep(number, request, outcome(future), began)
            except (GaveUp, *_GONE) as error:
                failed.append(error)
            else:
                taken.append(step)
                self.taken.append(step)
                self.asked += [] if future is None else [step]
        if failed:
            raise next((error for error in failed if isinstance(error, _GONE)), failed[0])
        return taken

    def _submit(self, request: Request) -> Future[Completion]:
        try:
            return submit(self._engine, request)
        except EngineUnavailable as error:
            gone: Future[Completion] = Future()
            gone.set_exception(error)
            return gone

    def _keep(self, number: int, request: Request, completion: Completion, began: float) -> CompletedStep:
        if completion.finish is FinishReason.ERROR:
            raise GaveUp(completion)
        step = CompletedStep(
            participant=self._towards.participant,
            item=self._towards.item,
            attempt=self._towards.attempt,
            number=number,
            completion=completion.text,
            finish=completion.finish.value,
            seed=request.seed,
            used=completion.used,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seconds=self._clock() - began,
        )
        self._notes.keep(step)
        return step
