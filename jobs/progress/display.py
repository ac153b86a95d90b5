"""How far a run has come, laid out for the width that a terminal has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.visible import in_one_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from defsurvey.jobs.progress.snapshot import CellProgress
    from defsurvey.storage.runs.run import Progress

_NAMES = ("model", "culture", "condition", "language")
#: Columns of a terminal in which everything has room.
_WIDE = 1000


@dataclass(frozen=True, slots=True)
class Fitting:
    """The first of some layouts in which no word is broken, and the last where there is none."""

    layouts: tuple[RenderableType, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for layout in self.layouts[:-1]:
            if Measurement.get(console, options.update(max_width=_WIDE), layout).minimum <= options.max_width:
                yield layout
                return
        yield self.layouts[-1]


def head(run: str, progress: Progress, facts: Sequence[str]) -> Fitting:
    """A run's name, a bar and facts; a sentence without a bar where these do not fit beside each other."""
    row = Table.grid(padding=(0, 2), expand=False)
    row.add_column(no_wrap=True)
    row.add_column(max_width=40)
    for fact in facts:
        row.add_column(no_wrap=True, min_width=len(fact))
    bar = ProgressBar(total=max(progress.planned, 1), completed=progress.done)
    row.add_row(Text(run, style="bold"), bar, *map(Text, facts))
    return Fitting((row, Text(f"{run}: {', '.join(facts)}", overflow="fold")))


def cells_shown(cells: Sequence[CellProgress]) -> Fitting:
    """A row for each cell: its names, and how many answers ended in each state that any cell has.

    Where the terminal is too narrow for a column of each name they share one; where it is for that, each cell is a
    sentence.
    """
    present = [state.value for state in AnswerState if any(getattr(cell.progress, state) for cell in cells)]
    named = [[in_one_line(getattr(cell, name)) for name in _NAMES] for cell in cells]
    apart = _table(_NAMES, named, cells, present)
    together = _table(("cell",), [[", ".join(names)] for names in named], cells, present)
    told = (f"{', '.join(names)}: {_told(cell.progress, present)}" for names, cell in zip(named, cells, strict=True))
    return Fitting((apart, together, Text("\n".join(told), overflow="fold")))


def _table(
    names: Sequence[str], named: Sequence[Sequence[str]], cells: Sequence[CellProgress], states: Sequence[str]
) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in names:
        table.add_column(name)
    for state in ("done", *states):
        table.add_column(state, justify="right", no_wrap=True)
    for its, cell in zip(named, cells, strict=True):
        counts = (f"{getattr(cell.progress, state):,}" for state in states)
        table.add_row(*map(Text, its), _done(cell.progress), *counts)  # Text: a name is no markup
    return table


def _done(progress: Progress) -> str:
    return f"{progress.done:,}/{progress.planned:,}"


def _told(progress: Progress, states: Sequence[str]) -> str:
    ended = ", ".join(f"{getattr(progress, state):,} {state}" for state in states)
    return _done(progress) + (f" ({ended})" if ended else "")
