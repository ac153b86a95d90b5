"""The engine in front of the batch: threads, back-pressure, cancellation, and models served one at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, wait
from dataclasses import replace
from functools import partial

import pytest
import torch

from defsurvey.storage.runs.run import Decoding, Reply
from defsurvey.workers.engines.base import Completion, EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers import limits
from defsurvey.workers.engines.transformers.answering import read_request
from defsurvey.workers.engines.transformers.decoder import Decoder
from defsurvey.workers.engines.transformers.engine import TransformersEngine
from defsurvey.workers.engines.transformers.kv import LayerShape, Layout
from defsurvey.workers.engines.transformers.loading import LoadedModel
from defsurvey.workers.engines.transformers.scheduler import Limits
from defsurvey.workers.engines.transformers.support import UnsupportedModel, adopt
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.answer_parser import is_settled, read
from tests.workers.citizens import FAMILY
from tests.workers.engine.tiny_models import decode


def _request(number: int, decoding: Decoding | None = None) -> Request:
    chosen = decoding or Decoding(max_new_tokens=12, num_beams=1 + number % 4, do_sample=number % 3 == 0)
    return Request(messages=(Message(role="user", content=f"Question {number}?"),), decoding=chosen, seed=number)


LONG = Decoding(max_new_tokens=200)


def test_counters_tell_what_was_computed(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> None:
    """They can be read at any time, also after closing, when no bytes are held any more."""
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1, limits=Limits())
    assert engine.counters().steps == 0
    completions = [engine.submit(_request(number)) for number in range(12)]
    wait(completions, 60)
    assert engine.describe()["batching"] == "continuous"
    engine.close()
    counters = engine.counters()
    assert counters.finished == 12
    assert counters.reply_tokens == sum(future.result().completion_tokens or 0 for future in completions)
    assert counters.kv_bytes == 0
    assert counters.peak_kv_bytes > 0
    assert counters.rows_per_step > 2


@pytest.mark.parametrize("alone", [False, True])
def test_a_reply_without_beams_ends_where_the_rest_says_nothing_new(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    """Fewer tokens, the same beginning and the same reading; beams go on to their end. Also one request at a time."""
    if alone:
        monkeypatch.setattr("defsurvey.workers.engines.transformers.engine.adopt", _refuse)
    engine = TransformersEngine(tiny_card.model_copy(update={"answer_prefix": True}), tiny_loaded, threads=1)
    shown = FAMILY.codes
    enough = partial(is_settled, question=FAMILY, shown=shown, reply=Reply.ANSWER)
    asked = [
        Request(
            messages=(Message(role="user", content="?"),),
            decoding=Decoding(max_new_tokens=210, do_sample=sampled, num_beams=beams),
            seed=seed,
            reply_start="Answer: 2. ",
        )
        for seed, (sampled, beams) in enumerate([(False, 1), *[(True, 1)] * 4, (True, 2)])
    ]
    whole = [engine.submit(request).result() for request in asked]
    together = [engine.submit(replace(request, enough=enough)) for request in asked]
    cut = [future.result() for future in together]
    engine.close()
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
    assert shorter >= 2


def _refuse(_model: object) -> None:
    raise UnsupportedModel("for the test")


def test_a_cancelled_request_makes_room_and_the_others_are_served(
    tiny_card: ModelCard, tiny_loaded: LoadedModel
) -> None:
    """A future may be cancelled while its request runs; its neighbours' replies are what they are alone."""
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)
    alone = [engine.submit(_request(number)).result() for number in range(6)]
    long = [engine.submit(_request(number, LONG)) for number in range(4)]
    short = [engine.submit(_request(number)) for number in range(6)]
    assert all(future.cancel() for future in long)
    assert [future.result() for future in short] == alone
    engine.close()


def test_submitting_waits_while_the_backlog_is_full(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> None:
    """The third request gets in only when one of two is done; closing wakes who waits."""
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
    waiting.join(30)
    # Either it got in, because a reply was there sooner, and was cancelled; or it was told.
    assert not waiting.is_alive()
    assert refused in ([], ["model tiny: its engine is closed"])


def test_a_defect_of_the_batch_itself_leaves_nobody_waiting(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the loop ever break, futures are cancelled and the engine is closed."""

    def broken(decoder: object) -> bool:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("defsurvey.workers.engines.transformers.decoder.Decoder.step", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)
    future = engine.submit(_request(1))
    with pytest.raises(CancelledError):
        future.result(30)
    assert engine.closed
    with pytest.raises(EngineUnavailable):
        engine.submit(_request(2))
    engine.close()


@pytest.mark.parametrize("alone", [False, True])
def test_a_prompt_that_cannot_be_read_reaches_who_asked(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    """A defect of a template fails one future, on both ways of serving."""
    if alone:
        monkeypatch.setattr("defsurvey.workers.engines.transformers.engine.adopt", _refuse)
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)
    with monkeypatch.context() as patched:
        patched.setattr("defsurvey.workers.engines.transformers.engine.read_request", lambda *_: {}["absent"])
        with pytest.raises(KeyError, match="absent"):
            engine.submit(_request(1)).result(30)
    assert engine.submit(_request(1)).result().finish is FinishReason.LENGTH
    engine.close()


@pytest.mark.parametrize("alone", [False, True])
def test_a_reply_that_cannot_be_read_reaches_who_asked(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    """As a prompt; and so does a question whether the text will do that fails."""
    if alone:
        monkeypatch.setattr("defsurvey.workers.engines.transformers.engine.adopt", _refuse)
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)
    with monkeypatch.context() as patched:
        patched.setattr("defsurvey.workers.engines.transformers.answering.Question.completion", lambda *_: {}["absent"])
        with pytest.raises(KeyError, match="absent"):
            engine.submit(_request(1)).result(30)
    with pytest.raises(KeyError, match="missing"):
        engine.submit(replace(_request(4, LONG), enough=lambda _: {}["missing"])).result(30)
    assert engine.submit(_request(1)).result(30).finish is FinishReason.LENGTH
    engine.close()


@pytest.fixture
def unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model can be served by the batch."""

    def refuse(model: object) -> Layout:
        raise UnsupportedModel("it is said so in this test")

    monkeypatch.setattr("defsurvey.workers.engines.transformers.engine.adopt", refuse)


def test_a_model_that_the_batch_cannot_serve_is_served_one_request_at_a_time(
    unsupported: None, tiny_card: ModelCard, tiny_loaded: LoadedModel
) -> None:
    """With the same replies, and the reason in its description."""
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)
    assert engine.describe()["batching"] == "one request at a time: it is said so in this test"
    requests = [_request(number) for number in range(12)]
    replies: list[Completion] = [future.result() for future in [engine.submit(request) for request in requests]]
    assert engine.counters().steps == 0
    wrong = engine.submit(_request(1, Decoding(num_beams=0))).result()
    engine.close()
    assert wrong.finish is FinishReason.ERROR
    assert replies == [_batched(tiny_card, tiny_loaded, request) for request in requests]


def _batched(card: ModelCard, loaded: LoadedModel, request: Request) -> Completion:
    """What the batch's own parts make of a request."""
    asked = read_request(card, loaded, request)
    assert not isinstance(asked, Completion)
    decoder = Decoder(loaded.model, adopt(loaded.model), Limits())
    tokens = decode(decoder, [asked.resolved])[0].tokens
    decoder.close()
    assert tokens is not None
    return asked.completion(loaded, tokens)


def test_closing_ends_a_lone_generation_at_its_next_token(
    unsupported: None, tiny_card: ModelCard, tiny_loaded: LoadedModel
) -> None:
    """Also where the library generates: the reply under way is cancelled, not waited for."""
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)
    pending = [engine.submit(_request(number, LONG)) for number in range(3)]
    engine.close()
    assert all(future.cancelled() for future in pending)


def test_a_device_that_fails_a_lone_generation_is_an_error_completion(
    unsupported: None, tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory costs one answer there as well."""
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1)

    def full(*args: object, **settings: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny_loaded.model, "generate", full)
    failed = engine.submit(_request(1)).result(30)
    engine.close()
    assert failed.error == "OutOfMemoryError: CUDA out of memory"


def test_the_room_of_a_model_says_how_many_participants_fit() -> None:
    """By memory where that is less, else by rows; never none."""
    layout = Layout(layers=(LayerShape(1, 4),), dtype=torch.float32, device=torch.device("cpu"))
    one = (600 + 3 * 96) * layout.bytes_per_token
    for room, rows, expected in ((10 * one, 128, 10), (10 * one - 1, 128, 9), (1 << 40, 128, 42), (1, 128, 1)):
        chosen = Limits(rows=rows, tokens=512, kv_bytes=room, kept_bytes=room)
        assert limits.participants_at_once(layout, chosen) == expected
