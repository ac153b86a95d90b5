"""Lock files: one process at a time, of those on one machine."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

#: What file systems say that know no locks.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


class HomeInUse(RuntimeError):
    """Another process holds the lock; the message names the folder and the process, and says how to go on."""


@contextmanager
def exclusive(path: Path, what: str, *, patience: float = 0.0, needed: bool = True, remedy: str = "") -> Iterator[None]:
    """Hold a lock file for as long as the block runs; it is let go of even by kill -9.

    Args:
        path: the lock file; it holds the process id of whoever took it last.
        what: what holds it, in words.
        patience: seconds to wait for whoever holds it now.
        remedy: what the user can do where another process holds it.
        needed: whether there must be a lock; else the block runs without one where the file system has none.

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
                told = f"{path.parent} is in use by another {what} (process {holder})"
                raise HomeInUse(f"{told}{': ' if remedy else ''}{remedy}")
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
