"""Answers of bundles that anybody may have written, and how people read them: nothing that would end a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.archive import import_bundle
from defsurvey.storage.runs.run import MOST_PARTICIPANTS
from tests.storage.remade_bundle import Change, Rows, another, first, refused, remade, to_be_moved


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """The run to be moved."""
    with to_be_moved(sqlite_url) as opened:
        yield opened


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Database]:
    """Another database with a run of its own."""
    with another(tmp_path) as opened:
        yield opened


def read_as(state: str, choices: list[int]) -> Change:
    """Somebody has read the first answer, which the program could not read."""

    def change(rows: Rows) -> None:
        answered = rows["answer"][0]
        answered |= {"state": "unparsable", "choices": []}
        row = {column: answered[column] for column in ("participant", "item", "slot", "digest")}
        rows["reading"].append(row | {"reader": "me", "state": state, "choices": choices, "read_at": 1.0})

    return change


#: What is changed -> what the message must contain
MISTAKES: dict[str, tuple[Change, str]] = {
    "shown nothing": (
        first("answer", shown=[]),
        "answer.jsonl, line 1: shown: expected some options of A, each once, got []",
    ),
    "an option shown twice": (
        first("answer", shown=[2, 1, 2]),
        "answer.jsonl, line 1: shown: expected some options of A, each once, got [2, 1, 2]",
    ),
    "an answer without a choice": (
        first("answer", choices=[]),
        "answer.jsonl, line 1: choices: expected some exactly where it is answered, got []",
    ),
    "a refusal with a choice": (
        first("answer", state="refused"),
        "choices: expected some exactly where it is answered, got [2]",
    ),
    "a choice twice": (first("answer", choices=[2, 2]), "choices: expected at most 1 of A, each once, got [2, 2]"),
    "two choices where one is allowed": (
        first("answer", choices=[1, 2]),
        "choices: expected at most 1 of A, each once, got [1, 2]",
    ),
    "more choices than a list allows": (
        lambda rows: rows["answer"][2].update(choices=[1, 2, 3, 4]),
        "answer.jsonl, line 3: choices: expected at most 3 of C, each once, got [1, 2, 3, 4]",
    ),
    "a list's choice twice": (
        lambda rows: rows["answer"][2].update(choices=[1, 1]),
        "answer.jsonl, line 3: choices: expected at most 3 of C, each once, got [1, 1]",
    ),
    "a citizen beyond all numbers": (
        first("participant", number=MOST_PARTICIPANTS),
        "participant.jsonl, line 1: number: expected a number below 100000, got 100000",
    ),
    "read as no option": (read_as("answered", [999]), "reading.jsonl: choices: expected options of A, got [999]"),
    "read as two where one is allowed": (
        read_as("answered", [1, 2]),
        "reading.jsonl: choices: expected at most 1 of A, each once, got [1, 2]",
    ),
    "read as an answer of nothing": (
        read_as("answered", []),
        "reading.jsonl, line 1: choices: expected some exactly where it is answered, got []",
    ),
    "read as a refusal of something": (
        read_as("refused", [1]),
        "reading.jsonl, line 1: choices: expected some exactly where it is answered, got [1]",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_no_answer_can_be_is_refused(
    database: Database, elsewhere: Database, tmp_path: Path, mistake: str
) -> None:
    """One error that says where, and nothing half imported."""
    change, told = MISTAKES[mistake]
    assert told in refused(elsewhere, remade(database, tmp_path, change))


def test_what_people_read_comes_along(database: Database, elsewhere: Database, tmp_path: Path) -> None:
    """Also of an answer that was asked again since, or is to be."""

    def change(rows: Rows) -> None:
        read_as("answered", [1])(rows)
        (row,) = rows["reading"]
        rows["reading"] += [row | {"digest": 1, "choices": [4]}, row | {"item": 7}]

    import_bundle(elsewhere, remade(database, tmp_path, change))
    with elsewhere.read() as connection:
        assert len(connection.execute(select(tables.reading)).all()) == 3
