"""Runs in and out of SQL: created whole, read as nouns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, not_, select

from defsurvey.storage.database import Database, Now, insert_new
from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs import run as nouns
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.ledger import FREE
from defsurvey.storage.runs.rows import flat, noun, run_from
from defsurvey.storage.surveys.as_json import survey_from_json, survey_to_json
from defsurvey.storage.surveys.problem import nearest, one_of
from defsurvey.storage.surveys.survey import Survey

_SURVEY = tables.survey.c
#: What is counted of answers: those to come, and how the others ended.
_COUNTED = ("planned", *(state.value for state in nouns.AnswerState))


class UnknownRun(BadInput, LookupError):
    """There is no run with that id, or, with None, none at all; the message names the nearest and those known."""

    def __init__(self, run: str | None, known: Sequence[str] = ()) -> None:
        if run is None:
            super().__init__("there is no run yet; defsurvey run STUDY makes one")
            return
        there = f"known: {one_of(known)}" if known else "there is none yet"
        super().__init__(f"there is no run {run!r}{nearest(run, known)}; {there}")


class OtherDesign(ValueError):
    """A run with that id is there already, with another design."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCell:
    """A cell to be, with what its participants drew, in the order of their indices."""

    model: str
    culture: str
    condition: nouns.Condition
    language: str
    draws: tuple[nouns.Draws, ...]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes a cell the same cell of a run."""
        return (self.model, self.culture, self.condition.name, self.language)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be."""

    id: str
    survey: Survey
    questions: tuple[str, ...]
    protocol: nouns.Protocol
    design: str  #: fingerprint of all that must be equal for a run to be the same design
    study: str
    cells: tuple[NewCell, ...]
    judge: Mapping[str, Any] | None = None  #: ``Judge.to_json``: who judges the answers
    budget: float | None = None  #: US dollars that models and judges may cost


def add_run(database: Database, new: NewRun, *, extend: bool = False) -> int:
    """Write a run, or what an existing one lacks, in one transaction; raises OtherDesign.

    Returns the number of participants added: 0 where everything is there already, so that enqueuing again is harmless.
    Where it is there to be extended it keeps the judge and the budget that it has by now.
    """

    def work(connection: Connection) -> int:
        design = select(tables.run.c.design).where(tables.run.c.id == new.id)
        if (there := connection.execute(design).one_or_none()) is None:
            _insert_run(connection, new)
        # Whoever enqueues the same run at the same moment waits here until this transaction is over.
        if connection.execute(design.with_for_update()).scalar_one() != new.design:
            raise OtherDesign(f"run {new.id} exists already with another design")
        if there is None or not extend:
            terms = {"judge": None if new.judge is None else dict(new.judge), "budget": new.budget}
            connection.execute(tables.run.update().where(tables.run.c.id == new.id).values(terms))
        return sum(_add_cell(connection, new, position, cell) for position, cell in enumerate(new.cells))

    return database.write(work)


def _insert_run(connection: Connection, new: NewRun) -> None:
    survey = {"fingerprint": new.survey.fingerprint, "name": new.survey.id, "body": survey_to_json(new.survey)}
    insert_new(connection, tables.survey, survey)
    own = {"survey": new.survey.fingerprint, "questions": list(new.questions), "protocol": flat(new.protocol)}
    run = {"id": new.id, "created_at": Now(), "design": new.design, "study": new.study, **own}
    insert_new(connection, tables.run, run)


def _add_cell(connection: Connection, new: NewRun, position: int, cell: NewCell) -> int:
    c = tables.cell.c
    known_by = {"run": new.id, "model": cell.model, "culture": cell.culture, "language": cell.language}
    known_by["condition_name"] = cell.condition.name
    cell_id = connection.execute(select(c.id).where(*(c[name] == it for name, it in known_by.items()))).scalar()
    if cell_id is None:
        columns = {**known_by, "position": position, "condition": flat(cell.condition)}
        cell_id = connection.execute(tables.cell.insert().values(columns).returning(c.id)).scalar_one()
    p = tables.participant.c
    present = connection.execute(select(func.count()).where(p.cell == cell_id)).scalar_one()
    rows = [
        {
            "run": new.id,
            "cell": cell_id,
            "number": number,
            "draws": flat(draws),
            "planned": len(new.questions) * cell.condition.slots,
            "questions": len(new.questions),
            "memory": (),
            "attempts": {},
            "status": nouns.ParticipantStatus.OPEN.value,
        }
        for number, draws in enumerate(cell.draws)
        if number >= present
    ]
    if rows:
        connection.execute(tables.participant.insert(), rows)
    return len(rows)


def has_run(database: Database, run: str) -> bool:
    """Whether there is a run with that id."""
    return database.value(select(tables.run.c.id).where(tables.run.c.id == run)) is not None


def design_of(database: Database, run: str) -> str:
    """The fingerprint of a run's design; raises UnknownRun."""
    found = database.value(select(tables.run.c.design).where(tables.run.c.id == run))
    if found is None:
        raise UnknownRun(run, run_ids(database))
    return str(found)


def run_ids(database: Database) -> list[str]:
    """Ids of all runs, the newest first."""
    with database.read() as connection:
        return _ids(connection)


def _ids(connection: Connection) -> list[str]:
    order = (tables.run.c.created_at.desc(), tables.run.c.id)
    return list(connection.execute(select(tables.run.c.id).order_by(*order)).scalars())


def load_run(database: Database, run: str) -> nouns.Run:
    """A run and its cells; raises UnknownRun."""
    with database.read() as connection:
        return run_in(connection, run)


def run_in(connection: Connection, run: str) -> nouns.Run:
    """The same within a transaction, where more is to be read in one state."""
    row = connection.execute(select(tables.run).where(tables.run.c.id == run)).one_or_none()
    if row is None:
        raise UnknownRun(run, _ids(connection))
    c, p = tables.cell.c, tables.participant.c
    of_cell: Any = select(func.count()).where(p.cell == c.id).scalar_subquery()
    query = select(tables.cell, of_cell.label("participants")).where(c.run == run).order_by(c.id)
    return run_from(row, [noun(nouns.Cell, cell) for cell in connection.execute(query)])


def load_survey(database: Database, fingerprint: str) -> Survey:
    """The survey that was stored beside a run."""
    return survey_from_json(database.value(select(_SURVEY.body).where(_SURVEY.fingerprint == fingerprint)))


def cancel(database: Database, run: str, *, cancelled: bool = True) -> None:
    """Set or clear a run's cancel flag; raises UnknownRun."""

    if database.change(tables.run.update().where(tables.run.c.id == run).values(cancelled=cancelled)) == 0:
        raise UnknownRun(run, run_ids(database))


def is_cancelled(database: Database, run: str) -> bool:
    """Whether there is such a run, and it is cancelled."""
    return bool(database.value(select(tables.run.c.cancelled).where(tables.run.c.id == run)))


def total(parts: Iterable[nouns.Progress]) -> nouns.Progress:
    """The sum of several cells' progress."""
    counted = list(parts)
    return nouns.Progress(**{name: sum(getattr(part, name) for part in counted) for name in _COUNTED})


def progress_in(connection: Connection, run: str) -> dict[int, nouns.Progress]:
    """Cell id -> how far that cell has come."""
    p = tables.participant.c
    query = select(p.cell, *(func.sum(p[name]) for name in _COUNTED)).where(p.run == run).group_by(p.cell)
    rows = connection.execute(query).all()
    return {cell: nouns.Progress(**dict(zip(_COUNTED, map(int, counts), strict=True))) for cell, *counts in rows}


def states_in(connection: Connection, run: str) -> dict[str, int]:
    """How many participants wait, are being worked on, have finished or are quarantined."""
    p = tables.participant.c
    held: Any = not_(FREE).label("held")
    query = select(p.status, held, func.count()).where(p.run == run).group_by(p.status, held)
    states = {"waiting": 0, "running": 0, "finished": 0, "quarantined": 0}
    for status, is_held, count in connection.execute(query):
        open_state = "running" if is_held else "waiting"
        states[open_state if status == nouns.ParticipantStatus.OPEN.value else status] += count
    return states


def rate(database: Database, run: str, *, alive_within: float = 30.0) -> float:
    """Answers per second that the living workers commit for a run, by their last beats."""
    query = select(tables.worker.c.rates).where(tables.worker.c.beat_at > Now() - alive_within)
    return float(sum(rates.get(run, 0.0) for (rates,) in database.rows(query)))


def recall(database: Database, participant: int, items: Sequence[int]) -> dict[int, str]:
    """Item -> the answer as memory keeps it, for the items named."""
    if not items:
        return {}
    a = tables.answer.c
    query = select(a.item, a.remembered).where(a.participant == participant, a.item.in_(set(items)), a.slot == 0)
    return {item: remembered for item, remembered in database.rows(query) if remembered is not None}


#: What of a description the answers depend on. Devices, threads, versions of libraries and the address of a server may
#: differ: one that is started again on another port serves the same model.
_IDENTITY = (
    "engine", "respondent", "model", "takes", "body",
    "weights", "revision", "dtype", "quantisation", "chat_template", "answer_prefix", "ends",
)  # fmt: skip
#: What tokens cost, which a card may be given after a run has begun: nothing that answers depend on.
_PRICES = ("input_price", "output_price", "priced")
_PRICED = set(_PRICES[:2])
#: What is looked at in place of these where both descriptions have it: the same file may lie elsewhere.
_DIGEST, _PLACE = "weights_sha256", ("weights", "revision")


class OtherEngine(BadInput, RuntimeError):
    """A model of this run was served by other weights or otherwise before; answers of both must not be pooled."""


def record_served(
    database: Database, run: str, model: str, description: nouns.EngineDescription, versions: Mapping[str, str]
) -> None:
    """Remember what serves a model of a run; the first to do so is the one that counts. Raises OtherEngine.

    Its prices too, and where it had none, the first that are told later: they hold for all that the run has asked.
    """
    here = and_(tables.served.c.run == run, tables.served.c.model == model)

    def work(connection: Connection) -> None:
        columns = {"run": run, "model": model, "description": dict(description), "versions": dict(versions)}
        insert_new(connection, tables.served, columns)
        first = connection.execute(select(tables.served.c.description).where(here)).scalar_one()
        names = differences(first, description)
        if names:
            told = [f"{name} {first[name]}, this worker has {description.get(name, 'none')}" for name in names]
            raise OtherEngine(f"run {run}, model {model}: its answers so far came from {'; '.join(told)}")
        if not first.keys() >= _PRICED and description.keys() >= _PRICED:
            prices = {name: description[name] for name in _PRICES if name in description}
            connection.execute(tables.served.update().where(here).values(description={**first, **prices}))

    database.write(work)


def differences(first: nouns.EngineDescription, other: nouns.EngineDescription) -> list[str]:
    """Names of what makes it another engine than the first; what the first did not tell of itself is let pass."""
    left_out = _PLACE if _DIGEST in first and _DIGEST in other else (_DIGEST,)
    told = (name for name in (*_IDENTITY, _DIGEST) if name not in left_out and name in first)
    return [name for name in told if first[name] != other.get(name)]
