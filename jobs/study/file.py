"""A study file as it is on disk: its text, and numbers within bounds."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path

from defsurvey.storage.surveys.yaml_text import Entry

_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

#: The largest number that a database column and a JSON reader hold without loss of meaning.
LARGEST = 2**63 - 1


class StudyError(ValueError):
    """A study cannot be run as it is written; the message says where, what was expected and what was found."""


def read_text(path: Path) -> str:
    """The text of a study file.

    Raises:
        StudyError: there is no such file, it is a folder, it cannot be read, or it is not UTF-8.
    """
    if path.is_dir():
        raise StudyError(f"{path}: expected a study file, got a folder")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"{path}: expected a study file, got no such file") from None
    except OSError as problem:
        raise StudyError(f"{path}: expected a study file that can be read, got: {problem.strerror}") from problem
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        got = f"the byte 0x{content[problem.start]:02x}"
        raise StudyError(f"{path}, line {line}: expected text in UTF-8, got {got}") from None


def whole_number(entry: Entry, least: int, most: int = LARGEST) -> int:
    """The whole number written in an entry, from ``least`` to ``most``.

    Raises:
        Fault: it is none, or out of bounds.
    """
    expected = f"a whole number of at least {least}"
    if not entry.is_text or not _WHOLE.fullmatch(str(entry.node.value)):
        raise entry.fault(expected)
    number = int(entry.node.value)
    if number < least:
        raise entry.fault(expected)
    if number > most:
        raise entry.fault(f"a whole number of at most {most}")
    return number


def number_above_zero(entry: Entry, most: float | None = None) -> float:
    """The finite number written in an entry, above 0 and, where given, at most ``most``.

    Raises:
        Fault: it is none, or out of bounds.
    """
    expected = "a number above 0" + (f" and at most {most:g}" if most is not None else "")
    if not entry.is_text or not _NUMBER.fullmatch(str(entry.node.value)):
        raise entry.fault(expected)
    number = float(entry.node.value)
    if number <= 0 or not isfinite(number) or (most is not None and number > most):
        raise entry.fault(expected)
    return number
