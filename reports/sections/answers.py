"""What the paper does not have: how answers ended, whether order moves them, every question by itself."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.cards import question_cards
from defsurvey.reports.cells.cells import CellAnalysis
from defsurvey.reports.figures.distinguishing import DistinguishedCell, distinguish
from defsurvey.reports.figures.placement import Placement, placement
from defsurvey.reports.figures.words import MODEL, NotRun, chance, culture_names, missing, named_cultures
from defsurvey.reports.metrics.quality import Rate
from defsurvey.reports.number_format import NONE, counted, fixed, percent
from defsurvey.reports.page import Column, Entry, Section, Table, TableRow


def quality_section(analysis: Analysis) -> Section:
    """How the answers ended and how much they differ."""
    valid = analysis.overall.valid
    return Section(
        anchor="quality",
        contents="Answer quality",
        title="How the answers ended" if not valid.n else f"{percent(valid.share)} of the answers are valid",
        paragraphs=(
            (
                "Divergence is measured on valid answers only. Refused, unparsable and failed answers are counted "
                "here and are never turned into a choice."
            ),
            (
                "D counts distinct full replies; the options used say whether the choices differ too. A model can "
                "word one opinion in twenty ways."
            ),
        ),
        tables=(_quality(analysis), _diversity(analysis)),
    )


def _rows(analysis: Analysis) -> list[tuple[str, CellAnalysis]]:
    return [(culture.name, cell) for culture in analysis.cultures for cell in culture.cells]


def _quality(analysis: Analysis) -> Table:
    return Table(
        grouped_by="Culture",
        anchor="table-quality",
        caption="How the planned answers ended, with 95% intervals",
        columns=(
            MODEL,
            Column(text="Planned"),
            Column(text="Ended", meaning="share of the planned answers that have ended"),
            Column(text="Answered", meaning="valid answers, of those that ended"),
            Column(text="Refused"),
            Column(text="Unparsable", meaning="a reply from which no answer can be read"),
            Column(text="Failed", meaning="the engine gave up"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=cell.name),
                group=name,
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
            for name, cell in _rows(analysis)
        ),
        notes=(
            (
                "Wilson intervals at the effective number of answers: those of one participant end alike. Where all or "
                "none ended so, nothing tells how much they do, and a participant counts as one answer."
            ),
        ),
    )


def _rate(rate: Rate) -> Entry:
    if rate.reason:
        return Entry(text=NONE, why=rate.reason)
    return Entry(text=percent(rate.share), beneath=f"{percent(rate.low)} to {percent(rate.high)}")


def _diversity(analysis: Analysis) -> Table:
    return Table(
        grouped_by="Culture",
        anchor="table-diversity",
        caption="Diversity of replies and of choices",
        columns=(
            MODEL,
            Column(text="D", meaning="distinct full replies, Eq. 6 of the paper"),
            Column(text="Maximum", meaning="of D at this number of replies"),
            Column(text="D / max"),
            Column(text="Distinct answers", meaning="mean over questions"),
            Column(text="Effective options", meaning="exp(entropy) of the choices, mean over items with a reference"),
            Column(text="People", meaning="effective options of people, the same items"),
        ),
        rows=tuple(
            TableRow(
                head=Entry(text=cell.name),
                group=name,
                entries=(
                    Entry(text=fixed(cell.diversity.d), why=cell.diversity.reason),
                    Entry(text=fixed(cell.diversity.maximum)),
                    Entry(text=fixed(cell.diversity.relative), why=cell.diversity.reason),
                    Entry(text=fixed(cell.distinct_choices, 2) if cell.quality.valid.count else NONE),
                    Entry(text=fixed(cell.effective_options)),
                    Entry(text=fixed(cell.human_effective_options)),
                ),
            )
            for name, cell in _rows(analysis)
        ),
        notes=(
            (
                "Few participants cannot use many options: with n of them the effective options are at most n, "
                "while the column for people rests on thousands."
            ),
        ),
    )


def position_section(analysis: Analysis) -> Section:
    """Does the order shown move the answer?"""
    part = analysis.figure(placement)
    section = Section(anchor="position", contents="Position bias", title="Does the order shown move the answer?")
    if isinstance(part, NotRun):
        return missing(section, part)
    names = culture_names(analysis)
    return replace(
        section,
        title=_ordered(part) or section.title,
        paragraphs=(
            (
                "How often the option shown first was chosen, against how often the two would meet if the answers were "
                "dealt out anew among those asked. 100% moved: always the first, whatever it says."
            ),
        ),
        tables=(
            Table(
                anchor="position-table",
                caption="Answers drawn to the option shown first",
                grouped_by="Culture",
                columns=(
                    MODEL,
                    Column(text="First", meaning="share of answers that chose the option shown first"),
                    Column(text="Expected", meaning="that share if order did not matter"),
                    Column(text="Moved", meaning="share of the answers that order would have moved"),
                    Column(text="z"),
                    Column(text="p, Holm"),
                    Column(text="Answers", meaning="to questions shown in more than one order"),
                    Column(text="Flag"),
                ),
                rows=tuple(
                    TableRow(
                        head=Entry(text=row.name),
                        group=name,
                        entries=(
                            Entry(text=percent(row.bias.first), why=row.bias.reason),
                            Entry(text=percent(row.bias.expected), why=row.bias.reason),
                            Entry(text=percent(row.bias.moved), why=row.bias.reason),
                            Entry(text=fixed(row.bias.z, 1), why=row.bias.reason),
                            Entry(text=chance(row.p_holm), why=row.bias.reason),
                            Entry(text=f"{row.bias.answers:,}"),
                            Entry(text="order matters" if row.flagged else ""),
                        ),
                    )
                    for code, name in names.items()
                    for row in part.rows
                    if row.culture == code
                ),
            ),
        ),
    )


def _ordered(part: Placement) -> str:
    """Whose answers the order moves; empty where no cell was tested by answers enough."""
    tested = [row for row in part.rows if row.telling]
    flagged = [row for row in tested if row.flagged]
    names = list(dict.fromkeys(row.name for row in flagged))
    if not names:
        if not tested:
            return ""
        return f"In none of {counted(len(tested), 'cell')} tested does the order of options move answers beyond chance"
    whose = " and ".join(names) if len(names) < 3 else f"{len(flagged)} of {len(tested)} cells"
    return f"The order of options moves the answers of {whose}"


def _alike(analysis: Analysis, best: DistinguishedCell, tested: int) -> str:
    """On how many questions the cell that is told from people least is not told from them."""
    return (
        f"{best.name} is not told from people on {percent(best.share_alike)} of {counted(best.questions, 'question')} "
        f"in {named_cultures(analysis)[best.culture]}{f', the most of {tested} cells' if tested > 1 else ''}"
    )


def question_section(analysis: Analysis) -> Section:
    """Which questions tell a model from people, and every question by itself."""
    cells, names = analysis.figure(distinguish).cells, culture_names(analysis)
    tested = [cell for cell in cells if cell.questions and cell.comparable]
    best = max(tested, key=lambda cell: cell.share_alike, default=None)
    return Section(
        anchor="questions",
        contents="Questions",
        title="Question by question" if best is None else _alike(analysis, best, len(tested)),
        paragraphs=(
            (
                "Each question is tested by itself: could these answers come from as many people? G-test with its "
                "exact distribution, Benjamini-Hochberg over a cell's questions. Not told apart is not the same as "
                "alike: few answers tell little."
            ),
            "Below, every question of the run: people beside models. Floor is what as many people would score.",
        ),
        tables=(
            Table(
                anchor="table-distinguished",
                caption="Questions on which answers are not told from people's",
                grouped_by="Culture",
                columns=(
                    MODEL,
                    Column(text="Not told apart", meaning="share of the questions tested, adjusted p at least 0.05"),
                    Column(text="Questions", meaning="not told apart, of those tested"),
                ),
                rows=tuple(
                    TableRow(
                        head=Entry(text=cell.name),
                        group=name,
                        entries=(
                            Entry(
                                text=percent(cell.share_alike),
                                bar=None if isnan(cell.share_alike) else cell.share_alike,
                            ),
                            Entry(text=f"{cell.alike} of {cell.questions}"),
                        ),
                    )
                    for code, name in names.items()
                    for cell in cells
                    if cell.culture == code
                ),
            ),
        ),
        questions=question_cards(analysis),
    )
