"""From rows to nouns and back, in this one place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from defsurvey.storage.runs.run import (
    Answer,
    AnswerState,
    Cell,
    CompletedStep,
    Condition,
    Draws,
    DrawsPer,
    MemoryOrder,
    Participant,
    Preset,
    Protocol,
    QuestionOrder,
    Reply,
    Run,
    UsedDecoding,
)
from defsurvey.storage.text import storable

STEP_FIELDS = tuple(field.name for field in fields(CompletedStep))


def flat(noun: Condition | Draws | UsedDecoding | Protocol) -> dict[str, Any]:
    """A dataclass of plain values as a JSON object."""
    values = {field.name: getattr(noun, field.name) for field in fields(noun)}
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in values.items()}


def protocol_from(body: Mapping[str, Any]) -> Protocol:
    """A protocol from its JSON object."""
    return Protocol(
        **{
            **body,
            "preset": Preset(body["preset"]),
            "draws": DrawsPer(body["draws"]),
            "question_order": QuestionOrder(body["question_order"]),
            "memory_order": MemoryOrder(body["memory_order"]),
            "reply": Reply(body.get("reply", Reply.FULL)),  # runs from before there was a choice lack it
        }
    )


def condition_from(body: Mapping[str, Any]) -> Condition:
    """A condition from its JSON object."""
    return Condition(**body)


def cell_from(row: Row[Any], participants: int) -> Cell:
    """A cell from its row and the number of its participants."""
    return Cell(
        id=row.id,
        model=row.model,
        culture=row.culture,
        condition=condition_from(row.condition),
        language=row.language,
        participants=participants,
    )


def run_from(row: Row[Any], cells: Sequence[Cell]) -> Run:
    """A run from its row and its cells in order."""
    return Run(
        id=row.id,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        survey=row.survey,
        questions=tuple(row.questions),
        protocol=protocol_from(row.protocol),
        cells=tuple(cells),
        study=row.study,
        cancelled=row.cancelled,
    )


def participant_from(row: Row[Any], cell: Cell) -> Participant:
    """A participant from its row and its cell."""
    return Participant(
        id=row.id,
        index=row.number,
        run=row.run,
        cell=cell,
        draws=Draws(**row.draws),
        next_item=row.next_item,
        memory=row.memory,
        epoch=row.lease_epoch,
        suspect=row.suspect,
        attempts={int(item): attempt for item, attempt in row.attempts.items()},
    )


def digest(completion: str) -> int:
    """A hash of a reply in [-2**63, 2**63): equal replies have equal digests.

    White space at the ends does not count.
    """
    hashed = hashlib.blake2b(completion.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


def step_columns(step: CompletedStep) -> dict[str, Any]:
    """The columns of a step, but for who committed it and when."""
    values = {name: getattr(step, name) for name in STEP_FIELDS}
    return {**values, "completion": storable(step.completion), "used": flat(step.used)}


def step_from(row: Row[Any]) -> CompletedStep:
    """A step from its row."""
    values = {name: getattr(row, name) for name in STEP_FIELDS}
    return CompletedStep(**{**values, "used": UsedDecoding(**row.used)})


def answer_columns(answer: Answer) -> dict[str, Any]:
    """The columns of an answer, but for who committed it and when."""
    return {
        "participant": answer.participant,
        "item": answer.item,
        "slot": answer.slot,
        "question": answer.question,
        "state": answer.state.value,
        "choices": answer.choices,
        "completion": storable(answer.completion),
        "digest": digest(answer.completion),
        "reason": storable(answer.reason),
        "remembered": None if answer.remembered is None else storable(answer.remembered),
        "shown": answer.shown,
        "memory": answer.memory,
        "draws": flat(answer.draws),
        "seed": answer.seed,
        "used": flat(answer.used),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "attempt": answer.attempt,
        "out_of_sequence": answer.out_of_sequence,
        "seconds": answer.seconds,
    }


def answer_from(row: Row[Any]) -> Answer:
    """An answer from its row."""
    return Answer(
        participant=row.participant,
        item=row.item,
        slot=row.slot,
        question=row.question,
        state=AnswerState(row.state),
        choices=row.choices,
        completion=row.completion,
        reason=row.reason,
        remembered=row.remembered,
        shown=row.shown,
        memory=row.memory,
        draws=Draws(**row.draws),
        seed=row.seed,
        used=UsedDecoding(**row.used),
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        attempt=row.attempt,
        out_of_sequence=row.out_of_sequence,
        seconds=row.seconds,
    )
