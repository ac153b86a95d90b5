"""How fast answers came, how many were valid, and how many tokens they took: what a pilot is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.run import AnswerState

#: Longer without an answer, and nobody was at work: a worker had been stopped, or another model's turn had come.
PAUSE_SECONDS = 300.0
#: Fewer answers of a model tell nothing.
FEWEST = 20

_A, _P, _C = tables.answer.c, tables.participant.c, tables.cell.c


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensSeen:
    """The tokens of a model's answers in a run, under one condition and in one language."""

    run: str
    answers: int  #: at least 1; failed ones are not counted
    prompt: float  #: mean per answer
    completion: float  #: mean per answer


def paces(database: Database, models: Sequence[str]) -> dict[str, float]:
    """Model -> answers per second in the newest run in which it gave enough of them, pauses left out.

    However many workers there were, and with as many participants in flight as there were then.
    """
    found: dict[str, float] = {}
    before = func.lag(_A.committed_at).over(order_by=_A.committed_at).label("before")
    with database.read() as connection:
        for model in models:
            for run in connection.execute(_runs_of(model)).scalars():
                times = _answers(run, model, _A.committed_at, before).subquery()
                gap = times.c.committed_at - times.c.before
                query = select(func.count(gap), func.sum(gap)).where(gap <= PAUSE_SECONDS)
                answers, seconds = connection.execute(query).one()
                if answers >= FEWEST and seconds > 0:
                    found[model] = answers / seconds
                    break
    return found


def validities(database: Database, models: Sequence[str], *, run: str) -> dict[str, float]:
    """Model -> share of valid answers in a run, or else in the newest run in which it gave enough of them."""
    found: dict[str, float] = {}
    valid = func.count().filter(_A.state == AnswerState.ANSWERED.value)
    with database.read() as connection:
        for model in models:
            for name in sorted(connection.execute(_runs_of(model)).scalars(), key=lambda known: known != run):
                ended, answered = connection.execute(_answers(name, model, func.count(), valid)).one()
                if ended >= FEWEST:
                    found[model] = answered / ended
                    break
    return found


def _runs_of(model: str) -> Select[Any]:
    """Runs that ask a model, the newest first."""
    run = tables.run.c
    asked = select(_C.run).where(_C.model == model)
    return select(run.id).where(run.id.in_(asked)).order_by(run.created_at.desc(), run.id)


def _answers(run: str, model: str, *columns: Any) -> Select[Any]:
    """Something of a model's answers in a run."""
    return select(*columns).select_from(tables.ANSWERS_IN_CELLS).where(_P.run == run, _C.model == model)


def tokens_seen(
    database: Database, models: Sequence[str], *, survey: str, questions: Sequence[str], run: str
) -> dict[tuple[str, str, str], TokensSeen]:
    """Model, name of a condition and language -> tokens of the answers, in a run that asked the very same questions.

    Prompts grow with the questions and with the answers remembered, so other questions would say little. Which version
    of the survey of that id was asked makes no difference. ``run`` counts before all others, where it has enough
    answers; of the others the newest does.
    """
    r, found = tables.run.c, {}
    same = (
        select(r.id, r.questions)
        .join_from(tables.run, tables.survey, r.survey == tables.survey.c.fingerprint)
        .where(tables.survey.c.name == survey)
        .order_by(r.id != run, r.created_at.desc(), r.id)
    )
    sums = (func.count(), func.sum(_A.prompt_tokens), func.sum(_A.completion_tokens))
    with database.read() as connection:
        runs = [name for name, asked in connection.execute(same) if list(asked) == list(questions)]
        for model in models:
            for candidate in runs:
                query = _answers(candidate, model, _C.condition_name, _C.language, *sums)
                query = query.where(_A.state != AnswerState.FAILED.value).group_by(_C.condition_name, _C.language)
                rows = [row for row in connection.execute(query) if row[3] and row[4]]
                if sum(row[2] for row in rows) < FEWEST:
                    continue
                for condition, language, answers, read, written in rows:
                    found[model, condition, language] = TokensSeen(
                        run=candidate, answers=answers, prompt=int(read) / answers, completion=int(written) / answers
                    )
                break
    return found
