"""The steps of an answer that takes several, and option probabilities: committed one by one, each once.

Fenced like a checkpoint: a worker whose lease was taken writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, select

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.ledger import ADVANCE, StaleLease, advancing, fence
from defsurvey.storage.runs.rows import flat, noun
from defsurvey.storage.runs.run import CompletedStep, OptionProbabilities, Participant

_P, _S, _O = tables.participant.c, tables.step.c, tables.option_probability.c


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityRow:
    """The probability of one option of a question by the next token, the options shown in one of several orders."""

    cell: int  #: position in ``Run.cells``
    question: str
    order: int  #: which order; a question's distribution is the mean over its orders
    option: int  #: code
    probability: float


def steps_of(database: Database, participant: int, item: int, attempt: int) -> list[CompletedStep]:
    """The steps towards one answer that were committed already, in order."""
    query = select(tables.step).where(_S.participant == participant, _S.item == item, _S.attempt == attempt)
    return [noun(CompletedStep, row) for row in database.rows(query.order_by(_S.number))]


def commit_step(database: Database, owner: str, held: Participant, step: CompletedStep) -> None:
    """Commit one step; committing it a second time changes nothing. Raises StaleLease."""
    # Written, not read: whoever claims the participant at this moment waits until the step is there.
    mark = tables.participant.update().where(fence(held)).values(lease_epoch=held.epoch)
    columns = {**flat(step), "worker": owner, "committed_at": Now()}

    def work(connection: Connection) -> None:
        if connection.execute(mark).rowcount != 1:
            raise StaleLease(held)
        insert_new(connection, tables.step, columns)

    database.write(work)


def commit_probabilities(
    database: Database, held: Participant, item: int, found: Sequence[OptionProbabilities]
) -> None:
    """Commit what was read of one item, in every order, together with the next position; raises StaleLease."""
    rows = [
        {
            "participant": held.id,
            "item": item,
            "order": one.order,
            "question": one.question,
            "place": place,
            "option": option,
            "probability": probability,
        }
        for one in found
        for place, (option, probability) in enumerate(zip(one.shown, one.probabilities, strict=True))
    ]
    passed = exists().where(fence(held), _P.next_item == item + 1)

    def work(connection: Connection) -> None:
        if connection.execute(ADVANCE, advancing(held, item, (), ())).rowcount == 1:
            if rows:
                connection.execute(tables.option_probability.insert(), rows)
        elif connection.execute(select(passed)).scalar_one() is False:  # else committed before, the word of it lost
            raise StaleLease(held, item)

    database.write(work)


def unweighed(database: Database, cells: Sequence[int]) -> int:
    """How many questions the participants of these cells have passed without any probabilities: an engine gave up."""
    if not cells:
        return 0
    here = _P.cell.in_(cells)
    found = select(_O.participant, _O.item).join(tables.participant, _O.participant == _P.id).where(here).distinct()
    weighed: Any = select(func.count()).select_from(found.subquery()).scalar_subquery()
    return int(database.value(select(func.coalesce(func.sum(_P.next_item), 0) - weighed).where(here)))


def read_probabilities(database: Database, run: str) -> list[ProbabilityRow]:
    """What the next token said of the options of every question, by cell, question, order and place."""
    query = (
        select(_P.cell, _O.question, _O.order, _O.option, _O.probability)
        .join_from(tables.option_probability, tables.participant, _O.participant == _P.id)
        .where(_P.run == run)
        .order_by(_P.cell, _O.item, _O.order, _O.place)
    )
    with database.read() as connection:
        cells = {cell.id: position for position, cell in enumerate(store.run_in(connection, run).cells)}
        return [ProbabilityRow(**{**row._mapping, "cell": cells[row.cell]}) for row in connection.execute(query)]
