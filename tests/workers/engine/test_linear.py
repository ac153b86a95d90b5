"""Linear layers in compiled loops against products in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from defsurvey.workers.engines.transformers import linear, matrix
from defsurvey.workers.engines.transformers.linear import (
    IN_MATRIX_UNITS,
    IN_REGISTERS,
    Way,
    in_turn,
    lay_out,
    multiply,
    way,
)
from defsurvey.workers.engines.transformers.outputs import GATED, NONE, PLUS, SWISH, TIMES

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


def numbers(*sizes: int, seed: int = 0) -> Tensor:
    """Random ones, always the same."""
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed + sum(sizes))).bfloat16()


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
