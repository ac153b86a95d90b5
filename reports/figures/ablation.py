"""Table 4: what switching parts of a framework off changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import isfinite

from defsurvey.reports.analysis import Analysis, why_not
from defsurvey.reports.cells import Contrast
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import NATS, Frame, Scale, cell_figures, cell_mark, reach, rows_chart
from defsurvey.reports.figures.cultural_map import cultural_map, paper_map
from defsurvey.reports.figures.frameworks import (
    Ablation,
    LanguageRow,
    Languages,
    MeanRow,
    ablation,
    apart,
    fewer,
    languages,
    named_in,
    where_asked,
)
from defsurvey.reports.figures.words import (
    FLOOR,
    LEVEL,
    RULE,
    NotRun,
    culture_names,
    dimension_fields,
    infinite_field,
    largest,
    missing,
    named_cultures,
    published_fold,
    published_tables,
)
from defsurvey.reports.number_format import NONE, chance, counted, fixed, listed, percent, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
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
    why = why_not(analysis.results.run.protocol.reply)
    contrasts = {(found.row.model, found.row.condition): dict(found.contrasts) for found in part.rows}
    lost = any(row.paper_cultures != row.cultures for row in means)

    def difference(code: str) -> Callable[[MeanRow], Entry]:
        return lambda row: contrast_entry(contrasts[row.model, row.condition].get(code))

    fields: list[Field[MeanRow]] = [
        Field("Condition", lambda row: row.condition, words=True),
        *where_asked(analysis, means),
        *([named_in(analysis, "Cultures, plug-in", "of which the plug-in KL is the mean", paper=True)] if lost else []),
        Field(
            "Diversity",
            lambda row: Entry(text=percent(row.diversity), why=why),
            "D of Eq. 6, of all questions in all cultures",
        ),
        Field(
            "Plug-in KL",
            lambda row: Entry(text=fixed(row.paper_mean), why=apart(row, means, paper=True)),
            "the paper's way, mean over dimensions and cultures",
        ),
        infinite_field(lambda row: row.infinite_share),
        Field(
            "Smoothed KL",
            lambda row: Entry(text=fixed(row.sound_mean), beneath=fixed(row.floor_mean), why=apart(row, means)),
            "mean over dimensions and cultures; beneath, the noise floor",
        ),
        *(
            Field(
                f"Difference, {name}",
                difference(code),
                f"corrected KL less that of {part.against}, on the same questions at equal n; p beneath",
            )
            for code, name in names.items()
        ),
    ]
    return table(
        means,
        fields,
        anchor="table-4-conditions",
        caption="Conditions against each other",
        group=lambda row: row.model,
        grouped_by="Model",
        quiet=lambda row: row.condition == part.against,
        notes=(
            RULE,
            *dict.fromkeys((*fewer(means), *fewer(means, paper=True))),
            *common_ground(analysis, (contrast for found in part.rows for contrast in found.contrasts)),
        ),
    )


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
    sound, paper = _tables(analysis, part.rows)
    return replace(
        section,
        title=f"Another language changes the divergence in {apart} of {compared} comparisons"
        if compared
        else section.title,
        charts=_language_charts(analysis, part),
        chart_note=f"Shaded: the noise floor. Lines: 95% intervals. Dark ticks: uniform answers.{_mapped(analysis)}",
        tables=(sound,),
        folds=(
            Fold(
                anchor="figure-10-paper",
                title="The paper's way: plug-in KL by language and dimension",
                tables=(paper,),
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


def _tables(analysis: Analysis, rows: Sequence[LanguageRow]) -> tuple[Table, Table]:
    """Divergence by language and dimension: smoothed, and the paper's way."""
    names = culture_names(analysis)
    rows = sorted(rows, key=lambda row: list(names).index(row.cell.cell.culture))
    head: list[Field[LanguageRow]] = [
        Field("Model", lambda row: row.cell.cell.model, words=True),
        Field("Language", lambda row: row.cell.cell.language + (", native" if row.native else ""), words=True),
    ]
    sound: list[Field[LanguageRow]] = [
        *head,
        *dimension_fields(
            analysis,
            lambda row: row.cell.sound.by_dimension,
            largest(row.cell.sound.by_dimension for row in rows),
            lambda row: row.cell.sound_floor.by_dimension,
        ),
        Field(
            "Mean",
            lambda row: Entry(text=fixed(row.cell.sound.headline), beneath=fixed(row.cell.sound_floor.headline)),
        ),
        Field(
            "Difference",
            lambda row: "" if row.native else contrast_entry(row.contrast),
            "corrected KL less that in the native language, same questions at equal n; p beneath",
        ),
    ]
    paper: list[Field[LanguageRow]] = [
        *head,
        *dimension_fields(
            analysis,
            lambda row: row.cell.paper.by_dimension,
            largest(row.cell.paper.by_dimension for row in rows),
            lambda row: row.cell.paper_floor.by_dimension,
            lambda row: row.cell.paper_values.reason,
        ),
        Field(
            "Mean",
            lambda row: Entry(
                text=fixed(row.cell.paper.headline),
                beneath=fixed(row.cell.paper_floor.headline),
                why=row.cell.paper_reason,
            ),
        ),
        infinite_field(lambda row: row.cell.paper_values.infinite_share),
    ]
    shared = common_ground(analysis, ((row.cell.cell.culture, row.contrast) for row in rows if row.contrast))
    return (
        table(
            rows,
            sound,
            anchor="figure-10-languages",
            caption="Smoothed KL by language and dimension (nats)",
            group=lambda row: names[row.cell.cell.culture],
            grouped_by="Culture",
            notes=(FLOOR, *shared),
        ),
        table(
            rows,
            paper,
            anchor="figure-10-plug-in",
            caption="The paper's way: plug-in KL by language and dimension (nats)",
            group=lambda row: names[row.cell.cell.culture],
            grouped_by="Culture",
            notes=(RULE, FLOOR),
        ),
    )
