"""The batch against ``generate`` alone, token for token, whatever goes on around a request."""

import random
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import EngineUnavailable, FinishReason, Message, Request
from defsurvey.workers.engines.transformers import opening
from defsurvey.workers.engines.transformers.core import decoder as decoder_module
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import Draws, draws_for
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine
from defsurvey.workers.engines.transformers.core.forward import TorchRunner
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.memory import OutOfRoom, failed_for_good, out_of_memory
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.runner import Row
from defsurvey.workers.engines.transformers.core.scheduler import Limits, TooLarge
from defsurvey.workers.engines.transformers.core.selection import select
from defsurvey.workers.models import ModelCard
from tests.workers.engine.conftest import Tiny
from tests.workers.engine.tiny_models import Caught, decode

#: No prompt is kept.
NO_REUSE = Limits(kv_bytes=1 << 23, keep=False)
LIMITS = Limits(kv_bytes=1 << 23)
BLOCK = TorchRunner.block_size


def _batch(tiny: Tiny, limits: Limits = NO_REUSE, runner: TorchRunner | None = None) -> Decoder:
    return Decoder(runner or TorchRunner(tiny.model, tiny.layout, limits.kv_bytes), limits, Draws.LIBRARY)


@contextmanager
def _decoder(tiny: Tiny, limits: Limits = NO_REUSE, runner: TorchRunner | None = None) -> Iterator[Decoder]:
    """A decoder whose bytes are checked at the end: closing gives everything back."""
    decoder = _batch(tiny, limits, runner)
    yield decoder
    if not limits.keep:
        assert decoder.counters().kv_bytes == 0
    decoder.close()
    assert decoder.counters().kv_bytes == 0


@pytest.mark.parametrize(
    "limits", [NO_REUSE, LIMITS, Limits(rows=6, tokens=16, kv_bytes=1 << 23)], ids=["together", "reuse", "capped"]
)
def test_every_reply_is_the_one_of_generate_alone(tiny: Tiny, limits: Limits) -> None:
    for order in range(3):
        with _decoder(tiny, limits) as decoder:
            caught = decode(decoder, tiny.requests, random.Random(order))
            counters = decoder.counters()
        assert [one.tokens for one in caught] == tiny.replies
        assert counters.finished == len(tiny.requests)
        assert counters.reply_tokens == sum(map(len, tiny.replies))
        assert counters.prefilled_tokens + counters.reused_tokens == sum(len(r.prompt) for r in tiny.requests)
        assert counters.reused_tokens > 0


@pytest.mark.parametrize(("blocks", "again"), [(18, 1), (64, 0)], ids=["hardly room for one", "who outgrows it waits"])
def test_little_memory_costs_time_and_nothing_else(tiny: Tiny, blocks: int, again: int) -> None:
    limits = Limits(kv_bytes=blocks * BLOCK * tiny.layout.bytes_per_token, keep=False)
    with _decoder(tiny, limits) as decoder:
        caught = decode(decoder, tiny.requests)
        counters = decoder.counters()
    assert [one.tokens for one in caught] == tiny.replies
    assert counters.restarted <= again * -(-len(tiny.requests) // 50)
    assert counters.peak_kv_bytes <= limits.kv_bytes


def test_prompts_that_begin_alike_are_computed_once_though_they_run_at_the_same_time(tiny: Tiny) -> None:
    common = tuple(range(1, 3 * BLOCK + 1))
    requests = [
        ResolvedRequest(prompt=(*common, number, 5), num_beams=1 + number % 3, max_new_tokens=9) for number in range(20)
    ]
    with _decoder(tiny, replace(NO_REUSE, tokens=BLOCK)) as decoder:
        together = [one.tokens for one in decode(decoder, requests)]
        counters = decoder.counters()
    assert counters.prefilled_tokens == len(common) + 2 * len(requests)
    alone = []
    for request in requests:
        with _decoder(tiny) as decoder:
            alone += [one.tokens for one in decode(decoder, [request])]
    assert together == alone


def test_who_shares_a_prompt_that_is_given_up_computes_the_rest(llama: Tiny) -> None:
    common = tuple(range(1, 4 * BLOCK + 1))
    with _decoder(llama) as decoder:
        (expected,) = decode(decoder, [ResolvedRequest(prompt=(*common, 7, 5), max_new_tokens=5)])
    first, second = Caught(), Caught()
    with _decoder(llama, replace(NO_REUSE, tokens=BLOCK + 5)) as decoder:
        decoder.add(ResolvedRequest(prompt=(*common, 6, 5), max_new_tokens=5), first)
        decoder.add(ResolvedRequest(prompt=(*common, 7, 5), max_new_tokens=5), second)
        decoder.step()
        first.gone = True
        while decoder.unfinished:
            decoder.step()
    assert (first.tokens, second.tokens) == (None, expected.tokens)


def test_where_blocks_run_out_the_youngest_begin_again(tiny: Tiny) -> None:
    requests = [
        replace(one, prompt=(5, 6, 7, number), num_beams=5, max_new_tokens=60, ends=())
        for number, one in enumerate(tiny.requests[:5])
    ]
    short = [replace(one, max_new_tokens=1) for one in requests]  # so that replies are thought to be short
    with _decoder(tiny, NO_REUSE) as decoder:
        expected = [one.tokens for one in decode(decoder, requests)]
    limits = Limits(kv_bytes=24 * BLOCK * tiny.layout.bytes_per_token, keep=False)
    with _decoder(tiny, limits) as decoder:
        decode(decoder, short)
        caught = decode(decoder, requests)
        counters = decoder.counters()
    assert [one.tokens for one in caught] == expected
    assert counters.restarted > 0
    assert counters.peak_kv_bytes <= limits.kv_bytes


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
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    assert draws_for(cpu, torch.float32) is Draws.LIBRARY
    assert draws_for(cpu, torch.bfloat16) is Draws.CUMULATIVE
    assert draws_for(gpu, torch.float32) is Draws.HASHED


def test_a_request_larger_than_all_memory_is_refused_with_both_numbers(llama: Tiny) -> None:
    limit = 128 * llama.layout.bytes_per_token
    with _decoder(llama, Limits(kv_bytes=limit, keep=False)) as decoder:
        long = ResolvedRequest(prompt=(5,) * 200, max_new_tokens=3)
        growing = ResolvedRequest(prompt=(5, 6), num_beams=2, max_new_tokens=300)
        small = ResolvedRequest(prompt=(5, 6, 7), max_new_tokens=5)
        too_long, outgrown, fine = decode(decoder, [long, growing, small])
    assert isinstance(too_long.error, TooLarge)
    assert isinstance(outgrown.error, TooLarge)
    assert f"take {224 * llama.layout.bytes_per_token:,} bytes, and there is room for {limit:,}" in str(too_long.error)
    assert fine.tokens is not None
    assert len(fine.tokens) == 5


def test_cancelled_neighbours_change_nothing(tiny: Tiny) -> None:
    rng = random.Random(2)
    with _decoder(tiny, Limits(rows=20, tokens=64, kv_bytes=1 << 23, keep=False)) as decoder:
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


def test_no_memory_for_blocks_is_told_at_once(llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(*_sizes: Any, **_settings: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(OutOfRoom, match="can't allocate memory"):
        _batch(llama)


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
    with _decoder(llama, replace(LIMITS, tokens=8)) as decoder:
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
NO_ROOM = torch.OutOfMemoryError("CUDA out of memory")
ONEDNN_WITHOUT_ROOM = RuntimeError("could not create a primitive")


class Cramped(TorchRunner):
    """Has memory for so many tokens in a step; notes what was computed."""

    def __init__(self, tiny: Tiny, tokens: int) -> None:
        super().__init__(tiny.model, tiny.layout, LIMITS.kv_bytes)
        self.tokens, self.computed = tokens, list[int]()

    def run(self, rows: Sequence[Row]) -> torch.Tensor:
        tokens = sum(len(row.tokens) for row in rows)
        if tokens > self.tokens:
            raise NO_ROOM
        self.computed.append(tokens)
        return super().run(rows)


def _replies(tiny: Tiny, *requests: ResolvedRequest) -> list[list[int] | None]:
    """What the batch makes of each where there is memory enough."""
    decoder = _batch(tiny, LIMITS)
    replies = [decode(decoder, [request])[0].tokens for request in requests]
    decoder.close()
    return replies


@pytest.mark.parametrize("tokens", [64, 32])
def test_a_lone_prompt_too_large_for_the_device_is_computed_in_pieces(tiny: Tiny, tokens: int) -> None:
    expected = _replies(tiny, LONG, LONG, SAMPLED)
    runner = Cramped(tiny, tokens)
    decoder = _batch(tiny, LIMITS, runner)
    caught = [decode(decoder, [request])[0] for request in (LONG, LONG, SAMPLED)]
    counters = decoder.counters()
    decoder.close()
    assert [one.error for one in caught] == [None] * 3
    assert [one.tokens for one in caught] == expected
    assert sum(runner.computed[: runner.computed.index(1)]) == 90  # no token of the first prompt was computed twice
    reused = 89 // BLOCK * BLOCK
    assert (counters.reused_tokens, counters.prefilled_tokens, counters.restarted) == (reused, 3 * 90 - reused, 0)


@pytest.mark.parametrize("error", [NO_ROOM, ONEDNN_WITHOUT_ROOM], ids=["gpu", "oneDNN"])
def test_where_there_is_no_memory_to_choose_all_begin_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = _replies(tiny, LONG, SAMPLED)

    def choosing(searches: Any, *arguments: Any) -> Any:
        chosen = select(searches, *arguments)
        if len(searches) > 1:
            raise error
        return chosen

    monkeypatch.setattr(decoder_module, "select", choosing)
    decoder = _batch(tiny, LIMITS, Cramped(tiny, 64))
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


@pytest.mark.parametrize("error", [NO_ROOM, ONEDNN_WITHOUT_ROOM])
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


def test_too_little_memory_is_no_type_that_is_not_computed() -> None:
    words = "could not create a primitive"
    assert out_of_memory(RuntimeError(words))
    assert out_of_memory(RuntimeError("Failed to allocate 9 bytes"))
    assert not out_of_memory(RuntimeError(words + " descriptor for it"))


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


def test_kept_prompts_give_way_the_one_unused_for_longest_first(llama: Tiny) -> None:
    limits = Limits(kv_bytes=7 * BLOCK * llama.layout.bytes_per_token)
    one, other, third = (tuple(range(first, first + 2 * BLOCK)) for first in (1, 2, 3))
    decoder = _batch(llama, limits)

    def reused(prompt: tuple[int, ...]) -> int:
        before = decoder.counters().reused_tokens
        decode(decoder, [ResolvedRequest(prompt=(*prompt, 5, 6), max_new_tokens=2)])
        return decoder.counters().reused_tokens - before

    assert [reused(prompt) for prompt in (one, other, one, third)] == [0, 0, 2 * BLOCK, 0]
    assert [reused(prompt) for prompt in (one, third, (*range(4, 60), *range(4, 30)))] == [2 * BLOCK, 2 * BLOCK, 0]
    assert [reused(prompt) for prompt in (third, one)] == [2 * BLOCK, 2 * BLOCK]
    decoder.close()


def test_a_batch_that_has_drained_is_as_large_as_before(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, failing, requests_in, all_asked = TorchRunner.run, [False], [], threading.Event()

    def once(runner: TorchRunner, rows: Sequence[Row]) -> torch.Tensor:
        requests_in.append(len(rows))
        all_asked.wait(30)
        if failing[0]:
            failing[0] = False
            raise NO_ROOM
        return run(runner, rows)

    engine = opening.serve(tiny_card, opening.in_memory(tiny_loaded, limits=NO_REUSE), threads=1)
    monkeypatch.setattr(TorchRunner, "run", once)
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
