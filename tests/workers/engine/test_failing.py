"""Memory that runs out costs time; a device that fails for good ends its engine, and no answer is marked as failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest
import torch

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import EngineUnavailable, Message, Request
from defsurvey.workers.engines.transformers import decoder as decoder_module
from defsurvey.workers.engines.transformers.batch import Batch
from defsurvey.workers.engines.transformers.decoder import Decoder
from defsurvey.workers.engines.transformers.engine import TransformersEngine
from defsurvey.workers.engines.transformers.failing import failed_for_good, out_of_memory
from defsurvey.workers.engines.transformers.loading import LoadedModel
from defsurvey.workers.engines.transformers.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.scheduler import Limits
from defsurvey.workers.engines.transformers.selection import select
from tests.workers.engine.conftest import Tiny
from tests.workers.engine.tiny_models import decode

#: A prompt that is one piece, and more than two of the least that is computed at once.
LONG = ResolvedRequest(prompt=tuple(range(1, 91)), max_new_tokens=12)
SAMPLED = ResolvedRequest(prompt=tuple(range(2, 92)), num_beams=3, sampling=Sampling(), max_new_tokens=12, seed=4)
LIMITS = Limits(kv_bytes=1 << 23, kept_bytes=1 << 21)
NO_ROOM = torch.OutOfMemoryError("CUDA out of memory")
LOOP_WITHOUT_ROOM = MemoryError("a compiled loop found no memory for its own numbers")


def _cramped(monkeypatch: pytest.MonkeyPatch, rows: int, *, then: Callable[[], None] = lambda: None) -> list[int]:
    """Memory for so many rows in a forward; returns, as they come, those that were computed. ``then`` follows each."""
    forward, computed = decoder_module.forward, []

    def cramped(model: Any, batch: Batch) -> torch.Tensor:
        if batch.rows > rows:
            raise NO_ROOM
        computed.append(batch.rows)
        logits = forward(model, batch)
        then()
        return logits

    monkeypatch.setattr(decoder_module, "forward", cramped)
    return computed


def _replies(tiny: Tiny, *requests: ResolvedRequest) -> list[list[int] | None]:
    """What the batch makes of each where there is memory enough."""
    decoder = Decoder(tiny.model, tiny.layout, LIMITS)
    replies = [decode(decoder, [request])[0].tokens for request in requests]
    decoder.close()
    return replies


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
@pytest.mark.parametrize("rows", [64, 32])
def test_a_lone_prompt_too_large_for_the_device_is_computed_in_halves(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, rows: int, pooled: bool
) -> None:
    expected = _replies(tiny, LONG, LONG, SAMPLED)
    decoder = Decoder(tiny.model, tiny.layout, LIMITS, pooled=pooled)
    computed = _cramped(monkeypatch, rows)
    caught = [decode(decoder, [request])[0] for request in (LONG, LONG, SAMPLED)]
    counters = decoder.counters()
    decoder.close()
    assert [one.error for one in caught] == [None] * 3
    assert [one.tokens for one in caught] == expected
    assert sum(computed[: computed.index(1)]) == 90  # no token of the first prompt was computed twice
    assert (counters.reused_tokens, counters.prefilled_tokens, counters.restarted) == (89, 2 * 90 + 1, 0)


@pytest.mark.parametrize("error", [NO_ROOM, LOOP_WITHOUT_ROOM], ids=["gpu", "loop"])
def test_a_prompt_computed_in_halves_may_begin_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = _replies(tiny, LONG, SAMPLED)

    def choosing(searches: Any, *arguments: Any) -> Any:
        chosen = select(searches, *arguments)
        if len(searches) > 1:
            raise error
        return chosen

    monkeypatch.setattr(decoder_module, "select", choosing)
    _cramped(monkeypatch, 64)
    decoder = Decoder(tiny.model, tiny.layout, LIMITS)
    caught = decode(decoder, [LONG, SAMPLED])
    assert decoder.counters().restarted > 0
    decoder.close()
    assert [one.tokens for one in caught] == expected


def _request(number: int, *, choices: tuple[str, ...] = ()) -> Request:
    asked = (Message(role="user", content=f"A question of more than a few tokens, number {number}?"),)
    return Request(messages=asked, decoding=Decoding(max_new_tokens=60), seed=number, choices=choices)


def _failing(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel, error: Exception) -> None:
    def broken(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(loaded.model, "forward", broken)


@pytest.mark.parametrize(
    "kind", [getattr(torch, "AcceleratorError", RuntimeError), RuntimeError], ids=["class", "words"]
)
@pytest.mark.parametrize("choices", [(), ("1", "2")], ids=["reply", "first token"])
def test_a_device_that_has_failed_ends_its_engine(
    engine: TransformersEngine,
    tiny_loaded: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    choices: tuple[str, ...],
    kind: type[RuntimeError],
) -> None:
    ended: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: ended.append(told.exc_type))
    _failing(monkeypatch, tiny_loaded, kind("CUDA error: an illegal memory access was encountered"))
    future = engine.submit(_request(1, choices=choices))
    assert wait([future], 30).done
    with pytest.raises(CancelledError):
        future.result(0)
    assert engine.closed
    with pytest.raises(EngineUnavailable, match="its engine is closed"):
        engine.submit(_request(2, choices=choices))
    engine.close()
    assert ended == [kind]


@pytest.mark.parametrize("error", [NO_ROOM, LOOP_WITHOUT_ROOM])
@pytest.mark.parametrize("choices", [(), ("1", "2")], ids=["reply", "first token"])
def test_memory_that_runs_out_costs_one_answer(
    engine: TransformersEngine,
    tiny_loaded: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    choices: tuple[str, ...],
    error: Exception,
) -> None:
    with monkeypatch.context() as patched:
        _failing(patched, tiny_loaded, error)
        failed = engine.submit(_request(1, choices=choices)).result(30)
    assert failed.error == f"{type(error).__name__}: {error}"
    assert engine.submit(_request(1, choices=choices)).result(30).error == ""


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="torch tells of it since 2.8")
def test_a_device_that_has_too_little_memory_has_not_failed() -> None:
    broken = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    full = torch.AcceleratorError("CUDA error: out of memory")
    assert [(out_of_memory(error), failed_for_good(error)) for error in (broken, full, NO_ROOM, RuntimeError())] == [
        (False, True),
        (True, False),
        (True, False),
        (False, False),
    ]
