"""Where models of this machine run: `auto` is a GPU where torch can use one, else the CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

#: The device that is chosen when a model is loaded; ``auto:N`` is the choice of the worker with number N of several.
AUTO = "auto"
#: What NVIDIA's own program is asked, one line for each GPU.
_NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
#: Seconds that it may take.
_NVIDIA_SECONDS = 20.0


def resolved(device: str) -> str:
    """A device as torch names it, to be asked where a model is loaded.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``, which stay as they are, or ``auto`` or ``auto:N``: the GPU N, counted
            anew from the first after the last one, or ``cpu`` where torch can use no GPU.
    """
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
    """In words, and without torch, what a device will be: torch has the last word when a model is loaded.

    Args:
        device: ``auto``, or any other, which is said as it is.
        workers: how many processes share the GPUs.
    """
    if device != AUTO:
        return device
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "auto: cpu, CUDA_VISIBLE_DEVICES hides every GPU"
    gpus = nvidia_gpus()
    if not gpus:
        return "auto: cpu, no NVIDIA GPU was found"
    if _torch_is_for_cpus():
        return f"auto: cpu, this torch is a build for CPUs and cannot use {gpus[0]}"
    chosen = ", ".join(f"cuda:{number}" for number in range(min(workers, len(gpus))))
    return f"auto: {chosen}, the driver lists {'; '.join(gpus)}"


def nvidia_gpus() -> list[str]:
    """A line for each GPU that NVIDIA's driver knows: name, memory, version of the driver."""
    program = shutil.which(_NVIDIA[0])
    if program is None:
        return []
    command = [program, *_NVIDIA[1:]]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_NVIDIA_SECONDS)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.stdout.splitlines() if line.strip()]


def _torch_is_for_cpus() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True
