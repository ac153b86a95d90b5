"""Whom nobody waits for any more is not computed, in the batch and where requests are served one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import Message, Request
from defsurvey.workers.engines.transformers.engine import TransformersEngine
from defsurvey.workers.engines.transformers.loading import LoadedModel
from defsurvey.workers.engines.transformers.scheduler import Limits
from defsurvey.workers.models import ModelCard

CHOICES = ("1", "2")
#: Nothing in these tests takes so many seconds.
PATIENCE = 30
#: Seconds within which whoever waits for a cancelled reply is told.
SOON = 5


def _request(number: int, tokens: int, *choices: str) -> Request:
    asked = (Message(role="user", content=f"Question {number}?"),)
    return Request(messages=asked, decoding=Decoding(max_new_tokens=tokens), seed=number, choices=choices)


class Forwards:
    """Counts a model's forwards, and does something in the middle of one of them."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._during: dict[int, Callable[[], object]] = {}
        self._forward = model.forward
        monkeypatch.setattr(model, "forward", self._counted)

    def during(self, number: int, do: Callable[[], object]) -> None:
        """Do something while that forward is computed; the first is number 1."""
        self._during[number] = do

    def _counted(self, *arguments: Any, **settings: Any) -> Any:
        self.count += 1
        if (do := self._during.get(self.count)) is not None:
            do()
        return self._forward(*arguments, **settings)


@pytest.fixture
def forwards(engine: TransformersEngine, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Forwards:
    """The forwards of the engine's model from here on."""
    return Forwards(tiny_loaded.model, monkeypatch)


def test_who_is_cancelled_before_its_turn_costs_no_forward(engine: TransformersEngine, forwards: Forwards) -> None:
    """Be it a reply or a first token that was asked for; who comes behind does not wait for them."""
    under_way, cancelled = threading.Event(), threading.Event()
    forwards.during(1, lambda: (under_way.set(), cancelled.wait(PATIENCE)))
    first = engine.submit(_request(0, 1))
    assert under_way.wait(PATIENCE)
    waiting = [engine.submit(_request(number, 50, *choices)) for number in range(1, 4) for choices in ((), CHOICES)]
    assert all(future.cancel() for future in waiting)
    last = engine.submit(_request(9, 1))
    cancelled.set()
    assert (first.result(PATIENCE).completion_tokens, last.result(PATIENCE).completion_tokens) == (1, 1)
    assert forwards.count == 2
    assert engine.counters().finished == 2


def test_whoever_waits_for_what_is_cancelled_before_its_turn_is_told(
    engine: TransformersEngine, forwards: Forwards
) -> None:
    """Be it a reply or a first token, and with nothing else to be computed behind them."""
    under_way, cancelled = threading.Event(), threading.Event()
    forwards.during(1, lambda: (under_way.set(), cancelled.wait(PATIENCE)))
    first = engine.submit(_request(0, 1))
    assert under_way.wait(PATIENCE)
    waiting = [engine.submit(_request(1, 50)), engine.submit(_request(2, 50, *CHOICES))]
    assert all(future.cancel() for future in waiting)
    cancelled.set()
    assert not wait([first, *waiting], SOON).not_done


def test_whoever_waits_is_told_at_the_next_token_of_others(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far from its turn the request was: there is room for one, and two are before it."""
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1, limits=Limits(rows=1))
    forwards = Forwards(tiny_loaded.model, monkeypatch)
    told: list[bool] = []
    known = threading.Event()
    forwards.during(1, lambda: known.wait(PATIENCE))
    forwards.during(3, lambda: last.cancel())
    forwards.during(4, lambda: told.append(last in wait([last], 0).done))
    first, _, last = (engine.submit(_request(number, 20)) for number in range(3))
    known.set()
    first.result(PATIENCE)
    engine.close()
    assert told == [True]


def test_a_reply_that_is_cancelled_under_way_ends_at_its_next_token(
    engine: TransformersEngine, forwards: Forwards
) -> None:
    """And is not counted: it is no reply."""
    known = threading.Event()
    forwards.during(1, lambda: known.wait(PATIENCE))
    forwards.during(3, lambda: long.cancel())
    long = engine.submit(_request(1, 200))
    known.set()
    assert wait([long], SOON).done
    with pytest.raises(CancelledError):
        long.result(0)
    assert engine.submit(_request(2, 1)).result(PATIENCE).completion_tokens == 1
    assert forwards.count == 4
    counters = engine.counters()
    assert (counters.finished, counters.reply_tokens) == (1, 1)


def test_closing_waits_for_no_more_than_one_first_token(engine: TransformersEngine, forwards: Forwards) -> None:
    """However many have been asked for."""
    all_asked, closed = threading.Event(), threading.Event()

    def close() -> None:
        engine.close()
        closed.set()

    def closing() -> None:
        threading.Thread(target=close).start()
        while not engine.closed:
            time.sleep(0.001)

    forwards.during(1, lambda: all_asked.wait(PATIENCE))
    forwards.during(2, closing)
    futures = [engine.submit(_request(number, 1, *CHOICES)) for number in range(6)]
    all_asked.set()
    assert closed.wait(PATIENCE)
    assert forwards.count == 2
    assert [future.cancelled() for future in futures] == [False] * 2 + [True] * 4


def test_closing_tells_whoever_waits(engine: TransformersEngine, forwards: Forwards) -> None:
    """For what is under way, for what has not begun, and for what was cancelled before."""
    all_asked, closed = threading.Event(), threading.Event()

    def close() -> None:
        engine.close()
        closed.set()

    def closing() -> None:
        all_asked.wait(PATIENCE)
        threading.Thread(target=close).start()
        while not engine.closed:
            time.sleep(0.001)

    forwards.during(1, closing)
    futures = [engine.submit(_request(number, 50)) for number in range(4)]
    assert futures[2].cancel()
    all_asked.set()
    assert not wait(futures, SOON).not_done
    assert closed.wait(PATIENCE)
