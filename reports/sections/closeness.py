"""The first figure: how close each cell comes, and which may be told apart."""

from __future__ import annotations

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.cells import CultureAnalysis
from defsurvey.reports.cells.items import Ints
from defsurvey.reports.charts.dots import dot_plots
from defsurvey.reports.figures.words import MODEL
from defsurvey.reports.metrics.comparisons import Place
from defsurvey.reports.number_format import counted, fixed, percent
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow

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
