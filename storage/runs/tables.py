"""The SQL tables, each declared once: what a column holds, for SQL and for whoever reads rows that others wrote.

The tables of answers and steps follow from those nouns. Times are seconds since the epoch by the database's clock, so
that they compare the same way on every database.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import sqlalchemy as sa
from pydantic import create_model
from sqlalchemy.orm import declared_attr
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from defsurvey.storage.runs import run as nouns
from defsurvey.storage.runs.judgement import Judge, Judgement, JudgeName, Verdict
from defsurvey.storage.runs.run import AnswerState, Condition, Draws, ParticipantStatus, Protocol


class Integers(TypeDecorator[tuple[int, ...]]):
    """A short tuple of integers, kept as ``3,1,2``."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: sa.Dialect) -> str | None:
        """From tuple to text."""
        return None if value is None else ",".join(map(str, value))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[int, ...] | None:
        """From text to tuple."""
        if value is None:
            return None
        return tuple(map(int, value.split(","))) if value else ()


#: A type of numbers in double precision.
_DOUBLE: Any = sa.Float(53)
_Key = Annotated[int, Field(primary_key=True)]
_LongKey = Annotated[int, Field(primary_key=True, sa_type=sa.BigInteger)]
_NameKey = Annotated[str, Field(primary_key=True)]
_RunKey = Annotated[str, Field(primary_key=True, foreign_key="run.id")]
_ParticipantKey = Annotated[int, Field(primary_key=True, foreign_key="participant.id")]
_JudgeKey = Annotated[int, Field(primary_key=True, foreign_key="judge.id")]
_Long = Annotated[int, Field(sa_type=sa.BigInteger)]
_Text = Annotated[str, Field(sa_type=sa.Text)]
_Time = Annotated[float, Field(sa_type=_DOUBLE)]
_Integers = Annotated[tuple[int, ...], Field(sa_type=Integers)]
_Facts = Annotated[dict[str, str], Field(sa_type=sa.JSON)]


class Row(SQLModel):
    """A row of the table that its class is named after: those of ``judge_batch`` are ``JudgeBatchRow``."""

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805 -- called on the class
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Row")).lower()


class RunRow(Row, table=True):
    """One execution of a study."""

    id: _NameKey
    created_at: _Time
    survey: str = Field(foreign_key="survey.fingerprint")
    questions: list[str] = Field(sa_type=sa.JSON)
    protocol: Protocol = Field(sa_type=sa.JSON)
    design: str  #: fingerprint of all that must be equal for a run to be the same design
    study: _Text
    cancelled: bool = False
    judge: Judge | None = Field(default=None, sa_column=sa.Column(sa.JSON(none_as_null=True)))
    budget: float | None = None  #: US dollars that its models and judges may cost


class CellRow(Row, table=True):
    """One model x culture x condition x language of a run."""

    __table_args__ = (sa.UniqueConstraint("run", "model", "culture", "condition_name", "language"),)

    id: _Key
    run: str = Field(foreign_key="run.id")
    position: int
    model: str
    culture: str
    condition_name: str
    condition: Condition = Field(sa_type=sa.JSON)
    language: str
    halted: bool = False  #: its model costs money, and the run's budget is spent


class ParticipantRow(Row, table=True):
    """A simulated citizen: what it drew, where it stands, who holds it, how its answers ended."""

    __table_args__ = (sa.UniqueConstraint("cell", "number"), sa.Index("participant_of_run", "run", "status"))

    id: _Key
    run: str = Field(foreign_key="run.id")
    cell: int = Field(foreign_key="cell.id", index=True)
    number: int  #: index within the cell
    draws: Draws = Field(sa_type=sa.JSON)
    planned: int  #: answers that it is to give
    questions: int  #: that it is asked
    next_item: int = 0
    memory: _Integers = ()
    status: ParticipantStatus = Field(sa_type=sa.String)
    lease_epoch: int = 0
    lease_until: float | None = Field(default=None, sa_type=_DOUBLE)
    lease_owner: str | None = None
    published_at: float | None = Field(default=None, sa_type=_DOUBLE)  #: None: the message is to be sent
    suspect: bool = False  #: in flight when its worker died; asked alone until it has answered
    on_trial: bool = False  #: a suspect that is being asked alone right now
    deaths: int = 0  #: of workers while it was asked alone, since its last answer
    commits: int = 0  #: answers committed, those asked again counted each time
    attempts: dict[int, int] = Field(default_factory=dict, sa_type=sa.JSON)
    answered: int = 0
    refused: int = 0
    unparsable: int = 0
    failed: int = 0
    prompt_tokens: _Long = 0  #: of all that was asked, answers taken back included
    completion_tokens: _Long = 0


def kind_of(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """The type of a field's values where there are any, and the marks on it: ``Text | None`` is ``str`` with "text"."""
    inner = next(each for each in get_args(hint) if each is not NoneType) if NoneType in get_args(hint) else hint
    if get_origin(inner) is Annotated:
        kind, *marks = get_args(inner)
        return kind, tuple(marks)
    return inner, ()


def _declare(row: str, noun: type | None = None, *, key: Collection[str] = (), **columns: Any) -> type[Row]:
    """Declare the row of a table: a column for each field of a noun, and others by their types."""
    hints = get_type_hints(noun, include_extras=True) if noun else {}
    fields: dict[str, Any] = {field: (hint, _column(hint, field in key)) for field, hint in hints.items()}
    if "participant" in fields:
        fields["participant"] = (_ParticipantKey, ...)
    fields |= {name: (kind, ...) for name, kind in columns.items()}
    return create_model(
        row, __base__=Row, __doc__=noun.__doc__ if noun else None, __cls_kwargs__={"table": True}, **fields
    )


def _column(hint: Any, key: bool) -> Any:
    """How the values of a field are kept."""
    kind, marks = kind_of(hint)
    kept: Any = {"text": sa.Text, "long": sa.BigInteger, float: _DOUBLE, tuple[int, ...]: Integers}
    if is_dataclass(kind) or get_origin(kind) is Mapping:
        return Field(sa_type=sa.JSON)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return Field(sa_type=sa.String)
    own = next((kept[each] for each in (*marks, kind) if each in kept), None)
    return Field(primary_key=key) if own is None else Field(primary_key=key, sa_type=own)


_BY: Any = {"worker": str, "committed_at": _Time}
#: The primary key is what makes a second answer impossible.
AnswerRow = _declare("AnswerRow", nouns.Answer, key=("item", "slot"), digest=_Long, **_BY)
StepRow = _declare("StepRow", nouns.CompletedStep, key=("item", "attempt", "number"), **_BY)


JudgeRow = _declare("JudgeRow", JudgeName, id=_Key, identity=Annotated[str, Field(unique=True)])
#: Its items have a name and a hash of what was asked.
CalibrationRow = _declare("CalibrationRow", Judgement, judge=_JudgeKey, item=_NameKey)
#: What a judge said of one answer, in one call, and maybe again (``repeat``); the primary key is what makes a second
#: payment impossible. Prices are US dollars per million tokens at that time, or what its judge's row says; a batch
#: costs half of them.
_CALL: Any = {"item": _LongKey, "slot": _LongKey, "attempt": _Key, "digest": _LongKey, "repeat": _Key}
_CALL |= {"participant": Annotated[int, Field(primary_key=True, foreign_key="participant.id", index=True)]}
_PAID: Any = {"batched": bool, "input_price": float | None, "output_price": float | None, "judged_at": _Time}
JudgementRow = _declare("JudgementRow", Judgement, judge=_JudgeKey, **_CALL, **_PAID)
_BODY = Annotated[dict[str, Any], Field(sa_type=sa.JSON)]
_CALLS = Annotated[list[list[int]], Field(sa_type=sa.JSON)]
_OfJudge: Any = Annotated[int, Field(foreign_key="judge.id")]
_OfRun: Any = Annotated[str, Field(foreign_key="run.id")]
_RATES = Annotated[dict[str, float], Field(sa_type=sa.JSON)]
_OF_ANSWER: Any = {"participant": _ParticipantKey, "item": _LongKey, "slot": _LongKey, "digest": _LongKey}

#: A survey as it was when a run was enqueued.
SurveyRow = _declare("SurveyRow", fingerprint=_NameKey, name=str, body=_BODY)
#: The probability of one option of a question, at its place among the options in one order, read from the next token.
_OPTION: Any = {"order": _Key, "place": _Key, "question": str, "option": int, "probability": _Time}
OptionProbabilityRow = _declare("OptionProbabilityRow", participant=_ParticipantKey, item=_LongKey, **_OPTION)
#: What served a model of a run, as the first engine to do so described itself.
ServedRow = _declare("ServedRow", run=_RunKey, model=_NameKey, description=_Facts, versions=_Facts)
#: A worker process (``storage.runs.ledger.lease_owner``), the model that it drains now, if any, the answers per second
#: that it has given each run since its last beat, and when that was.
WorkerRow = _declare("WorkerRow", owner=_NameKey, model=str, rates=_RATES, beat_at=_Time)
#: A report that was built, by the revisions of the ledger and of the judgements that it shows.
_SHOWN: Any = {"revision": _LongKey, "judgements": _LongKey}
ReportRow = _declare("ReportRow", run=_RunKey, **_SHOWN, html=str, markdown=str, built_at=_Time)
#: How the judging of a run by a model ended last: by a judge, or none where it could not be asked at all, what is told
#: of it, of what share of the answers, by the ledger's revision, and how often judging has ended.
_HOW: Any = {"ended": str, "told": _Text, "share": float, "ledger": _Long, "revision": _Long}
JudgingRow = _declare(
    "JudgingRow", run=_RunKey, model=_NameKey, judge=Annotated[int | None, Field(foreign_key="judge.id")], **_HOW
)
#: A batch of calls that was, or was about to be, handed to a provider and is not over. Its token is in the name of
#: every call, its id is the provider's and unknown at first; calls are participant, item, slot, attempt, digest, repeat
_BATCH: Any = {"token": _NameKey, "batch": str | None, "judge": _OfJudge, "run": _OfRun}
JudgeBatchRow = _declare("JudgeBatchRow", **_BATCH, calls=_CALLS, made_at=_Time)
#: Who judges a run, or did so last.
JudgeLeaseRow = _declare("JudgeLeaseRow", run=_RunKey, owner=str, until=_Time)
#: A person's verdict on one answer and dimension.
_VERDICT = Annotated[Verdict, Field(sa_type=sa.String)]
LabelRow = _declare("LabelRow", **_OF_ANSWER, dimension=_NameKey, person=_NameKey, verdict=_VERDICT)
#: How a person read an answer that the program could not read: as answered or refused.
_STATE = Annotated[AnswerState, Field(sa_type=sa.String)]
ReadingRow = _declare("ReadingRow", **_OF_ANSWER, reader=_NameKey, state=_STATE, choices=_Integers, read_at=_Time)
#: What a model of a run made of a question when it was asked what it knows of the survey.
_ASKED: Any = dict.fromkeys(("model", "kind", "culture", "language", "question"), _NameKey)
_PERCENT = Annotated[list[tuple[float, float]] | None, Field(sa_type=sa.JSON(none_as_null=True), nullable=True)]
ProbeRow = _declare("ProbeRow", run=_RunKey, **_ASKED, prompt=_Text, completion=_Text, percent=_PERCENT, asked_at=_Time)


class AgainRow(Row, table=True):
    """An answer that is to be asked again."""

    __table_args__ = (
        sa.ForeignKeyConstraint(["participant", "item", "slot"], ["answer.participant", "answer.item", "answer.slot"]),
    )

    participant: _Key
    item: _LongKey
    slot: _LongKey = 0
    attempt: int  #: the attempt to be made


#: Table -> the row's class.
ROWS: dict[str, type[Row]] = {str(row.__tablename__): row for row in Row.__subclasses__()}


def _table(name: str) -> sa.Table:
    return SQLModel.metadata.tables[name]


survey, run, cell, participant = map(_table, ("survey", "run", "cell", "participant"))
answer, again, step, option_probability = map(_table, ("answer", "again", "step", "option_probability"))
served, worker, report, probe = map(_table, ("served", "worker", "report", "probe"))
judge, calibration, judgement, judging = map(_table, ("judge", "calibration", "judgement", "judging"))
judge_batch, judge_lease, label, reading = map(_table, ("judge_batch", "judge_lease", "label", "reading"))

#: Participants with their cells, and answers with both.
IN_CELLS = participant.join(cell, participant.c.cell == cell.c.id)
ANSWERS = answer.join(participant, answer.c.participant == participant.c.id)
ANSWERS_IN_CELLS = ANSWERS.join(cell, participant.c.cell == cell.c.id)
