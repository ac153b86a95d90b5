"""Turns a name into a path that stays under its folder, whoever the name came from."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


class OutsideFolder(OSError):
    """A name is no path within the folder that what it names has to lie in."""


def path_under(root: Path, *names: str) -> Path:
    """The path of something that has to lie within a folder, there or not; raises OutsideFolder."""
    path = root.joinpath(*names)
    try:
        leads_to = path.resolve()
        # From Python 3.13 on a circle of links is left as it is; what is too long a name is no link.
        circle = os.path.islink(leads_to)  # noqa: PTH114 -- Path.is_symlink raises where a name is too long
    except (OSError, RuntimeError, ValueError):  # a circle of links before that; a NUL
        circle = True
    if circle:
        raise OutsideFolder(errno.EINVAL, f"expected a name within {root}, got no path", "/".join(names)) from None
    if leads_to == root.resolve() or not leads_to.is_relative_to(root.resolve()):
        told = f"expected a path within {root}, got {leads_to}"
        raise OutsideFolder(errno.EINVAL, told, "/".join(names))
    return path


#: What others may do with a new file, as far as the account's umask leaves it to them.
_MODE = 0o666
#: How a file that this process has open already is named.
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file, which appears whole or not at all; a link stays, and the file that it leads to is written.

    What is no regular file, such as a pipe, and what this process has open already, such as ``/dev/stdout``, is written
    into, and gets nothing where the writing fails half way.
    """
    if (descriptor := open_already(path)) is not None:
        with os.fdopen(os.dup(descriptor), "wb") as target:  # first of all: what is opened might get its number
            _write_into(target, write)
        return
    if path.exists() and not path.is_file():
        with path.open("wb") as target:
            _write_into(target, write)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as target:
            write(target)
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _settle(folder: Path) -> None:
    """Make a new name survive a loss of power, where the platform can do that for a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_already(path: Path) -> int | None:
    """The number by which this process has a path open already, as it has ``/dev/stdout``; None where it has not."""
    places = (path, path.parent / path.readlink() if path.is_symlink() else path)
    named = (_DESCRIPTOR.fullmatch(str(place.absolute())) for place in places)
    return next((int(number[1]) for number in named if number), None)


def _write_into(target: IO[bytes], write: Callable[[IO[bytes]], object]) -> None:
    with tempfile.TemporaryFile() as whole:
        write(whole)
        whole.seek(0)
        shutil.copyfileobj(whole, target)
