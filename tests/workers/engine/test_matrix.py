"""Products in matrix units against products in float64, where a processor has such units."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch
from numba import njit

from defsurvey.workers.engines.transformers import matrix
from defsurvey.workers.engines.transformers.linear import IN_MATRIX_UNITS, lay_out, multiply
from defsurvey.workers.engines.transformers.matrix import COLUMNS, CONFIGURATION, PAIRS, TILE, available
from defsurvey.workers.engines.transformers.outputs import NONE
from defsurvey.workers.engines.transformers.packing import can_pack


@pytest.mark.parametrize("tall", [1, 2])
@pytest.mark.parametrize("pairs", [PAIRS, 5 * PAIRS])
@pytest.mark.parametrize("onto", [0, 1])
def test_a_product_is_what_it_is_in_float64(onto: int, pairs: int, tall: int) -> None:
    """Rows and results apart from each other, and numbers around the result left alone."""
    numbers = torch.Generator().manual_seed(pairs)
    rows = torch.randn(tall * TILE, 2 * pairs + 6, generator=numbers).bfloat16()[:, : 2 * pairs]
    columns = torch.randn(2 * pairs, COLUMNS, generator=numbers).bfloat16()
    laid = columns.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1).contiguous()
    result = torch.full((tall * TILE + 1, COLUMNS + 3), torch.pi)
    space = np.zeros(CONFIGURATION, np.uint8)

    @njit
    def computed(told: np.ndarray) -> None:
        matrix.begin(told[7])
        matrix.multiply(tall, onto, told[0], told[1], told[2], told[3], told[4], told[5], told[6])
        matrix.end()

    told = [
        *(rows.data_ptr(), 2 * rows.stride(0), laid.data_ptr(), 2 * laid.stride(0)),
        *(result.data_ptr(), 4 * result.stride(0), pairs, space.ctypes.data),
    ]
    for times in (1, 2):
        computed(np.array(told))
        expected = (times if onto else 1) * (rows.double() @ columns.double()) + (torch.pi if onto else 0)
        found = result[: tall * TILE, :COLUMNS].double()
        assert float(((found - expected) / (1 + expected.abs())).abs().max()) < 1e-5
    assert (result[:, COLUMNS:] == torch.pi).all()
    assert (result[-1] == torch.pi).all()


def test_the_library_computes_with_tiles_of_its_own_after_us() -> None:
    """What one has made of a thread's tiles is nothing that the other relies on."""
    if not can_pack(torch.bfloat16):
        pytest.skip("the library has no products in matrix units here")
    weight, rows = torch.randn(64, 64).bfloat16(), torch.randn(40, 64).bfloat16()
    theirs, ours = torch.ops.mkldnn._reorder_linear_weight(weight, None), lay_out(weight, IN_MATRIX_UNITS)
    first = torch.ops.mkldnn._linear_pointwise(rows, theirs, None, "none", [], "")
    for _ in range(3):
        torch.testing.assert_close(multiply(rows, ours, None, NONE), first, rtol=2**-7, atol=1e-4)
        assert torch.equal(torch.ops.mkldnn._linear_pointwise(rows, theirs, None, "none", [], ""), first)


if not available():  # what a processor does not have cannot be tried out on it
    del test_a_product_is_what_it_is_in_float64, test_the_library_computes_with_tiles_of_its_own_after_us


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
    """A process that uses them unasked is ended."""

    class System:
        def syscall(self, *asked: int) -> int:
            assert asked == (158, 0x1023, 18)
            return allowed

    monkeypatch.setattr(matrix, "can", features.__contains__)
    monkeypatch.setattr(matrix.sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: System())
    available.cache_clear()
    try:
        assert available() is expected
    finally:
        available.cache_clear()
