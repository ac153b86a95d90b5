"""What compiled loops compute against the library's own operations: linear layers, norms, rotations."""

import ctypes
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from defsurvey.workers.engines.transformers.cpu import linear, matrix, packing
from defsurvey.workers.engines.transformers.cpu.linear import (
    IN_MATRIX_UNITS,
    IN_REGISTERS,
    Way,
    in_turn,
    lay_out,
    multiply,
    way,
)
from defsurvey.workers.engines.transformers.cpu.outputs import GATED, NONE, PLUS, SWISH, TIMES
from defsurvey.workers.engines.transformers.cpu.packing import PackedLinear, Part, can_pack, join, pack
from defsurvey.workers.engines.transformers.cpu.rowwise import normed, rotate
from tests.workers.engine.tiny_models import tiny_model

#: What a number may be off by, once it is rounded to bfloat16.
ROUNDING = 2**-8


def _named(given: object) -> str | None:
    return {IN_MATRIX_UNITS: "matrix", IN_REGISTERS: "registers"}.get(given) if isinstance(given, Way) else None


#: With matrix units where there are any, which take inputs by the 32.
computed = pytest.mark.parametrize(
    ("shape", "how"),
    [((64, 2), IN_REGISTERS), ((192, 1536), IN_REGISTERS)]
    + [(shape, IN_MATRIX_UNITS) for shape in ((96, 32), (192, 1536)) if matrix.available()],
    ids=_named,
)


def numbers(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*sizes, generator=torch.Generator().manual_seed(seed + sum(sizes)))).to(dtype)


@computed
@pytest.mark.parametrize("rows", [1, 6, 7, 33, 240, 600])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_product_is_the_layers(shape: tuple[int, int], how: Way, rows: int, with_bias: bool) -> None:
    outs, ins = shape
    weight, given, other = numbers(outs, ins), numbers(2, rows, ins), numbers(2, rows, outs, seed=1)
    bias = numbers(outs, seed=2).float() if with_bias else None
    truth = given.double() @ weight.double().T + (0 if bias is None else bias.double())
    expected = {NONE: truth, SWISH: silu(truth), PLUS: truth + other.double(), TIMES: truth * other.double()}
    for then, wanted in expected.items():
        found = multiply(given, lay_out(weight, how), bias, then, other if then in (PLUS, TIMES) else None)
        assert found.dtype is torch.bfloat16
        assert found.shape == wanted.shape
        # Of a sum that nearly cancels float32 leaves less.
        torch.testing.assert_close(found.double(), wanted, rtol=ROUNDING, atol=1e-5 * ins**0.5)


@computed
@pytest.mark.parametrize("rows", [20, 300])
def test_a_gate_and_what_it_lets_through_are_one_product(shape: tuple[int, int], how: Way, rows: int) -> None:
    outs, ins = shape
    gate, gated, given = numbers(outs, ins), numbers(outs, ins, seed=1), numbers(rows, ins)
    truth = silu(given.double() @ gate.double().T) * (given.double() @ gated.double().T)
    found = multiply(given, in_turn(lay_out(gate, how), lay_out(gated, how)), None, GATED)
    assert found.shape == truth.shape
    torch.testing.assert_close(found.double(), truth, rtol=ROUNDING, atol=1e-4 * ins**0.5)


@computed
def test_rows_may_lie_apart(shape: tuple[int, int], how: Way) -> None:
    outs, ins = shape
    weight = lay_out(numbers(outs, ins), how)
    wider = numbers(20, 2 * ins)
    for given in (wider[:, :ins], wider[:, ::2], wider[::2, :ins], numbers(ins, 20).T):
        assert torch.equal(multiply(given, weight, None, NONE), multiply(given.contiguous(), weight, None, NONE))
    other = numbers(outs, 20).T
    expected = multiply(wider[:, :ins], weight, None, PLUS, other.contiguous())
    assert torch.equal(multiply(wider[:, :ins], weight, None, PLUS, other), expected)


@computed
def test_what_does_not_go_together_is_refused(shape: tuple[int, int], how: Way) -> None:
    outs, ins = shape
    weight, given = lay_out(numbers(outs, ins), how), numbers(3, ins)
    refused = [
        (given[:, 1:], None),
        (given.float(), None),
        (given, numbers(3, outs).float()),
        (given, numbers(2, outs)),
        (given, numbers(3, 2 * outs)),
    ]
    for rows, other in refused:
        with pytest.raises(ValueError, match=r"product of \(3, \d+\) of .*: expected"):
            multiply(rows, weight, None, PLUS if other is not None else NONE, other)


@pytest.mark.parametrize("units", [True, False], ids=["matrix", "registers"])
@pytest.mark.parametrize("pairs", [True, False])
def test_where_something_is_faster_it_is_left_to_the_library(
    pairs: bool, units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "can", lambda feature: pairs and feature == "avx512bf16")
    monkeypatch.setattr(matrix, "available", lambda: units)
    expected = IN_MATRIX_UNITS if units else IN_REGISTERS if pairs else None
    assert way(torch.empty(64, 32, dtype=torch.bfloat16)) is expected
    assert way(torch.empty(96, 32, dtype=torch.bfloat16)) is (expected if units else None)
    assert way(torch.empty(64, 2, dtype=torch.bfloat16)) is (None if units else expected)
    for other in (torch.empty(64, 32), *(torch.empty(size, dtype=torch.bfloat16) for size in ((65, 32), (64, 33)))):
        assert way(other) is None


# Norms and rotations against the library's own operations, and when products are computed in matrix units.


needs_units = pytest.mark.skipif(not matrix.available(), reason="this processor has no matrix units")


@needs_units
def test_the_library_computes_with_tiles_of_its_own_after_us() -> None:
    if not can_pack(torch.bfloat16):
        pytest.skip("the library has no products in matrix units here")
    weight, rows = torch.randn(64, 64).bfloat16(), torch.randn(40, 64).bfloat16()
    theirs, ours = torch.ops.mkldnn._reorder_linear_weight(weight, None), lay_out(weight, IN_MATRIX_UNITS)
    first = torch.ops.mkldnn._linear_pointwise(rows, theirs, None, "none", [], "")
    for _ in range(3):
        torch.testing.assert_close(multiply(rows, ours, None, NONE), first, rtol=2**-7, atol=1e-4)
        assert torch.equal(torch.ops.mkldnn._linear_pointwise(rows, theirs, None, "none", [], ""), first)


@pytest.mark.parametrize(
    ("features", "platform", "allowed", "expected"),
    [
        ({"amx-tile", "amx-bf16"}, "linux", 0, True),
        ({"amx-tile", "amx-bf16"}, "linux", -1, False),  # as in a box that forbids the call
        ({"amx-tile", "amx-bf16"}, "darwin", 0, False),
        ({"amx-tile"}, "linux", 0, False),  # of whole numbers only
        ({"amx-bf16"}, "linux", 0, False),
    ],
)
def test_units_are_used_where_the_system_lets_them_be(
    features: set[str], platform: str, allowed: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class System:
        def syscall(self, *asked: int) -> int:
            assert asked == (158, 0x1023, 18)
            return allowed

    monkeypatch.setattr(matrix, "can", features.__contains__)
    monkeypatch.setattr(matrix.sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: System())
    matrix.available.cache_clear()
    try:
        assert matrix.available() is expected
    finally:
        matrix.available.cache_clear()


def assert_nearly_all_the_same(found: Tensor, expected: Tensor) -> None:
    """To a few units of the last digit; in the short format all but some are the very same."""
    short = expected.dtype is torch.bfloat16
    assert found.dtype is expected.dtype
    torch.testing.assert_close(found, expected, rtol=8e-3 if short else 1e-6, atol=1e-6)
    if short:  # sums in another order may round otherwise, now and then
        assert int((found != expected).sum()) <= max(2, 0.01 * found.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 16, 17])
@pytest.mark.parametrize("width", [1, 31, 576])
def test_a_norm_is_the_librarys(dtype: torch.dtype, rows: int, width: int) -> None:
    library: Any = LlamaRMSNorm(width, eps=1e-5).to(dtype)
    library.weight.data = numbers(width, dtype=dtype)
    given = numbers(2, rows, width, dtype=dtype, scale=3.0)
    with torch.inference_mode():
        found, expected = normed(given, library.weight, 1e-5), library(given)
    assert_nearly_all_the_same(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 16, 17])
@pytest.mark.parametrize(("width", "heads", "key_heads"), [(64, 9, 3), (128, 2, 2), (6, 1, 1)])
def test_a_rotation_is_the_librarys(dtype: torch.dtype, rows: int, width: int, heads: int, key_heads: int) -> None:
    query, key = numbers(rows, heads, width, dtype=dtype), numbers(rows, key_heads, width, dtype=dtype)
    cosine, sine = numbers(1, rows, width, dtype=dtype), numbers(1, rows, width, dtype=dtype, scale=0.5)
    expected = apply_rotary_pos_emb(query.transpose(0, 1)[None], key.transpose(0, 1)[None], cosine, sine)
    rotate(query, cosine, sine)
    key = torch.cat((key, key, key), 1)[:, key_heads : 2 * key_heads]  # rows apart from each other
    rotate(key, cosine, sine)
    for found, wanted in zip((query, key), expected, strict=True):
        assert_nearly_all_the_same(found, wanted[0].transpose(0, 1))


# Packed weights: the same products, nothing lost, nothing touched that is no plain layer on a CPU.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 17, 512])
def test_a_packed_layer_computes_what_the_layer_did(
    one_thread: None, dtype: torch.dtype, bias: bool, rows: int
) -> None:
    layer = nn.Linear(96, 128, bias=bias, dtype=dtype)
    asked = torch.randn(1, rows, 96, generator=torch.Generator().manual_seed(rows)).to(dtype)
    with torch.inference_mode():
        truth = nn.functional.linear(asked.double(), layer.weight.double(), layer.bias.double() if bias else None)
        plain = (layer(asked).double() - truth).abs().max()
        model = nn.Sequential(layer)
        assert pack(model) == can_pack(dtype)
        found = model(asked)
    assert found.dtype is dtype
    assert found.shape == (1, rows, 128)
    assert float((found.double() - truth).abs().max()) <= max(2 * float(plain), 1e-6)
    assert torch.equal(model[0].weight, layer.weight)


def test_a_model_gives_up_the_weights_that_it_packs(one_thread: None) -> None:
    model, untouched = tiny_model("llama"), tiny_model("llama")
    ids = torch.arange(20)[None]
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    kept = [weakref.ref(layer.weight) for layer in layers]
    assert pack(model) == len(layers) == 15
    del layers
    gc.collect()
    assert [of() for of in kept] == [None] * 15
    assert pack(model) == 0
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, untouched(ids).logits, rtol=1e-4, atol=1e-4)


def test_weights_are_given_up_one_by_one(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    layers = [weakref.ref(module) for module in model.modules() if isinstance(module, nn.Linear)]
    alive = []

    def count(layer: nn.Linear) -> PackedLinear:
        alive.append(sum(of() is not None for of in layers))
        return PackedLinear(layer)

    monkeypatch.setattr(packing, "PackedLinear", count)
    assert pack(model) == len(layers)
    assert alive == list(range(len(layers), 0, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_joined_layers_compute_what_each_did(one_thread: None, dtype: torch.dtype, bias: bool) -> None:
    if not can_pack(dtype):
        pytest.skip("this processor packs no weights of that format")
    layers = [PackedLinear(nn.Linear(48, out, bias=bias, dtype=dtype)) for out in (32, 16, 80)]
    rows = torch.randn(1, 20, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    joined = join(layers)
    assert joined is not None
    with torch.inference_mode():
        expected = [layer(rows) for layer in layers]
        parts = [Part(joined, slice(start, stop)) for start, stop in ((0, 32), (32, 48), (48, 128))]
        for found in (joined(rows).split((32, 16, 80), dim=-1), [part(rows) for part in parts]):
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-2 if dtype is torch.bfloat16 else 1e-5, atol=1e-6)


def test_a_part_is_its_columns_of_the_joined_product(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "way", lambda weight: IN_REGISTERS)
    joined = join([PackedLinear(nn.Linear(48, out, dtype=torch.bfloat16)) for out in (128, 64, 64)])
    assert joined is not None
    rows = numbers(1, 20, 48)
    for columns in (slice(0, 128), slice(192, 256), slice(100, 200)):  # the last has no whole panels
        assert torch.equal(Part(joined, columns)(rows), joined(rows)[..., columns])


class Quantised(nn.Linear):
    """A layer whose weights are not what they look like."""


def test_other_layers_are_left_alone(one_thread: None) -> None:
    elsewhere = nn.Linear(4, 4, device="meta")
    layers = nn.Sequential(Quantised(4, 4), nn.Linear(4, 4, dtype=torch.float16), elsewhere, nn.Embedding(4, 4))
    before = list(layers)
    assert pack(layers) == 0
    assert list(layers) == before
