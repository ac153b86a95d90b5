"""Table 4: what switching parts of a framework off changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.comparing import Contrast
from defsurvey.reports.cells.replies import why_not
from defsurvey.reports.charts.dots import NATS, cell_figures, cell_mark
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import Frame, Scale, reach, rows_chart
from defsurvey.reports.figures.frameworks import (
    Ablation,
    AblationRow,
    LanguageRow,
    Languages,
    ablation,
    apart,
    asked_in,
    fewer,
    languages,
    named_in,
    where_asked,
)
from defsurvey.reports.figures.mapping import cultural_map, paper_map
from defsurvey.reports.figures.words import (
    FLOOR,
    INFINITE,
    LEVEL,
    MODEL,
    RULE,
    NotRun,
    chance,
    culture_names,
    dimension_columns,
    infinite_entry,
    largest,
    listed,
    missing,
    named_cultures,
    published_fold,
    published_tables,
    shaded,
)
from defsurvey.reports.number_format import NONE, counted, fixed, percent, signed
from defsurvey.reports.page import Column, Entry, Fold, Section, Table, TableRow
from defsurvey.reports.untrusted import visible


def ablation_section(analysis: Analysis) -> Section:
    """Table 4."""
    part = analysis.figure(ablation)
    section = Section(
        anchor="table-4",
        contents="Table 4 · Ablation",
        title="Ablation",
        number="Table 4",
        folds=published_fold(analysis, "table4"),
    )
    if isinstance(part, NotRun):
        return missing(section, part)
    return replace(
        section,
        title=f"What switching parts off changes against {part.against}",
        paragraphs=(
            (
                "A difference above 0 is further from people, by the corrected KL. Each is tested over questions and "
                "over participants (the larger p, Holm over a culture's comparisons)."
            ),
        ),
        tables=(_conditions(analysis, part), *published_tables(analysis, "table4")),
    )


def _conditions(analysis: Analysis, part: Ablation) -> Table:
    means, names = [found.row for found in part.rows], culture_names(analysis)
    return Table(
        anchor="table-4-conditions",
        caption="Conditions against each other",
        grouped_by="Model",
        columns=(
            Column(text="Condition", words=True),
            *where_asked(analysis, means),
            *_where_lost(part),
            Column(text="Diversity", meaning="D of Eq. 6, of all questions in all cultures"),
            Column(text="Plug-in KL", meaning="the paper's way, mean over dimensions and cultures"),
            INFINITE,
            Column(text="Smoothed KL", meaning="mean over dimensions and cultures; beneath, the noise floor"),
            *(
                Column(
                    text=f"Difference, {name}",
                    meaning=f"corrected KL less that of {part.against}, on the same questions at equal n; p beneath",
                )
                for name in names.values()
            ),
        ),
        rows=tuple(_condition(analysis, part, found) for found in part.rows),
        notes=(
            RULE,
            *dict.fromkeys((*fewer(means), *fewer(means, paper=True))),
            *common_ground(analysis, (contrast for found in part.rows for contrast in found.contrasts)),
        ),
    )


def _condition(analysis: Analysis, part: Ablation, found: AblationRow) -> TableRow:
    row, means, contrasts = found.row, [each.row for each in part.rows], dict(found.contrasts)
    return TableRow(
        head=Entry(text=row.condition),
        group=row.model,
        quiet=row.condition == part.against,
        entries=(
            *asked_in(analysis, row, means),
            *([named_in(analysis, row, paper=True)] if _where_lost(part) else []),
            Entry(text=percent(row.diversity), why=why_not(analysis.results.run.protocol.reply)),
            Entry(text=fixed(row.paper_mean), why=apart(row, means, paper=True)),
            infinite_entry(row.infinite_share),
            Entry(text=fixed(row.sound_mean), beneath=fixed(row.floor_mean), why=apart(row, means)),
            *(contrast_entry(contrasts.get(code)) for code in culture_names(analysis)),
        ),
    )


def _where_lost(part: Ablation) -> tuple[Column, ...]:
    """A column for the cultures of the plug-in means, where they are not those of the smoothed ones."""
    lost = any(found.row.paper_cultures != found.row.cultures for found in part.rows)
    meaning = "of which the plug-in KL is the mean"
    return (Column(text="Cultures, plug-in", meaning=meaning, words=True),) if lost else ()


def contrast_entry(contrast: Contrast | None) -> Entry:
    """A difference with its p beneath."""
    if contrast is None:
        return Entry(text=NONE, why="not compared, or too few valid answers")
    return Entry(text=signed(contrast.difference), beneath=f"p {chance(contrast.p_holm)}")


def common_ground(analysis: Analysis, contrasts: Iterable[tuple[str, Contrast]]) -> tuple[str, ...]:
    """A note on what the differences of a table are of, other than its means; none without a difference.

    Args:
        analysis: the run.
        contrasts: culture and contrast; those of one culture are on the same questions.
    """
    by_culture = dict(contrasts)
    if not by_culture:
        return ()
    where = [
        f"{counted(by_culture[code].questions, 'question')} in {name}"
        for code, name in named_cultures(analysis).items()
        if code in by_culture
    ]
    n = next(iter(by_culture.values())).n
    return (
        (
            "Differences are by the corrected KL, of the questions behind the mean to which all that are compared have "
            f"at least {n} valid answers, all brought down to {n}, and need not be those of the means: {listed(where)}."
        ),
    )


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
