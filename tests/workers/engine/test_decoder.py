"""The batch against ``generate`` alone, token for token, whatever goes on around a request."""

import random
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers.core import decoder as decoder_module
from defsurvey.workers.engines.transformers.core.batch import Batch
from defsurvey.workers.engines.transformers.core.decoder import Decoder, draws_for
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine
from defsurvey.workers.engines.transformers.core.failing import failed_for_good, out_of_memory
from defsurvey.workers.engines.transformers.core.kv import OutOfRoom
from defsurvey.workers.engines.transformers.core.loading import LoadedModel
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.scheduler import Limits, TooLarge
from defsurvey.workers.engines.transformers.core.selection import select
from defsurvey.workers.engines.transformers.core.selector import Draws
from defsurvey.workers.models import ModelCard
from tests.workers.engine.conftest import Tiny
from tests.workers.engine.tiny_models import Caught, decode, mixed_requests

#: No prompt is kept.
NO_REUSE = Limits(kept_bytes=0)
#: A pool of these bytes is taken at once.
POOL = Limits(kv_bytes=1 << 23, kept_bytes=1 << 21)


@contextmanager
def _decoder(tiny: Tiny, limits: Limits = NO_REUSE, **settings: Any) -> Iterator[Decoder]:
    """A decoder whose bytes are checked at the end: closing gives everything back."""
    decoder = Decoder(tiny.model, tiny.layout, limits, **settings)
    yield decoder
    if not limits.kept_bytes:
        assert decoder.counters().kv_bytes == 0
    decoder.close()
    assert decoder.counters().kv_bytes == 0


@pytest.mark.parametrize(
    ("limits", "settings"),
    [
        (NO_REUSE, {}),
        (Limits(), {}),
        (Limits(rows=6, tokens=16), {}),
        (NO_REUSE, {"compacting": False}),
        (POOL, {"pooled": True}),
    ],
    ids=["together", "reuse", "capped", "uncompacted", "pool"],
)
def test_every_reply_is_the_one_of_generate_alone(tiny: Tiny, limits: Limits, settings: dict[str, Any]) -> None:
    for order in range(3):
        with _decoder(tiny, limits, **settings) as decoder:
            caught = decode(decoder, tiny.requests, random.Random(order))
            counters = decoder.counters()
        assert [one.tokens for one in caught] == tiny.replies
        assert counters.finished == len(tiny.requests)
        assert counters.reply_tokens == sum(map(len, tiny.replies))
        assert counters.prefilled_tokens + counters.reused_tokens == sum(len(r.prompt) for r in tiny.requests)
        assert (counters.reused_tokens > 0) == (limits.kept_bytes > 0)


@pytest.mark.parametrize(
    ("tokens", "again"), [(320, 1), (1024, 0)], ids=["hardly room for one", "who outgrows it waits"]
)
def test_little_memory_costs_time_and_nothing_else(tiny: Tiny, tokens: int, again: int) -> None:
    limits = Limits(kv_bytes=tokens * tiny.layout.bytes_per_token, kept_bytes=0)
    with _decoder(tiny, limits) as decoder:
        caught = decode(decoder, tiny.requests)
        counters = decoder.counters()
    assert [one.tokens for one in caught] == tiny.replies
    assert counters.restarted <= again * -(-len(tiny.requests) // 50)
    assert counters.peak_kv_bytes <= limits.kv_bytes


def test_where_everyone_waits_for_room_the_youngest_begin_again(tiny: Tiny) -> None:
    requests = [
        replace(one, prompt=(5, 6, 7, number), num_beams=5, max_new_tokens=60, ends=())
        for number, one in enumerate(tiny.requests[:5])
    ]
    with _decoder(tiny, NO_REUSE) as decoder:
        expected = [one.tokens for one in decode(decoder, requests)]
    limits = Limits(kv_bytes=800 * tiny.layout.bytes_per_token, kept_bytes=0)
    with _decoder(tiny, limits, compacting=False) as decoder:
        caught = decode(decoder, requests)
        counters = decoder.counters()
    assert [one.tokens for one in caught] == expected
    assert counters.restarted > 0
    assert counters.peak_kv_bytes <= limits.kv_bytes


@pytest.mark.parametrize("pooled", [False, True], ids=["buffers", "pool"])
def test_where_a_forward_is_too_large_prompts_are_forgotten_if_that_helps(
    llama: Tiny, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    forward = llama.model.forward
    with _decoder(llama, POOL, pooled=pooled) as decoder:
        decode(decoder, [ResolvedRequest(prompt=tuple(range(5, 45)), max_new_tokens=2)])
        failing = iter([True])

        def once(input_ids: torch.Tensor, **settings: object) -> object:
            if next(failing, False):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(input_ids=input_ids, **settings)

        monkeypatch.setattr(llama.model, "forward", once)
        decode(decoder, [ResolvedRequest(prompt=(n, 3), max_new_tokens=2) for n in range(2)])
        decode(decoder, [ResolvedRequest(prompt=(*range(5, 45), 50), max_new_tokens=2)])
        assert decoder.counters().reused_tokens == (40 if pooled else 0)


def test_what_a_failed_forward_had_computed_is_gone_before_the_next_try(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = tiny.model.forward
    failed: list[weakref.ref[torch.Tensor]] = []

    def cramped(input_ids: torch.Tensor, **settings: object) -> object:
        assert not any(one() is not None for one in failed)
        if input_ids.shape[1] > 32:
            large = torch.zeros(1000)
            failed.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **settings)

    monkeypatch.setattr(tiny.model, "forward", cramped)
    with _decoder(tiny) as decoder:
        caught = decode(decoder, [ResolvedRequest(prompt=(5, 6, 7, number), max_new_tokens=2) for number in range(40)])
    assert len(failed) > 1
    assert all(one.tokens for one in caught)


def test_short_number_formats_and_gpus_draw_the_cheap_way(llama: Tiny) -> None:
    assert draws_for(llama.layout) is Draws.LIBRARY
    assert draws_for(replace(llama.layout, dtype=torch.bfloat16)) is Draws.CUMULATIVE
    assert draws_for(replace(llama.layout, device=torch.device("cuda:0"))) is Draws.HASHED


def test_a_request_larger_than_all_memory_is_refused_with_both_numbers(llama: Tiny) -> None:
    limit = 128 * llama.layout.bytes_per_token
    with _decoder(llama, Limits(kv_bytes=limit, kept_bytes=0)) as decoder:
        long = ResolvedRequest(prompt=(5,) * 200, max_new_tokens=3)
        growing = ResolvedRequest(prompt=(5, 6), num_beams=2, max_new_tokens=300)
        small = ResolvedRequest(prompt=(5, 6, 7), max_new_tokens=5)
        too_long, outgrown, fine = decode(decoder, [long, growing, small])
    assert isinstance(too_long.error, TooLarge)
    assert isinstance(outgrown.error, TooLarge)
    assert f"take {256 * llama.layout.bytes_per_token:,} bytes, and there is room for {limit:,}" in str(too_long.error)
    assert fine.tokens is not None
    assert len(fine.tokens) == 5


def test_cancelled_neighbours_change_nothing(tiny: Tiny) -> None:
    rng = random.Random(2)
    with _decoder(tiny, Limits(rows=20, tokens=64, kept_bytes=0)) as decoder:
        kept = [Caught() for _ in tiny.requests]
        given_up = [Caught() for _ in tiny.requests]
        for request, one, other in zip(tiny.requests, kept, given_up, strict=True):
            decoder.add(request, one)
            decoder.add(request, other)
        while decoder.unfinished:
            decoder.step()
            rng.choice(given_up).gone = True
            if rng.random() < 0.5:
                rng.choice(given_up).gone = True
    assert [one.tokens for one in kept] == tiny.replies
    assert any(one.tokens is None for one in given_up)
    assert all(one.error is None for one in (*kept, *given_up))


def _reluctantly(make: Any, gives: Callable[[], bool]) -> Any:
    """A way to make tensors that finds no memory unless ``gives`` says so."""

    def zeros(*sizes: Any, **settings: Any) -> Any:
        if not gives():
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        return make(*sizes, **settings)

    return zeros


def test_where_a_buffer_cannot_be_had_its_request_waits(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    room = 1536 * tiny.layout.bytes_per_token
    with _decoder(tiny, Limits(kept_bytes=room // 4)) as decoder:
        monkeypatch.setattr(torch, "zeros", _reluctantly(torch.zeros, lambda: decoder.counters().kv_bytes < room))
        caught = decode(decoder, tiny.requests)
        counters = decoder.counters()
        monkeypatch.undo()
    assert counters.restarted > 1
    assert [one.tokens for one in caught] == tiny.replies


def test_no_memory_at_all_fails_one_after_the_other(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "zeros", _reluctantly(torch.zeros, lambda: False))
    with _decoder(llama) as decoder:
        caught = decode(decoder, mixed_requests(3, seed=0))
    assert [type(one.error) for one in caught] == [OutOfRoom] * 3


def test_a_failing_forward_fails_only_for_whom_it_is_about(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = tiny.model.forward
    poison = 97

    def fragile(input_ids: torch.Tensor, **settings: object) -> object:
        if (input_ids == poison).sum() >= 3:
            raise ZeroDivisionError("poison")
        return forward(input_ids=input_ids, **settings)

    monkeypatch.setattr(tiny.model, "forward", fragile)
    requests = [*tiny.requests[:6], ResolvedRequest(prompt=(poison,) * 5), *tiny.requests[6:12]]
    harmless = [
        sum(token == poison for token in (*r.prompt, *reply)) == 0
        for r, reply in zip(tiny.requests, tiny.replies, strict=True)
    ]
    with _decoder(tiny) as decoder:
        caught = decode(decoder, requests)
    monkeypatch.setattr(tiny.model, "forward", forward)
    assert isinstance(caught[6].error, ZeroDivisionError)
    others = [*caught[:6], *caught[7:]]
    for one, reply, safe in zip(others, tiny.replies[:12], harmless[:12], strict=True):
        assert one.tokens == reply or not safe
        assert one.error is None or not safe


def test_counters_add_up(llama: Tiny) -> None:
    requests = [
        ResolvedRequest(prompt=(1, 2, 3), max_new_tokens=4),
        ResolvedRequest(prompt=(4,) * 10, num_beams=2, max_new_tokens=3),
    ]
    with _decoder(llama, Limits(tokens=8)) as decoder:
        decode(decoder, requests)
        counters = decoder.counters()
    # 8 tokens of prompts, then the other 5 beside the first beam, then 2 + 1, 2 + 1 beams.
    assert (counters.steps, counters.rows, counters.beam_rows, counters.prefilled_tokens) == (4, 20, 7, 13)
    assert counters.rows_per_step == 5.0
    assert counters.reply_tokens == 7
    assert counters.seconds["forward"] > 0
    assert counters.seconds["idle"] == 0
    assert counters.tokens_per_second == pytest.approx(7 / sum(counters.seconds.values()))


# Memory that runs out costs time; a device that fails for good ends its engine, and no answer is marked as failed.


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


def test_kept_prompts_do_not_give_way_to_who_has_to_wait_all_the_same(llama: Tiny) -> None:
    room = 640 * llama.layout.bytes_per_token
    decoder = Decoder(llama.model, llama.layout, Limits(kv_bytes=room, kept_bytes=room))
    kept = [tuple(range(first, first + 60)) for first in (1, 2, 3)]
    for prompt in kept:
        decode(decoder, [ResolvedRequest(prompt=prompt, max_new_tokens=2)])
    running, waiting, last = Caught(), Caught(), Caught()
    decoder.add(ResolvedRequest(prompt=(7, *range(89)) * 4, max_new_tokens=40), running)  # 364 tokens and a few: 6 or 7
    decoder.step()
    decoder.add(ResolvedRequest(prompt=(8, *range(89)) * 4, max_new_tokens=40), waiting)
    decoder.step()
    running.gone = waiting.gone = True
    decoder.step()
    before = decoder.counters().reused_tokens
    decoder.add(ResolvedRequest(prompt=(*kept[0], 5), max_new_tokens=2), last)
    while decoder.unfinished:
        decoder.step()
    assert decoder.counters().reused_tokens == before + 60
    decoder.close()


def test_a_batch_that_has_drained_is_as_large_as_before(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, failing, requests_in, all_asked = decoder_module.forward, [False], [], threading.Event()

    def once(model: Any, batch: Batch) -> torch.Tensor:
        requests_in.append(len(batch.counts))
        all_asked.wait(30)
        if failing[0]:
            failing[0] = False
            raise NO_ROOM
        return forward(model, batch)

    monkeypatch.setattr(decoder_module, "forward", once)
    engine = TransformersEngine(tiny_card, tiny_loaded, threads=1, limits=Limits(kept_bytes=0))
    all_asked.set()
    alone = engine.submit(_request(0)).result(30)
    failing[0] = True
    assert engine.submit(_request(0)).result(30) == alone
    requests_in.clear()
    all_asked.clear()
    futures = [engine.submit(_request(number)) for number in range(6)]
    all_asked.set()
    for future in futures:
        assert future.result(30).finish is FinishReason.LENGTH
    engine.close()
    assert max(requests_in) == 6
