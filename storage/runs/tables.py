"""The SQL tables of runs, participants, answers and reports, private to this room.

What judges, people and probes said is in ``storage.runs.verdict_tables``. JSON columns are only ever assigned whole.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from defsurvey.storage.columns import double_column, integers_column, json_column, table_of


class SurveyRow(SQLModel, table=True):
    """A survey as it was when a run was enqueued."""

    __tablename__ = "survey"

    fingerprint: str = Field(primary_key=True)
    name: str
    body: dict[str, Any] = Field(sa_column=json_column())


class RunRow(SQLModel, table=True):
    """One execution of a study."""

    __tablename__ = "run"

    id: str = Field(primary_key=True)
    created_at: float = Field(sa_column=double_column(nullable=False))
    survey: str = Field(foreign_key="survey.fingerprint")
    questions: list[str] = Field(sa_column=json_column())
    protocol: dict[str, Any] = Field(sa_column=json_column())
    design: str  #: fingerprint of all that must be equal for a run to be the same design
    study: str = Field(sa_column=Column(Text, nullable=False))
    cancelled: bool = False
    judge: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  #: model and sample
    budget: float | None = None  #: US dollars that its models and judges may cost


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
    condition: dict[str, Any] = Field(sa_column=json_column())
    language: str
    halted: bool = False  #: its model costs money, and the run's budget is spent


class ParticipantRow(SQLModel, table=True):
    """A simulated citizen: what it drew, where it stands, who holds it, how its answers ended."""

    __tablename__ = "participant"
    __table_args__ = (UniqueConstraint("cell", "number"), Index("participant_of_run", "run", "status"))

    id: int | None = Field(default=None, primary_key=True)
    run: str = Field(foreign_key="run.id")
    cell: int = Field(foreign_key="cell.id", index=True)
    number: int  #: index within the cell
    draws: dict[str, Any] = Field(sa_column=json_column())
    planned: int  #: answers that it is to give
    questions: int  #: that it is asked
    next_item: int = 0
    memory: tuple[int, ...] = Field(default=(), sa_column=integers_column())
    status: str
    lease_epoch: int = 0
    lease_until: float | None = Field(default=None, sa_column=double_column())
    lease_owner: str | None = None
    published_at: float | None = Field(default=None, sa_column=double_column())  #: None: the message is to be sent
    suspect: bool = False  #: in flight when its worker died; asked alone until it has answered
    on_trial: bool = False  #: a suspect that is being asked alone right now
    deaths: int = 0  #: of workers while it was asked alone, since its last answer
    commits: int = 0  #: answers committed, those asked again counted each time
    attempts: dict[str, int] = Field(default_factory=dict, sa_column=json_column())
    answered: int = 0
    refused: int = 0
    unparsable: int = 0
    failed: int = 0
    prompt_tokens: int = Field(default=0, sa_type=BigInteger)  #: of all that was asked, answers taken back included
    completion_tokens: int = Field(default=0, sa_type=BigInteger)


class AnswerRow(SQLModel, table=True):
    """One answer; the primary key is what makes a second one impossible."""

    __tablename__ = "answer"

    participant: int = Field(sa_column=Column(ForeignKey("participant.id"), primary_key=True, autoincrement=False))
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    slot: int = Field(default=0, sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    question: str
    state: str
    choices: tuple[int, ...] = Field(sa_column=integers_column())
    completion: str = Field(sa_column=Column(Text, nullable=False))
    digest: int = Field(sa_column=Column(BigInteger, nullable=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    remembered: str | None = Field(default=None, sa_column=Column(Text))
    shown: tuple[int, ...] = Field(sa_column=integers_column())
    memory: tuple[int, ...] = Field(sa_column=integers_column())
    draws: dict[str, Any] = Field(sa_column=json_column())
    seed: int = Field(sa_column=Column(BigInteger, nullable=False))
    used: dict[str, Any] = Field(sa_column=json_column())
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempt: int = 0
    out_of_sequence: bool = False
    seconds: float = Field(sa_column=double_column(nullable=False))
    worker: str
    committed_at: float = Field(sa_column=double_column(nullable=False))


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


class StepRow(SQLModel, table=True):
    """One completion on the way to an answer of several steps."""

    __tablename__ = "step"

    participant: int = Field(sa_column=Column(ForeignKey("participant.id"), primary_key=True, autoincrement=False))
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    attempt: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=Integer))
    number: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=Integer))
    completion: str = Field(sa_column=Column(Text, nullable=False))
    finish: str
    seed: int = Field(sa_column=Column(BigInteger, nullable=False))
    used: dict[str, Any] = Field(sa_column=json_column())
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = Field(sa_column=double_column(nullable=False))
    worker: str
    committed_at: float = Field(sa_column=double_column(nullable=False))


class OptionProbabilityRow(SQLModel, table=True):
    """The probability of one option of a question, read from the next token, with the options in one order."""

    __tablename__ = "option_probability"

    participant: int = Field(sa_column=Column(ForeignKey("participant.id"), primary_key=True, autoincrement=False))
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    order: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=Integer))
    place: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=Integer))  #: in that order
    question: str
    option: int
    probability: float = Field(sa_column=double_column(nullable=False))


class ServedRow(SQLModel, table=True):
    """What served a model of a run, as the first engine to do so described itself."""

    __tablename__ = "served"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    model: str = Field(primary_key=True)
    description: dict[str, str] = Field(sa_column=json_column())
    versions: dict[str, str] = Field(sa_column=json_column())


class WorkerRow(SQLModel, table=True):
    """A worker process and when it was last heard of."""

    __tablename__ = "worker"

    owner: str = Field(primary_key=True)  #: as in ``participant.lease_owner``: see ``storage.runs.ledger.lease_owner``
    model: str = ""  #: the model it drains now; empty: none
    rates: dict[str, float] = Field(sa_column=json_column())  #: run -> answers per second since the last beat
    beat_at: float = Field(sa_column=double_column(nullable=False))


class ReportRow(SQLModel, table=True):
    """A report that was built, by the revisions of the ledger and of the judgements that it shows."""

    __tablename__ = "report"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    revision: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    judgements: int = Field(default=0, sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    html: str
    markdown: str
    built_at: float = Field(sa_column=double_column(nullable=False))


survey = table_of(SurveyRow)
run = table_of(RunRow)
cell = table_of(CellRow)
participant = table_of(ParticipantRow)
answer = table_of(AnswerRow)
again = table_of(AgainRow)
step = table_of(StepRow)
option_probability = table_of(OptionProbabilityRow)
served = table_of(ServedRow)
worker = table_of(WorkerRow)
report = table_of(ReportRow)
