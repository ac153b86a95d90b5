"""Norms and rotations against the library's own operations, and when products are computed in matrix units."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from defsurvey.workers.engines.transformers import matrix
from defsurvey.workers.engines.transformers.linear import IN_MATRIX_UNITS, lay_out, multiply
from defsurvey.workers.engines.transformers.outputs import NONE
from defsurvey.workers.engines.transformers.packing import can_pack
from defsurvey.workers.engines.transformers.rowwise import normed, rotate

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


def numbers(*sizes: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """Random ones, always the same."""
    return (scale * torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))).to(dtype)


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
