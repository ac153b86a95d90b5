"""What is typed behind the command line's verbs: texts, lists, paths and sums; and what is printed for programs.

An option that is given and says nothing is refused, since what stands for it in a script is most often a variable that
was never set: it must not mean the same as no option at all.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import click


class Text(click.ParamType[str]):
    """Text in UTF-8: anything else could be in no database, and in no file of ours.

    Args:
        empty: whether none at all may be given, as for a name that is looked up, and then told with those there are.
    """

    name = "text"

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """What was typed, if it is text."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"expected text in UTF-8, got {os.fsencode(value)!r}", param, ctx)
        if not value.strip() and not self.empty:
            self.fail(f"expected text, got {value!r}", param, ctx)
        return str(value)


class Names(click.ParamType[tuple[str, ...]]):
    """One or more names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, in the order in which they were typed."""
        text = Text(empty=True).convert(value, param, ctx)
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if not names:
            self.fail(f"expected one or more, with commas between them, got {text!r}", param, ctx)
        return names


class Dollars(click.ParamType[float]):
    """A finite number of US dollars above 0, as a study's ``budget``."""

    name = "dollars"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that was typed."""
        try:
            dollars = float(value)
        except ValueError:
            dollars = math.nan
        if not (dollars > 0 and math.isfinite(dollars)):
            self.fail(f"expected a finite number above 0, got {value!r}", param, ctx)
        return dollars


class Place(click.Path):
    """A path that leads somewhere: neither nothing, nor from a working folder that is not there any more."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """The path that was typed."""
        if not os.fspath(value):
            self.fail("expected a path, got nothing", param, ctx)
        if not Path(value).is_absolute():
            try:
                Path.cwd()
            except FileNotFoundError:
                self.fail(f"expected a path from /, got {os.fspath(value)!r}: the working folder is gone", param, ctx)
        return super().convert(value, param, ctx)


TEXT = Text()
NAMES = Names()
PATH = Place(path_type=Path)
FILE = Place(dir_okay=False, path_type=Path)
FOLDER = Place(file_okay=False, path_type=Path)

STUDY = click.argument("study", type=PATH, metavar="STUDY")
RUN = click.argument("run_id", type=Text(empty=True), metavar="RUN")
NAME = click.option("--name", type=TEXT, help="Name of the run, in place of the study's.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def print_json(body: object) -> None:
    """Print JSON, in which a number that is none, or not finite, is ``null``: there is no other word for it."""
    known = json.loads(json.dumps(body), parse_constant=lambda _: None)
    click.echo(json.dumps(known, ensure_ascii=False, indent=2, allow_nan=False))
