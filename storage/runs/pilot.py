"""How fast answers came, how many were valid, and how many tokens they took: what a pilot is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, func, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.run import AnswerState

#: Longer without an answer, and nobody was at work: a worker had been stopped, or another model's turn had come.
PAUSE_SECONDS = 300.0
#: Fewer answers of a model tell nothing.
FEWEST = 20

T = TypeVar("T")
_A, _P, _C = tables.answer.c, tables.participant.c, tables.cell.c


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensSeen:
    """The tokens of a model's answers in a run, under one condition and in one language."""

    run: str
    answers: int  #: at least 1; failed ones are not counted
    prompt: float  #: mean per answer
    completion: float  #: mean per answer


def paces(database: Database, models: Sequence[str]) -> dict[str, float]:
    """Model -> answers per second, by all workers, in the newest run in which it gave enough, pauses left out."""
    before = func.lag(_A.committed_at).over(order_by=_A.committed_at).label("before")

    def pace(run: str, model: str) -> float | None:
        times = _answers(run, model, _A.committed_at, before).subquery()
        gap = times.c.committed_at - times.c.before
        ((answers, seconds),) = database.rows(select(func.count(gap), func.sum(gap)).where(gap <= PAUSE_SECONDS))
        return answers / seconds if answers >= FEWEST and seconds > 0 else None

    return _in_newest(models, lambda model: _runs_of(database, model), pace)


def validities(database: Database, models: Sequence[str], *, run: str) -> dict[str, float]:
    """Model -> share of valid answers in a run, or else in the newest run in which it gave enough of them."""
    valid = func.count().filter(_A.state == AnswerState.ANSWERED.value)

    def share(name: str, model: str) -> float | None:
        ((ended, answered),) = database.rows(_answers(name, model, func.count(), valid))
        return answered / ended if ended >= FEWEST else None

    return _in_newest(models, lambda model: sorted(_runs_of(database, model), key=lambda known: known != run), share)


def tokens_seen(
    database: Database, models: Sequence[str], *, survey: str, questions: Sequence[str], run: str
) -> dict[tuple[str, str, str], TokensSeen]:
    """Model, name of a condition and language -> tokens of the answers, in a run that asked the very same questions.

    Prompts grow with the questions and with the answers remembered, so other questions would say little. ``run`` counts
    before all others, where it has enough answers; of the others the newest does.
    """
    r = tables.run.c
    same = (
        select(r.id, r.questions)
        .join_from(tables.run, tables.survey, r.survey == tables.survey.c.fingerprint)
        .where(tables.survey.c.name == survey)
        .order_by(r.id != run, r.created_at.desc(), r.id)
    )
    runs = [name for name, asked in database.rows(same) if list(asked) == list(questions)]
    sums = (func.count(), func.sum(_A.prompt_tokens), func.sum(_A.completion_tokens))

    def seen(name: str, model: str) -> dict[tuple[str, str, str], TokensSeen] | None:
        query = _answers(name, model, _C.condition_name, _C.language, *sums)
        query = query.where(_A.state != AnswerState.FAILED.value).group_by(_C.condition_name, _C.language)
        found = {
            (model, condition, language): TokensSeen(
                run=name, answers=answers, prompt=int(read) / answers, completion=int(written) / answers
            )
            for condition, language, answers, read, written in database.rows(query)
            if read and written
        }
        return found if sum(each.answers for each in found.values()) >= FEWEST else None

    return {key: tokens for found in _in_newest(models, lambda _: runs, seen).values() for key, tokens in found.items()}


def _in_newest(
    models: Sequence[str], runs: Callable[[str], Sequence[str]], tells: Callable[[str, str], T | None]
) -> dict[str, T]:
    """Model -> what the first of its runs tells that tells anything."""
    found: dict[str, T] = {}
    for model in models:
        told = (tells(run, model) for run in runs(model))
        if (first := next((each for each in told if each is not None), None)) is not None:
            found[model] = first
    return found


def _runs_of(database: Database, model: str) -> list[str]:
    """Runs that ask a model, the newest first."""
    run = tables.run.c
    asked = select(run.id).where(run.id.in_(select(_C.run).where(_C.model == model)))
    return [name for (name,) in database.rows(asked.order_by(run.created_at.desc(), run.id))]


def _answers(run: str, model: str, *columns: Any) -> Select[Any]:
    """Something of a model's answers in a run."""
    return select(*columns).select_from(tables.ANSWERS_IN_CELLS).where(_P.run == run, _C.model == model)
