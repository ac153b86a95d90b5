"""Runs written whole, extended, and read as nouns."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import insert, select, update

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.rows import answer_columns
from defsurvey.storage.runs.run import (
    AnswerState,
    Condition,
    DrawsPer,
    MemoryOrder,
    Preset,
    Progress,
    Protocol,
    QuestionOrder,
)
from defsurvey.storage.runs.store import NewRun, OtherDesign, UnknownRun, add_run
from defsurvey.storage.surveys.folder import find_survey
from tests.storage.small_run import SURVEY, answer, claimed, finish, new_cell, new_run, participant_ids, started
from tests.storage.what_is_there import answers_of, participants_by_state, progress_by_cell, progress_of

UNUSUAL = Protocol(
    seed=2**53 + 1,
    preset=Preset.CODE,
    draws=DrawsPer.QUESTION,
    question_order=QuestionOrder.SHUFFLED,
    memory_order=MemoryOrder.CHRONOLOGICAL,
    temperature=0.7,
    top_p=0.9,
    max_new_tokens=64,
)


def rebuilt(new: NewRun, **changes: object) -> NewRun:
    """The same run with some fields changed."""
    fields = {name: getattr(new, name) for name in NewRun.__dataclass_fields__}
    return NewRun(**{**fields, **changes})


def test_a_run_is_read_as_it_was_written(database: Database) -> None:
    """Every setting of the protocol and of the conditions comes back, and the cells in the study's order."""
    condition = Condition(name="mine", prompt=False, config=True, memory=False, option_order=True)
    mine = store.NewCell(model="model-b", culture="cn", condition=condition, language="zh", draws=())
    new = rebuilt(new_run(mine, new_cell("model-a", participants=3)), protocol=UNUSUAL)
    assert add_run(database, new) == 3
    run = store.load_run(database, "first")
    assert (run.id, run.survey, run.questions) == ("first", SURVEY.fingerprint, ("A", "B", "C"))
    assert (run.protocol, run.study, run.cancelled) == (UNUSUAL, "name: first\n", False)
    assert [(c.model, c.culture, c.language, c.participants) for c in run.cells] == [
        ("model-b", "cn", "zh", 0),
        ("model-a", "us", "en", 3),
    ]
    assert run.cells[0].condition == condition
    assert run.created_at.utcoffset() is not None
    assert abs(run.created_at.timestamp() - time.time()) < 60


def test_a_run_that_is_not_there_is_told(database: Database) -> None:
    """Reading, cancelling and asking for the design of an unknown run name it."""
    calls: list[Callable[[], object]] = [
        lambda: store.load_run(database, "other"),
        lambda: store.design_of(database, "other"),
        lambda: store.cancel(database, "other"),
    ]
    for call in calls:
        with pytest.raises(UnknownRun, match="there is no run 'other'"):
            call()
    assert not store.has_run(database, "other")
    assert progress_of(database, "other") == Progress(planned=0)


def test_whoever_asks_for_a_run_that_is_not_there_is_told_which_are(database: Database) -> None:
    """The nearest, and the newest dozen; or that there is none yet."""
    with pytest.raises(UnknownRun, match=r"^there is no run 'small'; there is none yet$"):
        store.load_run(database, "small")
    for name in ("small-1", "large"):
        started(database, new_cell(), id=name)
    with pytest.raises(UnknownRun) as refused:
        store.load_run(database, "small")
    assert "there is no run 'small' (did you mean 'small-1'?); known: " in str(refused.value)
    assert set(str(refused.value).partition("known: ")[2].split(", ")) == {"small-1", "large"}


def test_enqueuing_again_adds_nothing(database: Database, ledger: Ledger) -> None:
    """The same run a second time is harmless, whatever became of its participants meanwhile."""
    first, _ = started(database)
    finish(ledger, first)
    before = store.load_run(database, "first")
    assert add_run(database, new_run()) == 0
    assert store.load_run(database, "first") == before
    assert progress_of(database, "first").answered == 3
    assert store.has_run(database, "first")


def test_another_design_under_the_same_name_is_refused(database: Database) -> None:
    """Nothing of it is written, not even its new cells."""
    started(database)
    before = store.load_run(database, "first")
    with pytest.raises(OtherDesign, match="run first exists already with another design"):
        add_run(database, new_run(new_cell(), new_cell("model-b"), design="other"))
    assert store.load_run(database, "first") == before
    assert store.design_of(database, "first") == "design"


def test_participants_and_cells_are_added_later(database: Database, ledger: Ledger) -> None:
    """A larger run of the same design adds what is missing, with the draws of its place, and leaves the rest."""
    first, _ = started(database)
    finish(ledger, first)
    larger = new_run(new_cell(participants=4), new_cell("model-b", participants=1))
    assert add_run(database, larger) == 3
    cells = store.load_run(database, "first").cells
    assert [(cell.model, cell.participants) for cell in cells] == [("model-a", 4), ("model-b", 1)]
    held = [claimed(ledger, who) for who in participant_ids(database)[1:]]
    assert [(p.index, p.draws.memory_capacity) for p in held] == [(1, 1), (2, 2), (3, 3), (0, 0)]
    assert progress_of(database, "first") == Progress(planned=15, answered=3)
    assert add_run(database, new_run(new_cell(participants=1))) == 0  # a smaller one takes nothing away


def test_a_run_enqueued_by_several_at_once_is_written_once(database: Database) -> None:
    """Eight that write the same run at the same moment: one adds it, the others find it."""
    start = Barrier(8)

    def add(_: int) -> int:
        start.wait()
        return add_run(database, new_run(new_cell(participants=5), new_cell("model-b", participants=5)))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(8))) == [0] * 7 + [10]
    assert [cell.participants for cell in store.load_run(database, "first").cells] == [5, 5]


def test_runs_are_listed_newest_first(database: Database) -> None:
    """The order is that of their making."""
    for name in ("b", "c", "a"):
        add_run(database, new_run(id=name))
        time.sleep(0.005)
    assert store.run_ids(database) == ["a", "c", "b"]


@pytest.mark.parametrize("survey", [SURVEY, find_survey("wvs7")], ids=["small", "wvs7"])
def test_the_survey_is_kept_beside_the_run(database: Database, survey: store.Survey) -> None:
    """What comes back equals what was enqueued, questions, references, fingerprint and all; it is kept once."""
    for name in ("first", "second"):
        add_run(database, rebuilt(new_run(id=name), survey=survey))
    found = store.load_survey(database, store.load_run(database, "second").survey)
    assert found == survey
    assert found.fingerprint == survey.fingerprint
    with database.read() as connection:
        assert len(connection.execute(select(tables.survey.c.name)).all()) == 1


def test_cancelling_is_told_and_taken_back(database: Database) -> None:
    """The flag belongs to one run."""
    for name in ("first", "second"):
        add_run(database, new_run(id=name))
    store.cancel(database, "first")
    assert [store.load_run(database, name).cancelled for name in ("first", "second")] == [True, False]
    store.cancel(database, "first", cancelled=False)
    assert not store.load_run(database, "first").cancelled


def test_progress_is_told_by_cell(database: Database, ledger: Ledger) -> None:
    """Each cell has its own count, and their sum is the run's; other runs do not count."""
    ids = started(database, new_cell("model-a"), new_cell("model-b", participants=1))
    finish(ledger, started(database, id="second")[0])
    finish(ledger, ids[0])
    one, other = (cell.id for cell in store.load_run(database, "first").cells)
    expected = {one: Progress(planned=6, answered=3), other: Progress(planned=3)}
    assert progress_by_cell(database, "first") == expected
    assert progress_of(database, "first") == store.total(expected.values()) == Progress(planned=9, answered=3)


def test_participants_are_counted_by_state(database: Database, ledger: Ledger) -> None:
    """Waiting, running, finished or quarantined; one whose lease has run out waits."""
    finished, running, expired, aside, _ = started(database, new_cell(participants=5))
    finish(ledger, finished)
    claimed(ledger, running)
    claimed(Ledger(database, owner="host:2:silent", ttl=-1.0), expired)
    p = tables.participant.c
    quarantine = update(tables.participant).where(p.id == aside).values(status="quarantined")
    database.write(lambda connection: connection.execute(quarantine))
    expected = {"waiting": 2, "running": 1, "finished": 1, "quarantined": 1}
    assert participants_by_state(database, "first") == expected
    assert sum(participants_by_state(database, "none").values()) == 0


def test_the_rate_is_that_of_the_living(database: Database) -> None:
    """Workers that beat lately are summed, for the run asked about alone."""
    Ledger(database, owner="host:1:a").beat("model-a", {"first": 2.0, "second": 5.0})
    Ledger(database, owner="host:2:b").beat("model-b", {"first": 0.5})
    assert (store.rate(database, "first"), store.rate(database, "second")) == (2.5, 5.0)
    assert store.rate(database, "third") == 0.0
    assert store.rate(database, "first", alive_within=-60.0) == 0.0


def test_memory_is_recalled_as_it_was_kept(database: Database, ledger: Ledger) -> None:
    """The items named, of this participant alone, without those that are not remembered."""
    first, second = started(database)
    held, other = claimed(ledger, first), claimed(ledger, second)
    for item, text in enumerate(("1: yes", None, "3: no")):
        ledger.checkpoint(held, answer(held, item, remembered=text), ())
    ledger.checkpoint(other, answer(other, 0, remembered="another's"), ())
    slot = {**answer_columns(answer(held, 0, slot=1, remembered="a slot's")), "worker": "w", "committed_at": 0.0}
    database.write(lambda connection: connection.execute(insert(tables.answer).values(slot)))
    assert store.recall(database, first, (2, 0, 1)) == {0: "1: yes", 2: "3: no"}
    assert store.recall(database, first, ()) == {}


def test_answers_come_back_whole_and_in_order(database: Database, ledger: Ledger) -> None:
    """Every field of an answer survives, the empty and the unknown ones too."""
    first, _ = started(database)
    held = claimed(ledger, first)
    said = [
        answer(held, 0, choices=(1, 3), shown=(4, 3, 2, 1)),
        answer(held, 1, state=AnswerState.REFUSED, memory=(0,), remembered=None),
        answer(held, 2, completion="", memory=(1, 0), reason="empty", choices=()),
    ]
    for one in said:
        ledger.checkpoint(held, one, ())
    assert answers_of(database, first) == said
