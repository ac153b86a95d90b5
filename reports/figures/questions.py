"""Answers to single questions: can they be told from people's, and does the order of options move them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from defsurvey.reports.analysis import ANSWERED, Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cards import option_label, sample_cards, worded
from defsurvey.reports.cells import Floats, Ints, ItemTable, ReferenceTable, answered
from defsurvey.reports.figures.words import LEVEL, NotRun, culture_table, missing, named_cultures
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.metrics.comparisons import benjamini_hochberg, holm
from defsurvey.reports.metrics.divergence import smoothed_reference
from defsurvey.reports.metrics.floor import GTests
from defsurvey.reports.metrics.position import PositionBias, position_bias
from defsurvey.reports.number_format import NONE, chance, counted, fixed, percent
from defsurvey.reports.page import Column, Entry, Field, QuestionCard, Section, Table, TableRow
from defsurvey.storage.surveys.survey import Question, QuestionType


@dataclass(frozen=True, slots=True, kw_only=True)
class DistinguishedCell:
    """One cell; arrays of shape (Q,), nan for a question without a valid answer or a reference, and for panels."""

    name: str
    culture: str
    p: Floats  #: of the G-test; of a list the smallest of its options' times their number
    adjusted: Floats  #: by Benjamini and Hochberg over the cell's questions
    questions: int  #: tested
    alike: int  #: of them, not told from people
    comparable: bool  #: whether it has answers enough to be named for that: few answers are told from nobody

    @property
    def share_alike(self) -> float:
        """Share of the tested questions that are not told from people; nan if none was tested."""
        return self.alike / self.questions if self.questions else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinguished:
    """Every cell of a run."""

    cells: tuple[DistinguishedCell, ...]


def distinguish(analysis: Analysis) -> Distinguished:
    """Test every question of every cell.

    The people compared with are the reference smoothed by its own number: an answer that none of 3,000 people gave is
    rare, not impossible.
    """
    return Distinguished(
        cells=tuple(cell for culture in analysis.cultures for cell in _culture(analysis.items, culture))
    )


def _culture(items: ItemTable, culture: CultureAnalysis) -> list[DistinguishedCell]:
    reference = culture.reference
    smoothed = smoothed_reference(reference.shares, reference.n, items.offered)
    tests = GTests(shares=smoothed, offered=items.offered)
    # a panel's answers are one sample: no test of independent people is true of them
    untested = np.full(len(items.question), np.nan)
    return [_cell(items, reference, cell, untested if cell.panel else tests.p(cell.counts)) for cell in culture.cells]


def _cell(items: ItemTable, reference: ReferenceTable, cell: CellAnalysis, by_item: Floats) -> DistinguishedCell:
    p = np.full(len(items.questions), np.inf)
    tested = np.zeros(len(items.questions))
    known = ~np.isnan(by_item)
    np.minimum.at(p, items.question[known], by_item[known])
    np.add.at(tested, items.question[known], 1)
    # Bonferroni over the options of a list: they are answered together, so that no test of their sum is exact
    p = np.where(tested > 0, np.minimum(p * np.maximum(tested, 1), 1.0), np.nan)
    adjusted = benjamini_hochberg(p)
    questions = int((tested > 0).sum())
    return DistinguishedCell(
        name=cell.name,
        culture=cell.cell.culture,
        p=p,
        adjusted=adjusted,
        questions=questions,
        alike=questions - int((adjusted < LEVEL).sum()),
        comparable=answered(cell.counts, items, reference),
    )


def _alike(analysis: Analysis, best: DistinguishedCell, tested: int) -> str:
    """On how many questions the cell that is told from people least is not told from them."""
    return (
        f"{best.name} is not told from people on {percent(best.share_alike)} of {counted(best.questions, 'question')} "
        f"in {named_cultures(analysis)[best.culture]}{f', the most of {tested} cells' if tested > 1 else ''}"
    )


def question_section(analysis: Analysis) -> Section:
    """Which questions tell a model from people, and every question by itself."""
    cells = analysis.figure(distinguish).cells
    tested = [cell for cell in cells if cell.questions and cell.comparable]
    best = max(tested, key=lambda cell: cell.share_alike, default=None)
    fields: list[Field[DistinguishedCell]] = [
        Field("Model", lambda cell: cell.name, words=True),
        Field(
            "Not told apart",
            lambda cell: Entry(text=percent(cell.share_alike), bar=cell.share_alike if cell.questions else None),
            "share of the questions tested, adjusted p at least 0.05",
        ),
        Field("Questions", lambda cell: f"{cell.alike} of {cell.questions}", "not told apart, of those tested"),
    ]
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
            culture_table(
                analysis,
                cells,
                fields,
                anchor="table-distinguished",
                caption="Questions on which answers are not told from people's",
            ),
        ),
        questions=question_cards(analysis),
    )


_TYPES = {
    QuestionType.SINGLE: "one of several",
    QuestionType.ORDINAL: "ordered",
    QuestionType.SCALE: "scale",
    QuestionType.MULTIPLE: "several of a list",
}


def question_cards(analysis: Analysis) -> tuple[QuestionCard, ...]:
    """Every question of the run, none left out."""
    samples: dict[str, list[int]] = {}
    for place, sample in enumerate(analysis.results.samples):
        samples.setdefault(sample.answer.question, []).append(place)
    tests = {(cell.culture, cell.name): cell for cell in analysis.figure(distinguish).cells}
    return tuple(
        _question(analysis, place, tests, samples.get(question.id, []))
        for place, question in enumerate(analysis.items.questions)
    )


def _question(
    analysis: Analysis, place: int, tests: dict[tuple[str, str], DistinguishedCell], samples: Sequence[int]
) -> QuestionCard:
    question = analysis.items.questions[place]
    adjusted = np.array([test.adjusted[place] for test in tests.values()])
    tested, told = int((~np.isnan(adjusted)).sum()), int((adjusted < LEVEL).sum())
    verdict = f"{told} of {tested} told from people" if tested else "not compared"
    return QuestionCard(
        anchor=f"question-{place + 1}",
        id=question.id,
        text=worded(question.text, "en")[0],
        chips=(_TYPES[question.type], *question.dimensions, verdict),
        table=_table(analysis, question, place, tests),
        samples=sample_cards(analysis, samples),
    )


_BENEATH = "; beneath: what as many people would score"
_DISTANCES = {
    QuestionType.SINGLE: Column(text="JS", meaning=f"Jensen-Shannon distance, base 2{_BENEATH}"),
    QuestionType.ORDINAL: Column(text="W₁", meaning=f"Wasserstein distance, 0 to 1{_BENEATH}"),
    QuestionType.SCALE: Column(text="W₁", meaning=f"Wasserstein distance, 0 to 1{_BENEATH}"),
    QuestionType.MULTIPLE: Column(text="TV", meaning=f"total variation, mean over options{_BENEATH}"),
}


def _table(
    analysis: Analysis, question: Question, place: int, tests: dict[tuple[str, str], DistinguishedCell]
) -> Table:
    items = analysis.items.of_question(place)
    rows: list[TableRow] = []
    notes: list[str] = []
    asked = run_of_cells(analysis.results.run)
    for culture in analysis.cultures:
        if not any(question.id in asked[cell.place].questions for cell in culture.cells):
            continue
        known = ~np.isnan(culture.reference.n[items])
        rows.append(_people(question, culture, items))
        rows += [
            _respondent(question, culture, cell, place, items, tests[culture.culture.code, cell.name])
            for cell in culture.cells
        ]
        if not known.any():
            notes.append(f"{culture.name}: no reference, not asked there or not known.")
            continue
        if not known.all():
            notes.append(f"{culture.name}: not published for every option; KL, floor and p are of those that were.")
        if culture.reference.low_n[items].any():
            notes.append(f"{culture.name}: too few people for anything but a demonstration.")
    return Table(
        anchor=f"question-{place + 1}-answers",
        caption=f"{question.id}: share of answers",
        grouped_by="Culture",
        columns=(
            Column(text="Respondent", words=True),
            *(Column(text=option_label(question, number)) for number in range(len(question.options))),
            Column(text="n", meaning="valid answers; beneath: how many people weighted ones count as"),
            Column(text="KL", meaning="smoothed KL divergence, nats"),
            Column(text="Floor", meaning="what as many people would score"),
            _DISTANCES[question.type],
            Column(text="p", meaning="could these be as many people? Benjamini-Hochberg over the cell's questions"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _people(question: Question, culture: CultureAnalysis, items: Ints) -> TableRow:
    known = items[~np.isnan(culture.reference.n[items])]
    first = int(known[0] if known.size else items[0])
    asked, effective = float(culture.reference.asked[first]), float(culture.reference.n[first])
    counted = f"as {effective:,.0f}" if effective < asked - 0.5 else ""
    return TableRow(
        head=Entry(text="People"),
        group=culture.name,
        quiet=True,
        entries=(
            *(
                _share(share, percent(share), why="no reference")
                for share in _shares(question, culture.reference.shares[items])
            ),
            _figure(asked, f"{asked:,.0f}", beneath=counted, why="no reference"),
            *(Entry(text="") for _ in range(4)),
        ),
    )


def _respondent(
    question: Question,
    culture: CultureAnalysis,
    cell: CellAnalysis,
    place: int,
    items: Ints,
    test: DistinguishedCell,
) -> TableRow:
    valid = int(cell.n_valid[place])
    # a model's shares rest on few answers: whole per cents say all there is
    shares = _shares(question, cell.counts[items]) if valid else [float("nan")] * len(question.options)
    p, why = float(test.adjusted[place]), _why(cell, items)
    untested = "one participant lists several answers: they are no independent people" if cell.panel else why
    return TableRow(
        head=Entry(text=cell.name),
        group=culture.name,
        entries=(
            *(_share(share, f"{100 * share:.0f}%", why="no valid answer") for share in shares),
            Entry(text=str(valid)),
            _short(float(cell.sound.by_question[place]), why=why),
            _short(float(cell.sound_floor.by_question[place]), why=why),
            _distance(question, culture, cell, place, items, why=why),
            _figure(p, chance(p), why=untested),
        ),
    )


def _why(cell: CellAnalysis, items: Ints) -> str:
    """Why a question has no divergence: what the first of its items lacks; empty where none lacks anything."""
    return next((reason for item in items.tolist() if (reason := cell.divergences.reasons[item])), "")


def _figure(value: float, text: str, *, beneath: str = "", why: str) -> Entry:
    """A figure, or a dash and why there is none."""
    return Entry(text=NONE, why=why) if np.isnan(value) else Entry(text=text, beneath=beneath)


def _short(value: float, *, beneath: str = "", why: str) -> Entry:
    return _figure(value, fixed(value, 2), beneath=beneath, why=why)


def _distance(
    question: Question, culture: CultureAnalysis, cell: CellAnalysis, place: int, items: Ints, *, why: str
) -> Entry:
    """The distance that fits the question's type, its floor beneath."""
    if question.type is QuestionType.MULTIPLE:
        found, floor = cell.divergences.total_variation[items], cell.floor.total_variation[items]
    elif question.type.ordered:
        found, floor = cell.divergences.wasserstein[items], cell.floor.wasserstein[items]
    else:
        found = cell.divergences.js_distance[items]
        floor = np.array([culture.floor.js_distance(int(items[0]), int(cell.n_valid[place]))])
    value, noise = float(mean_known(found)), float(mean_known(floor))
    # answers without a place on the scale have a divergence and no distance along it
    return _short(value, beneath="" if np.isnan(noise) else fixed(noise, 2), why=why or "no answer on the scale")


def _shares(question: Question, weights: Floats) -> list[float]:
    """Share of each option: of one item, or of every item of a list."""
    totals = weights.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        if question.type is QuestionType.MULTIPLE:
            return (weights[:, 1] / totals).tolist()  # type: ignore[no-any-return]
        return (weights[0] / totals[0])[: len(question.options)].tolist()  # type: ignore[no-any-return]


def _share(share: float, text: str, *, why: str) -> Entry:
    return Entry(text=NONE, why=why) if np.isnan(share) else Entry(text=text, shade=min(share, 1.0))


#: Answers that make a cell part of the heading: of fewer, order may move a good part without being told from chance.
ENOUGH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRow:
    """One cell."""

    name: str
    culture: str
    bias: PositionBias
    p_holm: float  #: over the cells of the run; nan where there is no test

    @property
    def flagged(self) -> bool:
        """Whether the option shown first draws answers, or repels them, more than chance does."""
        return self.p_holm < LEVEL

    @property
    def telling(self) -> bool:
        """Whether there is a test, of answers enough to be spoken of in a heading."""
        return self.bias.answers >= ENOUGH and not np.isnan(self.p_holm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Every cell of a run."""

    rows: tuple[PlacementRow, ...]


def placement(analysis: Analysis) -> Placement | NotRun:
    """Test every cell whose options were shown in more than one order."""
    answers, items = analysis.results.answers, analysis.items
    single = np.array([question.type is not QuestionType.MULTIPLE for question in items.questions], dtype=bool)
    usable = (answers.state == ANSWERED) & single[answers.question] & (answers.choices > 0)
    order = np.flatnonzero(usable)
    order = order[np.argsort(answers.cell[order], kind="stable")]
    bounds = np.searchsorted(answers.cell[order], np.arange(len(analysis.results.run.cells) + 1))
    question = answers.question[order].astype(np.int64)
    # the number of zeros below the one bit set is the position of the option chosen
    chosen = np.bitwise_count(answers.choices[order] - 1).astype(np.int64)
    shown = _positions(items, question, answers.shown[order])
    options, found = items.offered.shape[1], []
    for cell in analysis.cells:
        here = slice(bounds[cell.place], bounds[cell.place + 1])
        found.append((cell, position_bias(question[here], chosen[here], shown[here], options)))
    if not any(bias.answers for _, bias in found):
        return NotRun(reason="every question was shown in one order only")
    adjusted = holm([bias.p for _, bias in found])
    return Placement(
        rows=tuple(
            PlacementRow(name=cell.name, culture=cell.cell.culture, bias=bias, p_holm=float(p))
            for (cell, bias), p in zip(found, adjusted, strict=True)
        )
    )


def _positions(items: ItemTable, question: Ints, code: Ints) -> Ints:
    """Position of an option in its question, by its code, shape (n,)."""
    codes = [question.codes for question in items.questions]
    flat, sizes = np.concatenate([np.array(each, dtype=np.int64) for each in codes]), [len(each) for each in codes]
    known = np.unique(flat)  # a code may be as large as it likes: its rank among all codes is not
    place = np.repeat(np.arange(len(codes)), sizes) * known.size + np.searchsorted(known, flat)
    order = np.argsort(place)
    found = np.searchsorted(place[order], question * known.size + np.searchsorted(known, code))
    return np.asarray(np.concatenate([np.arange(size) for size in sizes])[order[found]], dtype=np.int64)


def position_section(analysis: Analysis) -> Section:
    """Does the order shown move the answer?"""
    part = analysis.figure(placement)
    section = Section(anchor="position", contents="Position bias", title="Does the order shown move the answer?")
    if isinstance(part, NotRun):
        return missing(section, part)
    fields: list[Field[PlacementRow]] = [
        Field("Model", lambda row: row.name, words=True),
        Field(
            "First",
            lambda row: Entry(text=percent(row.bias.first), why=row.bias.reason),
            "share of answers that chose the option shown first",
        ),
        Field(
            "Expected",
            lambda row: Entry(text=percent(row.bias.expected), why=row.bias.reason),
            "that share if order did not matter",
        ),
        Field(
            "Moved",
            lambda row: Entry(text=percent(row.bias.moved), why=row.bias.reason),
            "share of the answers that order would have moved",
        ),
        Field("z", lambda row: Entry(text=fixed(row.bias.z, 1), why=row.bias.reason)),
        Field("p, Holm", lambda row: Entry(text=chance(row.p_holm), why=row.bias.reason)),
        Field("Answers", lambda row: f"{row.bias.answers:,}", "to questions shown in more than one order"),
        Field("Flag", lambda row: "order matters" if row.flagged else ""),
    ]
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
            culture_table(
                analysis,
                part.rows,
                fields,
                anchor="position-table",
                caption="Answers drawn to the option shown first",
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
