"""The first figure: how close each cell comes, and which may be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CellAnalysis, CultureAnalysis
from defsurvey.reports.cells.items import Ints
from defsurvey.reports.charts.drawing import Chart, room_for
from defsurvey.reports.charts.rows import NATS, Frame, Mark, Scale, cell_figures, cell_mark, reach, rows_chart
from defsurvey.reports.figures.words import MODEL
from defsurvey.reports.metrics.comparisons import Place
from defsurvey.reports.number_format import counted, fixed, nats, percent
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow
from defsurvey.reports.untrusted import visible

CONTROL_NOTE = "Expected scores: what such respondents would get on average."


def closeness(analysis: Analysis) -> Section:
    """Dot plots, order of closeness, controls."""
    ranked = [culture for culture in analysis.cultures if culture.ranking.order]
    charts = dot_plots(analysis)
    return Section(
        anchor="closeness",
        contents="Closeness",
        title="How close the answers come to people's",
        charts=charts,
        chart_note=(
            "Filled marks: a model's mean divergence, with its 95% interval. Shaded: up to what equally many real "
            "people would score on the same questions. Dark ticks: what as many uniform answers would score. Open "
            "diamonds: simple respondents, as many as a cell has participants or a panel stands for, on every question "
            "behind the mean."
        )
        if charts
        else "",
        tables=(
            *(ranking_table(culture) for culture in ranked),
            *(control_table(culture) for culture in analysis.cultures),
        ),
        side_by_side=True,
    )


#: Where a model lacks some of the questions.
_FITTED = (
    "Models are in the order of their means over all of these questions; what a model lacks is filled in by a fit, as "
    "the question's level and the model's own. "
)


def _questions(shared: Ints) -> str:
    least, most = int(shared.min()), int(shared.max())
    return str(most) if least == most else f"{least}–{most}"


def _spelled(place: Place) -> str:
    return str(place.first) if place.first == place.last else f"{place.first}–{place.last}"


def ranking_table(culture: CultureAnalysis) -> Table:
    """Cells of one culture in order, at equal n, ties shared."""
    ranking = culture.ranking
    partly = bool((ranking.shared < ranking.questions).any())
    rows = tuple(
        TableRow(
            head=Entry(text=name),
            entries=(
                Entry(text=_spelled(place)),
                Entry(text=str(place.group)),
                Entry(text=fixed(value)),
                Entry(text=_questions(np.delete(ranking.shared[row], row))),
            ),
        )
        for row, ((name, value), place) in enumerate(zip(ranking.order, ranking.places, strict=True))
    )
    return Table(
        anchor=f"table-order-{culture.culture.code}",
        caption=f"Order of closeness, {culture.name}",
        columns=(
            MODEL,
            Column(text="Places", meaning="that it may hold: it shares them with all it cannot be told from"),
            Column(text="Group", meaning="models of one group are not told from the group's closest one"),
            Column(text="Corrected KL", meaning="at equal n, nats; without the bias of small samples"),
            Column(text="Questions", meaning="that its place rests on: shared with another model, fewest to most"),
        ),
        rows=rows,
        notes=(
            (
                f"Every two models are compared on the questions behind the mean to which both gave at least "
                f"{ranking.n} valid answers, all brought down to {ranking.n}: "
                f"{counted(ranking.questions, 'question')} in all, on which {ranking.n} real people would score "
                f"{fixed(ranking.people)}, uniform answers {fixed(ranking.random)}. {_FITTED if partly else ''}"
                "Two models are told apart where "
                "they would differ on other questions and with other participants too (sign-flip permutation of "
                "questions, jackknife of participants, the larger p; Holm over all pairs)."
            ),
            *(
                f"{name} is not ranked: only {percent(share)} of the questions behind the mean have 10 valid answers."
                for name, share in ranking.unranked
            ),
        ),
    )


def control_table(culture: CultureAnalysis) -> Table:
    """Simple respondents, for one culture."""
    return Table(
        anchor=f"table-respondents-{culture.culture.code}",
        caption=f"Simple respondents, {culture.name}",
        columns=(
            Column(text="Respondent", words=True),
            Column(text="n", meaning="respondents"),
            Column(text="Smoothed KL", meaning="expected, nats, of every question behind the mean"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=control.name), entries=(Entry(text=f"{control.n:,}"), Entry(text=fixed(control.mean)))
            )
            for control in culture.controls
        ),
        notes=(CONTROL_NOTE,),
    )


#: Most cells whose figures are told beneath a drawing where none of them is the closest.
FEW = 3


def dot_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """One chart per culture: cells with intervals, simple respondents, the noise floor; one scale for all."""
    high = reach(
        [value for cell in analysis.cells for value in cell_figures(cell)]
        + [control.mean for culture in analysis.cultures for control in culture.controls]
    )
    room = room_for(
        [visible(cell.name) for cell in analysis.cells]
        + [control.name for culture in analysis.cultures for control in culture.controls]
    )
    return tuple(
        _dot_plot(culture, place, Scale(title=NATS, high=high), room)
        for place, culture in enumerate(analysis.cultures)
        if any(isfinite(cell.sound.headline) for cell in culture.cells)
    )


def _dot_plot(culture: CultureAnalysis, place: int, scale: Scale, room: float) -> Chart:
    cells = sorted(
        (cell for cell in culture.cells if isfinite(cell.sound.headline)), key=lambda cell: cell.sound.headline
    )
    known = [control for control in culture.controls if isfinite(control.mean)]
    marks = [cell_mark(visible(cell.name), cell) for cell in cells]
    marks += [
        Mark(row=control.name, value=control.mean, says=f"{control.name}: {nats(control.mean)}", quiet=True)
        for control in known
    ]
    return rows_chart(
        marks,
        Frame(
            name=f"dots-{place}",
            title=f"Distance from people: {culture.name}",
            description=" ".join(
                ["Smoothed KL divergence in nats, with 95% intervals.", *_told(culture, cells, marks[: len(cells)])]
            ),
            scale=scale,
            first=place,
            room=room,
        ),
    )


def _told(culture: CultureAnalysis, cells: Sequence[CellAnalysis], marks: Sequence[Mark]) -> list[str]:
    """The closest cell with its figures, if one holds the first place alone; else those of a few, of more none."""
    closest = [mark for mark, cell in zip(marks, cells, strict=True) if cell.name == culture.ranking.winner]
    if closest:
        return [f"Closest: {closest[0].says}."]
    return [f"{mark.says}." for mark in marks] if len(marks) <= FEW else []
