"""Probes: what of a survey a model can complete from the wording of its questions alone."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.runs.run import Decoding
from defsurvey.storage.surveys.survey import Culture, Question, QuestionType, Survey
from defsurvey.workers.engines.base import Engine, FinishReason, Request, ask_together
from defsurvey.workers.simulation.answer_parser import spoken
from defsurvey.workers.simulation.prompts import conversation, fill, of_language, option_text

#: Requests under way at once; a process that is killed loses at most so many.
BATCH = 16
#: Points by which the percentages of a question of one choice may miss 100: they are rounded, and some options omitted.
SUM_OFF = 10.0
#: Greedy, so that the likeliest completion is what is compared.
_DECODING = Decoding(num_beams=1, do_sample=False, max_new_tokens=512)
#: An option's code at the beginning of a line, and the number that the line ends with. Neither gives back what it took
#: (``++``), so that no line takes longer than it is long.
_CODE = re.compile(r"[^\w]*+(?P<code>\d{1,18}+)(?:\s*+[:：.)\]、]|\s\D)")
_NUMBER = re.compile(r"(?<!\d)(?P<number>\d++(?:[.,]\d++)?+)\s*+(?P<sign>[%％]?+)\s*+\.?+\s*+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What came of some probes."""

    probes: tuple[Probe, ...]
    failures: tuple[str, ...]  #: why the engine gave up, one for each


@cache  # one small table for the life of the process
def _prompts() -> Mapping[str, Mapping[str, str]]:
    tables = tomllib.loads(Path(__file__).with_name("probing.toml").read_text(encoding="utf-8"))
    return {language: {name: text.strip() for name, text in table.items()} for language, table in tables.items()}


def planned(survey: Survey, model: str, asked: Sequence[tuple[str, str]], questions: Sequence[str]) -> list[Probe]:
    """The probes of one model, by its card's name, not yet completed; raises UnknownLanguage.

    ``asked`` is culture and language of each cell in which the model is interviewed.
    """
    probes: list[Probe] = []
    for language in dict.fromkeys(language for _, language in asked):
        probes += [_probe(survey.question(name), model, ProbeKind.OPTIONS, None, language) for name in questions]
    for code, language in dict.fromkeys(asked):
        culture = survey.culture(code)
        known = [name for name in questions if survey.reference(name, code) is not None]
        probes += [_probe(survey.question(name), model, ProbeKind.PERCENTAGES, culture, language) for name in known]
    return probes


def complete(probes: Sequence[Probe], survey: Survey, engine: Engine) -> Iterator[Probed]:
    """Have probes completed, up to ``BATCH`` at a time; keep them before asking for the next.

    Raises EngineUnavailable once what had been replied was given back.
    """
    for start in range(0, len(probes), BATCH):
        batch = probes[start : start + BATCH]
        requests = [Request(messages=conversation(probe.prompt), decoding=_DECODING, seed=0) for probe in batch]
        replies, unavailable = ask_together(engine, requests)
        done: list[Probe] = []
        failures: list[str] = []
        for place, completion in replies:
            probe = batch[place]
            if completion.finish is FinishReason.ERROR:
                failures.append(f"model {probe.model}, question {probe.question}, {probe.kind}: {completion.error}")
                continue
            told = None
            if probe.kind is ProbeKind.PERCENTAGES:
                told = read_percentages(spoken(completion.text)[0], survey.question(probe.question))
            done.append(replace(probe, completion=completion.text, percent=told))
        yield Probed(probes=tuple(done), failures=tuple(failures))
        if unavailable is not None:
            raise unavailable


def read_percentages(text: str, question: Question) -> dict[int, float] | None:
    """Option code -> percentage, from lines such as ``2: 31%``, ``2: Rather important: 31.5`` or ``2: 0.31``.

    Numbers without a percent sign are proportions where they add up to 1, or of a list, where none is above 1. None
    where an option has no line, a number is above 100, or those of a question of one choice do not add up to 100, give
    or take ``SUM_OFF``. Of several lines for an option the first counts.

    >>> from defsurvey.storage.surveys.survey import Option, QuestionType
    >>> options = tuple(Option(code=code, label={}) for code in (1, 2))
    >>> asked = Question(id="Q", type=QuestionType.SINGLE, topic="", text={}, options=options)
    >>> read_percentages("1: Yes: 60%\\n2. No - 39,5 %", asked)
    {1: 60.0, 2: 39.5}
    >>> read_percentages("1: 0.75\\n2: 0.25", asked)
    {1: 75.0, 2: 25.0}
    """
    found: dict[int, tuple[float, bool]] = {}
    for line in text.splitlines():
        plain = line.replace("*", "")
        begins = _CODE.match(plain)
        ends = _NUMBER.search(plain, begins.end()) if begins else None
        if begins and ends and int(begins["code"]) in question.codes:
            found.setdefault(int(begins["code"]), (float(ends["number"].replace(",", ".")), bool(ends["sign"])))
    if set(found) != set(question.codes):
        return None
    numbers = [number for number, _ in found.values()]
    one_choice = question.type is not QuestionType.MULTIPLE
    if any(signed for _, signed in found.values()):
        proportions = False
    elif one_choice:
        proportions = abs(100 * sum(numbers) - 100) <= SUM_OFF
    else:
        proportions = max(numbers) <= 1 and any(0 < number < 1 for number in numbers)
    percentages = {code: found[code][0] * (100 if proportions else 1) for code in question.codes}
    if max(percentages.values()) > 100 or (one_choice and abs(sum(percentages.values()) - 100) > SUM_OFF):
        return None
    return percentages


def _probe(question: Question, model: str, kind: ProbeKind, culture: Culture | None, language: str) -> Probe:
    table = of_language(_prompts(), language, "prompt to probe in it")
    return Probe(
        model=model,
        kind=kind,
        culture=culture.code if culture is not None else "",
        language=language,
        question=question.id,
        prompt=fill(
            table[kind.value],
            QUESTION=question.text[language],
            OPTIONS="\n".join(option_text(question, code, language) for code in question.codes),
            COUNTRY=culture.name[language] if culture is not None else "",
        ),
        completion="",
    )
