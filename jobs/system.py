"""What processes need of the operating system: exit statuses, locks, logs, room on a disk, and OpenMP's threads."""

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
# which is in ``jobs.cli.exits``. A worker whose engine hangs ends with ``workers.runner.watchdog.EXIT_HUNG``.

#: Everything that was asked for is there.
DONE = 0
#: Something went wrong although the input was good.
ERROR = 1
#: Bad input: to start again will not help.
USAGE = 2
#: It has ended, and not everything that was asked for is there.
INCOMPLETE = 3
#: A person or a signal ended it (128 and the number of SIGINT, as shells count).
INTERRUPTED = 130
#: A worker cannot serve at all (sysexits' EX_UNAVAILABLE): to start it again will not help.
UNAVAILABLE = 69

#: Log lines: time, level, logger, message.
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Bytes above which a log is begun anew.
MOST_LOG_BYTES = 10_000_000
#: Bytes at the end of a log that are read: more than any error has lines for.
_END_BYTES = 65_536

#: What is wrong with a disk; the system names no file where one that is open cannot be written.
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
#: What file systems say that have no locks.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
#: Bytes for which there has to be room: less than a report, more than a line of a log.
_ROOM = 1 << 20


class HomeInUse(Failure, RuntimeError):
    """Another process holds the lock; the message names the folder and the process, and says how to go on."""


class BadOutput(BadInput, ValueError):
    """Nothing can be written where the user said; the message names the option, what was expected and the place."""


@contextmanager
def exclusive(path: Path, what: str, *, patience: float = 0.0, needed: bool = True, remedy: str = "") -> Iterator[None]:
    """Hold a lock file, with the process's id in it, for as long as the block runs; it is released even by kill -9.

    Args:
        path: the lock file.
        what: what holds it, in words.
        patience: seconds to wait for whoever holds it now.
        needed: whether there must be a lock; else the block runs without one where the file system has none.
        remedy: what the user can do where another process holds it.

    Raises:
        HomeInUse: another process holds it.
        OSError: the file system has no locks.
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
    """Lock an open file without waiting; False where another process holds it. Errors as for ``exclusive``."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if needed or error.errno not in _NO_LOCKS:
            raise OSError(error.errno, error.strerror, lock.name) from None
    return True


def keep_short(path: Path) -> None:
    """Begin a log anew that has grown above ``MOST_LOG_BYTES``; what was in it is kept next to it, as ``NAME.1``.

    Its writers append, so that they go on at the beginning of the emptied file. A line that comes between the copy and
    the emptying is lost. Where nothing can be copied, a full disk say, the log is left as it is.
    """
    with suppress(OSError):
        if path.stat().st_size > MOST_LOG_BYTES:
            shutil.copy(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)


def last_line(path: Path) -> str:
    """The last line of a log, as it stands on a terminal."""
    lines = (line.removeprefix("defsurvey: ") for line in reversed(_end(path)) if line.strip())
    return next(lines, f"see {path}")


def last_error(path: Path) -> str:
    """The message of the last error in a log."""
    errors = (line.split(" ERROR ", 1)[1].partition(": ")[2] for line in reversed(_end(path)) if " ERROR " in line)
    return next(errors, f"a worker cannot serve; see {path}")


def _end(path: Path) -> list[str]:
    """The last lines of a log; the first of them may lack its beginning."""
    with path.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _END_BYTES))
        return log.read().decode(errors="replace").splitlines()


@contextmanager
def written_to(option: str, place: Path | None) -> Iterator[None]:
    """Write within the block what the user wants at a place, which they named by an option such as ``--output``.

    Raises:
        BadOutput: the system refuses to write at the place, or next to it, and its disk is neither full nor broken.
    """
    try:
        yield
    except OSError as error:
        if place is None or error.errno in DISK or not _about(error.filename, place.absolute()):
            raise
        expected = "expected a place that can be written to"
        raise BadOutput(f"{option}: {expected}, got {place}: {error.strerror}") from None


def _about(file: object, place: Path) -> bool:
    """Whether a file that the system names is the place (or where that links to), near it, in it or on the way."""
    if not isinstance(file, str):
        return False
    named = Path(file).absolute()
    places = (place, Path(os.path.realpath(place)))
    return any(named.is_relative_to(each.parent) or named in each.parents for each in places)


def why_unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder: its disk is full, say. Nothing where all is well."""
    try:
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_ROOM))
            probe.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def wait_shortly() -> None:
    """Let OpenMP's threads that wait spin for some microseconds and then sleep; to be called before torch is loaded.

    Left to itself a thread spins for milliseconds, so that two processes on the same cores spend their time spinning
    (20 to 40 times slower). One that sleeps at once has to be woken between any two small operations of a forward,
    which takes longer than they do (twice as slow). What the environment says already stands.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
