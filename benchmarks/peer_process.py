"""One command as a whole process: how long it took, and how much memory it and what it started took together.

Knows Linux's ``/proc``. Deliberately knows nothing of what is run.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Seconds between two looks at the memory.
EVERY = 0.1
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


class ProcessFailed(RuntimeError):
    """A measured command did not end well; the message has the end of what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """One run of one command."""

    began: float  #: seconds since 1970
    seconds: float  #: from start to exit
    peak_mb: float  #: resident memory of all its processes together; pages that they share count in each


def measure(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], accepted: Sequence[int] = (0,)
) -> Took:
    """Run a command to its end.

    Args:
        command: without a shell.
        folder: to run in; what the command writes goes into ``output.txt`` there.
        environment: all of it.
        accepted: exit codes of a run that counts.

    Raises:
        ProcessFailed: it ended with another code.
    """
    output = folder / "output.txt"
    with output.open("wb") as written:
        began, start = time.time(), time.perf_counter()
        process = subprocess.Popen(  # noqa: S603  # no shell
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=written, stderr=written
        )
        family = _Family(process.pid)
        family.start()
        code = process.wait()
        seconds = time.perf_counter() - start
    family.stop()
    if code not in accepted:
        told = output.read_text(errors="replace")[-3000:]
        raise ProcessFailed(f"{' '.join(command)} ended with {code}, expected {accepted}:\n{told}")
    return Took(began=began, seconds=seconds, peak_mb=family.peak_mb)


class _Family:
    """Watches the memory of a process and of its descendants; one that outlives its parent stays counted."""

    def __init__(self, root: int) -> None:
        self.peak_mb = 0.0
        self._known = {root}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._grow()
            self.peak_mb = max(self.peak_mb, sum(map(_resident_mb, self._known)))
            self._over.wait(EVERY)

    def _grow(self) -> None:
        parents = _parents()
        self._known &= parents.keys()
        found = True
        while found:
            new = {pid for pid, parent in parents.items() if parent in self._known} - self._known
            found = bool(new)
            self._known |= new


def _parents() -> dict[int, int]:
    """The parent of every process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended meanwhile
                stat = (entry / "stat").read_bytes()
                parents[int(entry.name)] = int(stat[stat.rindex(b")") + 2 :].split()[1])
    return parents


def _resident_mb(pid: int) -> float:
    with suppress(OSError):
        return int(Path("/proc", str(pid), "statm").read_bytes().split()[1]) * _PAGE_MB
    return 0.0
