"""Where something is to be written, and cannot be: wrong input if the user named the place, else a disk's fault."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

#: What is wrong with a place, and not with a disk that is full or fails.
_PLACE = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)

#: What is wrong with a disk; the system names no file where one that is open cannot be written.
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})

#: Bytes for which there has to be room: less than a report, more than a line of a log.
_ROOM = 1 << 20


class BadOutput(ValueError):
    """Nothing can be written where the user said; the message names the option, what was expected and the place."""


@contextmanager
def written_to(option: str, place: Path | None) -> Iterator[None]:
    """Write within the block what the user wants at a place.

    Args:
        option: how the place was given, such as ``--output``.
        place: a file or folder; None: the user named none, and nothing is wrong with what they typed.

    Raises:
        BadOutput: the system refuses to write at the place, or beside it.
    """
    try:
        yield
    except OSError as error:
        if place is None or error.errno not in _PLACE or not _about(error.filename, place.absolute()):
            raise
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


def _about(file: object, place: Path) -> bool:
    """Whether a file that the system names is the place, lies beside or in it, or on the way to it.

    A place that is a link is also where that leads.
    """
    if not isinstance(file, str):
        return False
    named = Path(file).absolute()
    places = (place, Path(os.path.realpath(place)))
    return any(named.is_relative_to(each.parent) or named in each.parents for each in places)
