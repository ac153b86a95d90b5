"""What can be wrong with the files of a survey or a study, and how an error says it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.errors import BadInput
from defsurvey.storage.text import in_one_line

_LONGEST = 4_000  #: an error has at most so many characters


class SurveyError(BadInput, ValueError):
    """A survey is not what the format asks for; the message says where and what."""


class UnknownName(SurveyError):
    """A survey, question, culture or group was asked for that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as the format asks for."""

    file: str  #: name of the file within the folder
    line: int | None = None  #: counted from 1; None where there is no line to name
    column: int | None = None  #: counted from 1; only for files that do not parse, and for tables of other people
    field: str = ""  #: e.g. ``Q7.options[2].label.zh``
    expected: str
    got: str

    def __str__(self) -> str:
        line = "" if self.line is None else f"line {self.line}"
        column = "" if self.column is None else f"column {self.column}"
        place = ", ".join(filter(None, (self.file, line, column, self.field)))
        said = f"expected {self.expected}, got {self.got}"
        return in_one_line(f"{place}: {said}" if place else said, most=_LONGEST)


class Fault(SurveyError):
    """Problems of one file; the message is the first and how many others there are."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(_first_of(problems))
        self.problems = problems


def fault(
    file: str, expected: str, got: str, *, line: int | None = None, column: int | None = None, field: str = ""
) -> Fault:
    """The error of one problem."""
    return Fault(Problem(file=file, line=line, column=column, field=field, expected=expected, got=got))


class InvalidSurvey(SurveyError):
    """A survey folder has problems; the message is the first and how many others there are."""

    def __init__(self, folder: Path, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"survey folder {folder}: {_first_of(problems)}")
        self.folder = folder
        self.problems = problems


def _first_of(problems: Sequence[Problem]) -> str:
    others = len(problems) - 1
    return f"{problems[0]}" + (f" (and {others} more problem{'s' if others > 1 else ''})" if others else "")


class Problems(list[Problem]):
    """Gathers problems, so that one reading finds them all."""

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Go on after the block when something in it is at fault."""
        try:
            yield
        except Fault as error:
            self.extend(error.problems)


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`` (did you mean 'X'?)`` where a known name is close to ``name``, whatever its case, else nothing.

    ``prefix`` is put before the known name; it is no part of ``name``.
    """
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean {prefix + lowered[close[0]]!r}?)" if close else ""


def one_of(known: Iterable[str]) -> str:
    """The first dozen of ``known`` as a list to choose from."""
    return listed(known) or "those declared, and there are none"


def listed(names: Iterable[str], most: int = 12) -> str:
    """The first dozen names, and how many others there are."""
    first = list(names)
    return ", ".join(first[:most]) + (f" and {len(first) - most} more" if len(first) > most else "")


def shown(value: str) -> str:
    """A value as an error shows it: quoted, and cut where it is long."""
    return (repr(value) if len(value) <= 80 else f"{value[:80]!r}...") if value else "nothing"
