"""What holds for every test."""

import gc
import os
import signal
from importlib.util import find_spec

os.environ.pop("COLUMNS", None)  # the width that a command prints in is that of a pipe, wherever the tests are started
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of many processes would compile every test and module anew
# Threads of libraries that share their cores with other tests spin, and crawl; also in processes that tests start.
for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}.items():
    os.environ.setdefault(name, value)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, also by the daemons that tests start

#: An accelerator's own tests, where its folder is not there.
_ACCELERATORS = {
    "cpu": ["workers/engine/test_openvino.py"],
    "gpu": ["workers/engine/test_gpu_step.py", "benchmarks/test_gpu.py"],
}
collect_ignore = [
    test
    for folder, tests in _ACCELERATORS.items()
    if find_spec(f"defsurvey.workers.engines.transformers.{folder}") is None
    for test in tests
]


def pytest_xdist_auto_num_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end; looking through it for garbage takes 0.4 s, again and again."""
    gc.collect()
    gc.freeze()
