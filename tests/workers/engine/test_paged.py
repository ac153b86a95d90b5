"""Attention over a pool by the kernel: how rows are cut into tiles, when it is used, and what it computes.

``make kernels`` runs those that need Triton, which is told to interpret the kernel on the CPU.
"""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.workloads import random_prompts
from defsurvey.workers.engines.transformers.core.attention import forward
from defsurvey.workers.engines.transformers.core.batch import Piece, build
from defsurvey.workers.engines.transformers.core.beams import start
from defsurvey.workers.engines.transformers.core.decoder import Decoder
from defsurvey.workers.engines.transformers.core.kv import LayerShape, Layout
from defsurvey.workers.engines.transformers.core.loading import attend_without_plans
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.scheduler import Limits
from defsurvey.workers.engines.transformers.core.selection import select
from defsurvey.workers.engines.transformers.core.selector import Draws
from defsurvey.workers.engines.transformers.core.support import adopt, packed_logits
from defsurvey.workers.engines.transformers.cpu.exchanging import exchange
from defsurvey.workers.engines.transformers.gpu import paged
from defsurvey.workers.engines.transformers.gpu.gathered import attend_gathered, gather
from defsurvey.workers.engines.transformers.gpu.paged import attend_paged, paging, usable
from defsurvey.workers.engines.transformers.gpu.pool import Pool
from tests.workers.engine.scripted_logits import generated
from tests.workers.engine.tiny_models import ARCHITECTURES, VOCABULARY, decode, mixed_requests, tiny_model

CPU = torch.device("cpu")
SHAPE = LayerShape(heads=2, width=24)


def pieces_of(pool: Pool, beams: int) -> list[Piece]:
    """The end of a long prompt, a whole short one, and beams that have parted, of a request with a long prompt."""
    long, short, tree = pool.open(200), pool.open(7), pool.open(130)
    long.extend(70)
    tree.extend(130)
    tree.branch([0] * beams)
    tree.branch([beams - 1, *[0] * (beams - 1)])
    return [
        Piece(long, [0] * 130, long.extend(130), 70, tree=False, logits=False),
        Piece(short, [0] * 7, short.extend(7), 0, tree=False, logits=True),
        Piece(tree, [0] * beams, tree.branch(list(range(beams))), 132, tree=True, logits=True),
    ]


def attended(how: Any, per_group: int, window: int | None, beams: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """What a way of attending computes for these pieces and random keys."""
    pool = Pool(Layout(layers=(SHAPE,), dtype=dtype, device=CPU), 1024)
    rng = torch.Generator().manual_seed(4)
    pool.layers[0].copy_(torch.randn(pool.layers[0].shape, generator=rng))
    packed = build(pieces_of(pool, beams), device=CPU).packed
    query = torch.randn(2, per_group, packed.rows, 24, generator=rng).to(dtype)
    keys_values = torch.randn(2, 2, packed.rows, 24, generator=rng).to(dtype)
    result = torch.full((packed.rows, 2, per_group, 24), torch.nan, dtype=dtype)
    how(pool.layers[0], query, keys_values, 0.3, result, packed, window)
    return result


def by_gathering(
    pool: Tensor, query: Tensor, new: Tensor, scale: float, result: Tensor, packed: Any, window: Any
) -> None:
    attend_gathered(pool, query, new, scale, result, gather(packed, window, query.dtype))


def by_the_kernel(
    pool: Tensor, query: Tensor, new: Tensor, scale: float, result: Tensor, packed: Any, window: Any
) -> None:
    attend_paged(pool, query, new, scale, result, paging(packed, window, query.shape[1]))


def by_the_book(
    pool: Tensor, query: Tensor, new: Tensor, scale: float, result: Tensor, packed: Any, window: Any
) -> None:
    """What the kernel's arguments mean, word for word, without the kernel."""
    made = paging(packed, window, query.shape[1])
    assert paging(packed, window, query.shape[1]) is made  # once for all layers
    pool.index_copy_(0, made.written, new.permute(2, 0, 1, 3))
    for tiles in made.tiles:
        assert tiles.rows & (tiles.rows - 1) == 0
        for first, rows, first_place, keys, free, first_bit in tiles.lines.tolist():
            assert rows * query.shape[1] <= tiles.rows
            seen = torch.ones(rows, keys, dtype=torch.bool)
            bits = made.masks[first_bit : first_bit + rows * (keys - free)]
            seen[:, free:] = bits.view(rows, keys - free) != 0
            held = pool[made.places[first_place : first_place + keys]]
            scores = torch.einsum("gptw,kgw->tgpk", query[:, :, first : first + rows], held[:, 0]) * scale
            weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
            result[first : first + rows] = torch.einsum("tgpk,kgw->tgpw", weights, held[:, 1])


@pytest.mark.parametrize("window", [None, 20, 75, 300])
@pytest.mark.parametrize(("per_group", "beams"), [(1, 1), (1, 5), (3, 5), (8, 12), (70, 2)])
def test_tiles_say_who_sees_what(per_group: int, beams: int, window: int | None) -> None:
    expected = attended(by_gathering, per_group, window, beams)
    torch.testing.assert_close(attended(by_the_book, per_group, window, beams), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("deviation", "told"),
    [
        (1e-6, ""),
        (0.5, "results differ by 5.0e-01"),
        (float("nan"), "differ by nan"),
        (OSError("no gcc"), "OSError: no gcc"),
    ],
    ids=["right", "wrong", "no numbers", "fails"],
)
def test_it_is_used_only_where_it_computes_what_gathering_does(
    deviation: Any, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def tried(*_: object) -> float:
        tries.append(1)
        if isinstance(deviation, Exception):
            raise deviation
        return float(deviation)

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(paged, "_deviation", tried)
    paged._agrees.cache_clear()
    found = [usable(CPU, torch.float32, SHAPE, 3) for _ in range(2)]
    paged._agrees.cache_clear()
    assert found == [not told] * 2
    assert tries == [1]
    assert told in caplog.text


@pytest.fixture
def interpreted() -> None:
    """Triton reads it when a kernel is defined, so that it must be there from the beginning."""
    assert os.environ.get("TRITON_INTERPRET") == "1", "expected TRITON_INTERPRET=1; `make kernels` sets it"


@pytest.mark.kernels
@pytest.mark.parametrize("window", [None, 20, 75])
@pytest.mark.parametrize(("per_group", "beams"), [(1, 5), (3, 5), (8, 12), (70, 2)])
def test_the_kernel_attends_as_over_gathered_keys(
    interpreted: None, per_group: int, beams: int, window: int | None
) -> None:
    expected = attended(by_gathering, per_group, window, beams)
    torch.testing.assert_close(attended(by_the_kernel, per_group, window, beams), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.kernels
def test_the_kernel_attends_in_a_short_number_format(interpreted: None) -> None:
    expected = attended(by_gathering, 3, None, 5, torch.float16)
    found = attended(by_the_kernel, 3, None, 5, torch.float16)
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.kernels
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replies_by_the_kernel_are_those_of_generate(interpreted: None, architecture: str) -> None:
    requests = mixed_requests(10, seed=3)
    model = tiny_model(architecture)
    decoder = Decoder(model, adopt(model), Limits(kv_bytes=1 << 20, kept_bytes=1 << 18), pooled=True)
    caught = decode(decoder, requests, random.Random(1))
    decoder.close()
    assert [one.tokens for one in caught] == [generated(tiny_model(architecture), one) for one in requests]
    assert decoder.counters().kv_bytes == 0


#: Compiles for a card (its number), a number format, rows of a tile, heads that share one and a head's width.
COMPILED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from defsurvey.workers.engines.transformers.gpu import paged_kernel

card, number_format, rows, per_group, width = int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
constants = {
    "per_group": per_group, "width": width, "numbers": max(16, 1 << (width - 1).bit_length()), "rows_filled": rows,
    "keys_at_once": paged_kernel.KEYS,
}
pointers = {"tiles": "*i64", "places": "*i64", "masks": "*u8"}
pointers |= dict.fromkeys(("query", "pool", "result"), number_format)
names = paged_kernel.attend.arg_names
types = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
source = ASTSource(fn=paged_kernel.attend, signature={**types, "scale": "fp32"}, constexprs=constants)
options = {"num_warps": 8 if rows >= 64 else 4}
kernel = triton.compile(source, target=GPUTarget("cuda", card, 32), options=options)
print(len(kernel.asm["cubin"]), kernel.metadata.shared)
"""


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("card", "number_format", "rows", "per_group", "width", "most"),
    [
        (80, "*bf16", 16, 1, 128, 163),
        (80, "*bf16", 64, 1, 128, 163),
        (80, "*fp16", 64, 8, 128, 163),
        (86, "*bf16", 64, 4, 128, 99),
        (90, "*bf16", 16, 1, 128, 227),
        (90, "*bf16", 64, 8, 64, 227),
        (90, "*bf16", 64, 1, 256, 227),
        (120, "*bf16", 64, 4, 128, 99),
    ],
)
def test_it_compiles_for_cards(
    card: int, number_format: str, rows: int, per_group: int, width: int, most: int, tmp_path: Path
) -> None:
    arguments = [str(argument) for argument in (card, number_format, rows, per_group, width)]
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


# Arrays on their way to a device: what arrives, and how many copies it takes.


#: A device without memory: shapes and devices are checked, nothing is computed.
ELSEWHERE = torch.device("meta")


class Copies(TorchDispatchMode):
    """Counts tensors that go from the host to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [one for one in args if isinstance(one, torch.Tensor)]
        if isinstance(made, torch.Tensor) and made.device == ELSEWHERE:
            self.count += any(one.device.type == "cpu" for one in given)
        return made


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_forward_and_its_choices_take_few_copies_however_many_are_asked(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    model = tiny_model(architecture)
    layout = adopt(model)
    model.to(ELSEWHERE)
    store = Pool(replace(layout, device=ELSEWHERE), 4096)
    counts = []
    for requests in (5, 20):
        kvs = [store.open(64) for _ in range(requests)]
        beams = [1 + number % 5 for number in range(requests)]
        searches = [
            start(
                ResolvedRequest(
                    prompt=(1, 2), num_beams=width, sampling=Sampling(top_k=5, top_p=0.9) if number % 2 else None
                ),
                Draws.HASHED,
            )
            for number, width in enumerate(beams)
        ]
        pieces = []
        for kv, width in zip(kvs, beams, strict=True):
            kv.extend(10)
            pieces.append(Piece(kv, [3] * width, kv.branch([0] * width), 10, tree=True, logits=True))
        with Copies() as copies, torch.inference_mode():
            logits = forward(model, build(pieces, device=ELSEWHERE))
            assert (logits.device, logits.shape) == (ELSEWHERE, (sum(beams), VOCABULARY))
            with pytest.raises(RuntimeError, match="meta"):  # there is nothing to be copied back
                select(searches, logits, beams)
        counts.append(copies.count)
    # what is packed; places and one mask for the one bucket, for each sliding window; who chooses, by what, from what
    assert counts == [6, 6]


# The batch on a GPU: the pool, grouped candidates and hashed draws, on the device that they are for.


LIMITS = Limits(kv_bytes=1 << 25, kept_bytes=1 << 23)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replies_on_a_gpu_are_those_of_generate_and_of_nobody_else(architecture: str) -> None:
    requests = mixed_requests(40, seed=3)
    expected = [None if one.sampling else generated(tiny_model(architecture), one) for one in requests]
    model = tiny_model(architecture).to("cuda")
    layout = adopt(model)
    found = []
    for order in range(2):
        decoder = Decoder(model, layout, LIMITS)
        caught = decode(decoder, requests, random.Random(order))
        found.append([one.tokens for one in caught])
        decoder.close()
        assert decoder.counters().kv_bytes == 0
    assert found[0] == found[1]
    assert [tokens for tokens, wanted in zip(found[0], expected, strict=True) if wanted is not None] == [
        wanted for wanted in expected if wanted is not None
    ]
    assert torch.cuda.max_memory_allocated() > LIMITS.kv_bytes  # the pool was there


@pytest.mark.gpu
def test_short_number_formats_are_served_without_plans_for_shapes() -> None:
    device = torch.device("cuda")
    attend_without_plans(device)
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4)
    model = LlamaForCausalLM(config).to(device, torch.bfloat16).eval()
    layout = adopt(model)  # packed logits are near those of whole sequences, or it raises
    decoder = Decoder(model, layout, LIMITS)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        caught = decode(decoder, random_prompts(config.vocab_size, requests=20, prompt=300, new_tokens=10))
    decoder.close()
    assert [len(one.tokens or ()) for one in caught] == [10] * 20
    kernels = {event.name.lower() for event in profiled.events()}
    assert kernels
    assert not [name for name in kernels if "cudnn" in name]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "width", "per_group"), [(32, 128, 1), (8, 128, 4), (3, 64, 3), (4, 80, 1)])
def test_a_card_attends_as_over_gathered_keys(dtype: torch.dtype, heads: int, width: int, per_group: int) -> None:
    device = torch.device("cuda:0")
    if torch.cuda.get_device_capability(device) < (8, 0):
        assert not paged.usable(device, dtype, LayerShape(heads, width), per_group)
        return
    assert paged._deviation(device, dtype, LayerShape(heads, width), per_group) < 1e-2
    assert paged.usable(device, dtype, LayerShape(heads, width), per_group)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_norms_are_one_kernel_and_the_model_is_the_same(dtype: torch.dtype) -> None:
    model = tiny_model("llama").to("cuda", dtype)
    layout = adopt(model)
    before = packed_logits(model, layout)
    assert exchange(model, layout) == 5
    after = packed_logits(model, layout)
    assert float((after - before).norm() / before.norm()) < (1e-5 if dtype is torch.float32 else 3e-2)
