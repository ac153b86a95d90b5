"""A GPU's step without a GPU: recorded and replayed, counted, and held against core; and with one."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from defsurvey.workers.engines.transformers.core.adoption import UnsupportedModel, adopt, packed_logits
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.drawing import Draws
from defsurvey.workers.engines.transformers.core.forward import Layout, TorchRunner
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.runner import Copy, Row
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.search import Search, start
from defsurvey.workers.engines.transformers.core.selection import select as core_select
from defsurvey.workers.engines.transformers.gpu import attention, runner, selection
from defsurvey.workers.engines.transformers.gpu.attention import BLOCK, HEADER, Step, Tiles, attend
from defsurvey.workers.engines.transformers.gpu.graphs import Graphs
from defsurvey.workers.engines.transformers.gpu.joining import join, undo
from defsurvey.workers.engines.transformers.gpu.runner import GpuRunner, open_runner, together
from defsurvey.workers.engines.transformers.gpu.selection import Selector
from tests.workers.engine.conftest import REQUESTS
from tests.workers.engine.scripted_logits import generated
from tests.workers.engine.test_exact import FAMILIES, family
from tests.workers.engine.tiny_models import ARCHITECTURES, HEADS, VOCABULARY, built, decode, mixed_requests, tiny_model

CPU = torch.device("cpu")
#: A device without memory: shapes and devices are checked, nothing is computed, and nothing can be read.
NOWHERE = torch.device("meta")
LIMITS = Limits(rows=512, tokens=2048, kv_bytes=1 << 24)


class Recorded(Graphs):
    """Records the operations of a program, and carries out these and nothing else from then on."""

    def captured(self, work: Any, inputs: Tensor) -> Any:
        recorded: Any = make_fx(lambda told: work(told))(inputs)
        recorded.replay = torch.no_grad()(lambda: recorded(inputs))
        return recorded


def replies(decoder: Decoder, requests: list[ResolvedRequest], order: int) -> list[list[int] | None]:
    """All replies, by a decoder that is closed then."""
    caught = decode(decoder, requests, random.Random(order))
    decoder.close()
    assert [one.error for one in caught if one.error] == []
    return [one.tokens for one in caught]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replayed_steps_give_the_replies_of_core(one_thread: None, architecture: str) -> None:
    requests = mixed_requests(200, seed=3)
    model = tiny_model(architecture)
    layout = adopt(model)
    expected = replies(Decoder(TorchRunner(model, layout, LIMITS.kv_bytes), LIMITS, Draws.HASHED), requests, 1)
    replayed = GpuRunner(model, layout, LIMITS.kv_bytes, kernel=False, graphs=lambda: Recorded(CPU))
    assert replayed.name.endswith("(gathered keys, steps CUDA graphs, choices CUDA graphs)")
    few = replace(LIMITS, rows=300, tokens=300)
    assert replies(Decoder(replayed, few, Draws.HASHED), requests, 2) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_steps_give_the_replies_of_core_for_every_architecture(one_thread: None, name: str) -> None:
    requests = mixed_requests(REQUESTS, seed=7)
    model = family(name)
    layout = adopt(model)
    expected = replies(Decoder(TorchRunner(model, layout, LIMITS.kv_bytes), LIMITS, Draws.HASHED), requests, 1)
    device = open_runner(model, layout, LIMITS.kv_bytes)
    assert replies(Decoder(device, LIMITS, Draws.HASHED), requests, 2) == expected


@pytest.fixture
def llama(one_thread: None) -> tuple[Any, Layout]:
    model = tiny_model("llama")
    return model, adopt(model)


def launched(model: Any, layout: Layout, kv_bytes: int = LIMITS.kv_bytes) -> GpuRunner:
    return GpuRunner(model, layout, kv_bytes, kernel=False, graphs=lambda: Graphs(layout.device, "this is a test"))


def test_who_sees_what_another_writes_in_the_same_step_comes_later(llama: tuple[Any, Layout]) -> None:
    model, layout = llama
    prompt = torch.randint(VOCABULARY, (2 * BLOCK + 3,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0]
    table = np.array([4, 2, 5], np.int32)
    device = launched(model, layout)
    device.run([Row(prompt[: BLOCK - 1], 0, table[:1], logits=False)])
    whole = 2 * BLOCK
    found = device.run(
        [
            Row(prompt[whole + 2 :], whole + 2, table, logits=True),  # sees all of the others
            Row(prompt[whole : whole + 2], whole, table, logits=True),
            Row(prompt[BLOCK - 1 : BLOCK], BLOCK - 1, table[:1], logits=False),
            Row(prompt[BLOCK:whole], BLOCK, table[:2], logits=True),
        ]
    )
    torch.testing.assert_close(found, expected[[whole + 2, whole + 1, whole - 1]], rtol=1e-4, atol=1e-4)


def test_rows_beyond_the_largest_program_are_computed_too(
    llama: tuple[Any, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ROWS", 2)
    device = launched(*llama)
    rows = [Row([token], 0, np.array([token], np.int32), logits=token != 3) for token in range(5)]
    alone = [device.run([row]).clone() for row in rows if row.logits]
    torch.testing.assert_close(device.run(rows), torch.cat(alone))


def test_copied_blocks_are_copied_in_all_layers(llama: tuple[Any, Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    device = launched(*llama)
    monkeypatch.setattr(runner, "_COPIED", device.block_bytes)
    held = torch.randn(device.pool.shape)
    device.pool.copy_(held)
    device.copy([Copy(1, 5, 32), Copy(1, 6, 32), Copy(3, 2, 32)])
    held[[5, 6, 2]] = held[[1, 1, 3]]
    assert torch.equal(device.pool, held)


def test_where_nothing_can_be_captured_everything_is_launched_and_it_is_said(llama: tuple[Any, Layout]) -> None:
    model, layout = llama
    device = GpuRunner(model, layout, LIMITS.kv_bytes, kernel=False, graphs=lambda: Graphs(CPU))
    expected = packed_logits(TorchRunner(model, layout, LIMITS.kv_bytes), VOCABULARY)
    torch.testing.assert_close(packed_logits(device, VOCABULARY), expected, rtol=1e-4, atol=1e-4)
    assert "steps launched: capturing fails with " in device.name


def test_what_computes_something_else_is_dropped(llama: tuple[Any, Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    model, layout = llama
    assert "steps launched: there is no CUDA device" in open_runner(model, layout, LIMITS.kv_bytes).name
    forward = GpuRunner._forward

    def another(*arguments: Any) -> Tensor:
        return forward(*arguments) + 0.5

    monkeypatch.setattr(GpuRunner, "_forward", another)
    with pytest.raises(UnsupportedModel, match="its logits differ by"):
        open_runner(model, layout, LIMITS.kv_bytes)


# Operations: what is captured reads nothing back, and what is not are few, however many are asked.


class Operations(TorchDispatchMode):
    """Counts operations, and among them copies from the host; none while ``paused``."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.copies = 0
        self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if not self.paused:
            self.count += 1
            given = [one for one in args if isinstance(one, Tensor)]
            self.copies += isinstance(made, Tensor) and made.is_meta and any(not one.is_meta for one in given)
        return made


#: How many searches are waiting for what is read.
ASKED: list[int] = []


@pytest.fixture
def nowhere(llama: tuple[Any, Layout], monkeypatch: pytest.MonkeyPatch) -> Callable[[Graphs], GpuRunner]:
    """A runner on a device that computes nothing; what is read from it are falling scores, and the first token."""
    model, layout = llama
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)

    def read(device: Tensor) -> Tensor:
        pairs = torch.zeros(ASKED[-1], 2, len(device) // 2 // ASKED[-1], dtype=torch.int32)
        pairs[:, 0] = torch.arange(pairs.shape[-1], 0, -1).float().view(torch.int32)
        return pairs.reshape(-1)

    monkeypatch.setattr(Tensor, "cpu", read)
    model, layout = model.to(NOWHERE), replace(layout, device=NOWHERE)
    return lambda graphs: GpuRunner(model, layout, LIMITS.kv_bytes, kernel=False, graphs=lambda: graphs)


def test_what_is_captured_reads_nothing_back_and_is_the_same_for_any_number_of_rows(
    nowhere: Callable[[Graphs], GpuRunner],
) -> None:
    device = nowhere(Graphs(NOWHERE, "this is a test"))
    counts = []
    for rows, blocks in ((2, 16), (4, 16), (256, 64)):
        inputs = torch.zeros(rows, 2 + HEADER + blocks, dtype=torch.int64, device=NOWHERE)
        with Operations() as operations:
            device.program(inputs)
        counts.append((operations.count, operations.copies))
    assert len(set(counts)) == 1
    assert counts[0][1] == 0


def test_few_operations_are_started_outside_however_many_are_asked(nowhere: Callable[[Graphs], GpuRunner]) -> None:
    operations = Operations()

    class Uncounted(Graphs):
        def captured(self, work: Any, inputs: Tensor) -> Any:
            def replay() -> None:
                operations.paused = True
                work(inputs)
                operations.paused = False

            return SimpleNamespace(replay=replay)

    device = nowhere(Uncounted(NOWHERE))
    most = []
    for count in (20, 200):
        ASKED.append(count)
        requests = [replace(one, max_new_tokens=40, ends=()) for one in mixed_requests(count, seed=3)]
        decoder = Decoder(device, replace(LIMITS, rows=1000, tokens=1 << 20), Draws.HASHED)
        for request in requests:
            decoder.add(request, Nobody())
        decoder.step()  # the prompts
        decoder.step()  # beams come about
        taken = []
        for _ in range(2 * BLOCK):
            before = operations.count
            with operations:
                decoder.step()
            taken.append(operations.count - before)
        assert decoder.unfinished == count
        most.append(max(taken))
    assert most[0] == most[1] <= 60


class Nobody:
    """Takes replies, and waits for ever."""

    def cancelled(self) -> bool:
        return False

    def reply(self, tokens: list[int], probabilities: Sequence[float]) -> None:
        raise AssertionError

    def fail(self, error: Exception) -> None:
        raise error


# Choices: those of core, for all who choose at the same time.


def several_searches(seed: int) -> list[Search]:
    """Searches of every kind."""
    rng = random.Random(seed)
    requests = mixed_requests(60, seed)
    for number in rng.sample(range(60), 15):
        few = rng.sample(range(VOCABULARY), 20)
        requests[number] = replace(requests[number], allowed=lambda tokens, few=few: few[len(tokens) % 5 :])
    weighed = [tuple((7, 7 + end, *range(end))[: end + 1] for end in range(count)) for count in (2, 3, 5)]
    requests += [ResolvedRequest(prompt=(1,), choices=choices) for choices in weighed]
    rng.shuffle(requests)
    return [start(request, Draws.HASHED) for request in requests]


@pytest.mark.parametrize("graphs", [Recorded(CPU), Graphs(CPU, "this is a test")], ids=["replayed", "launched"])
@pytest.mark.parametrize("bound", [1 << 26, 20 * VOCABULARY], ids=["at once", "in parts"])
def test_choices_are_those_of_core(
    one_thread: None, monkeypatch: pytest.MonkeyPatch, bound: int, graphs: Graphs
) -> None:
    monkeypatch.setattr(selection, "_MOST_SCORES", bound)
    monkeypatch.setattr(selection, "_MOST_RANDOM", bound)
    numbers = torch.Generator().manual_seed(5)
    ours, theirs = several_searches(1), several_searches(1)
    counts = [1] * len(ours)
    selector = Selector(torch.zeros(300, VOCABULARY), graphs)
    for _ in range(30):
        logits = torch.randn(sum(counts), VOCABULARY, generator=numbers) * 3
        expected = core_select(theirs, logits, counts)
        found = selector.select(ours, logits, counts)
        assert found == expected
        going = [n for n, following in enumerate(found) if following is not None]
        counts = [len(found[n].tokens) for n in going]  # type: ignore[union-attr]
        ours, theirs = [ours[n] for n in going], [theirs[n] for n in going]
        for one, other in zip(ours, theirs, strict=True):
            assert one.scores == pytest.approx(other.scores, rel=1e-5)
    assert ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_choices_are_found_out_and_left_to_core(
    llama: tuple[Any, Layout], monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    model, layout = llama[0].to(dtype), replace(llama[1], dtype=dtype)
    device = launched(model, layout)
    device.judge()
    assert device.select is not core_select
    monkeypatch.setattr(selection, "noise", lambda keys, count, skipped: torch.zeros(len(keys), count).double())
    device.judge()
    assert device.select is core_select
    assert "choices launched: by core, a search goes on with" in device.name


def test_whose_logits_are_no_numbers_fails_alone(one_thread: None) -> None:
    requests = [
        ResolvedRequest(prompt=(1,), num_beams=beams, sampling=sampling)
        for beams in (1, 3)
        for sampling in (None, Sampling(), Sampling(top_p=0.9, top_k=5))
    ]
    logits = torch.randn(2 * len(requests), VOCABULARY, generator=torch.Generator().manual_seed(1))
    logits[::4, 5] = torch.nan
    logits[2::4, 5] = torch.inf
    selector = Selector(torch.zeros(20, VOCABULARY), Graphs(CPU, "this is a test"))
    found = selector.select([start(one, Draws.HASHED) for one in requests * 2], logits, [1] * len(logits))
    assert [isinstance(one, RuntimeError) for one in found] == [n % 2 == 0 for n in range(len(logits))]


# Products and norms of a model, joined.


@pytest.mark.parametrize(
    ("architecture", "settings", "replaced"),
    [
        ("Llama", {}, 2 * (3 + 2 + 2) + 1),
        ("Qwen2", {}, 2 * (3 + 2 + 2) + 1),  # with a bias
        ("Gemma2", {"head_dim": 4}, 2 * (3 + 2)),  # its norms are others
        ("Mixtral", {"num_local_experts": 3}, 2 * (3 + 2) + 1),
    ],
)
def test_joined_products_compute_the_same(
    one_thread: None, architecture: str, settings: dict[str, Any], replaced: int
) -> None:
    model = built(architecture, **HEADS, **settings)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(weight.numel()))
    layout = adopt(model)
    before = packed_logits(TorchRunner(model, layout, 1 << 18), 50)
    held = sum(weight.untyped_storage().nbytes() for weight in {id(one): one for one in model.parameters()}.values())
    undone = join(model)
    assert len(undone) == replaced
    after = packed_logits(TorchRunner(model, layout, 1 << 18), 50)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in model.parameters()}
    assert sum(storages.values()) == held
    undo(undone)
    assert torch.equal(packed_logits(TorchRunner(model, layout, 1 << 18), 50), before)


def test_layers_that_hold_no_plain_matrix_are_left_alone(llama: tuple[Any, Layout]) -> None:
    model, _ = llama

    class Quantised(nn.Linear):
        """Whatever its weight may mean."""

    model.model.layers[0].self_attn.k_proj.__class__ = Quantised
    model.model.layers[1].mlp.up_proj.bias = nn.Parameter(torch.zeros(32))
    names = [name for module, name, _ in join(model) if name.endswith("_proj")]
    assert sorted(names) == sorted(["gate_proj", "up_proj", "q_proj", "k_proj", "v_proj"])


# Attention: the kernel against gathered keys, and these against the book.


WIDTH = 24
#: Pieces of prompts: the blocks of each, how many tokens come before it, and how many it has.
PIECES = (((7, 3), 20, 8), ((1, 9, 40, 12, 77), 70, 8), ((50, 51, 52, 53, 54, 55), 78, 5), ((30,), 0, 8))
#: Beams of several requests, some of which share blocks with those before; one has only begun.
LONG = (1, 9, 40, 12, 77, 8, 60, 61, 62)
BEAMS = (
    *(((*LONG, 70 + beam), 9 * BLOCK + 2, 1) for beam in range(5)),
    ((2,), 0, 1),
    *(((4, 5, 20 + beam), 2 * BLOCK + 15, 1) for beam in range(3)),
    *(((4, 5, 6, 23 + beam), 3 * BLOCK, 1) for beam in range(2)),
    ((4, 5, 6, 25, 26), 4 * BLOCK + 1, 1),
    ((4, 27, 28, 29), 4 * BLOCK - 1, 1),
)
Spans = Sequence[tuple[tuple[int, ...], int, int]]


def tensors(spans: Spans, per_head: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random queries, keys, values, and what is in the blocks before; places that nobody has filled are no numbers."""
    numbers = torch.Generator().manual_seed(4)
    tokens = sum(count for _, _, count in spans)
    query, key, value = (torch.randn(1, heads, tokens, WIDTH, generator=numbers) for heads in (2 * per_head, 2, 2))
    layer = torch.randn(100, BLOCK, 2, 2, WIDTH, generator=numbers)
    for table, past, count in spans:
        layer[table[-1], (past + count - 1) % BLOCK + 1 :] = torch.nan
    return query, key, value, layer


def attended(
    kernel: bool,
    spans: Spans,
    per_head: int,
    window: int | None,
    softcap: float | None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """What a way of attending computes."""
    query, key, value, layer = (each.to(dtype) for each in tensors(spans, per_head))
    tables = np.full((len(spans), max(len(table) for table, *_ in spans)), 99)
    lines = np.zeros((len(spans), HEADER), dtype=np.int64)
    written, first = [], 0
    for line, row, (table, past, count) in zip(lines, tables, spans, strict=True):
        line[:3], row[: len(table)] = (first, count, past), table
        written += [(table[at // BLOCK], at % BLOCK) for at in range(past, past + count)]
        first += count
    if spans is BEAMS:
        lines[:, 3:] = together(tables, lines[:, 2] // BLOCK, attention.tile_beams(per_head))
    blocks, places = torch.tensor(written).unbind(1)
    tiles = Tiles(torch.from_numpy(np.concatenate((lines, tables), axis=1)), 1 if spans is BEAMS else 8)
    step = Step([layer], blocks, places, tiles, kernel)
    module = type("Layer", (), {"layer_idx": 0})
    settings: Any = {"scaling": 0.3, "sliding_window": window, "softcap": softcap}
    found, _ = attend(module, query, key, value, None, blocks=step, **settings)
    return found[0]


def by_the_book(spans: Spans, per_head: int, window: int | None, softcap: float | None) -> Tensor:
    """The same, one token after the other."""
    query, key, value, layer = tensors(spans, per_head)
    found, first = [], 0
    for table, past, count in spans:
        held = layer[list(table)].flatten(0, 1)[: past + count].clone()
        held[past:, 0], held[past:, 1] = (new[0, :, first : first + count].transpose(0, 1) for new in (key, value))
        for token in range(count):
            low = 0 if window is None else max(0, past + token - window + 1)
            keys, values = held[low : past + token + 1].repeat_interleave(per_head, dim=2).unbind(1)
            scores = torch.einsum("hw,khw->hk", query[0, :, first + token], keys) * 0.3
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            found.append(torch.einsum("hk,khw->hw", scores.softmax(-1), values))
        first += count
    return torch.stack(found)


def test_beams_that_share_most_blocks_are_taken_together() -> None:
    tables = np.full((len(BEAMS), 10), 99)
    for row, (table, *_) in zip(tables, BEAMS, strict=True):
        row[: len(table)] = table
    found = together(tables, np.array([past for _, past, _ in BEAMS]) // BLOCK, 4)
    taken = [[4, 9], [0, 0], [0, 0], [0, 0], [1, 9], [1, 0], [4, 2], [0, 0], [0, 0], [0, 0], [2, 3], [0, 0], [1, 3]]
    assert (found // [1, BLOCK]).tolist() == taken


SETTINGS = [(1, None, None), (1, 20, None), (3, 75, 2.0), (8, None, 2.0), (8, 1, None)]


@pytest.mark.parametrize(("per_head", "window", "softcap"), SETTINGS)
@pytest.mark.parametrize("spans", [PIECES, BEAMS], ids=["prompts", "beams"])
@pytest.mark.parametrize("at_once", [1, 1 << 28])
def test_gathered_keys_are_attended_to_by_the_book(
    monkeypatch: pytest.MonkeyPatch,
    spans: Spans,
    per_head: int,
    window: int | None,
    softcap: float | None,
    at_once: int,
) -> None:
    monkeypatch.setattr(attention, "_GATHERED", at_once)
    expected = by_the_book(spans, per_head, window, softcap)
    torch.testing.assert_close(attended(False, spans, per_head, window, softcap), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def interpreted() -> None:
    """Triton reads it when a kernel is defined, so that it must be there from the beginning."""
    assert os.environ.get("TRITON_INTERPRET") == "1", "expected TRITON_INTERPRET=1; `make kernels` sets it"


@pytest.mark.kernels
@pytest.mark.parametrize(("per_head", "window", "softcap"), SETTINGS)
@pytest.mark.parametrize("spans", [PIECES, BEAMS], ids=["prompts", "beams"])
def test_the_kernel_attends_by_the_book(
    interpreted: None, spans: Spans, per_head: int, window: int | None, softcap: float | None
) -> None:
    expected = by_the_book(spans, per_head, window, softcap)
    torch.testing.assert_close(attended(True, spans, per_head, window, softcap), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.kernels
def test_the_kernel_attends_in_a_short_number_format(interpreted: None) -> None:
    for spans in (PIECES, BEAMS):
        expected = attended(False, spans, 3, None, None, torch.float16)
        found = attended(True, spans, 3, None, None, torch.float16)
        torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replies_by_the_kernel_are_those_of_core(interpreted: None, one_thread: None, architecture: str) -> None:
    requests = [replace(one, max_new_tokens=min(one.max_new_tokens, 6)) for one in mixed_requests(8, seed=3)]
    model = tiny_model(architecture)
    layout = adopt(model)
    expected = replies(Decoder(TorchRunner(model, layout, LIMITS.kv_bytes), LIMITS, Draws.HASHED), requests, 1)
    device = open_runner(model, layout, LIMITS.kv_bytes)
    assert "Triton" in device.name
    assert replies(Decoder(device, LIMITS, Draws.HASHED), requests, 2) == expected


#: Compiles for a card (its number), a number format, rows of a tile, heads that share one and a head's width.
COMPILED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from defsurvey.workers.engines.transformers.gpu import kernel

card, number_format, rows, per_head, width = int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
constants = {
    "block": 16, "per_head": per_head, "width": width, "numbers": max(16, 1 << (width - 1).bit_length()), "rows": rows,
    "keys_at_once": kernel.KEYS, "capped": True, "windowed": True, "beams": rows < 64,
}
pointers = dict.fromkeys(("query", "layer", "result"), number_format)
pointers |= {"tiles": "*i64", "scale": "fp32", "cap": "fp32"}
names = kernel.attend.arg_names
types = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
source = ASTSource(fn=kernel.attend, signature=types, constexprs=constants)
options = {"num_warps": 8 if rows >= 64 else 4}
made = triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)
print(len(made.asm["cubin"]), made.metadata.shared)
"""


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("card", "number_format", "rows", "per_head", "width", "most"),
    [
        (80, "*bf16", 32, 1, 128, 163),
        (80, "*fp16", 64, 8, 128, 163),
        (86, "*bf16", 64, 4, 128, 99),
        (90, "*bf16", 32, 4, 128, 227),
        (90, "*bf16", 64, 1, 256, 227),
        (120, "*bf16", 64, 4, 128, 99),
    ],
)
def test_it_compiles_for_cards(
    card: int, number_format: str, rows: int, per_head: int, width: int, most: int, tmp_path: Path
) -> None:
    arguments = [str(argument) for argument in (card, number_format, rows, per_head, width)]
    script = tmp_path / "compiled.py"  # Triton reads the kernel's source, not this one's
    script.write_text(COMPILED)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    code, shared = map(int, done.stdout.split())
    assert code > 10_000
    assert shared <= most << 10


# With a GPU.


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_card_replays_and_gives_the_replies_of_core_and_generate(architecture: str) -> None:
    requests = mixed_requests(200, seed=3)
    expected = [None if one.sampling else generated(tiny_model(architecture), one) for one in requests]
    model = tiny_model(architecture).to("cuda")
    layout = adopt(model)
    core = replies(Decoder(TorchRunner(model, layout, LIMITS.kv_bytes), LIMITS, Draws.HASHED), requests, 1)
    device = open_runner(model, layout, LIMITS.kv_bytes)
    assert device.name.endswith("(Triton, steps CUDA graphs, choices CUDA graphs)")
    found = replies(Decoder(device, LIMITS, Draws.HASHED), requests, 2)
    assert found == core
    assert [tokens for tokens, wanted in zip(found, expected, strict=True) if wanted is not None] == [
        wanted for wanted in expected if wanted is not None
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (8, 2), (6, 2)])
def test_a_card_replays_in_short_number_formats(dtype: torch.dtype, heads: int, key_heads: int) -> None:
    sizes = {"hidden_size": 64 * heads, "intermediate_size": 512, "num_attention_heads": heads}
    model = built("Llama", num_hidden_layers=2, num_key_value_heads=key_heads, **sizes).to("cuda", dtype)
    layout = adopt(model)
    device = open_runner(model, layout, 1 << 26)
    assert device.name.endswith("(Triton, steps CUDA graphs, choices CUDA graphs)")
    plain = GpuRunner(model, layout, 1 << 26, kernel=True, graphs=lambda: Graphs(layout.device, "this is a test"))
    assert torch.equal(packed_logits(device, 32000), packed_logits(plain, 32000))


@pytest.mark.gpu
def test_a_replayed_step_reads_back_once() -> None:
    model = tiny_model("llama").to("cuda")
    layout = adopt(model)
    decoder = Decoder(open_runner(model, layout, LIMITS.kv_bytes), LIMITS, Draws.HASHED)
    for request in mixed_requests(40, seed=3):
        decoder.add(replace(request, max_new_tokens=40, ends=()), Nobody())
    for _ in range(4):
        decoder.step()
    with reading_back_is_an_error(), pytest.MonkeyPatch.context() as patched:
        read = Tensor.cpu
        times = []

        def counted(tensor: Tensor) -> Tensor:
            times.append(1)
            torch.cuda.set_sync_debug_mode("default")
            found = read(tensor)
            torch.cuda.set_sync_debug_mode("error")
            return found

        patched.setattr(Tensor, "cpu", counted)
        decoder.step()
    assert times == [1]


@contextmanager
def reading_back_is_an_error() -> Any:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")
