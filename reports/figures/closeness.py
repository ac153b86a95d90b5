"""The first figure: how close each cell comes, and which may be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import Ints
from defsurvey.reports.charts.drawing import Chart, room_for
from defsurvey.reports.charts.rows import NATS, Frame, Mark, Scale, cell_figures, cell_mark, reach, rows_chart
from defsurvey.reports.metrics.comparisons import Place
from defsurvey.reports.number_format import counted, fixed, nats, percent
from defsurvey.reports.page import Field, Section, Table, table
from defsurvey.reports.untrusted import visible


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
    fields: list[Field[int]] = [
        Field("Model", lambda row: ranking.order[row][0], words=True),
        Field(
            "Places",
            lambda row: _spelled(ranking.places[row]),
            "that it may hold: it shares them with all it cannot be told from",
        ),
        Field(
            "Group",
            lambda row: str(ranking.places[row].group),
            "models of one group are not told from the group's closest one",
        ),
        Field(
            "Corrected KL",
            lambda row: fixed(ranking.order[row][1]),
            "at equal n, nats; without the bias of small samples",
        ),
        Field(
            "Questions",
            lambda row: _questions(np.delete(ranking.shared[row], row)),
            "that its place rests on: shared with another model, fewest to most",
        ),
    ]
    return table(
        range(len(ranking.order)),
        fields,
        anchor=f"table-order-{culture.culture.code}",
        caption=f"Order of closeness, {culture.name}",
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
    return table(
        culture.controls,
        [
            Field("Respondent", lambda control: control.name, words=True),
            Field("n", lambda control: f"{control.n:,}", "respondents"),
            Field(
                "Smoothed KL",
                lambda control: fixed(control.mean),
                "expected, nats, of every question behind the mean",
            ),
        ],
        anchor=f"table-respondents-{culture.culture.code}",
        caption=f"Simple respondents, {culture.name}",
        notes=("Expected scores: what such respondents would get on average.",),
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
