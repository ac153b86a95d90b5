"""Logs that processes of ours append to: kept short, and read from their end."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

#: Log lines: time, level, logger, message.
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Bytes above which a log is begun anew.
MOST_BYTES = 10_000_000
#: Bytes at the end of a log that are read: more than any error has lines for.
_END_BYTES = 65_536


def keep_short(path: Path) -> None:
    """Begin a log anew that has grown above ``MOST_BYTES``; what was in it is kept beside it, as ``NAME.1``.

    Its writers append, so that they go on at the beginning of the emptied file. A line that comes between the copy and
    the emptying is lost. Where nothing can be copied, a full disk say, the log is left as it is.
    """
    with suppress(OSError):
        if path.stat().st_size > MOST_BYTES:
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
