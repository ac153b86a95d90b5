"""Number formats in compiled code against the library's own conversions, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba import carray, from_dtype, types
from torch import Tensor

from defsurvey.workers.engines.transformers import keeping
from defsurvey.workers.engines.transformers.compiled import FORMATS, compiled, narrow, widen
from defsurvey.workers.engines.transformers.keeping import kept, sources
from defsurvey.workers.engines.transformers.team import run

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
    """All 65,536 of the short ones; infinities stay infinite, and what is no number stays none."""
    dtype = getattr(torch, name)
    if dtype.itemsize == 2:
        numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    else:
        numbers = torch.cat((torch.randn(1000), torch.tensor([torch.inf, -torch.inf, torch.nan])))
    wide = converted(widen, FORMATS.index(name), numbers, torch.float32)
    torch.testing.assert_close(wide, numbers.float(), rtol=0, atol=0, equal_nan=True)
    found, some = converted(narrow, FORMATS.index(name), wide, dtype), ~torch.isnan(numbers)
    assert torch.equal(found[some].view(torch.int16), numbers[some].view(torch.int16))
    assert torch.isnan(found[~some]).all()


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_rounded_as_the_library_rounds_them(name: str) -> None:
    """Of all sizes, halves between two neighbours among them, and beyond the largest of a format."""
    dtype = getattr(torch, name)
    numbers = torch.randn(20000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-10, 6, 20000)
    halves = (torch.arange(1, 2**13) * 2 + 1).float() * 2.0 ** torch.arange(-20, -7)[:, None].float()
    numbers = torch.cat((numbers, halves.reshape(-1), -halves.reshape(-1), torch.tensor([0.0, -0.0, 65504.0, 65520.0])))
    found = converted(narrow, FORMATS.index(name), numbers, dtype)
    assert torch.equal(found, numbers.to(dtype))


def _count_up(call: Any) -> None:
    told = carray(call, 1)[0]
    told.count += 1


def _hits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a loop is found that was kept in a folder, by a process that is new."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return int(kept(_count_up, types.void(types.CPointer(from_dtype(TOLD))), {}).cache_hits)


def test_what_was_compiled_is_found_until_a_module_changes_that_loops_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the one in which the loop is written; what is kept does not become more."""
    found = [_hits(tmp_path, monkeypatch) for _ in range(2)]
    files = {file.name for file in tmp_path.rglob("*.nb?")}
    monkeypatch.setattr(keeping, "sources", lambda: b"others")
    found += [_hits(tmp_path, monkeypatch) for _ in range(2)]
    assert found == [0, 1, 0, 1]
    assert {file.name for file in tmp_path.rglob("*.nb?")} == files
    assert len(files) == 2


def test_only_modules_that_have_to_do_with_compiling_count(tmp_path: Path) -> None:
    """Whichever they are: a change in any other compiles nothing anew."""
    making, other = tmp_path / "making.py", tmp_path / "other.py"
    making.write_text("from llvmlite import ir")
    other.write_text("import torch")
    before = sources.__wrapped__(tmp_path)
    other.write_text("import torch.nn")
    assert sources.__wrapped__(tmp_path) == before
    making.write_text("from llvmlite import ir as instructions")
    assert sources.__wrapped__(tmp_path) != before


#: Opens a loop of every kind, as a worker does at its start.
OPENED = """
from defsurvey.workers.engines.transformers import linear, loops, outputs, rowwise, team, tiles

linear.multiplying(outputs.NONE, linear.IN_REGISTERS, biased=True)
linear.multiplying(outputs.GATED, linear.IN_REGISTERS, biased=False)
loops.storing(64, "bfloat16")
loops.attending(64, 3, "bfloat16")
tiles.laying(64, "bfloat16")
tiles.attending(64, 3, "bfloat16")
rowwise.norming(1)
rowwise.rotating(1)
team._sequence()
"""


def test_the_next_process_finds_all_that_was_compiled(tmp_path: Path) -> None:
    """What a loop is made for is known by its value, or each process would compile all and keep it once more."""
    files = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", OPENED], env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, check=True)
        files.append({file.name for file in tmp_path.rglob("*.nbc")})
    assert len(files[0]) == 9
    assert files[0] == files[1]
