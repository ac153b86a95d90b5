"""Respondents that follow a rule instead of a model: for tests, for load, as yardsticks.

The words that they use are in ``scripted.toml``.
"""

from __future__ import annotations

import math
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from zlib import crc32

import numpy as np

from defsurvey.storage.runs.run import EngineDescription
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, Survey
from defsurvey.workers.engines import base
from defsurvey.workers.engines.base import Asked, Completion, EngineUnavailable, Request, Task
from defsurvey.workers.models import ModelCard

#: Respondents that need to know what people of the culture answered.
INFORMED = ("human", "mode")


class ScriptedEngine:
    """Serves one scripted respondent; with latency replies overlap. ``submit`` is safe to call from any thread."""

    def __init__(self, card: ModelCard, survey: Survey) -> None:
        assert card.respondent is not None  # as every card of this engine has
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
        done: Future[Completion] = Future()
        done.set_result(completion)
        return done

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
        words = _words(asked.language)
        if self._respondent == "refuser":
            return _said(words["refusals"][request.seed % len(words["refusals"])])
        if self._respondent == "garbler":
            return _said(garble(asked, request.seed))
        reference = self._survey.reference(asked.question.id, asked.culture, Group.ALL)
        shares = reference.shares if reference is not None else {}
        if self._respondent in INFORMED and not any(shares.values()):
            return _error(
                f"question {asked.question.id}: survey {self._survey.id} has no reference distribution "
                f"for culture {asked.culture}, and respondent {self._respondent} needs one"
            )
        if request.choices:
            return _said("", tuple(self._probabilities(asked, shares)))
        # by question and culture too: seeds are shared between cultures, people are not
        key = (request.seed, crc32(asked.question.id.encode()), crc32(asked.culture.encode()))
        generator = np.random.default_rng(key)
        match asked.task:
            case Task.CRITIQUE:
                return _said(words["critique"])
            case Task.VOTE:
                return _said(f"{words['answer']}{int(generator.integers(1, asked.number + 1))}")
            case Task.LIST:
                answers = [self._choose(asked, shares, generator) for _ in range(asked.number)]
                lines = (words["person"] % n + _chosen(asked, codes) for n, codes in enumerate(answers, start=1))
                return _said("\n".join(lines))
        codes = self._choose(asked, shares, generator)
        if request.closed is not None:
            return _said(request.reply_start + request.closed.separator.join(map(str, codes)))
        return _said(answer(asked, codes, int(generator.integers(len(words["explanations"])))))

    def _probabilities(self, asked: Asked, shares: Mapping[int, float]) -> list[float]:
        """How probable each option is that was shown; shares of a list are scaled to sum to 1."""
        shown = asked.shown
        match self._respondent:
            case "human":
                total = math.fsum(shares[code] for code in shown if code in shares)
                return [shares.get(code, 0.0) / total for code in shown]
            case "uniform":
                return [1 / len(shown)] * len(shown)
        chosen = choose_mode(asked.question, shares)[0] if self._respondent == "mode" else shown[0]
        return [float(code == chosen) for code in shown]

    def _choose(self, asked: Asked, shares: Mapping[int, float], generator: np.random.Generator) -> tuple[int, ...]:
        question = asked.question
        match self._respondent:
            case "human":
                draw = draw_multiple if question.type is QuestionType.MULTIPLE else draw_single
                return draw(question, shares, generator)
            case "mode":
                return choose_mode(question, shares)
            case "uniform":
                return draw_uniform(question, generator)
            case _:
                return (asked.shown[0],)


class Delay:
    """Hands completions out when they are due, in the order in which they were asked for, from one thread."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[float, Future[Completion], Completion] | None] = SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()  # nothing is put behind the end of the queue
        self._thread = threading.Thread(target=self._run, name="delay", daemon=True)
        self._thread.start()

    def after(self, seconds: float, completion: Completion) -> Future[Completion]:
        """A future that resolves to ``completion`` after ``seconds``; raises EngineUnavailable once closed."""
        future: Future[Completion] = Future()
        with self._lock:
            if self._closed.is_set():
                raise EngineUnavailable("the scripted respondent is closed")
            self._waiting.put((time.monotonic() + seconds, future, completion))
        return future

    def close(self) -> None:
        """Cancel what is not due yet and end the thread."""
        with self._lock:
            self._closed.set()
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            due, future, completion = waiting
            if self._closed.wait(max(0.0, due - time.monotonic())):
                base.give_up(future)
            elif future.set_running_or_notify_cancel():
                future.set_result(completion)


def draw_single(question: Question, shares: Mapping[int, float], generator: np.random.Generator) -> tuple[int, ...]:
    """One option code, each with the probability of its share; ``shares`` need not sum to exactly 1."""
    codes = question.codes
    bounds = np.cumsum([shares.get(code, 0.0) for code in codes])
    return (codes[int(np.searchsorted(bounds, generator.random() * bounds[-1], side="right"))],)


def draw_multiple(question: Question, shares: Mapping[int, float], generator: np.random.Generator) -> tuple[int, ...]:
    """Up to ``max_choices`` option codes, each included with exactly the probability of its share.

    Independent draws would exceed ``max_choices``, and cutting them back would lower every share. So this is systematic
    sampling (Madow 1949): the shares are laid end to end in a random order, and the options at u, u + 1, u + 2, ... are
    taken, u uniform in [0, 1). Options whose share is not known share alike what the others leave of one choice. Where
    the sum is below 1 (someone chose nothing, which no reply can say) or above ``max_choices`` all are scaled to that.
    """
    codes = generator.permutation(question.codes)
    unknown = [code for code in question.codes if code not in shares]
    left = max(0.0, 1.0 - math.fsum(shares.values())) / len(unknown) if unknown else 0.0
    lengths = np.array([shares.get(int(code), left) for code in codes])
    total = float(lengths.sum())
    wanted = min(max(total, 1.0), float(question.max_choices))
    # Rounding can leave the end of the last share just above a whole number: that must not let one more in.
    bounds = np.minimum(np.cumsum(lengths * (wanted / total)), question.max_choices)
    points = np.arange(question.max_choices) + generator.random()
    taken = np.searchsorted(bounds, points[points < bounds[-1]], side="right")
    return tuple(sorted({int(codes[position]) for position in taken}))


def choose_mode(question: Question, shares: Mapping[int, float]) -> tuple[int, ...]:
    """What most people answered; of a list, all that a majority chose (``max_choices`` at most), or the most chosen."""
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


@cache
def _words(language: str) -> Mapping[str, Any]:
    tables = tomllib.loads(Path(__file__).with_name("scripted.toml").read_text(encoding="utf-8"))
    found: Mapping[str, Any] = tables.get(language, tables["en"])
    return found


def answer(asked: Asked, codes: Sequence[int], explanation: int) -> str:
    """A reply such as ``Answer: 2: Rather important``, and an explanation on the next line."""
    words = _words(asked.language)
    return f"{words['answer']}{_chosen(asked, codes)}\n{words['explanation']}{words['explanations'][explanation]}"


def garble(asked: Asked, seed: int) -> str:
    """A reply from which no answer can be read: the seed picks one of several kinds."""
    words = _words(asked.language)
    beyond = max(asked.question.codes) + 90
    kinds = ("", " \n\n ", words["answer"].strip(), f"{words['answer']}{beyond}", "### ??? ***", *words["nonsense"])
    return str(kinds[seed % len(kinds)])


def _chosen(asked: Asked, codes: Sequence[int]) -> str:
    words, options = _words(asked.language), []
    for code in codes:
        label = asked.question.option(code).label.get(asked.language, "")
        options.append(str(code) if label in ("", str(code)) else f"{code}{words['after_code']}{label}")
    return str(words["between"].join(options))


def _said(text: str, probabilities: tuple[float, ...] | None = None) -> Completion:
    return Completion(text=text, finish=base.FinishReason.STOP, used=base.NO_DECODING, probabilities=probabilities)


def _error(reason: str) -> Completion:
    return Completion(text="", finish=base.FinishReason.ERROR, used=base.NO_DECODING, error=reason)
