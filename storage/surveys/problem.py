"""What can be wrong with a survey folder, and how it is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.survey import SurveyError
from defsurvey.storage.visible import in_one_line

#: Characters of a problem that are told.
_LONGEST = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as the format asks for."""

    file: str  #: name of the file within the folder
    line: int | None = None  #: counted from 1; None where there is no line to name
    column: int | None = None  #: counted from 1; only for files that do not parse
    field: str = ""  #: e.g. ``Q7.options[2].label.zh``
    expected: str
    got: str

    def __str__(self) -> str:
        places = [
            self.file,
            f"line {self.line}" if self.line is not None else "",
            f"column {self.column}" if self.column is not None else "",
            self.field,
        ]
        place = ", ".join(part for part in places if part)
        told = f"expected {self.expected}, got {self.got}"
        return in_one_line(f"{place}: {told}" if place else told, most=_LONGEST)


def _first_of(problems: Sequence[Problem]) -> str:
    others = len(problems) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    return f"{problems[0]}{more}"


class Fault(SurveyError):
    """Problems of one file; the message tells the first and how many others there are."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(_first_of(problems))
        self.problems = problems


class InvalidSurvey(SurveyError):
    """A survey folder has problems; the message tells the first and how many others there are."""

    def __init__(self, folder: Path, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"survey folder {folder}: {_first_of(problems)}")
        self.folder = folder
        self.problems = problems


class Problems:
    """Gathers problems, so that one reading tells them all."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Go on behind the block when something in it is at fault."""
        try:
            yield
        except Fault as fault:
            self.found.extend(fault.problems)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Like ``gathered``, and raise behind the block if anything was gathered within it."""
        before = len(self.found)
        with self.gathered():
            yield
        if len(self.found) > before:
            raise Fault(self.found.pop())


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """`` (did you mean 'X'?)`` where a known name is close to ``name``, else nothing.

    Args:
        name: what was written, in whatever case.
        known: the names that there are.
        prefix: stands before each of them, and is told with it; none of it is in ``name``.
    """
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean {prefix + lowered[close[0]]!r}?)" if close else ""


def one_of(known: Iterable[str]) -> str:
    """The first dozen of ``known`` as a list to choose from."""
    names = list(known)
    if not names:
        return "those declared, and there are none"
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def shown(value: str) -> str:
    """A value as an error tells it: quoted, and cut where it is long."""
    return (repr(value) if len(value) <= 80 else f"{value[:80]!r}...") if value else "nothing"
