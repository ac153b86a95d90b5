"""The report's tables, from the Analysis.

Knows which figures stand in which column, and that the paper's way and the sound way never share one.
Deliberately works nothing out and escapes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan

from reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from reports.figures import NONE, fixed, percent, signed
from reports.metrics.aggregate import Floats, Means
from reports.metrics.quality import Rate
from reports.page import Column, Entry, Table, TableRow

_MODEL = Column(text="Model", words=True)


def _pairs(analysis: Analysis) -> list[tuple[CultureAnalysis, CellAnalysis]]:
    return [(culture, cell) for culture in analysis.cultures for cell in culture.cells]


def _dimension_columns(analysis: Analysis) -> tuple[Column, ...]:
    names = analysis.results.survey.dimensions
    return tuple(Column(text=code, meaning=names[code].get("en", "")) for code in analysis.dimensions)


def _by_dimension(analysis: Analysis, values: Floats, floors: Floats, most: float) -> tuple[Entry, ...]:
    order = list(analysis.results.survey.dimensions)
    places = [order.index(code) for code in analysis.dimensions]
    return tuple(
        Entry(
            text=fixed(values[place]),
            beneath=fixed(floors[place]),
            shade=None if isnan(values[place]) else float(values[place] / most),
            why="no valid answer to an item of this dimension" if isnan(values[place]) else "",
        )
        for place in places
    )


def _most(means: Sequence[Means]) -> float:
    values = [float(value) for found in means for value in found.by_dimension if isfinite(value)]
    return max(values, default=1.0) or 1.0


def _mean(means: Means, floor: Means) -> Entry:
    reason = "" if isfinite(means.macro) else means.reason
    return Entry(text=fixed(means.macro), beneath=fixed(floor.macro), why=reason)


def sound_table(analysis: Analysis) -> Table:
    """Smoothed KL by cell and dimension, the floor beneath each figure."""
    most = _most([cell.sound for cell in analysis.cells])
    rows = tuple(
        TableRow(
            head=Entry(text=cell.name),
            group=culture.name,
            entries=(
                *_by_dimension(analysis, cell.sound.by_dimension, cell.sound_floor.by_dimension, most),
                _mean(cell.sound, cell.sound_floor),
                _interval(cell),
                Entry(text=signed(cell.sound.macro - cell.sound_floor.macro)),
                Entry(text=fixed(cell.sound.question_mean), beneath=fixed(cell.sound_floor.question_mean)),
            ),
        )
        for culture, cell in _pairs(analysis)
    )
    return Table(
        grouped_by="Culture",
        anchor="table-smoothed",
        caption="Smoothed KL divergence from people, by value dimension (nats; lower is closer)",
        columns=(
            _MODEL,
            *_dimension_columns(analysis),
            Column(text="Mean", meaning="over dimensions: every dimension weighs the same"),
            Column(text="95% interval", meaning="of the mean, over participants"),
            Column(text="Excess", meaning="mean less what equally many people would score"),
            Column(text="By question", meaning="mean over questions: every question weighs the same"),
        ),
        rows=rows,
        notes=("The small figure beneath is the noise floor: what equally many real people would score.",),
    )


def _interval(cell: CellAnalysis) -> Entry:
    interval = cell.interval
    if isnan(interval.low):
        return Entry(text=NONE, why=interval.reason)
    return Entry(text=f"{fixed(max(interval.low, 0.0))}–{fixed(interval.high)}")


def paper_table(analysis: Analysis) -> Table:
    """Plug-in KL by the paper's rules, the floor of the same beneath each figure."""
    most = _most([cell.paper for cell in analysis.cells])
    rows = tuple(
        TableRow(
            head=Entry(text=cell.name),
            group=culture.name,
            entries=(
                *_by_dimension(analysis, cell.paper.by_dimension, cell.paper_floor.by_dimension, most),
                _mean(cell.paper, cell.paper_floor),
                Entry(text=fixed(cell.paper.question_mean), beneath=fixed(cell.paper_floor.question_mean)),
                Entry(text=percent(cell.paper_values.infinite_share), why=cell.paper_values.reason),
            ),
        )
        for culture, cell in _pairs(analysis)
    )
    return Table(
        grouped_by="Culture",
        anchor="table-plug-in",
        caption="The paper's way: plug-in KL divergence from people, by value dimension (nats)",
        columns=(
            _MODEL,
            *_dimension_columns(analysis),
            Column(text="Mean", meaning="over dimensions"),
            Column(text="By question", meaning="mean over questions"),
            Column(text="Infinite", meaning="share of items whose value is infinite before the rule"),
        ),
        rows=rows,
        notes=(
            (
                "An infinite value counts as the largest finite one of its row, plus 1: where many are infinite, "
                "that rule makes the mean."
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
            Column(text="Smoothed KL", meaning="expected, nats"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=control.name), entries=(Entry(text=f"{control.n:,}"), Entry(text=fixed(control.mean)))
            )
            for control in culture.controls
        ),
    )


def ranking_table(culture: CultureAnalysis) -> Table:
    """Cells of one culture in order, at equal n."""
    ranking = culture.ranking
    return Table(
        anchor=f"table-order-{culture.culture.code}",
        caption=f"Order of closeness, {culture.name}",
        columns=(_MODEL, Column(text="Place"), Column(text="Smoothed KL", meaning="at equal n, nats")),
        rows=tuple(
            TableRow(head=Entry(text=name), entries=(Entry(text=str(place)), Entry(text=fixed(value))))
            for place, (name, value) in enumerate(ranking.order, start=1)
        ),
        notes=(
            (
                f"Over the {ranking.questions} questions with at least 10 valid answers from every model, all brought "
                f"down to {ranking.n}; {ranking.n} real people would score {fixed(ranking.people)}. Places are not "
                "tested: look at the intervals."
            ),
        ),
    )


def diversity_table(analysis: Analysis) -> Table:
    """How different the replies are."""
    rows = tuple(
        TableRow(
            head=Entry(text=cell.name),
            group=culture.name,
            entries=(
                Entry(text=fixed(cell.diversity.d), why=cell.diversity.reason),
                Entry(text=fixed(cell.diversity.maximum)),
                Entry(text=fixed(cell.diversity.relative), why=cell.diversity.reason),
                Entry(text=fixed(cell.distinct_choices, 2) if cell.quality.valid.count else NONE),
                Entry(text=fixed(cell.effective_options, 3)),
                Entry(text=fixed(cell.human_effective_options, 3)),
            ),
        )
        for culture, cell in _pairs(analysis)
    )
    return Table(
        grouped_by="Culture",
        anchor="table-diversity",
        caption="Diversity of replies and of choices",
        columns=(
            _MODEL,
            Column(text="D", meaning="distinct full replies, Eq. 6 of the paper"),
            Column(text="Maximum", meaning="of D at this number of replies"),
            Column(text="D / maximum"),
            Column(text="Distinct answers", meaning="mean over questions"),
            Column(text="Effective options", meaning="exp(entropy) of the choices, mean over items"),
            Column(text="People", meaning="effective options of people, the same items"),
        ),
        rows=rows,
        notes=(
            (
                "Few participants cannot use many options: with n of them the effective options are at most n, "
                "while the column for people rests on thousands."
            ),
        ),
    )


def quality_table(analysis: Analysis) -> Table:
    """How the planned answers ended."""
    rows = tuple(
        TableRow(
            head=Entry(text=cell.name),
            group=culture.name,
            entries=(
                Entry(text=f"{cell.quality.planned:,}"),
                Entry(text=percent(cell.quality.coverage)),
                *(
                    _rate(rate)
                    for rate in (
                        cell.quality.valid,
                        cell.quality.refused,
                        cell.quality.unparsable,
                        cell.quality.failed,
                    )
                ),
            ),
        )
        for culture, cell in _pairs(analysis)
    )
    return Table(
        grouped_by="Culture",
        anchor="table-quality",
        caption="How the planned answers ended, with 95% Wilson intervals",
        columns=(
            _MODEL,
            Column(text="Planned"),
            Column(text="Ended", meaning="share of the planned answers that have ended"),
            Column(text="Answered", meaning="valid answers, of those that ended"),
            Column(text="Refused"),
            Column(text="Unparsable", meaning="a reply from which no answer can be read"),
            Column(text="Failed", meaning="the engine gave up"),
        ),
        rows=rows,
    )


def _rate(rate: Rate) -> Entry:
    if rate.reason:
        return Entry(text=NONE, why=rate.reason)
    return Entry(text=percent(rate.share), beneath=f"{percent(rate.low)} to {percent(rate.high)}")
