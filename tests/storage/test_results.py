"""What came out of a run: rows for exports, arrays and samples for reports, draws as they were used."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import event

from defsurvey.storage.database import Database
from defsurvey.storage.runs.export import COLUMNS, TELEMETRY, answer_rows
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.probes import Probe, ProbeKind, add_probes, read_probes
from defsurvey.storage.runs.results import TokenCount, read_draws, read_results
from defsurvey.storage.runs.rows import digest
from defsurvey.storage.runs.run import AnswerState, DrawsPer, Protocol
from defsurvey.storage.runs.store import add_run, record_served
from tests.storage.small_run import DRAWS, USED, answer, claimed, finish, new_cell, new_run, participant_ids, started

#: Names that a database's own collation would order otherwise: capitals, hyphens, a letter with a mark.
MODELS = ("b", "B", "a-b", "ab", "a", "ä")


def test_both_databases_give_equal_rows(sqlite_url: str, postgresql_url: str) -> None:
    rows = []
    for url, turned in ((sqlite_url, False), (postgresql_url, True)):
        with Database(url) as database:
            ledger = Ledger(database, owner="host:1:here")
            ids = started(database, *(new_cell(model) for model in MODELS))
            for who in reversed(ids) if turned else ids:
                finish(ledger, who)
            rows.append(list(answer_rows(database, "first")))
    assert rows[0] == rows[1]
    keys = [tuple(row[name] for name in ("model", "participant", "item")) for row in rows[0]]
    assert keys == [(m, p, i) for m in ("B", "a", "a-b", "ab", "b", "ä") for p in (0, 1) for i in (0, 1, 2)]


def test_a_row_holds_what_was_asked_and_answered_and_telemetry_when_asked_for(
    database: Database, ledger: Ledger
) -> None:
    held = claimed(ledger, started(database)[1])
    said = answer(held, 0, question="C", choices=(1, 4), shown=(5, 4, 1, 2, 3), remembered=None, seconds=1.5)
    ledger.checkpoint(held, said, ())
    (plain,), (row,) = answer_rows(database, "first"), answer_rows(database, "first", telemetry=True)
    told = [
        row[name] for name in ("condition", "participant", "choices", "shown", "remembered", "region", "used_top_p")
    ]
    assert told == ["def", 1, "1 4", "5 4 1 2 3", None, "US-OH", None]
    assert (row["attempt"], row["seconds"], row["worker"]) == (0, 1.5, "host:1:here")
    assert (list(plain), list(row)) == (list(COLUMNS), [*COLUMNS, *TELEMETRY])
    assert {name: row[name] for name in COLUMNS} == plain
    kinds = {**COLUMNS, **TELEMETRY}
    assert all(type(row[name]) is kind for name, kind in kinds.items() if row[name] is not None)


def answer_all(database: Database, ledger: Ledger, *, order: str = "CAB") -> None:
    """Two cells of two participants, each asked in an order of its own, the last participant first."""
    for who in reversed(started(database, new_cell("model-b"), new_cell("model-a"))):
        held = claimed(ledger, who)
        for item, question in enumerate(order):
            ledger.checkpoint(held, answer(held, item, question=question, completion=f"{question} {held.index}"), ())


def test_rows_are_ordered_by_cell_participant_and_question(database: Database, ledger: Ledger) -> None:
    answer_all(database, ledger)
    answers = read_results(database, "first").answers
    assert answers.cell.tolist() == [0] * 6 + [1] * 6
    assert answers.participant.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert answers.question.tolist() == [0, 1, 2] * 4
    assert answers.slot.tolist() == [0] * 12
    expected = [digest(f"{question} {index}") for _ in range(2) for index in (0, 1) for question in "ABC"]
    assert answers.digest.tolist() == expected


@pytest.mark.parametrize(("question", "choices", "mask"), [("B", (5,), 0b100), ("C", (), 0), ("C", (1, 3, 4), 0b1101)])
def test_choices_are_bits_in_the_order_of_the_survey(
    database: Database, ledger: Ledger, question: str, choices: tuple[int, ...], mask: int
) -> None:
    """Bit k is option k as the survey lists it, whatever its code and wherever it was shown."""
    held = claimed(ledger, started(database)[0])
    ledger.checkpoint(held, answer(held, 0, question=question, choices=choices, shown=(5, 7, 2, 1)), ())
    answers = read_results(database, "first").answers
    assert answers.choices.tolist() == [mask]
    assert answers.shown.tolist() == [5]


def test_samples_are_spread_over_states_and_cells(database: Database, ledger: Ledger) -> None:
    """A rare state is shown before a common one is shown twice; the same seed shows the same answers."""
    cells = [new_cell("model-a", participants=8), new_cell("model-b", participants=8)]
    for number, who in enumerate(started(database, *cells)):
        held = claimed(ledger, who)
        for item in range(3):
            rare = {0: AnswerState.REFUSED, 1: AnswerState.FAILED}.get(item) if number == 0 else None
            ledger.checkpoint(held, answer(held, item, state=rare or AnswerState.ANSWERED), ())
    results = read_results(database, "first", samples=8)
    found = Counter((sample.answer.state, sample.cell) for sample in results.samples)
    assert len(results.samples) == 8
    assert found[AnswerState.REFUSED, 0] == found[AnswerState.FAILED, 0] == 1
    assert {found[AnswerState.ANSWERED, 0], found[AnswerState.ANSWERED, 1]} == {3}
    assert read_results(database, "first", samples=8).samples == results.samples
    assert len(read_results(database, "first", samples=100).samples) == 48
    assert read_results(database, "first", samples=0).samples == ()


def test_a_sample_is_the_answer_as_it_was_given(database: Database, ledger: Ledger) -> None:
    _, second = started(database)
    held = claimed(ledger, second)
    said = [
        answer(held, 0, question="C"),
        answer(held, 1, question="A", memory=(0,)),
        answer(held, 2, question="B", memory=(1, 0)),
    ]
    for one in said:
        ledger.checkpoint(held, one, ())
    samples = {sample.answer.question: sample for sample in read_results(database, "first").samples}
    assert [samples[name].answer for name in "CAB"] == said
    assert [samples[name].remembered_questions for name in "CAB"] == [(), ("C",), ("A", "C")]
    assert {(sample.cell, sample.participant) for sample in samples.values()} == {(0, 1)}


def test_what_served_and_how_long_it_took_is_told_by_model(database: Database, ledger: Ledger) -> None:
    facts = {"series": "S", "input_price": "2", "output_price": "10", "priced": "2026-10"}
    ids = started(database, new_cell("model-a"), new_cell("model-b", participants=1))
    for who in ids:
        finish(ledger, who)
    record_served(database, "first", "model-a", {"weights": "aa", **facts}, {"torch": "2.6"})
    record_served(database, "first", "model-b", {"weights": "bb"}, {"numpy": "2.1"})
    results = read_results(database, "first")
    assert results.engines == {"model-a": {"weights": "aa"}, "model-b": {"weights": "bb"}}
    assert results.model_facts == {"model-a": facts}
    assert results.versions == {"torch": "2.6", "numpy": "2.1"}
    assert results.model_seconds == {"model-a": pytest.approx(3.0), "model-b": pytest.approx(1.5)}


def test_tokens_are_summed_over_the_answers_that_carry_them(database: Database, ledger: Ledger) -> None:
    counted, silent = started(
        database, new_cell("model-a", participants=1), new_cell("model-b", participants=1), id="first"
    )
    held = claimed(ledger, counted)
    ledger.checkpoint(held, answer(held, 0, seconds=2.0), ())
    ledger.checkpoint(held, replace(answer(held, 1), completion_tokens=None), ())
    ledger.checkpoint(held, answer(held, 2, seconds=1.0), ())
    held = claimed(ledger, silent)
    ledger.checkpoint(held, replace(answer(held, 0), prompt_tokens=None, completion_tokens=None), ())
    results = read_results(database, "first")
    assert results.tokens == {"model-a": TokenCount(answers=2, prompt=200, completion=14, seconds=3.0)}
    assert results.model_seconds == {"model-a": 3.5, "model-b": 0.5}


def test_everything_is_of_one_state(database: Database, ledger: Ledger) -> None:
    """A revision never counts an answer that was not read, though answers are committed meanwhile."""
    first, second = started(database)
    finish(ledger, first)
    held = claimed(ledger, second)

    @event.listens_for(database.engine, "after_cursor_execute")
    def commit_more(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "FROM answer" in statement and held.next_item == 0 and not committed:
            committed.append(1)
            ledger.checkpoint(held, answer(held, 0), ())

    committed: list[int] = []
    results = read_results(database, "first")
    assert committed == [1]
    assert results.revision == results.progress.done == results.answers.cell.size == 3
    assert read_results(database, "first").revision == 4


def test_one_row_for_each_participant_who_has_answered(database: Database, ledger: Ledger) -> None:
    first, second, _ = started(database, new_cell(participants=3))
    finish(ledger, second)
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0), ())
    drawn = read_draws(database, "first")
    assert drawn.participant.tolist() == [0, 1]
    assert drawn.question.tolist() == [-1, -1]
    assert drawn.memory_capacity.tolist() == [0, 1]
    assert (drawn.regions, drawn.region.tolist()) == (("US-OH",), [0, 0])
    assert (drawn.num_beams.tolist(), drawn.do_sample.tolist()) == ([3.0, 3.0], [1.0, 1.0])


def test_nothing_is_claimed_about_what_a_provider_decides(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    held = claimed(ledger, first)
    given = answer(held, 0)
    ledger.checkpoint(
        held, replace(given, used=replace(USED, num_beams=None, do_sample=None), draws=replace(DRAWS, region=None)), ()
    )
    drawn = read_draws(database, "first")
    assert np.isnan(drawn.num_beams).all()
    assert np.isnan(drawn.do_sample).all()
    assert (drawn.regions, drawn.region.tolist()) == ((), [-1])


def test_draws_per_question_have_a_row_for_each_answer(database: Database, ledger: Ledger) -> None:
    run = replace(new_run(), protocol=Protocol(seed=11, draws=DrawsPer.QUESTION))
    add_run(database, run)
    finish(ledger, participant_ids(database)[0])
    drawn = read_draws(database, "first")
    assert drawn.question.tolist() == [0, 1, 2]
    assert drawn.participant.tolist() == [0, 0, 0]


# Probes: each is written once, read back as it was, and moves with its run.


RECALLED = Probe(
    model="m", kind=ProbeKind.OPTIONS, culture="", language="en", question="A", prompt="Which?", completion="x\x00y"
)
GUESSED = Probe(
    model="m",
    kind=ProbeKind.PERCENTAGES,
    culture="us",
    language="en",
    question="A",
    prompt="How many?",
    completion="1: 40",
    percent={4: 10.5, 1: 40.0},
)


def test_probes_come_back_as_they_were(database: Database) -> None:
    started(database)
    add_probes(database, "first", [RECALLED])
    add_probes(database, "first", [replace(RECALLED, completion="other"), GUESSED])  # what is there stays as it was
    found = read_probes(database, "first")
    assert found == (replace(RECALLED, completion="x␀y"), GUESSED)
    assert list(found[1].percent or ()) == [4, 1]
    assert read_results(database, "first").probes == found
