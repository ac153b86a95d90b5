"""Respondents that follow a rule instead of a model: for tests, for load, as yardsticks.

What they say is in ``workers.engines.phrases``, when they say it in ``workers.engines.delay``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from zlib import crc32

import numpy as np

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, Survey
from defsurvey.workers.engines import phrases
from defsurvey.workers.engines.base import (
    NO_DECODING,
    Asked,
    Completion,
    EngineUnavailable,
    FinishReason,
    Request,
    Task,
)
from defsurvey.workers.engines.delay import Delay
from defsurvey.workers.models import RESPONDENTS, ModelCard

#: Respondents that need to know what people of the culture answered.
INFORMED = ("human", "mode")


class ScriptedEngine:
    """Serves one scripted respondent. ``submit`` is safe to call from any thread.

    Without latency the reply is there when ``submit`` returns; with latency replies overlap, however many
    are under way.
    """

    def __init__(self, card: ModelCard, survey: Survey) -> None:
        if card.respondent not in RESPONDENTS:
            known = ", ".join(RESPONDENTS)
            raise EngineUnavailable(f"model {card.name}: respondent: expected one of {known}, got {card.respondent!r}")
        self._respondent = card.respondent
        self._latency = card.latency_seconds
        self._survey = survey
        self._delay = Delay() if card.latency_seconds else None
        self._closed = False

    def submit(self, request: Request) -> Future[Completion]:
        """Answer a request; raises EngineUnavailable after ``close``."""
        if self._closed:
            raise EngineUnavailable(f"the scripted respondent {self._respondent} is closed")
        completion = self._reply(request)
        if self._delay is not None:
            return self._delay.after(self._latency, completion)
        future: Future[Completion] = Future()
        future.set_result(completion)
        return future

    def describe(self) -> EngineDescription:
        """The respondent, its latency in seconds and the survey whose answers it knows."""
        return {
            "engine": "scripted",
            "respondent": self._respondent,
            "latency_seconds": f"{self._latency:g}",
            "survey": self._survey.fingerprint or self._survey.id,
        }

    def close(self) -> None:
        """Cancel the replies that are still under way."""
        self._closed = True
        if self._delay is not None:
            self._delay.close()

    def _reply(self, request: Request) -> Completion:
        asked = request.asked
        if asked is None:
            return _error("a scripted respondent needs to know what it is asked, and the request does not say")
        if self._respondent == "refuser":
            return _said(phrases.refusal(asked.language, request.seed))
        if self._respondent == "garbler":
            return _said(phrases.garble(asked, request.seed))
        shares = self._shares(asked)
        if shares is None and self._respondent in INFORMED:
            return _error(
                f"question {asked.question.id}: survey {self._survey.id} has no reference distribution "
                f"for culture {asked.culture}, and respondent {self._respondent} needs one"
            )
        if request.choices:
            return self._weighed(asked, shares or {})
        generator = _generator(asked, request.seed)
        if asked.task is not Task.ANSWER:
            return _said(self._step(asked, shares or {}, generator))
        codes = _choose(self._respondent, asked, shares or {}, generator)
        return _said(phrases.answer(asked, codes, int(generator.integers(phrases.EXPLANATIONS))))

    def _weighed(self, asked: Asked, shares: Mapping[int, float]) -> Completion:
        """How probable each option is that was shown; shares of a list are scaled to sum to 1."""
        known = {code: share for code, share in shares.items() if code in asked.shown}
        match self._respondent:
            case "human":
                weights = [known.get(code, 0.0) / sum(known.values()) for code in asked.shown]
            case "mode":
                weights = [float(code == choose_mode(asked.question, shares)[0]) for code in asked.shown]
            case "first-shown":
                weights = [float(place == 0) for place in range(len(asked.shown))]
            case _:
                weights = [1 / len(asked.shown)] * len(asked.shown)
        return replace(_said(""), probabilities=tuple(weights))

    def _step(self, asked: Asked, shares: Mapping[int, float], generator: np.random.Generator) -> str:
        """What the respondent says where no single answer is asked for."""
        if asked.task is Task.CRITIQUE:
            return phrases.critique(asked.language)
        if asked.task is Task.VOTE:
            return phrases.vote(asked.language, int(generator.integers(1, asked.number + 1)))
        return phrases.listing(
            asked, [_choose(self._respondent, asked, shares, generator) for _ in range(asked.number)]
        )

    def _shares(self, asked: Asked) -> Mapping[int, float] | None:
        reference = self._survey.reference(asked.question.id, asked.culture, Group.ALL)
        return reference.shares if reference is not None and any(reference.shares.values()) else None


def draw_single(question: Question, shares: Mapping[int, float], generator: np.random.Generator) -> tuple[int, ...]:
    """One option code, each with the probability of its share; ``shares`` need not sum to exactly 1."""
    codes = question.codes
    bounds = np.cumsum([shares.get(code, 0.0) for code in codes])
    return (codes[int(np.searchsorted(bounds, generator.random() * bounds[-1], side="right"))],)


def draw_multiple(question: Question, shares: Mapping[int, float], generator: np.random.Generator) -> tuple[int, ...]:
    """Up to ``max_choices`` option codes, each included with exactly the probability of its share.

    Independent draws would exceed ``max_choices`` now and then, and cutting them back would
    lower every share. Systematic sampling (Madow 1949) does neither: the shares are laid end to end in a
    random order, and the options at u, u + 1, u + 2, ... are taken, u uniform in [0, 1). The number taken is
    the sum of the shares, rounded down or up. Options whose share is not known have none of their own, and share
    alike what the others leave of one choice. Only where the sum is still below 1 (someone chose nothing, which no
    reply can say) or above ``max_choices`` are the shares scaled to sum to 1 or to ``max_choices``.
    """
    codes = generator.permutation(question.codes)
    unknown = [code for code in question.codes if code not in shares]
    left = max(0.0, 1.0 - sum(shares.values())) / len(unknown) if unknown else 0.0
    lengths = np.array([shares.get(int(code), left) for code in codes])
    total = float(lengths.sum())
    wanted = min(max(total, 1.0), float(question.max_choices))
    # Rounding can leave the end of the last share just above a whole number: that must not let one more in.
    bounds = np.minimum(np.cumsum(lengths * (wanted / total)), question.max_choices)
    points = np.arange(question.max_choices) + generator.random()
    taken = np.searchsorted(bounds, points[points < bounds[-1]], side="right")
    return tuple(sorted({int(codes[position]) for position in taken}))


def choose_mode(question: Question, shares: Mapping[int, float]) -> tuple[int, ...]:
    """What most people answered; of a list, all that a majority chose (``max_choices`` at most), or the most chosen.

    Options whose share is not known are no part of it.
    """
    ranked = sorted((code for code in question.codes if code in shares), key=lambda code: -shares[code])
    if question.type is not QuestionType.MULTIPLE:
        return (ranked[0],)
    majority = [code for code in ranked if shares[code] > 0.5]
    return tuple(sorted(majority[: question.max_choices] or ranked[:1]))


def draw_uniform(question: Question, generator: np.random.Generator) -> tuple[int, ...]:
    """Any option alike; of a list, any number of options alike and then any of them alike."""
    most = min(question.max_choices, len(question.options)) if question.type is QuestionType.MULTIPLE else 1
    number = int(generator.integers(1, most + 1))
    return tuple(sorted(int(code) for code in generator.choice(question.codes, size=number, replace=False)))


def _choose(
    respondent: str, asked: Asked, shares: Mapping[int, float], generator: np.random.Generator
) -> tuple[int, ...]:
    question = asked.question
    match respondent:
        case "human":
            draw = draw_multiple if question.type is QuestionType.MULTIPLE else draw_single
            return draw(question, shares, generator)
        case "mode":
            return choose_mode(question, shares)
        case "uniform":
            return draw_uniform(question, generator)
        case _:
            return (asked.shown[0],)


def _generator(asked: Asked, seed: int) -> np.random.Generator:
    """Keyed by question and culture too: seeds are shared between cultures, people are not."""
    key = (seed, crc32(asked.question.id.encode()), crc32(asked.culture.encode()))
    return np.random.default_rng(key)


def _said(text: str) -> Completion:
    return Completion(text=text, finish=FinishReason.STOP, used=NO_DECODING)


def _error(reason: str) -> Completion:
    return Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error=reason)
