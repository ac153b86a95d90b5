"""What of this machine a process may use: memory and cores, of which a container or a batch system gives it a part.

Linux tells by control groups, one inside the other, in either of two versions; the narrowest counts. Where it does not
tell, all that the machine has is taken for granted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN = Path("/proc/self/statm")


def memory() -> int:
    """Bytes of memory that this process and its neighbours in a container or job may take altogether."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    return min((page * pages, *_limits()))


def memory_left() -> int:
    """Bytes that this process may still take: what the machine has available, and what a limit leaves beside it."""
    own = int(_text(_OWN).split()[1]) * os.sysconf("SC_PAGE_SIZE") if _text(_OWN) else 0
    available = [
        int(line.split()[1]) << 10 for line in _text(_MEMINFO).splitlines() if line.startswith("MemAvailable:")
    ]
    return max(0, min((*available, memory() - own)))


def cores() -> int:
    """How many cores this process may use, at least 1; of a quota a started core is a whole one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((allowed, *(math.ceil(quota) for quota in _quotas()))))


def _limits() -> Iterator[int]:
    for group in _own_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(group / name).strip()
            if limit.isdigit():  # else it is "max"
                yield int(limit)


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
        # A container may be told its path as the host sees it, while what is mounted begins with its own group.
        yield from (inside, *(parent for parent in inside.parents if parent.is_relative_to(mount)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
