"""Which host a process runs on, told from every other host of the same name."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NUMBERING = Path("/proc/self/ns/pid")


def host() -> str:
    """Name of this host: ``name:mark`` on Linux, where the mark is 8 hexadecimal digits, else ``name``.

    The processes of hosts that are equal in it can be told by their numbers. Cloned machines have the same name, and so
    have containers on the host's network, each of which numbers its own processes; a restart makes another host.
    """
    mark = _mark()
    return f"{socket.gethostname()}:{mark}" if mark else socket.gethostname()


@cache  # a process never moves
def _mark() -> str:
    try:
        told = f"{_BOOT.read_text(encoding='ascii').strip()} {_NUMBERING.stat().st_ino}"
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def is_dead(owner: str) -> bool:
    """Whether the owner of a lease was a process of this host that is no more; of other hosts nothing is known."""
    where, pid, _token = owner.rsplit(":", 2)
    if where != host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
