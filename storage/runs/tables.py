"""The types of the SQL tables' columns, and the database's clock.

Times are seconds since the epoch by the database's clock, so that they compare the same
way on every database.
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
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


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


def json_column() -> Any:
    """A column of JSON; assigned whole, never changed in place."""
    return Column(JSON, nullable=False)


def integers_column() -> Any:
    """A column of a short tuple of integers."""
    return Column(Integers, nullable=False)


def double_column(*, nullable: bool = True) -> Any:
    """A column of a number in double precision, such as a time."""
    return Column(Float(53), nullable=nullable)


def table_of(row: type[SQLModel]) -> Table:
    """The SQL table behind a row's class, for statements."""
    table = SQLModel.metadata.tables[str(row.__tablename__)]
    assert isinstance(table, Table)
    return table


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


class JudgeRow(SQLModel, table=True):
    """A judge: a model, in a version, with a rubric."""

    __tablename__ = "judge"

    id: int | None = Field(default=None, primary_key=True)
    identity: str = Field(unique=True)
    model: str
    description: dict[str, str] = Field(sa_column=json_column())
    input_price: float | None = None  #: US dollars per million tokens, the first that were known
    output_price: float | None = None


class CalibrationRow(SQLModel, table=True):
    """What a judge said of one answer of the calibration set."""

    __tablename__ = "calibration"

    judge: int = Field(sa_column=Column(Integer, ForeignKey("judge.id"), primary_key=True, autoincrement=False))
    item: str = Field(primary_key=True)  #: its name and a hash of what was asked
    findings: dict[str, Any] = Field(sa_column=json_column())
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class JudgementRow(SQLModel, table=True):
    """What a judge said of one answer, in one call; the primary key is what makes a second payment impossible."""

    __tablename__ = "judgement"

    judge: int = Field(sa_column=Column(Integer, ForeignKey("judge.id"), primary_key=True, autoincrement=False))
    participant: int = Field(
        sa_column=Column(Integer, ForeignKey("participant.id"), primary_key=True, autoincrement=False, index=True)
    )
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    slot: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    attempt: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    digest: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    repeat: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))  #: 0; 1: asked once more
    findings: dict[str, Any] = Field(sa_column=json_column())
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    batched: bool = False  #: at half price
    input_price: float | None = None  #: US dollars per million tokens at that time; None: what its judge's row says
    output_price: float | None = None
    judged_at: float = Field(sa_column=double_column(nullable=False))


class JudgingRow(SQLModel, table=True):
    """How the judging of a run by a model ended last."""

    __tablename__ = "judging"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    model: str = Field(primary_key=True)  #: the card's name, and the rubric where it is not our own
    judge: int | None = Field(default=None, foreign_key="judge.id")  #: None: it could not be asked at all
    ended: str  #: done, refused, incomplete, over budget
    told: str = Field(sa_column=Column(Text, nullable=False))  #: the score, or what went wrong
    share: float  #: of the answers that were to be judged
    ledger: int = Field(sa_column=Column(BigInteger, nullable=False))  #: revision of the answers
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))  #: how often it ended


class JudgeBatchRow(SQLModel, table=True):
    """A batch of calls that was, or was about to be, handed to a provider and is not over."""

    __tablename__ = "judge_batch"

    token: str = Field(primary_key=True)  #: in the name of every call, so that the batch is known again
    batch: str | None = None  #: the provider's id; None: it is not known whether the batch was made
    judge: int = Field(foreign_key="judge.id")
    run: str = Field(foreign_key="run.id")
    calls: list[list[int]] = Field(sa_column=json_column())  #: participant, item, slot, attempt, digest, repeat of each
    made_at: float = Field(sa_column=double_column(nullable=False))


class JudgeLeaseRow(SQLModel, table=True):
    """Who judges a run, or did so last."""

    __tablename__ = "judge_lease"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    owner: str  #: ``host:pid:token``, as in ``participant.lease_owner``
    until: float = Field(sa_column=double_column(nullable=False))


class LabelRow(SQLModel, table=True):
    """A person's verdict on one answer and dimension."""

    __tablename__ = "label"

    participant: int = Field(
        sa_column=Column(Integer, ForeignKey("participant.id"), primary_key=True, autoincrement=False)
    )
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    slot: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    digest: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    dimension: str = Field(primary_key=True)
    person: str = Field(primary_key=True)
    verdict: str


class ReadingRow(SQLModel, table=True):
    """How a person read an answer that the program could not read."""

    __tablename__ = "reading"

    participant: int = Field(
        sa_column=Column(Integer, ForeignKey("participant.id"), primary_key=True, autoincrement=False)
    )
    item: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    slot: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    digest: int = Field(sa_column=Column(primary_key=True, autoincrement=False, type_=BigInteger))
    reader: str = Field(primary_key=True)
    state: str  #: answered or refused
    choices: tuple[int, ...] = Field(sa_column=integers_column())
    read_at: float = Field(sa_column=double_column(nullable=False))


class ProbeRow(SQLModel, table=True):
    """What a model of a run made of a question when it was asked what it knows of the survey."""

    __tablename__ = "probe"

    run: str = Field(sa_column=Column(String, ForeignKey("run.id"), primary_key=True))
    model: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    culture: str = Field(primary_key=True)
    language: str = Field(primary_key=True)
    question: str = Field(primary_key=True)
    prompt: str = Field(sa_column=Column(Text, nullable=False))
    completion: str = Field(sa_column=Column(Text, nullable=False))
    percent: list[list[float]] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    asked_at: float = Field(sa_column=double_column(nullable=False))


judge = table_of(JudgeRow)
calibration = table_of(CalibrationRow)
judgement = table_of(JudgementRow)
judging = table_of(JudgingRow)
judge_batch = table_of(JudgeBatchRow)
judge_lease = table_of(JudgeLeaseRow)
label = table_of(LabelRow)
reading = table_of(ReadingRow)
probe = table_of(ProbeRow)
