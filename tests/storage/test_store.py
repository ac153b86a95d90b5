"""Runs, and what served their models: written whole, extended, read as nouns."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import insert, select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store, tables
from defsurvey.storage.runs.budget import BudgetWatch, change_budget, halt_if_spent, spent
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.rows import answer_columns, digest
from defsurvey.storage.runs.run import Condition, DrawsPer, MemoryOrder, Preset, Progress, Protocol, QuestionOrder
from defsurvey.storage.runs.store import NewRun, OtherEngine, UnknownRun, add_run, record_served
from defsurvey.storage.surveys.folder import find_survey
from tests.jobs.small_study import change, rows
from tests.storage.small_run import SURVEY, answer, claimed, finish, new_cell, new_run, participant_ids, started
from tests.storage.what_is_there import answers_of, progress_by_cell, progress_of

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
    fields = {name: getattr(new, name) for name in NewRun.__dataclass_fields__}
    return NewRun(**{**fields, **changes})


def test_a_run_is_read_as_it_was_written(database: Database) -> None:
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
    for name in ("small-1", "large"):
        started(database, new_cell(), id=name)
    with pytest.raises(
        UnknownRun, match=r"no run 'small' \(did you mean 'small-1'\?\); known: (small-1, large|large, small-1)"
    ):
        store.load_run(database, "small")


def test_participants_and_cells_are_added_later(database: Database, ledger: Ledger) -> None:
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
    start = Barrier(8)

    def add(_: int) -> int:
        start.wait()
        return add_run(database, new_run(new_cell(participants=5), new_cell("model-b", participants=5)))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, range(8))) == [0] * 7 + [10]
    assert [cell.participants for cell in store.load_run(database, "first").cells] == [5, 5]


@pytest.mark.parametrize("survey", [SURVEY, find_survey("wvs7")], ids=["small", "wvs7"])
def test_the_survey_is_kept_beside_the_run(database: Database, survey: store.Survey) -> None:
    for name in ("first", "second"):
        add_run(database, rebuilt(new_run(id=name), survey=survey))
    found = store.load_survey(database, store.load_run(database, "second").survey)
    assert found == survey
    assert found.fingerprint == survey.fingerprint
    with database.read() as connection:
        assert len(connection.execute(select(tables.survey.c.name)).all()) == 1


def test_progress_is_told_by_cell(database: Database, ledger: Ledger) -> None:
    ids = started(database, new_cell("model-a"), new_cell("model-b", participants=1))
    finish(ledger, started(database, id="second")[0])
    finish(ledger, ids[0])
    one, other = (cell.id for cell in store.load_run(database, "first").cells)
    expected = {one: Progress(planned=6, answered=3), other: Progress(planned=3)}
    assert progress_by_cell(database, "first") == expected
    assert progress_of(database, "first") == store.total(expected.values()) == Progress(planned=9, answered=3)


def test_memory_is_recalled_as_it_was_kept(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    held, other = claimed(ledger, first), claimed(ledger, second)
    for item, text in enumerate(("1: yes", None, "3: no")):
        ledger.checkpoint(held, answer(held, item, remembered=text), ())
    ledger.checkpoint(other, answer(other, 0, remembered="another's"), ())
    slot = {**answer_columns(answer(held, 0, slot=1, remembered="a slot's")), "worker": "w", "committed_at": 0.0}
    database.change(insert(tables.answer).values(slot))
    assert store.recall(database, first, (2, 0, 1)) == {0: "1: yes", 2: "3: no"}
    assert store.recall(database, first, ()) == {}


HUB = {"engine": "transformers", "weights": "hub org/m", "revision": "aaaa", "dtype": "bfloat16", "device": "cpu"}
FILE = {"engine": "transformers", "weights": "/a/m.gguf", "weights_sha256": "5e5e", "dtype": "float32"}
API = {"engine": "openai", "model": "qwen", "server": "http://a", "takes": "seed", "body": "{}", "httpx2": "1"}


def test_a_model_is_served_by_one_set_of_weights(database: Database) -> None:
    started(database)
    record_served(database, "first", "model-a", {"weights": "aa", "device": "cpu"}, {"torch": "2"})
    record_served(database, "first", "model-a", {"weights": "aa", "device": "cuda"}, {"torch": "3"})
    record_served(database, "first", "model-b", {"weights": "bb"}, {})
    with pytest.raises(OtherEngine, match=r"run first, model model-a: .* weights aa, this worker has bb"):
        record_served(database, "first", "model-a", {"weights": "bb"}, {})
    with database.read() as connection:
        s = tables.served.c
        kept = connection.execute(select(s.description, s.versions).where(s.model == "model-a")).one()
    assert tuple(kept) == ({"weights": "aa", "device": "cpu"}, {"torch": "2"})


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (HUB, {"revision": "bbbb"}, "revision aaaa, this worker has bbbb"),
        (HUB, {"weights": "hub n/m", "revision": "c"}, "weights hub org/m, this worker has hub n/m; revision aaaa,"),
        (FILE, {"weights_sha256": "6f6f"}, "weights_sha256 5e5e, this worker has 6f6f"),
        (API, {"body": '{"a": 1}'}, 'body {}, this worker has {"a": 1}'),
        (FILE, {"weights": "/elsewhere/m.gguf"}, None),
        (HUB, {"device": "cuda:0", "torch": "9"}, None),
        (API, {"httpx2": "2", "input_price": "3", "server": "http://another:8001"}, None),
        ({"weights": "hub org/m"}, HUB | {"quantisation": "nf4"}, None),  # an older version did not write it down
    ],
)
def test_whoever_answers_otherwise_is_refused_with_what_differs(
    database: Database, first: dict[str, str], other: dict[str, str], told: str | None
) -> None:
    started(database)
    record_served(database, "first", "model-a", first, {})
    if told is None:
        record_served(database, "first", "model-a", {**first, **other}, {})
        return
    with pytest.raises(OtherEngine) as refused:
        record_served(database, "first", "model-a", {**first, **other}, {})
    assert f"its answers so far came from {told}" in str(refused.value)


def test_prices_that_a_card_is_given_later_hold_for_the_whole_run(database: Database, ledger: Ledger) -> None:
    first, second = started(database)
    record_served(database, "first", "model-a", API, {})
    finish(ledger, first)
    change_budget(database, "first", 0.001)
    assert (spent(database, "first"), halt_if_spent(database, "first")) == (0.0, False)
    priced = API | {"httpx2": "2", "input_price": "2", "output_price": "5", "priced": "2026-10"}
    record_served(database, "first", "model-a", priced, {})
    record_served(database, "first", "model-a", priced | {"input_price": "9"}, {})
    record_served(database, "first", "model-a", API, {})
    assert spent(database, "first") == pytest.approx((3 * 100 * 2 + 3 * 7 * 5) / 1e6)
    finish(ledger, second)
    assert halt_if_spent(database, "first")
    with database.read() as connection:
        kept = connection.execute(select(tables.served.c.description)).scalar_one()
    assert kept == priced | {"httpx2": "1"}


def test_a_model_with_prices_of_0_is_not_halted(database: Database, ledger: Ledger) -> None:
    """A server of one's own is given them: it goes on when others have spent the budget, also where it was halted."""
    first, second = started(database, new_cell("model-a", participants=1), new_cell("model-b", participants=1))
    for model, price in (("model-a", "2"), ("model-b", "0")):
        record_served(database, "first", model, API | {"input_price": price, "output_price": price}, {})
    finish(ledger, first)
    change(database, "UPDATE cell SET halted = true")
    change_budget(database, "first", 0.0001)
    assert halt_if_spent(database, "first")
    assert rows(database, "SELECT model FROM cell WHERE halted") == [("model-a",)]
    assert ledger.claim(second) is not None


NUL, LONE = "before\x00after", "half \ud83d of a sign"


def test_equal_replies_have_equal_digests() -> None:
    texts = ["yes", "Yes", "yes.", "y es", "", "是", NUL, LONE]
    digests = [digest(text) for text in texts]
    assert digest("  yes\n") == digests[0] == -3336744714449159534  # digests are stored: they must not change
    assert len(set(digests)) == len(texts)
    assert all(-(2**63) <= value < 2**63 for value in digests)


def test_a_reply_that_no_database_can_keep_does_not_stop_the_run(database: Database, ledger: Ledger) -> None:
    first, _ = started(database)
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0, completion=NUL, remembered=LONE, reason=NUL), (0,))
    ledger.checkpoint(held, answer(held, 1, completion=LONE, remembered=None), (0,))
    kept = [(said.completion, said.remembered, said.reason) for said in answers_of(database, first)]
    assert kept == [("before␀after", "half ? of a sign", "before␀after"), ("half ? of a sign", None, "")]
    assert store.recall(database, first, (0,)) == {0: "half ? of a sign"}


# What may still be spent: known in time, and not summed up for every answer.


class Money:
    """A budget of which every sum is counted; time stands still unless it is told to pass."""

    def __init__(self, left: float | None) -> None:
        self.left = left
        self.sums = 0
        self.now = 0.0
        self.watch = BudgetWatch(self._sum, lambda: self.now)

    def _sum(self) -> float | None:
        self.sums += 1
        return self.left

    def spend(self, answers: int, cost: Callable[[int], float] = lambda _: 1.0) -> int:
        """Pay for one answer after the other as long as there is money. Returns how many it was."""
        for number in range(answers):
            if self.watch.is_spent():
                return number
            if self.left is not None:
                self.left -= cost(number)
        return answers


@pytest.mark.parametrize("budget", [0.5, 1.0, 7.0, 10_000.0])
def test_a_budget_is_spent_to_the_last_answer_and_summed_up_rarely(budget: float) -> None:
    """No answer is asked for that nothing is left for; ten thousand take no more sums than a few dozen."""
    money = Money(budget)
    assert money.spend(20_000) == max(1, int(budget))
    assert money.sums < 60


def test_answers_that_become_dearer_are_noticed_in_time() -> None:
    money = Money(10_000.0)
    money.spend(20_000, lambda number: 1.0 if number < 5_000 else 4.0)
    assert money.left is not None
    assert -4.0 < money.left <= 0


def test_what_others_spend_is_seen_within_a_second() -> None:
    money = Money(10_000.0)
    assert money.spend(100) == 100
    money.left = -1.0
    assert not money.watch.is_spent()
    money.now += 1.0
    assert money.watch.is_spent()
    money.left = 5.0
    assert not money.watch.is_spent()
    money.left = None
    assert not money.watch.is_spent()
    sums = money.sums
    assert money.spend(1_000) == 1_000
    assert money.sums == sums
    money.left, money.now = 0.0, money.now + 1.0
    assert money.watch.is_spent()
