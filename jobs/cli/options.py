"""What is typed behind verbs, where what says nothing (a variable never set) is refused; how results are printed."""

from __future__ import annotations

import codecs
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from defsurvey.jobs.settings import Settings
    from defsurvey.storage.database import Database

#: ``auto:N`` is for workers that a command starts next to others, see ``workers.engines.machine``.
_DEVICE = re.compile(r"cpu|(auto|cuda)(:\d+)?")


def looked_up(value: str) -> str:
    """A name in UTF-8, since no other could be in a database; the error for an unknown one names those there are."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"expected text in UTF-8, got {os.fsencode(value)!r}") from None
    return value


def text(value: str) -> str:
    """Text in UTF-8 that says something."""
    if not looked_up(value).strip():
        raise click.BadParameter(f"expected text, got {value!r}")
    return value


def names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """One or more names with commas between them, in the order in which they were typed."""
    if isinstance(value, tuple):  # a default
        return value
    found = tuple(name.strip() for name in looked_up(value).split(",") if name.strip())
    if not found:
        raise click.BadParameter(f"expected one or more, with commas between them, got {value!r}")
    return found


def dollars(value: str) -> float:
    """A finite number of US dollars above 0, as a study's ``budget``."""
    return _number(value, value, math.nextafter(math.inf, 0), "a finite number above 0")


def share(value: str) -> float:
    """``all``, or a number above 0 and at most 1."""
    return _number(value, "1" if value == "all" else value, 1.0, "all, or a number above 0 and at most 1")


def _number(typed: str, value: str, most: float, expected: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number <= most:
        raise click.BadParameter(f"expected {expected}, got {typed!r}")
    return number


def device(value: str) -> str:
    """A device as it is written; whether this machine has it shows when a model is loaded, by torch."""
    if not _DEVICE.fullmatch(value):
        raise click.BadParameter(f"expected auto, cpu, cuda or cuda:N, got {value!r}")
    return value


def address(value: str) -> tuple[str, int]:
    """``[HOST:]PORT`` as host and port; on this machine alone where no host is given."""
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise click.BadParameter(f"expected [HOST:]PORT with a port from 1 to 65535, got {value!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


class Place(click.Path):
    """A path that leads somewhere."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that was typed."""
        if not os.fspath(value):
            self.fail("expected a path, got nothing", param, ctx)
        return super().convert(value, param, ctx)


PATH = Place(path_type=Path)
FILE = Place(dir_okay=False, path_type=Path)
FOLDER = Place(file_okay=False, path_type=Path)

#: An option that takes a number of at least 1, and one that takes a list.
counting = partial(click.option, type=click.IntRange(min=1), show_default=True)
listing = partial(click.option, type=names, default=())

STUDY = click.argument("study", type=PATH, metavar="STUDY")
RUN = click.argument("run_id", type=looked_up, metavar="RUN")
NAME = click.option("--name", type=text, help="Name of the run, in place of the study's.")
WORKERS = counting("--workers", default=1, help="Worker processes.")
CONCURRENCY = counting(
    "--concurrency",
    help="Participants at once in each worker; where not given, as many as the model leaves memory for.",
)
DEVICE = click.option(
    "--device",
    type=device,
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="auto, cpu, cuda or cuda:N; auto is the first GPU that torch can use, else the CPU.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
Parameter = Callable[[Any], Any]  #: an option, an argument, or what else click adds to a verb
CREW = (WORKERS, CONCURRENCY, DEVICE)  #: what a verb says of the workers that it starts
SETTINGS = click.pass_obj  #: gives a verb the settings, before all that was typed


def taking(*parameters: Parameter) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare what a verb takes, in the order in which its help shows it: ``@taking(RUN, JSON, SETTINGS)``."""

    def declare(verb: Callable[..., Any]) -> Callable[..., Any]:
        for parameter in reversed(parameters):
            verb = parameter(verb)
        return verb

    return declare


def opened(settings: Settings, *, make: bool = False) -> Database:
    """The database of a home, which has to be there unless it is made; loaded here, since no help needs it."""
    from defsurvey.jobs.daemons.startup import open_database

    return open_database(settings, make=make)


def print_json(body: object) -> None:
    """Print JSON, in which a number that is none, or not finite, is ``null``: there is no other word for it."""
    known = json.loads(json.dumps(body), parse_constant=lambda _: None)
    shows_all = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    click.echo(json.dumps(known, ensure_ascii=not shows_all, indent=2, allow_nan=False))


def print_result(body: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a verb found out: as JSON for programs, or as lines for a person."""
    if as_json:
        print_json(body)
    else:
        for line in lines:
            click.echo(line)


def print_rendered(body: object, render: Callable[[], RenderableType], *, as_json: bool) -> None:
    """Print what a verb found out: as JSON for programs, or drawn for a person."""
    if as_json:
        print_json(body)
    else:
        console().print(render())


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a plain stream; progress goes to stderr and results to stdout."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    given = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if given else 120)
