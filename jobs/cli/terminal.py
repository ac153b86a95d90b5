"""Terminals, and pipes, that do not know every character of a survey, and streams that were closed."""

from __future__ import annotations

import codecs
import io
import os
import sys

_ESCAPED = "defsurvey-escaped"


def open_closed() -> None:
    """Have streams that were closed before the program began (``>&-``) lead to nothing: to write there is no error.

    Before any file is opened: that would have the stream's number, and take in what a process of ours prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(opened, True)
            setattr(sys, name, os.fdopen(opened, "r" if number == 0 else "w", encoding="utf-8"))


def write_whatever() -> None:
    r"""From now on stdout and stderr take every text: characters that they cannot show are escaped as in JSON.

    Not as Python does it by ``backslashreplace``: ``\xe9`` and ``\U0001f600`` are no JSON, and what programs read is
    written to the same streams.
    """
    codecs.register_error(_ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put another in its place
            stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end
