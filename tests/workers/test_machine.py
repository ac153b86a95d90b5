"""What a process may use of its machine, as Linux tells it, the device that `auto` is, and a model's window."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import Gemma3Config, LlamaConfig

from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines import machine
from defsurvey.workers.engines.base import Engine
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.engines.transformers import loading
from defsurvey.workers.models import ModelCard
from tests.workers.citizens import SURVEY

GIB = 1 << 30
H100 = "NVIDIA H100, 81559 MiB, 570.1"


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
    statm = f"9999999 {own * GIB // 4096} 5 6 0 7 0"
    tell(told, {"cgroup": "0::/", "mount/memory.max": limit, "meminfo": meminfo, "statm": statm})
    assert machine.memory_left() == left * GIB


@pytest.mark.parametrize(
    ("named", "gpus", "chosen"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("auto:1", 2, "cuda:1"),
        ("auto:5", 2, "cuda:1"),
        ("cpu", 2, "cpu"),
        ("cuda:1", 0, "cuda:1"),
    ],
)
def test_an_engine_is_opened_on_a_gpu_where_torch_sees_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, gpus: int, chosen: str
) -> None:
    """Of several, workers take one after the other; a device that is named stays."""
    monkeypatch.setattr(machine, "torch_gpus", lambda: gpus)
    card = ModelCard(name="own", engine=f"{__name__}:refuse")
    with pytest.raises(Exception, match=f"no room on {chosen}$"):
        open_engine(card, survey=SURVEY, device=named, cache=tmp_path)


def refuse(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    raise MemoryError(f"no room on {device}")


@pytest.mark.parametrize(
    ("named", "gpus", "visible", "workers", "torch", "said"),
    [
        ("auto", [], "0", 1, "2.8.0", "auto: cpu, no NVIDIA GPU was found"),
        ("auto", [H100], "0", 1, "2.8.0", f"auto: cuda:0, the driver lists {H100}"),
        ("auto", [H100, H100], "0,1", 3, "2.8.0", f"auto: cuda:0, cuda:1, the driver lists {H100}; {H100}"),
        ("auto", [H100], "", 1, "2.8.0", "auto: cpu, CUDA_VISIBLE_DEVICES hides every GPU"),
        ("cuda:1", [], "0", 1, "2.8.0", "cuda:1"),
        ("auto", [H100], "0", 1, "2.8.0+cpu", f"auto: cpu, this torch is a build for CPUs and cannot use {H100}"),
    ],
)
def test_what_auto_will_be_is_said_before(
    monkeypatch: pytest.MonkeyPatch, named: str, gpus: list[str], visible: str, workers: int, torch: str, said: str
) -> None:
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: gpus)
    monkeypatch.setattr(machine, "version", lambda _package: torch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.expected(named, workers=workers) == said


def test_the_driver_is_asked_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program.write_text("#!/bin/sh\necho 'NVIDIA A100, 40960 MiB, 550.1'\n")
    program.chmod(0o755)
    assert machine.nvidia_gpus() == ["NVIDIA A100, 40960 MiB, 550.1"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.nvidia_gpus() == []


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (LlamaConfig(max_position_embeddings=32), 32),
        (Gemma3Config(text_config={"max_position_embeddings": 64}), 64),  # of text and images
        (SimpleNamespace(get_text_config=SimpleNamespace), 7),  # positions without a limit
    ],
)
def test_the_window_is_the_texts(config: object, window: int) -> None:
    """Of a model of more than text too; where the configuration has none, the tokenizer's."""
    assert loading._window(config, SimpleNamespace(model_max_length=7)) == window
