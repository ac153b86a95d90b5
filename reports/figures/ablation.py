"""What switching parts of a framework off changes, Table 4, and asking in another language, Figure 10."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from defsurvey.reports.analysis import Analysis, CellAnalysis, NotRun, why_not
from defsurvey.reports.cells import Contrast
from defsurvey.reports.charts.drawing import Chart
from defsurvey.reports.charts.rows import NATS, Scale, reach
from defsurvey.reports.figures import shared, words
from defsurvey.reports.figures.projection import cultural_map, paper_map
from defsurvey.reports.figures.shared import MeanRow, OfCell
from defsurvey.reports.number_format import NONE, chance, counted, listed, percent, signed
from defsurvey.reports.page import Entry, Field, Fold, Section, Table, fields_of, table


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRow:
    """Table 4: one condition of one model."""

    row: MeanRow
    contrasts: dict[str, Contrast]  #: by culture, this condition against the main one


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRow(OfCell):
    """Figure 10: one model in one culture and language."""

    native: bool
    contrast: Contrast | None  #: against the native language; None for that itself, or where answers are too few


def ablation(analysis: Analysis) -> tuple[AblationRow, ...]:
    """Table 4: every model that was run in the main condition and in others of its framework."""
    main, names = analysis.results.run.main_condition, shared.conditions(analysis)
    if len(names) < 2:
        raise NotRun(f"one condition, {names[0]}: nothing was switched off")
    method = {cell.cell.condition.name: cell.cell.condition.method for cell in analysis.cells}
    others = [name for name in names if name != main and method[name] == method[main]]
    if not others:
        raise NotRun(f"no condition has parts of {main} switched off: the others are other frameworks")
    rows = [AblationRow(row=row, contrasts={}) for row in shared.mean_rows(analysis, [main, *others])]
    by_row = {(found.row.model, found.row.condition): found for found in rows}
    for culture in analysis.cultures:
        mine = [cell for cell in shared.spoken(analysis) if cell.culture == culture.culture.code]
        cells = {(cell.cell.model, cell.cell.condition.name): cell for cell in mine}
        wanted = {key: (cell, cells[key[0], main]) for key, cell in cells.items() if (key[0], main) in cells}
        found = shared.paired(analysis, culture, {key: pair for key, pair in wanted.items() if key[1] in others})
        for key, contrast in found.items():
            by_row[key].contrasts[culture.culture.code] = contrast
    several = {model for model, condition in by_row if condition != main}
    return tuple(found for found in rows if found.row.model in several)


def languages(analysis: Analysis) -> tuple[LanguageRow, ...]:
    """Figure 10: models of the main condition that were asked in more than one language."""
    main, rows = analysis.results.run.main_condition, []
    for culture in analysis.cultures:
        native = shared.language_of(analysis, culture.culture.code)
        cells = {(c.cell.model, c.cell.language): c for c in culture.cells if c.cell.condition.name == main}
        several = {model for model, language in cells if language != native and (model, native) in cells}
        cells = {key: cell for key, cell in cells.items() if key[0] in several}
        wanted = {key: (cell, cells[key[0], native]) for key, cell in cells.items() if key[1] != native}
        found = shared.paired(analysis, culture, wanted)
        rows += [LanguageRow(cell=c, native=key[1] == native, contrast=found.get(key)) for key, c in cells.items()]
    if not rows:
        raise NotRun("every culture was asked in one language")
    return tuple(rows)


@words.section("table-4", "Table 4 · Ablation", "Ablation", "Table 4", printed="table4")
def ablation_section(analysis: Analysis, section: Section) -> Section:
    """Table 4."""
    rows, main = analysis.figure(ablation), analysis.results.run.main_condition
    note = (
        "A difference above 0 is further from people, by the corrected KL. Each is tested over questions and over "
        "participants (the larger p, Holm over a culture's comparisons)."
    )
    title = f"What switching parts off changes against {main}"
    return replace(section, title=title, paragraphs=(note,), tables=(_conditions(analysis, rows, main),))


def _conditions(analysis: Analysis, rows: Sequence[AblationRow], main: str) -> Table:
    means, why = [found.row for found in rows], why_not(analysis.results.run.protocol.reply)
    contrasts = {(found.row.model, found.row.condition): found.contrasts for found in rows}
    lost = any(row.paper.cultures != row.sound.cultures for row in means)
    cultures = words.culture_names(analysis)

    def difference(row: MeanRow, place: int) -> Entry:
        return contrast_entry(contrasts[row.model, row.condition].get(list(cultures)[place]))

    def diversity(row: MeanRow) -> Entry:
        return Entry(percent(row.diversity), why=why)

    of_paper = shared.named_in(analysis, "Cultures, plug-in", "of which the plug-in KL is the mean", paper=True)
    against = f"corrected KL less that of {main}, on the same questions at equal n; p beneath"
    fields: list[Field[MeanRow]] = [
        Field("Condition", lambda row: row.condition, words=True),
        *shared.where_asked(analysis, means),
        *([of_paper] if lost else []),
        Field("Diversity", diversity, "D of Eq. 6, of all questions in all cultures"),
        shared.mean_field("Plug-in KL", means, "the paper's way, mean over dimensions and cultures", paper=True),
        words.infinite_field(lambda row: row.infinite_share),
        shared.mean_field("Smoothed KL", means, "mean over dimensions and cultures; beneath, the noise floor"),
        *fields_of([(f"Difference, {name}", against) for name in cultures.values()], difference),
    ]
    ground = common_ground(analysis, [each for found in rows for each in found.contrasts.items()])
    return table(
        means,
        fields,
        "table-4-conditions",
        "Conditions against each other",
        group=lambda row: row.model,
        grouped_by="Model",
        quiet=lambda row: row.condition == main,
        notes=(words.RULE, *dict.fromkeys((*shared.fewer(means), *shared.fewer(means, paper=True))), *ground),
    )


def contrast_entry(contrast: Contrast | None) -> Entry:
    """A difference with its p beneath."""
    if contrast is None:
        return Entry(NONE, why="not compared, or too few valid answers")
    return Entry(signed(contrast.difference), beneath=f"p {chance(contrast.p_holm)}")


def common_ground(analysis: Analysis, contrasts: Iterable[tuple[str, Contrast]]) -> tuple[str, ...]:
    """A note on what the differences of a table are of, other than its means, by culture; none without a difference."""
    by_culture, named = dict(contrasts), words.named_cultures(analysis)
    if not by_culture:
        return ()
    of = [f"{counted(by_culture[code].questions, 'question')} in {named[code]}" for code in named if code in by_culture]
    n = next(iter(by_culture.values())).n
    note = (
        "Differences are by the corrected KL, of the questions behind the mean to which all that are compared have at "
        f"least {n} valid answers, all brought down to {n}, and need not be those of the means: {listed(of)}."
    )
    return (note,)


@words.section("figure-10", "Fig. 10 · Language", "Asked in another language", "Fig. 10")
def language_section(analysis: Analysis, section: Section) -> Section:
    """Figure 10."""
    rows = analysis.figure(languages)
    compared = [row.contrast for row in rows if row.contrast is not None]
    apart = sum(contrast.p_holm < shared.LEVEL for contrast in compared)
    title = f"Another language changes the divergence in {apart} of {len(compared)} comparisons"
    mapped = any(analysis.figure_if_run(each) is not None for each in (cultural_map, paper_map))
    note = "Shaded: the noise floor. Lines: 95% intervals. Dark ticks: uniform answers."
    fold = "The paper's way: plug-in KL by language and dimension"
    return replace(
        section,
        title=title if compared else section.title,
        charts=_language_charts(analysis, rows),
        chart_note=f"{note} Fig. 7 maps the languages." if mapped else note,
        tables=(_table(analysis, rows, paper=False),),
        folds=(Fold(anchor="figure-10-paper", title=fold, tables=(_table(analysis, rows, paper=True),)),),
    )


def _language_charts(analysis: Analysis, rows: Sequence[LanguageRow]) -> tuple[Chart, ...]:
    scale = Scale(NATS, high=reach(value for row in rows for value in words.cell_figures(row.cell)))
    known = [row for row in rows if isfinite(row.cell.sound.headline)]
    marks = [(row.culture, words.cell_mark(f"{row.model} · {row.cell.cell.language}", row.cell)) for row in known]
    says = "Smoothed KL divergence by model and language."
    return words.culture_charts(analysis, marks, "languages", "By language: {}".format, says, scale)


def _table(analysis: Analysis, rows: Sequence[LanguageRow], *, paper: bool) -> Table:
    """Divergence by language and dimension: smoothed, or the paper's way."""

    def why(cell: CellAnalysis) -> str:
        return cell.paper_reason if paper else ""

    def difference(row: LanguageRow) -> Entry | str:
        return "" if row.native else contrast_entry(row.contrast)

    fields: list[Field[LanguageRow]] = [
        Field("Model", lambda row: row.model, words=True),
        Field("Language", lambda row: row.cell.cell.language + (", native" if row.native else ""), words=True),
        *words.mean_fields(analysis, rows, lambda row: row.cell, paper=paper, why=why),
    ]
    anchor, caption = "figure-10-languages", "Smoothed KL by language and dimension (nats)"
    notes: tuple[str, ...] = (words.FLOOR,)
    if paper:
        fields.append(words.infinite_field(lambda row: row.cell.paper_values.infinite_share))
        anchor, notes = "figure-10-plug-in", (words.RULE, words.FLOOR)
        caption = "The paper's way: plug-in KL by language and dimension (nats)"
    else:
        meaning = "corrected KL less that in the native language, same questions at equal n; p beneath"
        fields.append(Field("Difference", difference, meaning))
        notes += common_ground(analysis, ((row.culture, row.contrast) for row in rows if row.contrast))
    return words.culture_table(analysis, rows, fields, anchor, caption, notes=notes)
