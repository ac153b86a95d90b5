"""The engine in front of the batch, and where it takes one request at a time: threads, ends, counters, defects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from defsurvey.storage.runs.run import Decoding, Reply
from defsurvey.workers.engines.base import Completion, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers.answering import read_request
from defsurvey.workers.engines.transformers.decoder import Decoder
from defsurvey.workers.engines.transformers.engine import TransformersEngine
from defsurvey.workers.engines.transformers.loading import LoadedModel
from defsurvey.workers.engines.transformers.scheduler import Limits
from defsurvey.workers.engines.transformers.support import adopt
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.answer_parser import is_settled, read
from tests.end_to_end.machine import wait_until
from tests.workers.citizens import FAMILY
from tests.workers.engine.tiny_models import decode

CHOICES = ("1", "2")
LONG = Decoding(max_new_tokens=200)
#: Nothing in these tests takes so many seconds.
PATIENCE = 30
#: Seconds within which whoever waits for a cancelled reply is told.
SOON = 5


def _request(number: int, decoding: Decoding | None = None, *choices: str) -> Request:
    chosen = decoding or Decoding(max_new_tokens=12, num_beams=1 + number % 4, do_sample=number % 3 == 0)
    asked = (Message(role="user", content=f"Question {number}?"),)
    return Request(messages=asked, decoding=chosen, seed=number, choices=choices)


def _tokens(count: int) -> Decoding:
    return Decoding(max_new_tokens=count)


def test_replies_are_the_same_however_a_model_is_served(
    engine: TransformersEngine, tiny_card: ModelCard, tiny_loaded: LoadedModel
) -> None:
    requests = [_request(number) for number in range(12)]
    replies = [future.result(PATIENCE) for future in [engine.submit(request) for request in requests]]
    batching = engine.describe()["batching"]
    engine.close()
    counted = engine.counters()
    assert replies == [_batched(tiny_card, tiny_loaded, request) for request in requests]
    assert counted.finished == 12
    assert counted.reply_tokens == sum(one.completion_tokens or 0 for one in replies)
    assert counted.prefilled_tokens + counted.reused_tokens == sum(one.prompt_tokens or 0 for one in replies)
    assert min(counted.seconds[phase] for phase in ("admit", "forward", "deliver")) > 0
    assert counted.kv_bytes == 0
    if batching == "continuous":
        assert counted.rows_per_step > 2
        assert counted.peak_kv_bytes > 0
    else:
        assert batching == "one request at a time: it is said so in this test"
        assert counted.steps == 0


def _batched(card: ModelCard, loaded: LoadedModel, request: Request) -> Completion:
    """What the batch's own parts make of a request."""
    asked = read_request(card, loaded, request)
    assert not isinstance(asked, Completion)
    decoder = Decoder(loaded.model, adopt(loaded.model), Limits())
    tokens = decode(decoder, [asked.resolved])[0].tokens
    decoder.close()
    assert tokens is not None
    return asked.completion(loaded, tokens)


def test_a_reply_without_beams_ends_where_the_rest_says_nothing_new(served: Callable[..., TransformersEngine]) -> None:
    engine = served(answer_prefix=True)
    shown = FAMILY.codes
    enough = partial(is_settled, question=FAMILY, shown=shown, reply=Reply.ANSWER)
    asked = [
        Request(
            messages=(Message(role="user", content="?"),),
            decoding=Decoding(max_new_tokens=210, do_sample=sampled, num_beams=beams),
            seed=seed,
            reply_start="Answer: 2. ",
        )
        for seed, (sampled, beams) in enumerate([(False, 1), *[(True, 1)] * 2, (True, 2)])
    ]
    whole = [engine.submit(request).result() for request in asked]
    cut = [future.result() for future in [engine.submit(replace(request, enough=enough)) for request in asked]]
    shorter = 0
    for request, one, other in zip(asked, whole, cut, strict=True):
        assert one.text.startswith(other.text)
        full, short = (
            read(text, FinishReason.STOP, FAMILY, shown, "en", Reply.ANSWER) for text in (one.text, other.text)
        )
        assert full == short
        assert full.choices == (2,)
        if other.finish is FinishReason.ENOUGH:
            assert request.decoding.num_beams == 1
            assert (other.completion_tokens or 0) < (one.completion_tokens or 0)
            shorter += 1
        else:
            assert one == other
    assert shorter


def test_submitting_waits_while_the_backlog_is_full(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> None:
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1, backlog=2)
    first, second = engine.submit(_request(1)), engine.submit(_request(2))
    third = engine.submit(_request(3))
    assert first.done() or second.done()
    engine.submit(_request(4, LONG))
    third.result()
    engine.submit(_request(5, LONG))
    refused: list[str] = []

    def ask() -> None:
        try:
            engine.submit(_request(6))
        except EngineUnavailable as error:
            refused.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.02)
    engine.close()
    waiting.join(PATIENCE)
    # Either it got in, because a reply was there sooner, and was cancelled; or it was told.
    assert not waiting.is_alive()
    assert refused in ([], ["model tiny: its engine is closed"])


@pytest.mark.parametrize("where", ["engine.read_request", "answering.Question.completion", "enough"])
def test_a_defect_around_a_reply_reaches_who_asked(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    request = _request(4, LONG)
    with monkeypatch.context() as patched:
        if where == "enough":
            request = replace(request, enough=lambda _: {}["absent"])
        else:
            patched.setattr(f"defsurvey.workers.engines.transformers.{where}", lambda *_: {}["absent"])
        with pytest.raises(KeyError, match="absent"):
            engine.submit(request).result(PATIENCE)
    assert engine.submit(_request(1)).result(PATIENCE).finish is FinishReason.LENGTH


class Forwards:
    """Counts a model's forwards, and does something in the middle of one of them."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        #: By the number of a forward, from 1 on.
        self.during: dict[int, Callable[[], object]] = {}
        self._forward = model.forward
        monkeypatch.setattr(model, "forward", self._counted)

    def _counted(self, *arguments: Any, **settings: Any) -> Any:
        self.count += 1
        self.during.get(self.count, lambda: None)()
        return self._forward(*arguments, **settings)


@pytest.fixture
def forwards(engine: TransformersEngine, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Forwards:
    """The forwards of the engine's model from here on."""
    return Forwards(tiny_loaded.model, monkeypatch)


def _closing(engine: TransformersEngine) -> threading.Thread:
    """A thread that is closing the engine."""
    closing = threading.Thread(target=engine.close)
    closing.start()
    wait_until(lambda: engine.closed, "an engine that closes")
    return closing


@pytest.mark.parametrize("behind", [True, False], ids=["somebody comes behind", "nobody does"])
def test_who_is_cancelled_before_its_turn_costs_no_forward_and_is_told(
    engine: TransformersEngine, forwards: Forwards, behind: bool
) -> None:
    under_way, cancelled = threading.Event(), threading.Event()
    forwards.during[1] = lambda: (under_way.set(), cancelled.wait(PATIENCE))
    first = engine.submit(_request(0, _tokens(1)))
    assert under_way.wait(PATIENCE)
    waiting = [engine.submit(_request(number, _tokens(50), *asked)) for number in (1, 2) for asked in ((), CHOICES)]
    assert all(future.cancel() for future in waiting)
    last = [engine.submit(_request(9, _tokens(1)))] if behind else []
    cancelled.set()
    assert not wait([first, *waiting, *last], SOON).not_done
    assert forwards.count == engine.counters().finished == 1 + len(last)


def test_a_reply_that_is_cancelled_under_way_ends_at_its_next_token(
    engine: TransformersEngine, forwards: Forwards
) -> None:
    known = threading.Event()
    forwards.during = {1: lambda: known.wait(PATIENCE), 3: lambda: long.cancel()}
    long = engine.submit(_request(1, LONG))
    known.set()
    assert wait([long], SOON).done
    with pytest.raises(CancelledError):
        long.result(0)
    assert engine.submit(_request(2, _tokens(1))).result(PATIENCE).completion_tokens == 1
    assert forwards.count == 4
    counters = engine.counters()
    assert (counters.finished, counters.reply_tokens) == (1, 1)


def test_closing_tells_whoever_waits(engine: TransformersEngine, forwards: Forwards) -> None:
    all_asked, closing = threading.Event(), list[threading.Thread]()
    forwards.during[1] = lambda: (all_asked.wait(PATIENCE), closing.append(_closing(engine)))
    futures = [engine.submit(_request(number, LONG)) for number in range(4)]
    assert futures[2].cancel()
    all_asked.set()
    assert not wait(futures, SOON).not_done
    closing[0].join(PATIENCE)
    assert all(future.cancelled() for future in futures)
    assert forwards.count == 1
    engine.close()
    with pytest.raises(EngineUnavailable, match="model tiny: its engine is closed"):
        engine.submit(_request(0))
