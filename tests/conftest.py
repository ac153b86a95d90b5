"""What holds for every test."""

import os


def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as there are cores: many tests wait for processes that they started."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2
