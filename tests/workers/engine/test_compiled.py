"""Number formats in compiled code against the library's own conversions, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba import carray
from torch import Tensor

from workers.engines.transformers.compiled import FORMATS, compiled, narrow, widen
from workers.engines.transformers.team import run

TOLD = np.dtype([("taken", np.int64), ("source", np.int64), ("target", np.int64), ("count", np.int64)])


def converted(convert: Any, form: int, numbers: Tensor, to: torch.dtype) -> Tensor:
    """What ``widen`` or ``narrow`` makes of numbers."""

    def loop(call: Any) -> None:
        told = carray(call, 1)[0]
        convert(form, told.source, told.target, told.count)

    result, told = torch.empty(len(numbers), dtype=to), np.zeros(1, TOLD)
    told[0] = 0, numbers.data_ptr(), result.data_ptr(), len(numbers)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(compiled(loop, TOLD), told)
    finally:
        torch.set_num_threads(before)
    return result


@pytest.mark.parametrize("name", FORMATS)
def test_every_number_of_a_format_goes_both_ways(name: str) -> None:
    """All 65,536 of the short ones but infinities and what is no number, which nothing here is made of."""
    dtype = getattr(torch, name)
    if dtype.itemsize == 2:
        numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
        numbers = numbers[torch.isfinite(numbers)]
    else:
        numbers = torch.randn(1000)
    wide = converted(widen, FORMATS.index(name), numbers, torch.float32)
    assert torch.equal(wide, numbers.float())
    assert torch.equal(converted(narrow, FORMATS.index(name), wide, dtype).view(torch.int16), numbers.view(torch.int16))


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_rounded_as_the_library_rounds_them(name: str) -> None:
    """Of all sizes, halves between two neighbours among them, and beyond the largest of a format."""
    dtype = getattr(torch, name)
    numbers = torch.randn(20000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-10, 6, 20000)
    halves = (torch.arange(1, 2**13) * 2 + 1).float() * 2.0 ** torch.arange(-20, -7)[:, None].float()
    numbers = torch.cat((numbers, halves.reshape(-1), -halves.reshape(-1), torch.tensor([0.0, -0.0, 65504.0, 65520.0])))
    found = converted(narrow, FORMATS.index(name), numbers, dtype)
    assert torch.equal(found, numbers.to(dtype))


#: Opens loops of every kind, as a worker does at its start.
OPENED = """
from workers.engines.transformers import linear, loops, outputs, rowwise, team, tiles

for then in (outputs.NONE, outputs.SWISH, outputs.PLUS, outputs.TIMES, outputs.GATED):
    linear.multiplying(then, linear.IN_REGISTERS, biased=then == outputs.NONE)
for dtype in ("float32", "bfloat16"):
    loops.storing(64, dtype)
    loops.attending(64, 3, dtype)
    tiles.laying(64, dtype)
    tiles.attending(64, 3, dtype)
rowwise.norming(1)
rowwise.rotating(1)
team._sequence()
"""


def test_the_next_process_finds_all_that_was_compiled(tmp_path: Path) -> None:
    """What a loop is made for is known by its value, or each process would compile all and keep it once more."""
    kept = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", OPENED], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, check=True)
        kept.append({file.name for file in tmp_path.rglob("*.nbc")})
    assert len(kept[0]) == 16
    assert kept[0] == kept[1]
