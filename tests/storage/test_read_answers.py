"""A run's answers as flat rows: the same rows in the same order, whatever database they come from."""

from __future__ import annotations

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs.export import COLUMNS, TELEMETRY, answer_rows
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.runs.store import UnknownRun, add_run
from tests.storage.small_run import answer, claimed, finish, new_cell, new_run, participant_ids, started

#: Names that a database's own collation would order otherwise: capitals, hyphens, a letter with a mark.
MODELS = ("b", "B", "a-b", "ab", "a", "ä")


def answered(database: Database, ledger: Ledger) -> None:
    """A run of several cells, worked on in another order than that of its rows."""
    cells = [new_cell(model, culture=culture) for model in MODELS for culture in ("us", "cn")]
    for who in reversed(started(database, *cells)):
        finish(ledger, who)


def test_rows_are_ordered_by_what_they_are(database: Database, ledger: Ledger) -> None:
    """By model, culture, condition, language, participant, item, in the order of code points."""
    answered(database, ledger)
    rows = list(answer_rows(database, "first"))
    keys = [tuple(row[name] for name in ("model", "culture", "participant", "item")) for row in rows]
    models, cultures = ("B", "a", "a-b", "ab", "b", "ä"), ("cn", "us")
    assert keys == [(m, c, p, i) for m in models for c in cultures for p in (0, 1) for i in (0, 1, 2)]


def test_both_databases_give_equal_rows(sqlite_url: str, postgresql_url: str) -> None:
    """An export does not tell where it was kept, nor in which order participants were worked on."""
    rows = []
    for url, turned in ((sqlite_url, False), (postgresql_url, True)):
        with Database(url) as database:
            ledger = Ledger(database, owner="host:1:here")
            ids = started(database, *(new_cell(model) for model in MODELS))
            for who in reversed(ids) if turned else ids:
                finish(ledger, who)
            rows.append(list(answer_rows(database, "first")))
    assert rows[0] == rows[1]
    assert len(rows[0]) == 36


def test_a_row_holds_what_was_asked_and_answered(database: Database, ledger: Ledger) -> None:
    """One row in full, with the columns in their order and of their types."""
    _, second = started(database)
    held = claimed(ledger, second)
    ledger.checkpoint(held, answer(held, 0), (0,))
    said = answer(held, 1, question="C", choices=(1, 4), shown=(5, 4, 1, 2, 3), memory=(0,), remembered=None)
    ledger.checkpoint(held, said, ())
    row = list(answer_rows(database, "first"))[1]
    assert row == {
        "run": "first",
        "model": "model-a",
        "culture": "us",
        "condition": "def",
        "language": "en",
        "participant": 1,
        "item": 1,
        "slot": 0,
        "question": "C",
        "state": "answered",
        "out_of_sequence": False,
        "choices": "1 4",
        "completion": "2: option 2",
        "reason": "",
        "remembered": None,
        "shown": "5 4 1 2 3",
        "memory": "0",
        "region": "US-OH",
        "num_beams": 3,
        "do_sample": True,
        "memory_capacity": 1,
        "paraphrase": 0,
        "seed": 2**62 + 1,
        "used_num_beams": 3,
        "used_do_sample": True,
        "used_temperature": 1.0,
        "used_top_p": None,
        "used_top_k": None,
        "used_max_new_tokens": 64,
        "prompt_tokens": 100,
        "completion_tokens": 7,
    }
    assert list(row) == list(COLUMNS)
    assert all(type(row[name]) is kind for name, kind in COLUMNS.items() if row[name] is not None)


def test_telemetry_is_given_when_asked_for(database: Database, ledger: Ledger) -> None:
    """When, where and how often come behind the columns that equal runs share."""
    first, _ = started(database)
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0, seconds=1.5), ())
    (plain,) = answer_rows(database, "first")
    (row,) = answer_rows(database, "first", telemetry=True)
    assert list(row) == [*COLUMNS, *TELEMETRY]
    assert all(type(row[name]) is kind for name, kind in TELEMETRY.items())
    assert (row["attempt"], row["seconds"], row["worker"]) == (0, 1.5, "host:1:here")
    assert {name: row[name] for name in COLUMNS} == plain


def test_a_state_without_choices_is_a_row_too(database: Database, ledger: Ledger) -> None:
    """Nothing is left out for being no answer."""
    first, _ = started(database)
    held = claimed(ledger, first)
    for item, state in enumerate((AnswerState.REFUSED, AnswerState.UNPARSABLE, AnswerState.FAILED)):
        ledger.checkpoint(held, answer(held, item, state=state, reason="so"), ())
    rows = [(row["state"], row["choices"], row["reason"]) for row in answer_rows(database, "first")]
    assert rows == [("refused", "", "so"), ("unparsable", "", "so"), ("failed", "", "so")]


def test_rows_of_one_state_of_the_run(database: Database, ledger: Ledger) -> None:
    """Answers that are committed while rows are being read do not appear half way."""
    cells = [new_cell("model-a", participants=1), new_cell("model-b", participants=1)]
    add_run(database, new_run(*cells))
    one, other = participant_ids(database)
    finish(ledger, one)
    rows = answer_rows(database, "first")
    first = next(rows)
    finish(ledger, other)
    assert {row["model"] for row in [first, *rows]} == {"model-a"}
    assert {row["model"] for row in answer_rows(database, "first")} == {"model-a", "model-b"}


def test_an_unknown_run_is_told(database: Database) -> None:
    """No rows is not the answer to a name that is wrong."""
    with pytest.raises(UnknownRun, match="there is no run 'other'"):
        list(answer_rows(database, "other"))
