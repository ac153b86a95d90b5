"""Table 4: what switching parts of a framework off changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cells.comparing import Contrast
from defsurvey.reports.cells.replies import why_not
from defsurvey.reports.figures.frameworks import Ablation, AblationRow, ablation
from defsurvey.reports.figures.parts import NotRun
from defsurvey.reports.figures.words import (
    INFINITE,
    RULE,
    chance,
    culture_names,
    infinite_entry,
    listed,
    missing,
    named_cultures,
    published_fold,
    published_tables,
)
from defsurvey.reports.number_format import NONE, counted, fixed, percent, signed
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow
from defsurvey.reports.sections.frameworks import apart, asked_in, fewer, named_in, where_asked


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
