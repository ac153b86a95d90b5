"""From rows to nouns and back, in this one place; fields go by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row

from defsurvey.storage.runs.run import Answer, Cell, CompletedStep, Participant, Run
from defsurvey.storage.text import storable

_ANSWER, _STEP = TypeAdapter(Answer), TypeAdapter(CompletedStep)
_CELL, _RUN, _PARTICIPANT = TypeAdapter(Cell), TypeAdapter(Run), TypeAdapter(Participant)


def flat(noun: Any) -> dict[str, Any]:
    """A dataclass as columns, and those within it as JSON objects."""
    return {name: _plain(getattr(noun, name)) for name in noun.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.value if isinstance(value, StrEnum) else storable(value)
    return flat(value) if is_dataclass(value) else value


def cell_from(row: Row[Any], participants: int) -> Cell:
    """A cell from its row and the number of its participants."""
    return _CELL.validate_python({**row._mapping, "participants": participants})


def run_from(row: Row[Any], cells: Sequence[Cell]) -> Run:
    """A run from its row and its cells in order."""
    created_at = datetime.fromtimestamp(row.created_at, UTC)
    return _RUN.validate_python({**row._mapping, "created_at": created_at, "cells": tuple(cells)})


def participant_from(row: Row[Any], cell: Cell) -> Participant:
    """A participant from its row and its cell."""
    own = {"index": row.number, "epoch": row.lease_epoch, "cell": cell}
    return _PARTICIPANT.validate_python({**row._mapping, **own})


def digest(completion: str) -> int:
    """A hash of a reply in [-2**63, 2**63): equal replies have equal digests.

    White space at the ends does not count.
    """
    hashed = hashlib.blake2b(completion.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


def step_from(row: Row[Any]) -> CompletedStep:
    """A step from its row."""
    return _STEP.validate_python(dict(row._mapping))


def answer_columns(answer: Answer) -> dict[str, Any]:
    """The columns of an answer, but for who committed it and when."""
    return {**flat(answer), "digest": digest(answer.completion)}


def answer_from(row: Row[Any]) -> Answer:
    """An answer from its row."""
    return _ANSWER.validate_python(dict(row._mapping))
