"""The SQL tables, private to this room.

Knows columns, keys and types. Deliberately knows no query: rows never leave the room,
``storage.store`` and ``storage.ledger`` translate between them and the nouns.

Times are seconds since the epoch by the database's clock, so that they compare the same
way on every database. JSON columns are only ever assigned whole.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class Now(FunctionElement[float]):
    """The database's clock: seconds since the epoch, at the moment of execution."""

    type = Float()
    inherit_cache = True


@compiles(Now, "sqlite")
def _now_sqlite(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_postgresql(_element: Now, _compiler: SQLCompiler, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())"


class Integers(TypeDecorator[tuple[int, ...]]):
    """A short tuple of integers, kept as ``3,1,2``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> str | None:
        """From tuple to text."""
        return None if value is None else ",".join(map(str, value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[int, ...] | None:
        """From text to tuple."""
        if value is None:
            return None
        return tuple(map(int, value.split(","))) if value else ()


def _json() -> Any:
    return Column(JSON, nullable=False)


def _integers() -> Any:
    return Column(Integers, nullable=False)


def _time(*, nullable: bool = True) -> Any:
    return Column(Float(53), nullable=nullable)


class SurveyRow(SQLModel, table=True):
    """A survey as it was when a run was enqueued."""

    __tablename__ = "survey"

    fingerprint: str = Field(primary_key=True)
    name: str
    body: dict[str, Any] = Field(sa_column=_json())


class RunRow(SQLModel, table=True):
    """One execution of a study."""

    __tablename__ = "run"

    id: str = Field(primary_key=True)
    created_at: float = Field(sa_column=_time(nullable=False))
    survey: str = Field(foreign_key="survey.fingerprint")
    questions: list[str] = Field(sa_column=_json())
    protocol: dict[str, Any] = Field(sa_column=_json())
    design: str  #: fingerprint of all that must be equal for a run to be the same design
    study: str = Field(sa_column=Column(Text, nullable=False))
    cancelled: bool = False


class CellRow(SQLModel, table=True):
    """One model x culture x condition x language of a run."""

    __tablename__ = "cell"
    __table_args__ = (UniqueConstraint("run", "model", "culture", "condition_name", "language"),)

    id: int | None = Field(default=None, primary_key=True)
    run: str = Field(foreign_key="run.id")
    position: int
    model: str
    culture: str
    condition_name: str
    condition: dict[str, Any] = Field(sa_column=_json())
    language: str


class ParticipantRow(SQLModel, table=True):
    """A simulated citizen: what it drew, where it stands, who holds it, how its answers ended."""

    __tablename__ = "participant"
    __table_args__ = (UniqueConstraint("cell", "number"), Index("participant_of_run", "run", "status"))

    id: int | None = Field(default=None, primary_key=True)
    run: str = Field(foreign_key="run.id")
    cell: int = Field(foreign_key="cell.id", index=True)
    number: int  #: index within the cell
    draws: dict[str, Any] = Field(sa_column=_json())
    planned: int  #: answers that it is to give
    next_item: int = 0
    memory: tuple[int, ...] = Field(default=(), sa_column=_integers())
    status: str
    lease_epoch: int = 0
    lease_until: float | None = Field(default=None, sa_column=_time())
    lease_owner: str | None = None
    published_at: float | None = Field(default=None, sa_column=_time())  #: None: its message is still to be sent
    suspect: bool = False  #: in flight when its worker died; asked alone until it has answered
    on_trial: bool = False  #: a suspect that is being asked alone right now
    deaths: int = 0  #: of workers while it was asked alone, since its last answer
    commits: int = 0  #: answers committed, those asked again counted each time
    attempts: dict[str, int] = Field(default_factory=dict, sa_column=_json())
    answered: int = 0
    refused: int = 0
    unparsable: int = 0
    failed: int = 0


class AnswerRow(SQLModel, table=True):
    """One answer; the primary key is what makes a second one impossible."""

    __tablename__ = "answer"

    participant: int = Field(sa_column=Column(ForeignKey("participant.id"), primary_key=True, autoincrement=False))
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    slot: int = Field(default=0, sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    question: str
    state: str
    choices: tuple[int, ...] = Field(sa_column=_integers())
    completion: str = Field(sa_column=Column(Text, nullable=False))
    digest: int = Field(sa_column=Column(BigInteger, nullable=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    remembered: str | None = Field(default=None, sa_column=Column(Text))
    shown: tuple[int, ...] = Field(sa_column=_integers())
    memory: tuple[int, ...] = Field(sa_column=_integers())
    draws: dict[str, Any] = Field(sa_column=_json())
    seed: int = Field(sa_column=Column(BigInteger, nullable=False))
    used: dict[str, Any] = Field(sa_column=_json())
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempt: int = 0
    out_of_sequence: bool = False
    seconds: float = Field(sa_column=_time(nullable=False))
    worker: str
    committed_at: float = Field(sa_column=_time(nullable=False))


class AgainRow(SQLModel, table=True):
    """An answer that is to be asked again."""

    __tablename__ = "again"
    __table_args__ = (
        ForeignKeyConstraint(["participant", "item", "slot"], ["answer.participant", "answer.item", "answer.slot"]),
    )

    participant: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=Integer))
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    slot: int = Field(default=0, sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    attempt: int  #: the attempt to be made


class ServedRow(SQLModel, table=True):
    """What served a model of a run, as the first engine to do so described itself."""

    __tablename__ = "served"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    model: str = Field(primary_key=True)
    description: dict[str, str] = Field(sa_column=_json())
    versions: dict[str, str] = Field(sa_column=_json())


class WorkerRow(SQLModel, table=True):
    """A worker process and when it was last heard of."""

    __tablename__ = "worker"

    owner: str = Field(primary_key=True)  #: ``host:pid:token``, as in ``participant.lease_owner``
    model: str = ""  #: the model it drains now; empty: none
    rates: dict[str, float] = Field(sa_column=_json())  #: run -> answers per second since the last beat
    beat_at: float = Field(sa_column=_time(nullable=False))


class ReportRow(SQLModel, table=True):
    """A report that was built, by the revision of the ledger that it shows."""

    __tablename__ = "report"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    revision: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    html: str
    markdown: str
    built_at: float = Field(sa_column=_time(nullable=False))


def _table(row: type[SQLModel]) -> Table:
    table = SQLModel.metadata.tables[str(row.__tablename__)]
    assert isinstance(table, Table)
    return table


survey = _table(SurveyRow)
run = _table(RunRow)
cell = _table(CellRow)
participant = _table(ParticipantRow)
answer = _table(AnswerRow)
again = _table(AgainRow)
served = _table(ServedRow)
worker = _table(WorkerRow)
report = _table(ReportRow)
