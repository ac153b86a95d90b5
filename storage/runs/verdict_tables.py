"""The SQL tables of what was said about answers and models: by judges, by people, by probes; private to this room."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Integer, String, Text
from sqlmodel import Field, SQLModel

from defsurvey.storage.columns import double_column, integers_column, json_column, table_of


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
