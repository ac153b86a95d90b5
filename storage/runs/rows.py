"""From rows to nouns and back, in this one place; fields go by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Row

from defsurvey.storage.runs.run import Answer, Cell, CompletedStep, Participant, Run
from defsurvey.storage.text import storable

T = TypeVar("T")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Answer, Cell, CompletedStep, Participant, Run)
}


def noun(kind: type[T], row: Row[Any], **more: Any) -> T:
    """A noun from the columns of a row that it has, and what else it is made of."""
    made: T = _ADAPTERS[kind].validate_python({**row._mapping, **more})
    return made


def flat(noun: Any) -> dict[str, Any]:
    """A dataclass as columns, and those within it as JSON objects."""
    return {name: _plain(getattr(noun, name)) for name in noun.__dataclass_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.value if isinstance(value, StrEnum) else storable(value)
    return flat(value) if is_dataclass(value) else value


def run_from(row: Row[Any], cells: Sequence[Cell]) -> Run:
    """A run from its row and its cells in order."""
    return noun(Run, row, created_at=datetime.fromtimestamp(row.created_at, UTC), cells=tuple(cells))


def digest(completion: str) -> int:
    """A hash of a reply in [-2**63, 2**63), white space at its ends left out: equal replies have equal digests."""
    hashed = hashlib.blake2b(completion.strip().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(hashed, "big", signed=True)


def answer_columns(answer: Answer) -> dict[str, Any]:
    """The columns of an answer, but for who committed it and when."""
    return {**flat(answer), "digest": digest(answer.completion)}
