"""The loops between products against the library's own operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from defsurvey.workers.engines.transformers.rowwise import normed, rotate


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
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 200])
@pytest.mark.parametrize("width", [1, 31, 576])
def test_a_norm_is_the_librarys(dtype: torch.dtype, rows: int, width: int) -> None:
    """Any number of rows, of any width."""
    library: Any = LlamaRMSNorm(width, eps=1e-5).to(dtype)
    library.weight.data = numbers(width, dtype=dtype)
    given = numbers(2, rows, width, dtype=dtype, scale=3.0)
    with torch.inference_mode():
        found, expected = normed(given, library.weight, 1e-5), library(given)
    assert_nearly_all_the_same(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 200])
@pytest.mark.parametrize(("width", "heads", "key_heads"), [(64, 9, 3), (128, 2, 2), (6, 1, 1)])
def test_a_rotation_is_the_librarys(dtype: torch.dtype, rows: int, width: int, heads: int, key_heads: int) -> None:
    """Of queries and of keys, in place; angles of two halves of a row may differ."""
    query, key = numbers(rows, heads, width, dtype=dtype), numbers(rows, key_heads, width, dtype=dtype)
    cosine, sine = numbers(1, rows, width, dtype=dtype), numbers(1, rows, width, dtype=dtype, scale=0.5)
    expected = apply_rotary_pos_emb(query.transpose(0, 1)[None], key.transpose(0, 1)[None], cosine, sine)
    rotate(query, cosine, sine)
    key = torch.cat((key, key, key), 1)[:, key_heads : 2 * key_heads]  # rows apart from each other
    rotate(key, cosine, sine)
    for found, wanted in zip((query, key), expected, strict=True):
        assert_nearly_all_the_same(found, wanted[0].transpose(0, 1))


def test_a_rotation_by_other_positions_is_refused() -> None:
    """Angles of another width, of other rows or in another format, and numbers that do not lie side by side."""
    turned, angles = torch.ones(3, 2, 8), torch.ones(1, 3, 8)
    for cosine, sine in ((angles[..., :4], angles[..., :4]), (angles, angles[..., :4]), (angles[:, :2], angles[:, :2])):
        with pytest.raises(ValueError, match=r"rotation of \(3, 2, 8\) by .*: expected \(1, 3, 8\) of torch\.float32"):
            rotate(turned, cosine, sine)
    with pytest.raises(ValueError, match=r"of torch\.bfloat16: expected"):
        rotate(turned, angles.bfloat16(), angles.bfloat16())
    for scattered in (
        torch.ones(2, 3, 8).transpose(0, 1),
        torch.ones(3, 2, 16)[..., ::2],
        torch.ones(3, 2, 16)[..., :8],
    ):
        with pytest.raises(ValueError, match="rotation of"):
            rotate(scattered, angles, angles)
