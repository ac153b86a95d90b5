"""A pytest plugin that makes this processor look like one with AVX2 and nothing newer, as many laptops have.

    python -m pytest -p tests.avx2 tests/workers/engine

Variables hold numba, oneDNN and torch's own kernels back. Two operations of torch ask the real processor whether it
computes bfloat16: they are made to answer as on AVX2. Where the processor has nothing newer, no test is run.
"""

import os
from typing import Any

import pytest
from llvmlite.binding import get_host_cpu_features

#: What these libraries read when they are first imported, also in processes that tests start.
ENVIRONMENT = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse2,+sse4.2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
}
NEWER = ("avx512f", "avxneconvert")  #: with one of these a processor computes what AVX2 does not


def _is_newer() -> bool:
    has = get_host_cpu_features()
    return has.get("avx2", False) and any(has.get(name) for name in NEWER)


def pytest_load_initial_conftests() -> None:
    if _is_newer():
        os.environ.update(ENVIRONMENT)


def pytest_configure() -> None:
    if not _is_newer():
        pytest.exit("this processor has nothing newer than AVX2: the tests have run as on AVX2 already", returncode=0)
    import torch

    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        pytest.exit("torch was imported before tests.avx2: name the plugin by -p", returncode=4)
    lay_out = torch.ops.mkldnn._reorder_linear_weight

    def without_bfloat16(weight: torch.Tensor, *others: Any) -> torch.Tensor:
        if weight.dtype is torch.bfloat16:
            raise RuntimeError("mkldnn_reorder_linear_weight: bf16 path needs the cpu support of newer instructions")
        return lay_out(weight, *others)

    torch.ops.mkldnn._is_mkldnn_bf16_supported = lambda: False
    torch.ops.mkldnn._reorder_linear_weight = without_bfloat16
