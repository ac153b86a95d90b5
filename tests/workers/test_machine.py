"""What a process may use of its machine, as Linux tells it in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from defsurvey.workers.engines import machine

GIB = 1 << 30


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are taken for what Linux tells of a machine of 512 GiB and 64 cores."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_MOUNT", tmp_path / "mount")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_OWN", tmp_path / "statm")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 512 * GIB // 4096}.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(64)), raising=False)
    return tmp_path


def tell(folder: Path, files: dict[str, str]) -> None:
    """Write what Linux would."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n", encoding="ascii")


@pytest.mark.parametrize(
    ("files", "memory", "cores"),
    [
        ({}, 512, 64),
        ({"cgroup": "0::/", "mount/memory.max": str(16 * GIB), "mount/cpu.max": "150000 100000"}, 16, 2),
        ({"cgroup": "0::/", "mount/memory.max": "max", "mount/cpu.max": "max 100000"}, 512, 64),
        (
            {
                "cgroup": "0::/system.slice/job_7/step_0",
                "mount/system.slice/job_7/step_0/memory.max": "max",
                "mount/system.slice/job_7/memory.max": str(32 * GIB),
                "mount/system.slice/memory.max": str(64 * GIB),
                "mount/system.slice/job_7/cpu.max": "800000 100000",
            },
            32,
            8,
        ),
        (
            {
                "cgroup": "11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc",
                "mount/memory/memory.limit_in_bytes": str(8 * GIB),
                "mount/cpu/cpu.cfs_quota_us": "50000",
                "mount/cpu/cpu.cfs_period_us": "100000",
            },
            8,
            1,
        ),
        (
            {
                "cgroup": "11:memory:/\n4:cpu:/",
                "mount/memory/memory.limit_in_bytes": "9223372036854771712",
                "mount/cpu/cpu.cfs_quota_us": "-1",
                "mount/cpu/cpu.cfs_period_us": "100000",
            },
            512,
            64,
        ),
    ],
)
def test_the_narrowest_group_counts(told: Path, files: dict[str, str], memory: int, cores: int) -> None:
    """No group at all, containers and batch jobs of version 2, containers of version 1 with the host's path."""
    tell(told, files)
    assert machine.memory() == memory * GIB
    assert machine.cores() == cores


@pytest.mark.parametrize(
    ("limit", "own", "available", "left"), [("max", 20, 100, 100), (str(32 * GIB), 20, 100, 12), (str(GIB), 2, 100, 0)]
)
def test_what_is_left_is_beside_what_the_process_has(
    told: Path, limit: str, own: int, available: int, left: int
) -> None:
    """What the whole machine has available, or less where a limit ends sooner; never less than nothing."""
    meminfo = f"MemTotal: 536870912 kB\nMemAvailable: {available << 20} kB"
    tell(
        told,
        {
            "cgroup": "0::/",
            "mount/memory.max": limit,
            "meminfo": meminfo,
            "statm": f"9999999 {own * GIB // 4096} 5 6 0 7 0",
        },
    )
    assert machine.memory_left() == left * GIB
