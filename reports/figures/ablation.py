"""What switching parts of a framework off changes, Table 4, and asking in another language, Figure 10."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from defsurvey.reports.analysis import Analysis, NotRun, why_not
from defsurvey.reports.cells import Contrast
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import NATS, Frame, Scale, reach
from defsurvey.reports.figures.projection import cultural_map, paper_map
from defsurvey.reports.figures.shared import (
    LEVEL,
    MeanRow,
    OfCell,
    conditions,
    fewer,
    language_of,
    main_condition,
    mean_field,
    mean_rows,
    named_in,
    paired,
    spoken,
    where_asked,
)
from defsurvey.reports.figures.words import (
    FLOOR,
    RULE,
    cell_figures,
    cell_mark,
    culture_charts,
    culture_names,
    culture_table,
    infinite_field,
    mean_fields,
    named_cultures,
    section,
)
from defsurvey.reports.number_format import NONE, chance, counted, listed, percent, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, table
from defsurvey.reports.untrusted import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """Table 4: one condition of one model."""

    row: MeanRow
    contrasts: dict[str, Contrast]  #: by culture, this condition against the main one


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """Table 4."""

    against: str  #: the main condition
    rows: tuple[AblationRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRow(OfCell):
    """Figure 10: one model in one culture and language."""

    native: bool
    contrast: Contrast | None  #: against the native language; None for that itself, or where answers are too few


def ablation(analysis: Analysis) -> Ablation:
    """Table 4: every model that was run in the main condition and in others of its framework."""
    main, names = main_condition(analysis.results.run.cells), conditions(analysis)
    if len(names) < 2:
        raise NotRun(f"one condition, {names[0]}: nothing was switched off")
    method = {cell.cell.condition.name: cell.cell.condition.method for cell in analysis.cells}
    others = [name for name in names if name != main and method[name] == method[main]]
    if not others:
        raise NotRun(f"no condition has parts of {main} switched off: the others are other frameworks")
    rows = [AblationRow(row=row, contrasts={}) for row in mean_rows(analysis, [main, *others])]
    by_row = {(found.row.model, found.row.condition): found for found in rows}
    for culture in analysis.cultures:
        mine = [cell for cell in spoken(analysis) if cell.culture == culture.culture.code]
        cells = {(cell.cell.model, cell.cell.condition.name): cell for cell in mine}
        wanted = {key: (cell, cells[key[0], main]) for key, cell in cells.items() if (key[0], main) in cells}
        found = paired(analysis, culture, {key: pair for key, pair in wanted.items() if key[1] in others})
        for key, contrast in found.items():
            by_row[key].contrasts[culture.culture.code] = contrast
    several = {model for model, condition in by_row if condition != main}
    return Ablation(against=main, rows=tuple(found for found in rows if found.row.model in several))


def languages(analysis: Analysis) -> tuple[LanguageRow, ...]:
    """Figure 10: models of the main condition that were asked in more than one language."""
    main, rows = main_condition(analysis.results.run.cells), []
    for culture in analysis.cultures:
        native = language_of(analysis, culture.culture.code)
        cells = {(c.cell.model, c.cell.language): c for c in culture.cells if c.cell.condition.name == main}
        several = {model for model, language in cells if language != native and (model, native) in cells}
        cells = {key: cell for key, cell in cells.items() if key[0] in several}
        found = paired(
            analysis, culture, {key: (cell, cells[key[0], native]) for key, cell in cells.items() if key[1] != native}
        )
        rows += [
            LanguageRow(cell=cell, native=key[1] == native, contrast=found.get(key)) for key, cell in cells.items()
        ]
    if not rows:
        raise NotRun("every culture was asked in one language")
    return tuple(rows)


@section("table-4", "Table 4 · Ablation", "Ablation", "Table 4", printed="table4")
def ablation_section(analysis: Analysis, section: Section) -> Section:
    """Table 4."""
    part = analysis.figure(ablation)
    note = (
        "A difference above 0 is further from people, by the corrected KL. Each is tested over questions and over "
        "participants (the larger p, Holm over a culture's comparisons)."
    )
    title = f"What switching parts off changes against {part.against}"
    return replace(section, title=title, paragraphs=(note,), tables=(_conditions(analysis, part),))


def _conditions(analysis: Analysis, part: Ablation) -> Table:
    means, why = [found.row for found in part.rows], why_not(analysis.results.run.protocol.reply)
    contrasts = {(found.row.model, found.row.condition): found.contrasts for found in part.rows}
    lost = any(row.paper.cultures != row.sound.cultures for row in means)

    def difference(code: str) -> Callable[[MeanRow], Entry]:
        return lambda row: contrast_entry(contrasts[row.model, row.condition].get(code))

    against = f"corrected KL less that of {part.against}, on the same questions at equal n; p beneath"
    fields: list[Field[MeanRow]] = [
        Field("Condition", lambda row: row.condition, words=True),
        *where_asked(analysis, means),
        *([named_in(analysis, "Cultures, plug-in", "of which the plug-in KL is the mean", paper=True)] if lost else []),
        Field(
            "Diversity",
            lambda row: Entry(text=percent(row.diversity), why=why),
            "D of Eq. 6, of all questions in all cultures",
        ),
        mean_field("Plug-in KL", means, "the paper's way, mean over dimensions and cultures", paper=True),
        infinite_field(lambda row: row.infinite_share),
        mean_field("Smoothed KL", means, "mean over dimensions and cultures; beneath, the noise floor"),
        *(Field(f"Difference, {name}", difference(code), against) for code, name in culture_names(analysis).items()),
    ]
    by_culture = [each for found in part.rows for each in found.contrasts.items()]
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
            *common_ground(analysis, by_culture),
        ),
    )


def contrast_entry(contrast: Contrast | None) -> Entry:
    """A difference with its p beneath."""
    if contrast is None:
        return Entry(text=NONE, why="not compared, or too few valid answers")
    return Entry(text=signed(contrast.difference), beneath=f"p {chance(contrast.p_holm)}")


def common_ground(analysis: Analysis, contrasts: Iterable[tuple[str, Contrast]]) -> tuple[str, ...]:
    """A note on what the differences of a table are of, other than its means, by culture; none without a difference."""
    by_culture = dict(contrasts)
    where = [
        f"{counted(by_culture[code].questions, 'question')} in {name}"
        for code, name in named_cultures(analysis).items()
        if code in by_culture
    ]
    if not where:
        return ()
    n = next(iter(by_culture.values())).n
    note = (
        "Differences are by the corrected KL, of the questions behind the mean to which all that are compared have at "
        f"least {n} valid answers, all brought down to {n}, and need not be those of the means: {listed(where)}."
    )
    return (note,)


@section("figure-10", "Fig. 10 · Language", "Asked in another language", "Fig. 10")
def language_section(analysis: Analysis, section: Section) -> Section:
    """Figure 10."""
    rows = analysis.figure(languages)
    compared = [row.contrast for row in rows if row.contrast is not None]
    apart = sum(contrast.p_holm < LEVEL for contrast in compared)
    title = f"Another language changes the divergence in {apart} of {len(compared)} comparisons"
    mapped = any(analysis.figure_if_run(each) is not None for each in (cultural_map, paper_map))
    note = "Shaded: the noise floor. Lines: 95% intervals. Dark ticks: uniform answers."
    paper = Fold(
        anchor="figure-10-paper",
        title="The paper's way: plug-in KL by language and dimension",
        tables=(_table(analysis, rows, paper=True),),
    )
    return replace(
        section,
        title=title if compared else section.title,
        charts=_language_charts(analysis, rows),
        chart_note=f"{note} Fig. 7 maps the languages." if mapped else note,
        tables=(_table(analysis, rows, paper=False),),
        folds=(paper,),
    )


def _language_charts(analysis: Analysis, rows: Sequence[LanguageRow]) -> tuple[Chart, ...]:
    scale = Scale(title=NATS, high=reach(value for row in rows for value in cell_figures(row.cell)))
    known = [row for row in rows if isfinite(row.cell.sound.headline)]
    return culture_charts(
        analysis,
        lambda code: [
            cell_mark(visible(f"{row.model} · {row.cell.cell.language}"), row.cell)
            for row in known
            if row.culture == code
        ],
        lambda place, culture: Frame(
            name=f"languages-{place}",
            title=f"By language: {culture.name}",
            description="Smoothed KL divergence by model and language.",
            scale=scale,
            first=place,
        ),
    )


def _table(analysis: Analysis, rows: Sequence[LanguageRow], *, paper: bool) -> Table:
    """Divergence by language and dimension: smoothed, or the paper's way."""
    fields: list[Field[LanguageRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Language", lambda row: row.cell.cell.language + (", native" if row.native else ""), words=True),
        *mean_fields(
            analysis, rows, lambda row: row.cell, paper=paper, why=lambda cell: cell.paper_reason if paper else ""
        ),
        infinite_field(lambda row: row.cell.paper_values.infinite_share)
        if paper
        else Field(
            "Difference",
            lambda row: "" if row.native else contrast_entry(row.contrast),
            "corrected KL less that in the native language, same questions at equal n; p beneath",
        ),
    ]
    return culture_table(
        analysis,
        rows,
        fields,
        anchor="figure-10-plug-in" if paper else "figure-10-languages",
        caption="The paper's way: plug-in KL by language and dimension (nats)"
        if paper
        else "Smoothed KL by language and dimension (nats)",
        notes=(RULE, FLOOR)
        if paper
        else (FLOOR, *common_ground(analysis, ((row.culture, row.contrast) for row in rows if row.contrast))),
    )
