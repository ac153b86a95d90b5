"""Terminals, and pipes, that do not know every character of a survey.

Knows the two streams. Deliberately changes no encoding: what a terminal is said to understand is what it gets.
"""

from __future__ import annotations

import codecs
import io
import sys

_ESCAPED = "defsurvey-escaped"


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
