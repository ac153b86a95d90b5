"""A pytest plugin that makes this processor look like one with AVX2 and nothing newer, as many laptops have.

    python -m pytest -p tests.avx2 tests/workers/engine

Variables hold oneDNN and torch's own kernels back. An operation of torch asks the real processor whether it computes
bfloat16: it is made to answer as on AVX2. OpenVINO cannot be held back. Where the processor has nothing newer, no
test is run.
"""

import os
import re
from pathlib import Path

import pytest

#: What these libraries read when they are first imported, also in processes that tests start.
ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
NEWER = ("avx512f", "avx_ne_convert")  #: with one of these a processor computes what AVX2 does not


def _is_newer() -> bool:
    told = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", told.read_text(encoding="utf-8"))) if told.exists() else set()
    return "avx2" in flags and not flags.isdisjoint(NEWER)


def pytest_load_initial_conftests() -> None:
    if _is_newer():
        os.environ.update(ENVIRONMENT)


def pytest_configure() -> None:
    if not _is_newer():
        pytest.exit("this processor has nothing newer than AVX2: the tests have run as on AVX2 already", returncode=0)
    import torch

    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        pytest.exit("torch was imported before tests.avx2: name the plugin by -p", returncode=4)
    torch.ops.mkldnn._is_mkldnn_bf16_supported = lambda: False
