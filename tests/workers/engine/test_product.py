"""Products held in registers against products in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from defsurvey.workers.engines.transformers import product as products
from defsurvey.workers.engines.transformers.product import LANES, ROWS, can, product, vectors


def multiplied(wide: int, rows: Tensor, columns: Tensor, *, pairs: bool, onto: bool) -> Tensor:
    """What a product makes of rows, shape (``ROWS``, n), and columns, shape (n, m), with others' numbers around it."""
    paired, added = int(pairs), int(onto)

    @njit
    def multiply(told: np.ndarray) -> None:
        product(wide, paired, added, told[0], told[1], told[2], told[3], told[4], told[5], told[6])

    laid = columns.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1).contiguous() if pairs else columns
    result = torch.full((ROWS, columns.shape[1] + 3), torch.pi)
    told = [
        *(rows.data_ptr(), rows.stride(0) * rows.itemsize),
        *(laid.data_ptr(), laid.stride(0) * laid.itemsize),
        *(result.data_ptr(), result.stride(0) * result.itemsize),
        rows.shape[1] // (2 if pairs else 1),
    ]
    multiply(np.array(told))
    assert (result[:, -3:] == torch.pi).all()
    return result[:, :-3]


def deviation(wide: int, units: int, *, pairs: bool, onto: bool) -> float:
    """How far a product of random numbers is from what it is in float64, at most."""
    numbers = torch.Generator().manual_seed(wide * units)
    dtype, count = (torch.bfloat16, 2 * units) if pairs else (torch.float32, units)
    rows = torch.randn(ROWS, count + 2, generator=numbers).to(dtype)[:, :count]
    columns = torch.randn(count, wide * LANES, generator=numbers).to(dtype)
    expected = rows.double() @ columns.double() + (torch.pi if onto else 0)
    found = multiplied(wide, rows, columns, pairs=pairs, onto=onto)
    return float(((found.double() - expected) / (1 + expected.abs())).abs().max())


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("units", [1, 2, 31, 64])
@pytest.mark.parametrize("wide", [1, 2, 3, 4])
@pytest.mark.parametrize("onto", [False, True])
def test_a_product_is_what_it_is_in_float64(onto: bool, wide: int, units: int, pairs: bool) -> None:
    """As many columns as there are registers for and fewer, rows apart from each other, one unit and many."""
    assert deviation(wide, units, pairs=pairs, onto=onto) < 1e-5


@pytest.mark.parametrize("onto", [False, True])
def test_pairs_are_multiplied_where_no_processor_helps(onto: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One number of each after the other; the same to what float32 can tell apart."""
    monkeypatch.setattr(products, "can", lambda feature: feature != "avx512bf16" and can(feature))
    assert deviation(2, 31, pairs=True, onto=onto) < 1e-5


@pytest.mark.parametrize(
    ("registers", "widths"),
    [("avx512f", {16: 1, 32: 2, 48: 3, 64: 4, 80: 1, 96: 3, 128: 4}), ("neon", {16: 1, 64: 1, 96: 1})],
)
def test_a_panel_is_as_wide_as_there_are_registers_for(
    registers: str, widths: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It divides the columns that there are."""
    monkeypatch.setattr(products, "can", lambda feature: feature == registers)
    assert {columns: vectors(columns) for columns in widths} == widths


def test_a_processor_can_what_numba_compiles_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be told to do without something that the processor has."""

    class Codegen:
        def magic_tuple(self) -> tuple[str, str, str]:
            return "triple", "name", "+avx2,-avx512f,+fma"

    class Context:
        def codegen(self) -> Codegen:
            return Codegen()

    monkeypatch.setattr(products.cpu_target, "_toplevel_target_context", Context())
    assert [products.can.__wrapped__(name) for name in ("avx2", "fma", "avx512f", "avx", "")] == [True, True] + [
        False
    ] * 3
