"""What of this machine a process may use: memory, cores and GPUs, and the versions of what computes on them.

The narrowest of Linux's control groups counts, in either of their two versions.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_MEMINFO, _OWN = Path("/proc/meminfo"), Path("/proc/self/statm")

#: The device that is chosen when a model is loaded; ``auto:N`` is the choice of the worker with number N of several.
AUTO = "auto"
#: Packages whose versions a report names.
_PACKAGES = ("defsurvey", "torch", "transformers", "numpy", "celery")


def memory() -> int:
    """Bytes of memory that this process and its neighbours in a container or job may take altogether."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    limits = (
        int(limit)
        for group in _own_groups("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _text(group / name).strip()).isdigit()  # else it is "max"
    )
    return min((page * pages, *limits))


def memory_left() -> int:
    """Bytes that this process may still take: what the machine has available, and what a limit leaves."""
    own = int(_text(_OWN).split()[1]) * os.sysconf("SC_PAGE_SIZE") if _text(_OWN) else 0
    lines = _text(_MEMINFO).splitlines()
    available = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return max(0, min((*available, memory() - own)))


def cores() -> int:
    """How many cores this process may use, at least 1; of a quota a started core is a whole one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((allowed, *(math.ceil(quota) for quota in _quotas()))))


def _quotas() -> Iterator[float]:
    for group in _own_groups("cpu"):
        first = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        parts = _text(group / "cpu.max").split() or [part.strip() for part in first]
        if len(parts) == 2 and all(part.isdigit() and int(part) for part in parts):  # else "max", or -1
            yield int(parts[0]) / int(parts[1])


def _own_groups(controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, inmost first; some may not be there."""
    for line in _text(_GROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = _MOUNT / controller if controllers else _MOUNT
        inside = mount / path.lstrip("/")
        # A container may be given its path as the host sees it, while what is mounted begins with its own group.
        yield from (inside, *(parent for parent in inside.parents if parent.is_relative_to(mount)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def resolved(device: str) -> str:
    """A device as torch names it: ``auto`` and ``auto:N`` are the GPU N modulo how many there are, or else ``cpu``."""
    kind, _, number = device.partition(":")
    if kind != AUTO:
        return device
    gpus = torch_gpus()
    return f"cuda:{int(number or 0) % gpus}" if gpus else "cpu"


def torch_gpus() -> int:
    """How many GPUs torch can use. It is not loaded for this alone where the driver lists none."""
    if "torch" not in sys.modules and (find_spec("torch") is None or not nvidia_gpus()):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def expected(device: str, *, workers: int = 1) -> str:
    """In words, and without torch, what a device will be for so many processes: torch has the last word."""
    if device != AUTO:
        return device
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "auto: cpu, CUDA_VISIBLE_DEVICES hides every GPU"
    gpus = nvidia_gpus()
    if not gpus:
        return "auto: cpu, no NVIDIA GPU was found"
    if versions().get("torch", "+cpu").endswith("+cpu"):
        return f"auto: cpu, this torch is a build for CPUs and cannot use {gpus[0]}"
    chosen = ", ".join(f"cuda:{number}" for number in range(min(workers, len(gpus))))
    return f"auto: {chosen}, the driver lists {'; '.join(gpus)}"


def nvidia_gpus() -> list[str]:
    """A line for each GPU that NVIDIA's driver knows: name, memory, version of the driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20.0)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.stdout.splitlines() if line.strip()]


def versions() -> dict[str, str]:
    """Package, or ``python`` -> its version, of those that are installed and compute the answers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
