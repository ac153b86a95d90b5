"""A look at a run: nothing of it is cut off, however narrow the terminal is."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from defsurvey.jobs.progress.snapshot import CellProgress, Snapshot
from defsurvey.jobs.progress.watching import render
from defsurvey.storage.runs.run import Progress

MODELS = ("smollm2-135m-instruct", "own-server-with-a-long-name-of-its-own")
CONDITIONS = ("def", "multilingual-without-memory")
ALL_STATES = Progress(planned=57_600, answered=41_234, refused=1_111, unparsable=2_222, failed=333)


def look(progress: Progress, run: str = "first") -> Snapshot:
    """A run of two models under two conditions, of which each cell has come as far."""
    cells = tuple(
        CellProgress(model=model, culture="us", condition=condition, language="en", progress=progress)
        for model in MODELS
        for condition in CONDITIONS
    )
    whole = Progress(**{state: 4 * getattr(progress, state) for state in Progress.__dataclass_fields__})
    return Snapshot(
        run=run,
        state="running",
        progress=whole,
        participants={"waiting": 1, "running": 1, "finished": 0, "quarantined": 0},
        cells=cells,
        rate_per_second=12.5,
        report=None,
    )


def shown(current: Snapshot, width: int) -> list[str]:
    """The lines of a terminal of that width."""
    written = io.StringIO()
    Console(file=written, width=width).print(render(current, 12.5))
    return written.getvalue().splitlines()


@pytest.mark.parametrize("progress", [ALL_STATES, Progress(planned=267, answered=255, unparsable=12)])
@pytest.mark.parametrize("run", ["first", "a-rather-long-name-of-a-study-with-a-number-0123456789"])
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_names_and_figures_are_whole(width: int, run: str, progress: Progress) -> None:
    """Nothing is cut off, and no line is longer than the terminal is wide; a name may go on in the next line."""
    lines = shown(look(progress, run=run), width)
    text = "\n".join(lines)
    assert "…" not in text
    assert max(map(len, lines)) <= width
    joined = "".join(text.split())
    for name in (run, *MODELS, *CONDITIONS):
        assert name in joined
    for figure in (f"{4 * progress.done:,}/{4 * progress.planned:,}", "12.5/s", "running"):
        assert figure in text
    counts = (getattr(progress, state) for state in ("answered", "refused", "unparsable", "failed"))
    for figure in (f"{progress.done:,}/{progress.planned:,}", *(f"{count:,}" for count in counts if count)):
        assert len(re.findall(rf"(?<![\d,]){figure}(?![\d,.])", text)) == 4


def test_names_share_a_column_where_there_is_no_room_for_one_each() -> None:
    """No word of them is broken, and figures stand below each other."""
    lines = shown(look(Progress(planned=267, answered=255, unparsable=12)), 80)
    assert lines[1].split() == ["cell", "done", "answered", "unparsable"]
    figures = [line.split()[-3:] for line in lines if "267/267" in line]
    assert figures == [["267/267", "255", "12"]] * 4
    assert len({line.index("267/267") for line in lines if "267/267" in line}) == 1
    for name in (*MODELS, *CONDITIONS):
        assert sum(name in line for line in lines) == 2


def test_a_narrow_terminal_gets_sentences() -> None:
    """Of each cell, with what its figures are."""
    lines = shown(look(ALL_STATES), 80)
    assert lines[1].startswith("smollm2-135m-instruct, us, def, en: 44,900/57,600 (41,234 answered, 1,111")


def test_a_wide_terminal_has_a_column_for_each_name() -> None:
    """One row for each cell."""
    lines = shown(look(Progress(planned=100, answered=50)), 120)
    assert lines[1].split() == ["model", "culture", "condition", "language", "done", "answered"]
    assert lines[2].split() == [MODELS[0], "us", "def", "en", "50/100", "50"]
    assert len(lines) == 6


def test_states_that_no_answer_has_take_no_room() -> None:
    """They are told once there is one, of every cell."""

    def states(progress: Progress) -> list[str]:
        return shown(look(progress), 200)[1].split()[4:]

    assert states(Progress(planned=100)) == ["done"]
    assert states(Progress(planned=100, answered=50, failed=1)) == ["done", "answered", "failed"]
    assert states(ALL_STATES) == ["done", "answered", "refused", "unparsable", "failed"]
