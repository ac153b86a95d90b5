"""Has the questions of a survey folder rephrased by ``workers.rephrasing``, and keeps each batch in the folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defsurvey.jobs.settings import Settings
from defsurvey.jobs.system import exclusive, wait_shortly
from defsurvey.storage.surveys.folder import read_survey
from defsurvey.storage.surveys.problem import UnknownName, nearest, one_of
from defsurvey.storage.surveys.questions import Tried, read_tried, write_tried
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.models import find_card, read_cards
from defsurvey.workers.rephrasing import Order, prompts, rephrase

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_LOCK = ".rephrase.lock"  #: taken while a folder is being rephrased: two at once would write over each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Rephrased:
    """What became of the paraphrases that were wanted."""

    wanted: int  #: of the questions, languages and number asked for
    there: int  #: of these, how many the survey has now
    written: int  #: how many of them are new
    rejected: tuple[Tried, ...]  #: written now and not used
    failures: tuple[str, ...]  #: the engine gave up, one sentence each


def rephrase_folder(
    settings: Settings,
    folder: Path,
    *,
    model: str,
    languages: Sequence[str],
    questions: Sequence[str],
    device: str,
    console: Console,
    **tries: int,
) -> Rephrased:
    """Have paraphrases written, those made before counted; ``tries``: count, attempts and seed, as in ``Order``."""
    wait_shortly()
    card = find_card(model, read_cards(settings.models))
    if not card.capabilities.reads_prompts:
        raise EngineUnavailable(f"model {model}: expected a model that writes text, got a scripted respondent")
    check_card(card, cache=settings.cache)
    survey = read_survey(folder)
    known, ids = _languages(survey, languages), _questions(survey, questions)
    order = Order(survey=survey, model=model, languages=known, questions=ids, **tries)
    failures: list[str] = []
    with exclusive(folder / _LOCK, "defsurvey survey rephrase"):
        every = [*(question.id for question in survey.questions), *survey.excluded]
        tried = list(read_tried(folder, ids=every, languages=survey.languages))
        before, missing = len(tried), len(order.open(tried))
        if missing:
            with console.status(f"loading {model}"):
                engine = open_engine(card, survey=survey, device=device, cache=settings.cache)
            with closing(engine), progress_bar(console, "rejected") as bar:
                task = bar.add_task("paraphrases", total=missing, rejected=0)
                for batch in rephrase(order, tuple(tried), engine):
                    tried += batch.tried
                    failures += batch.failures
                    write_tried(folder, tried)
                    rejected = sum(bool(one.rejected) for one in tried[before:])
                    bar.update(task, completed=len(tried) - before - rejected, rejected=rejected)
    new, used = tried[before:], [one.paraphrase for one in tried if not one.rejected]
    there = {(one.question, one.language, one.number) for one in used if one.number <= order.count}
    return Rephrased(
        wanted=order.count * len(order.languages) * len(order.questions),
        there=sum(question in order.questions and language in order.languages for question, language, _ in there),
        written=sum(not one.rejected for one in new),
        rejected=tuple(one for one in new if one.rejected),
        failures=tuple(failures),
    )


def progress_bar(console: Console, beside: str) -> Progress:
    """A bar of what is done out of what is to do, with a count that tasks have as a field of the name ``beside``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    counted = TextColumn(f"{{task.fields[{beside}]}} {beside}", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), counted, TimeElapsedColumn())
    return Progress(*columns, console=console)


def _languages(survey: Survey, wanted: Sequence[str]) -> tuple[str, ...]:
    """The languages wanted, or all in which the survey is worded and there is a prompt to rephrase."""
    worded = [language for language in survey.languages if language in prompts()]
    for language in wanted:
        if language not in worded:
            known = f"one of {one_of(worded)}, in which the survey is worded and there is a prompt to rephrase"
            raise UnknownName(f"survey {survey.id}, language: expected {known}, got {language!r}")
    if not worded:
        expected = f"expected a language of {one_of(prompts())}, got {one_of(survey.languages)}"
        raise UnknownName(f"survey {survey.id}: {expected}")
    return tuple(wanted or worded)


def _questions(survey: Survey, wanted: Sequence[str]) -> tuple[str, ...]:
    """Ids of the questions wanted, or of all, in survey order."""
    ids = [question.id for question in survey.questions]
    for name in wanted:
        if name not in ids and name not in survey.excluded:
            raise UnknownName(f"survey {survey.id}: there is no question {name}{nearest(name, ids)}")
        survey.question(name)  # one that was excluded says why
    return tuple(name for name in ids if not wanted or name in wanted)
