"""What served a model: the first is remembered, and who may go on where it has begun."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from defsurvey.storage.database import Database
from defsurvey.storage.runs import tables
from defsurvey.storage.runs.budget import change_budget, halt_if_spent, spent
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.store import OtherEngine, differences, record_served
from tests.jobs.ledger_rows import change, rows
from tests.storage.small_run import finish, new_cell, started

MODE = {"engine": "scripted", "respondent": "mode"}
HUB = {"engine": "transformers", "weights": "hub org/m", "revision": "aaaa", "dtype": "bfloat16", "device": "cpu"}
FILE = {"engine": "transformers", "weights": "/a/m.gguf", "weights_sha256": "5e5e", "dtype": "float32"}
API = {"engine": "openai", "model": "qwen", "server": "http://a", "takes": "seed", "body": "{}", "httpx2": "1"}


def test_a_model_is_served_by_one_set_of_weights(database: Database) -> None:
    """The first description is kept, the same weights are welcome again, and others are refused by name."""
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


@pytest.mark.parametrize("attempt", range(3))
def test_a_model_recorded_by_several_workers_at_once_is_kept_once(database: Database, attempt: int) -> None:
    """Workers that start together on one model do not fail."""
    started(database)
    start = Barrier(8)

    def record(_: int) -> None:
        start.wait()
        record_served(database, "first", "model-a", {"weights": "aa"}, {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(8)))
    with database.read() as connection:
        assert len(connection.execute(select(tables.served.c.model)).all()) == 1


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (HUB, {"revision": "bbbb"}, "revision aaaa, this worker has bbbb"),
        (HUB, {"dtype": "float32"}, "dtype bfloat16, this worker has float32"),
        (HUB | {"quantisation": "none"}, {"quantisation": "nf4"}, "quantisation none, this worker has nf4"),
        (HUB | {"chat_template": "vicuna"}, {"chat_template": "none"}, "chat_template vicuna, this worker has none"),
        (HUB, {"weights": "hub n/m", "revision": "c"}, "weights hub org/m, this worker has hub n/m; revision aaaa,"),
        (FILE, {"weights_sha256": "6f6f"}, "weights_sha256 5e5e, this worker has 6f6f"),
        (API, {"model": "llama"}, "model qwen, this worker has llama"),
        (API, {"takes": "temperature"}, "takes seed, this worker has temperature"),
        (API, {"body": '{"a": 1}'}, 'body {}, this worker has {"a": 1}'),
        (API | {"answer_prefix": "false"}, {"answer_prefix": "true"}, "answer_prefix false, this worker has true"),
        (HUB | {"ends": "as published"}, {"ends": "<|e|>"}, "ends as published, this worker has <|e|>"),
        (API, {"engine": "anthropic"}, "engine openai, this worker has anthropic"),
        (MODE, {"respondent": "human"}, "respondent mode, this worker has human"),
    ],
)
def test_whoever_answers_otherwise_is_refused_with_what_differs(
    database: Database, first: Mapping[str, str], other: Mapping[str, str], told: str
) -> None:
    """Weights of another revision, the same in other numbers, another model behind a server, or asked otherwise."""
    started(database)
    record_served(database, "first", "model-a", first, {})
    with pytest.raises(OtherEngine) as refused:
        record_served(database, "first", "model-a", {**first, **other}, {})
    assert f"its answers so far came from {told}" in str(refused.value)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (FILE, FILE | {"weights": "/elsewhere/m.gguf"}),
        (FILE, FILE | {"weights": "package m 1, m.gguf"}),
        (HUB, HUB | {"device": "cuda:0", "torch": "9"}),
        (API, API | {"httpx2": "2", "input_price": "3"}),
        (API, API | {"server": "http://another:8001"}),
        (API, API | {"answer_prefix": "true"}),
        (HUB, HUB | {"answer_prefix": "false", "ends": "<|e|>"}),
        ({"weights": "hub org/m"}, HUB | {"quantisation": "nf4"}),
        ({}, FILE),
        (FILE, FILE | {"weights_format": "GGUF", "weights_type": "Q4_1"}),
    ],
)
def test_whoever_answers_alike_may_go_on(
    database: Database, first: Mapping[str, str], other: Mapping[str, str]
) -> None:
    """The same file elsewhere, another device or library; and what an older version did not write down is let pass."""
    started(database)
    record_served(database, "first", "model-a", first, {})
    record_served(database, "first", "model-a", other, {})
    assert differences(first, other) == []


def test_prices_that_a_card_is_given_later_hold_for_the_whole_run(database: Database, ledger: Ledger) -> None:
    """A budget counts what was asked before as well; of what has prices, the first stay."""
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
