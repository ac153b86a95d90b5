"""Turns a name into a path that stays under its folder, whoever the name came from."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class OutsideFolder(OSError):
    """A name is no path within the folder that what it names has to lie in."""


def path_under(root: Path, *names: str) -> Path:
    """The path of something that has to lie within a folder; nothing is made, and it need not be there.

    Args:
        root: the folder.
        names: of folders and at last of the thing itself, from the root on.

    Raises:
        OutsideFolder: they lead out of the folder, by ``..``, a leading ``/`` or a symbolic link, or to the folder
            itself, or are no path at all.
    """
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
