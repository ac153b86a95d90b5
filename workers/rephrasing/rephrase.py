"""Paraphrases of a survey's questions: asked of an engine, round by round, and checked.

It starts from what was tried already, so that work that was cut off goes on.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from defsurvey.storage.runs.run import Decoding
from defsurvey.storage.surveys.questions import Tried
from defsurvey.storage.surveys.survey import Paraphrase, Question, Survey
from defsurvey.workers.engines.base import Completion, Engine, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.judging.asking import ask_together
from defsurvey.workers.rephrasing.checks import Vocabulary, fault
from defsurvey.workers.simulation.answer_parser import spoken
from defsurvey.workers.simulation.draws import substream
from defsurvey.workers.simulation.prompts import UnknownLanguage, option_text

#: Requests under way at once; a process that is killed loses at most so many wordings.
BATCH = 16
#: The likeliest wording first; where that is rejected, others that are not far from it.
_FIRST = Decoding(do_sample=False, max_new_tokens=256)
_AGAIN = Decoding(do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=256)
_QUOTES = ('""', "“”", "''", "‘’", "「」", "«»")
_MARKER = re.compile(r"\[([A-Z]+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted."""

    survey: Survey
    model: str  #: name of the model's card, kept with every wording
    languages: tuple[str, ...]
    questions: tuple[str, ...]  #: ids in survey order
    count: int  #: paraphrases of each question in each language
    attempts: int  #: how often each may be tried
    seed: int

    def open(self, tried: Sequence[Tried]) -> list[tuple[int, str, str]]:
        """(number, language, question) of every paraphrase that is still missing and may be tried again."""
        done, attempts = {_key(one) for one in tried if not one.rejected}, Counter(map(_key, tried))
        return [
            key
            for number in range(1, self.count + 1)
            for language in self.languages
            for question in self.questions
            if (key := (number, language, question)) not in done and attempts[key] < self.attempts
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came of some requests."""

    tried: tuple[Tried, ...]
    failures: tuple[str, ...]  #: why the engine gave up, one for each wording that was not written


@cache  # one small table for the life of the process
def prompts() -> Mapping[str, str]:
    """Language code -> what a model is asked for another wording with."""
    tables = tomllib.loads(Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8"))
    return {language: table["prompt"].strip() for language, table in tables.items()}


def prompt(language: str) -> str:
    """What a model is asked with in one language; raises UnknownLanguage."""
    try:
        return prompts()[language]
    except KeyError:
        known = ", ".join(sorted(prompts()))
        raise UnknownLanguage(f"language {language}: there is no prompt to rephrase in it, only in {known}") from None


def rephrase(order: Order, tried: Sequence[Tried], engine: Engine) -> Iterator[Batch]:
    """Have what is missing written.

    Args:
        order: what is wanted.
        tried: what was tried before, used or rejected.
        engine: serves the model; first attempts are greedy, later ones sampled by seeds of their own.

    Yields:
        Up to ``BATCH`` results at a time; keep them before asking for the next.

    Raises:
        UnknownLanguage: there is no prompt in one of the languages.
        EngineUnavailable: the engine cannot be asked any more; what had been replied was given back before.
    """
    for language in order.languages:
        prompt(language)  # before anything is asked
    vocabulary, all_tried = Vocabulary.of(order.survey), list(tried)
    for number in range(1, order.count + 1):
        for attempt in range(order.attempts):
            attempts = Counter(map(_key, all_tried))
            todo = [key for key in order.open(all_tried) if key[0] == number and attempts[key] == attempt]
            for start in range(0, len(todo), BATCH):
                keys = todo[start : start + BATCH]
                batch, unavailable = _ask(order, keys, attempt, all_tried, engine, vocabulary)
                all_tried += batch.tried
                yield batch
                if unavailable is not None:
                    raise unavailable


def _ask(
    order: Order,
    keys: Sequence[tuple[int, str, str]],
    attempt: int,
    tried: Sequence[Tried],
    engine: Engine,
    vocabulary: Vocabulary,
) -> tuple[Batch, EngineUnavailable | None]:
    asked = []
    for number, language, name in keys:
        question = order.survey.question(name)
        known = known_wordings(question, language, tried)
        asked.append((_request(order, question, language, number, attempt, known), question, known))
    replies, unavailable = ask_together(engine, [request for request, _, _ in asked])
    found: list[Tried] = []
    failures: list[str] = []
    for place, completion in replies:
        (number, language, _), (_, question, known) = keys[place], asked[place]
        if completion.finish is FinishReason.ERROR:
            failures.append(f"question {question.id}, {language}, paraphrase {number}: {completion.error}")
            continue
        text = bare_question(spoken(completion.text)[0])
        rejected = _unfinished(completion) or fault(text, question, language, vocabulary=vocabulary, known=known)
        written = Paraphrase(
            question=question.id,
            number=number,
            language=language,
            text=text,
            model=order.model,
            prompt=prompt(language),
        )
        found.append(Tried(paraphrase=written, attempt=attempt, rejected=rejected))
    return Batch(tried=tuple(found), failures=tuple(failures)), unavailable


def _request(
    order: Order, question: Question, language: str, number: int, attempt: int, known: Sequence[str]
) -> Request:
    texts = {
        "QUESTION": question.text[language],
        "OPTIONS": "\n".join(option_text(question, code, language) for code in question.codes),
        "KNOWN": "\n".join(known),
    }
    text = _MARKER.sub(lambda found: texts[found[1]], prompt(language))
    drawn = substream(order.seed, "rephrase", question.id, language, number, attempt)
    return Request(
        messages=(Message(role="user", content=text),),
        decoding=_AGAIN if attempt else _FIRST,
        seed=int(drawn.integers(2**63)),
    )


def known_wordings(question: Question, language: str, tried: Sequence[Tried]) -> list[str]:
    """The question's own wording and the paraphrases of it that are used."""
    mine = [one.paraphrase for one in tried if not one.rejected and one.paraphrase.question == question.id]
    return [question.text[language], *(p.text for p in mine if p.language == language)]


def bare_question(reply: str) -> str:
    """A reply without white space and one pair of quotation marks around it, as it can be kept."""
    text = reply.encode("utf-8", "replace").decode("utf-8").strip()
    if len(text) > 1 and f"{text[0]}{text[-1]}" in _QUOTES:
        text = text[1:-1].strip()
    return text


def _unfinished(completion: Completion) -> str:
    if completion.finish is FinishReason.REFUSAL:
        return "the model declined"
    return "it was cut off at the longest reply" if completion.finish is FinishReason.LENGTH else ""


def _key(one: Tried) -> tuple[int, str, str]:
    return (one.paraphrase.number, one.paraphrase.language, one.paraphrase.question)
