"""What processes need of the system: exit statuses, locks, logs, room on a disk, time in words, OpenMP's threads."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from defsurvey.storage.errors import BadInput, Failure

# Exit statuses: what verbs promise to scripts, and what daemons tell whoever starts them again. Which error ends with
# which is in ``jobs.cli.main``. A worker whose engine hangs ends with ``workers.runner.watchdog.EXIT_HUNG``.
DONE = 0  #: everything that was asked for is there
ERROR = 1  #: something went wrong although the input was good
USAGE = 2  #: bad input: to start again will not help
INCOMPLETE = 3  #: it has ended, and not everything that was asked for is there
INTERRUPTED = 130  #: a person or a signal ended it (128 and the number of SIGINT, as shells count)
UNAVAILABLE = 69  #: a worker cannot serve at all (sysexits' EX_UNAVAILABLE): to start it again will not help

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"  #: log lines: time, level, logger, message
MOST_LOG_BYTES = 10_000_000  #: bytes above which a log is begun anew

#: What is wrong with a disk; the system names no file where one that is open cannot be written.
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_ROOM = 1 << 20  #: bytes for which there has to be room: less than a report, more than a line of a log


class HomeInUse(Failure, RuntimeError):
    """Another process holds the lock; the message names the folder and the process, and says how to go on."""


class BadOutput(BadInput, ValueError):
    """Nothing can be written where the user said; the message names the option, what was expected and the place."""


@contextmanager
def exclusive(path: Path, what: str, *, patience: float = 0.0, needed: bool = True, remedy: str = "") -> Iterator[None]:
    """Hold a lock file, with the process's id in it, for as long as the block runs; it is released even by kill -9.

    Where another process holds it for longer than ``patience`` seconds, HomeInUse says ``what`` that is, and a
    ``remedy``. Unless it is ``needed`` the block runs without a lock where the file system has none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("a+") as lock:
        while not locked(lock, needed=needed):
            if time.monotonic() >= deadline:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                used = f"{path.parent} is in use by another {what} (process {holder})"
                raise HomeInUse(f"{used}{': ' if remedy else ''}{remedy}")
            time.sleep(0.05)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def locked(lock: IO[str], *, needed: bool) -> bool:
    """Lock an open file without waiting; False where another process holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if needed or error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
            raise OSError(error.errno, error.strerror, lock.name) from None
    return True


def keep_short(path: Path) -> None:
    """Begin a log anew that has grown above ``MOST_LOG_BYTES``; what was in it is kept next to it, as ``NAME.1``.

    Its writers append, so that they go on at the beginning of the emptied file.
    """
    with suppress(OSError):
        if path.stat().st_size > MOST_LOG_BYTES:
            shutil.copy(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def last_line(path: Path) -> str:
    """The last line of a log, as it stands on a terminal."""
    lines = (line.removeprefix("defsurvey: ") for line in _backwards(path) if line.strip())
    return next(lines, f"see {path}")


def last_error(path: Path) -> str:
    """The message of the last error in a log."""
    errors = (line.split(" ERROR ", 1)[1].partition(": ")[2] for line in _backwards(path) if " ERROR " in line)
    return next(errors, f"a worker cannot serve; see {path}")


def _backwards(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[::-1]


@contextmanager
def written_to(option: str, place: Path | None) -> Iterator[None]:
    """Write within the block what the user wants at a place, which they named by an option such as ``--output``.

    BadOutput is raised where the system refuses that, and the disk is neither full nor broken.
    """
    try:
        yield
    except OSError as error:
        if place is None or error.errno in DISK or not isinstance(error.filename, str):
            raise
        named, places = Path(error.filename).absolute(), (place.absolute(), place.resolve())
        if not any(named.is_relative_to(each.parent) or named in each.parents for each in places):
            raise  # of another file
        expected = "expected a place that can be written to"
        raise BadOutput(f"{option}: {expected}, got {place}: {error.strerror}") from None


def why_unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder: its disk is full, say. Nothing where all is well."""
    try:
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: ``2 h 05 min``, ``3 min 20 s``, ``12 s``, or ``?``."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def wait_shortly() -> None:
    """Let OpenMP's threads that wait spin for some microseconds and then sleep; to be called before torch is loaded.

    One that spins for milliseconds makes two processes on the same cores 20 to 40 times slower; one that sleeps at once
    makes small operations twice as slow. What the environment says already stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
