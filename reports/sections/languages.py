"""Figure 10: models that were asked in more than one language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.charts.dots import NATS, cell_figures, cell_mark
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Scale, reach, rows_chart
from defsurvey.reports.figures.frameworks import LanguageRow, Languages, languages
from defsurvey.reports.figures.mapping import cultural_map, paper_map
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.words import (
    FLOOR,
    INFINITE,
    LEVEL,
    MODEL,
    RULE,
    culture_names,
    dimension_columns,
    infinite_entry,
    largest,
    missing,
    shaded,
)
from defsurvey.reports.number_format import fixed
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.reports.sections.ablation import common_ground, contrast_entry
from defsurvey.reports.untrusted import visible


def language_section(analysis: Analysis) -> Section:
    """Figure 10."""
    part = analysis.figure(languages)
    section = Section(
        anchor="figure-10", contents="Fig. 10 · Language", title="Asked in another language", number="Fig. 10"
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    apart = sum(row.contrast is not None and row.contrast.p_holm < LEVEL for row in part.rows)
    compared = sum(row.contrast is not None for row in part.rows)
    return replace(
        section,
        title=f"Another language changes the divergence in {apart} of {compared} comparisons"
        if compared
        else section.title,
        charts=_language_charts(analysis, part),
        chart_note=f"Shaded: the noise floor. Lines: 95% intervals. Dark ticks: uniform answers.{_mapped(analysis)}",
        tables=(_language_table(analysis, part.rows),),
        folds=(
            Fold(
                anchor="figure-10-paper",
                title="The paper's way: plug-in KL by language and dimension",
                tables=(_paper_table(analysis, part.rows),),
            ),
        ),
    )


def _mapped(analysis: Analysis) -> str:
    """Where languages stand on the map, if there is one."""
    drawn = not (isinstance(analysis.figure(cultural_map), NotRun) and isinstance(analysis.figure(paper_map), NotRun))
    return " Fig. 7 maps the languages." if drawn else ""


def _language_charts(analysis: Analysis, part: Languages) -> tuple[Chart, ...]:
    scale = Scale(title=NATS, high=reach(value for row in part.rows for value in cell_figures(row.cell)))
    charts = []
    for place, culture in enumerate(analysis.cultures):
        mine = [row.cell for row in part.rows if row.cell.cell.culture == culture.culture.code]
        known = [cell for cell in mine if isfinite(cell.sound.headline)]
        if known:
            charts.append(
                rows_chart(
                    [cell_mark(visible(f"{cell.cell.model} · {cell.cell.language}"), cell) for cell in known],
                    Frame(
                        name=f"languages-{place}",
                        title=f"By language: {culture.name}",
                        description="Smoothed KL divergence by model and language.",
                        scale=scale,
                        first=place,
                    ),
                )
            )
    return tuple(charts)


def _language_table(analysis: Analysis, rows: Sequence[LanguageRow]) -> Table:
    names = culture_names(analysis)
    most = largest(row.cell.sound.by_dimension for row in rows)
    return Table(
        anchor="figure-10-languages",
        caption="Smoothed KL by language and dimension (nats)",
        grouped_by="Culture",
        columns=(
            MODEL,
            Column(text="Language", words=True),
            *dimension_columns(analysis),
            Column(text="Mean"),
            Column(
                text="Difference",
                meaning="corrected KL less that in the native language, same questions at equal n; p beneath",
            ),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=row.cell.cell.model),
                group=names[row.cell.cell.culture],
                entries=(
                    _language(row),
                    *shaded(analysis, row.cell.sound.by_dimension, most, row.cell.sound_floor.by_dimension),
                    Entry(text=fixed(row.cell.sound.headline), beneath=fixed(row.cell.sound_floor.headline)),
                    Entry(text="") if row.native else contrast_entry(row.contrast),
                ),
            )
            for row in _by_culture(analysis, rows)
        ),
        notes=(
            FLOOR,
            *common_ground(analysis, ((row.cell.cell.culture, row.contrast) for row in rows if row.contrast)),
        ),
    )


def _paper_table(analysis: Analysis, rows: Sequence[LanguageRow]) -> Table:
    names = culture_names(analysis)
    most = largest(row.cell.paper.by_dimension for row in rows)
    return Table(
        anchor="figure-10-plug-in",
        caption="The paper's way: plug-in KL by language and dimension (nats)",
        grouped_by="Culture",
        columns=(
            MODEL,
            Column(text="Language", words=True),
            *dimension_columns(analysis),
            Column(text="Mean"),
            INFINITE,
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=row.cell.cell.model),
                group=names[row.cell.cell.culture],
                entries=(
                    _language(row),
                    *shaded(
                        analysis,
                        row.cell.paper.by_dimension,
                        most,
                        row.cell.paper_floor.by_dimension,
                        why=row.cell.paper_values.reason,
                    ),
                    Entry(
                        text=fixed(row.cell.paper.headline),
                        beneath=fixed(row.cell.paper_floor.headline),
                        why=row.cell.paper_reason,
                    ),
                    infinite_entry(row.cell.paper_values.infinite_share),
                ),
            )
            for row in _by_culture(analysis, rows)
        ),
        notes=(RULE, FLOOR),
    )


def _by_culture(analysis: Analysis, rows: Sequence[LanguageRow]) -> list[LanguageRow]:
    return sorted(rows, key=lambda row: list(culture_names(analysis)).index(row.cell.cell.culture))


def _language(row: LanguageRow) -> Entry:
    return Entry(text=row.cell.cell.language + (", native" if row.native else ""))
