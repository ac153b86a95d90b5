"""The first figure: how close each cell comes, and which may be told apart."""

from __future__ import annotations

from math import isfinite

import numpy as np

from defsurvey.reports.analysis import Analysis, Control, CultureAnalysis
from defsurvey.reports.charts.drawing import Chart, room_for
from defsurvey.reports.charts.rows import NATS, Mark, Scale, reach, rows_chart
from defsurvey.reports.figures.words import cell_figures, cell_mark
from defsurvey.reports.number_format import counted, fixed, nats, percent
from defsurvey.reports.page import Field, Section, Table, table
from defsurvey.reports.untrusted import visible

#: Most cells whose figures are told beneath a drawing where none of them is the closest.
FEW = 3
_CHART_NOTE = (
    "Filled marks: a model's mean divergence, with its 95% interval. Shaded: up to what equally many real people would "
    "score on the same questions. Dark ticks: what as many uniform answers would score. Open diamonds: simple "
    "respondents, as many as a cell has participants or a panel stands for, on every question behind the mean."
)
#: Where a model lacks some of the questions.
_FITTED = (
    "Models are in the order of their means over all of these questions; what a model lacks is filled in by a fit, as "
    "the question's level and the model's own. "
)


def closeness(analysis: Analysis) -> Section:
    """Dot plots, order of closeness, controls."""
    charts, ranked = dot_plots(analysis), [culture for culture in analysis.cultures if culture.ranking.order]
    tables = [*map(ranking_table, ranked), *map(control_table, analysis.cultures)]
    return Section(
        anchor="closeness",
        contents="Closeness",
        title="How close the answers come to people's",
        charts=charts,
        chart_note=_CHART_NOTE if charts else "",
        tables=tuple(tables),
        side_by_side=True,
    )


def ranking_table(culture: CultureAnalysis) -> Table:
    """Cells of one culture in order, at equal n, ties shared."""
    ranking = culture.ranking
    n, partly = ranking.n, bool((ranking.shared < ranking.questions).any())

    def from_to(first: int, last: int) -> str:
        return str(first) if first == last else f"{first}–{last}"

    def shared(row: int) -> str:
        others = np.delete(ranking.shared[row], row)
        return from_to(int(others.min()), int(others.max()))

    def places(row: int) -> str:
        return from_to(ranking.places[row].first, ranking.places[row].last)

    alone = "models of one group are not told from the group's closest one"
    at_equal_n = "at equal n, nats; without the bias of small samples"
    fields: list[Field[int]] = [
        Field("Model", lambda row: ranking.order[row][0], words=True),
        Field("Places", places, "that it may hold: it shares them with all it cannot be told from"),
        Field("Group", lambda row: str(ranking.places[row].group), alone),
        Field("Corrected KL", lambda row: fixed(ranking.order[row][1]), at_equal_n),
        Field("Questions", shared, "that its place rests on: shared with another model, fewest to most"),
    ]
    note = (
        f"Every two models are compared on the questions behind the mean to which both gave at least {n} valid "
        f"answers, all brought down to {n}: {counted(ranking.questions, 'question')} in all, on which {n} real people "
        f"would score {fixed(ranking.people)}, uniform answers {fixed(ranking.random)}. {_FITTED if partly else ''}"
        "Two models are told apart where they would differ on other questions and with other participants too "
        "(sign-flip permutation of questions, jackknife of participants, the larger p; Holm over all pairs)."
    )
    notes = [
        f"{name} is not ranked: only {percent(share)} of the questions behind the mean have 10 valid answers."
        for name, share in ranking.unranked
    ]
    anchor, caption = f"table-order-{culture.culture.code}", f"Order of closeness, {culture.name}"
    return table(range(len(ranking.order)), fields, anchor, caption, notes=(note, *notes))


def control_table(culture: CultureAnalysis) -> Table:
    """Simple respondents, for one culture."""
    fields: list[Field[Control]] = [
        Field("Respondent", lambda control: control.name, words=True),
        Field("n", lambda control: f"{control.n:,}", "respondents"),
        Field("Smoothed KL", lambda control: fixed(control.mean), "expected, nats, of every question behind the mean"),
    ]
    anchor, caption = f"table-respondents-{culture.culture.code}", f"Simple respondents, {culture.name}"
    notes = ("Expected scores: what such respondents would get on average.",)
    return table(culture.controls, fields, anchor, caption, notes=notes)


def dot_plots(analysis: Analysis) -> tuple[Chart, ...]:
    """One chart per culture: cells with intervals, simple respondents, the noise floor; one scale for all."""
    controls = [control for culture in analysis.cultures for control in culture.controls]
    figures = [value for cell in analysis.cells for value in cell_figures(cell)]
    scale = Scale(NATS, high=reach(figures + [control.mean for control in controls]))
    names = [visible(cell.name) for cell in analysis.cells] + [control.name for control in controls]
    return tuple(
        _dot_plot(culture, place, scale, room_for(names))
        for place, culture in enumerate(analysis.cultures)
        if any(isfinite(cell.sound.headline) for cell in culture.cells)
    )


def _dot_plot(culture: CultureAnalysis, place: int, scale: Scale, room: float) -> Chart:
    known = [cell for cell in culture.cells if isfinite(cell.sound.headline)]
    cells = sorted(known, key=lambda cell: cell.sound.headline)
    marks = [cell_mark(cell.name, cell) for cell in cells]
    others = [
        Mark(row=control.name, value=control.mean, says=f"{control.name}: {nats(control.mean)}", quiet=True)
        for control in culture.controls
        if isfinite(control.mean)
    ]
    # the closest cell is told with its figures, if one holds the first place alone; else a few cells, of more none
    closest = [mark for mark, cell in zip(marks, cells, strict=True) if cell.name == culture.ranking.winner]
    told = closest or (marks if len(marks) <= FEW else [])
    said = [f"Closest: {mark.says}." if closest else f"{mark.says}." for mark in told]
    title = f"Distance from people: {culture.name}"
    description = " ".join(["Smoothed KL divergence in nats, with 95% intervals.", *said])
    return rows_chart(marks + others, f"dots-{place}", title, description, scale, first=place, room=room)
