"""Answers to single questions: can they be told from people's, and does the order of options move them?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np

from defsurvey.reports.analysis import ANSWERED, Analysis, CellAnalysis, CultureAnalysis, NotRun
from defsurvey.reports.cards import option_label, sample_cards, worded
from defsurvey.reports.cells import Floats, Ints, ItemTable, answered
from defsurvey.reports.figures.shared import LEVEL, OfCell
from defsurvey.reports.figures.words import MODEL, culture_table, named_cultures, section
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import mean_known
from defsurvey.reports.metrics.comparisons import benjamini_hochberg, holm
from defsurvey.reports.metrics.divergence import smoothed_reference
from defsurvey.reports.metrics.floor import GTests
from defsurvey.reports.metrics.position import PositionBias, position_bias
from defsurvey.reports.number_format import NONE, chance, counted, fixed, percent
from defsurvey.reports.page import Column, Entry, Field, QuestionCard, Section, Table, TableRow
from defsurvey.storage.surveys.survey import Question, QuestionType

#: Answers that make a cell part of a heading: of fewer, order may move a good part without being told from chance.
ENOUGH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DistinguishedCell(OfCell):
    """One cell; arrays of shape (Q,), nan for a question without a valid answer or a reference, and for panels."""

    p: Floats  #: of the G-test; of a list the smallest of its options' times their number
    adjusted: Floats  #: by Benjamini and Hochberg over the cell's questions
    questions: int  #: tested
    alike: int  #: of them, not told from people
    comparable: bool  #: whether it has answers enough to be named for that: few answers are told from nobody

    @property
    def share_alike(self) -> float:
        """Share of the tested questions that are not told from people; nan if none was tested."""
        return self.alike / self.questions if self.questions else nan


def distinguish(analysis: Analysis) -> tuple[DistinguishedCell, ...]:
    """Test every question of every cell.

    The people compared with are the reference smoothed by its own number: an answer that none of 3,000 people gave is
    rare, not impossible.
    """
    return tuple(cell for culture in analysis.cultures for cell in _culture(analysis.items, culture))


def _culture(items: ItemTable, culture: CultureAnalysis) -> list[DistinguishedCell]:
    reference = culture.reference
    smoothed = smoothed_reference(reference.shares, reference.n, items.offered)
    tests = GTests(shares=smoothed, offered=items.offered)
    # a panel's answers are one sample: no test of independent people is true of them
    untested = np.full(len(items.question), np.nan)
    return [
        _tested(items, cell, untested if cell.panel else tests.p(cell.counts), answered(cell.counts, items, reference))
        for cell in culture.cells
    ]


def _tested(items: ItemTable, cell: CellAnalysis, by_item: Floats, comparable: bool) -> DistinguishedCell:
    p = np.full(len(items.questions), np.inf)
    tested = np.zeros(len(items.questions))
    known = ~np.isnan(by_item)
    np.minimum.at(p, items.question[known], by_item[known])
    np.add.at(tested, items.question[known], 1)
    # Bonferroni over the options of a list: they are answered together, so that no test of their sum is exact
    p = np.where(tested > 0, np.minimum(p * np.maximum(tested, 1), 1.0), np.nan)
    adjusted, questions = benjamini_hochberg(p), int((tested > 0).sum())
    alike = questions - int((adjusted < LEVEL).sum())
    return DistinguishedCell(cell=cell, p=p, adjusted=adjusted, questions=questions, alike=alike, comparable=comparable)


@section("questions", "Questions", "Question by question")
def question_section(analysis: Analysis, section: Section) -> Section:
    """Which questions tell a model from people, and every question by itself."""
    cells = analysis.figure(distinguish)

    def share(cell: DistinguishedCell) -> Entry:
        return Entry(percent(cell.share_alike), bar=cell.share_alike if cell.questions else None)

    fields: list[Field[DistinguishedCell]] = [
        MODEL,
        Field("Not told apart", share, "share of the questions tested, adjusted p at least 0.05"),
        Field("Questions", lambda cell: f"{cell.alike} of {cell.questions}", "not told apart, of those tested"),
    ]
    caption = "Questions on which answers are not told from people's"
    how = (
        "Each question is tested by itself: could these answers come from as many people? G-test with its exact "
        "distribution, Benjamini-Hochberg over a cell's questions. Not told apart is not the same as alike: few "
        "answers tell little."
    )
    below = "Below, every question of the run: people beside models. Floor is what as many people would score."
    return replace(
        section,
        title=_alike(analysis) or section.title,
        paragraphs=(how, below),
        tables=(culture_table(analysis, cells, fields, "table-distinguished", caption),),
        questions=question_cards(analysis),
    )


def _alike(analysis: Analysis) -> str:
    """On how many questions the cell that is told from people least is not told from them; empty where none may be."""
    tested = [cell for cell in analysis.figure(distinguish) if cell.questions and cell.comparable]
    if not tested:
        return ""
    best = max(tested, key=lambda cell: cell.share_alike)
    said = f"{best.name} is not told from people on {percent(best.share_alike)} of"
    where = f"{counted(best.questions, 'question')} in {named_cultures(analysis)[best.culture]}"
    return f"{said} {where}{f', the most of {len(tested)} cells' if len(tested) > 1 else ''}"


_TYPES = {
    QuestionType.SINGLE: "one of several",
    QuestionType.ORDINAL: "ordered",
    QuestionType.SCALE: "scale",
    QuestionType.MULTIPLE: "several of a list",
}
_BENEATH = "; beneath: what as many people would score"
_ORDERED = Column("W₁", meaning=f"Wasserstein distance, 0 to 1{_BENEATH}")
_DISTANCES = {
    QuestionType.SINGLE: Column("JS", meaning=f"Jensen-Shannon distance, base 2{_BENEATH}"),
    QuestionType.ORDINAL: _ORDERED,
    QuestionType.SCALE: _ORDERED,
    QuestionType.MULTIPLE: Column("TV", meaning=f"total variation, mean over options{_BENEATH}"),
}
#: Cell -> its tests, by culture and name.
_Tests = Mapping[tuple[str, str], DistinguishedCell]


def question_cards(analysis: Analysis) -> tuple[QuestionCard, ...]:
    """Every question of the run, none left out."""
    tests, cards = {(cell.culture, cell.name): cell for cell in analysis.figure(distinguish)}, []
    samples = [sample.answer.question for sample in analysis.results.samples]
    for place, question in enumerate(analysis.items.questions):
        adjusted = np.array([test.adjusted[place] for test in tests.values()])
        tested, told = int((~np.isnan(adjusted)).sum()), int((adjusted < LEVEL).sum())
        verdict = f"{told} of {tested} told from people" if tested else "not compared"
        card = QuestionCard(
            anchor=f"question-{place + 1}",
            id=question.id,
            text=worded(question.text, "en")[0],
            chips=(_TYPES[question.type], *question.dimensions, verdict),
            table=_table(analysis, question, place, tests),
            samples=sample_cards(analysis, [at for at, name in enumerate(samples) if name == question.id]),
        )
        cards.append(card)
    return tuple(cards)


def _table(analysis: Analysis, question: Question, place: int, tests: _Tests) -> Table:
    items, asked = analysis.items.of_question(place), run_of_cells(analysis.results.run)
    rows: list[TableRow] = []
    notes: list[str] = []
    for culture in analysis.cultures:
        if not any(question.id in asked[cell.place].questions for cell in culture.cells):
            continue
        known = ~np.isnan(culture.reference.n[items])
        rows.append(_people(question, culture, items))
        rows += [_respondent(question, culture, tests[cell.culture, cell.name], place, items) for cell in culture.cells]
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
            Column("Respondent", words=True),
            *(Column(option_label(question, number)) for number in range(len(question.options))),
            Column("n", meaning="valid answers; beneath: how many people weighted ones count as"),
            Column("KL", meaning="smoothed KL divergence, nats"),
            Column("Floor", meaning="what as many people would score"),
            _DISTANCES[question.type],
            Column("p", meaning="could these be as many people? Benjamini-Hochberg over the cell's questions"),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _people(question: Question, culture: CultureAnalysis, items: Ints) -> TableRow:
    known = items[~np.isnan(culture.reference.n[items])]
    first, none = int(known[0] if known.size else items[0]), "no reference"
    asked, effective = float(culture.reference.asked[first]), float(culture.reference.n[first])
    weighted = f"as {effective:,.0f}" if effective < asked - 0.5 else ""
    entries = [
        *_options(_shares(question, culture.reference.shares[items]), percent, none),
        _figure(asked, f"{asked:,.0f}", beneath=weighted, why=none),
        *(Entry("") for _ in range(4)),
    ]
    return TableRow(head=Entry("People"), group=culture.name, quiet=True, entries=tuple(entries))


def _options(shares: Sequence[float], written: Callable[[float], str], why: str) -> list[Entry]:
    return [_figure(share, written(share), why=why, shade=min(share, 1.0)) for share in shares]


def _respondent(
    question: Question, culture: CultureAnalysis, test: DistinguishedCell, place: int, items: Ints
) -> TableRow:
    cell, p = test.cell, float(test.adjusted[place])
    valid = int(cell.n_valid[place])
    # a model's shares rest on few answers: whole per cents say all there is
    shares = _shares(question, cell.counts[items]) if valid else [nan] * len(question.options)
    # why a question has no divergence is what the first of its items lacks
    why = next((reason for item in items.tolist() if (reason := cell.divergences.reasons[item])), "")
    untested = "one participant lists several answers: they are no independent people" if cell.panel else why
    value, floor = float(cell.sound.by_question[place]), float(cell.sound_floor.by_question[place])
    distance, noise = _distance(question, culture, cell, place, items)
    beneath = "" if isnan(noise) else fixed(noise, 2)
    entries = [
        *_options(shares, "{:.0%}".format, "no valid answer"),
        Entry(str(valid)),
        _figure(value, fixed(value, 2), why=why),
        _figure(floor, fixed(floor, 2), why=why),
        # answers without a place on the scale have a divergence and no distance along it
        _figure(distance, fixed(distance, 2), beneath=beneath, why=why or "no answer on the scale"),
        _figure(p, chance(p), why=untested),
    ]
    return TableRow(head=Entry(cell.name), group=culture.name, entries=tuple(entries))


def _figure(value: float, text: str, *, beneath: str = "", shade: float | None = None, why: str) -> Entry:
    """A figure, or a dash and why there is none."""
    return Entry(NONE, why=why) if isnan(value) else Entry(text, beneath=beneath, shade=shade)


def _distance(
    question: Question, culture: CultureAnalysis, cell: CellAnalysis, place: int, items: Ints
) -> tuple[float, float]:
    """The distance that fits the question's type, and its floor."""
    if question.type is QuestionType.MULTIPLE:
        found, floor = cell.divergences.total_variation[items], cell.floor.total_variation[items]
    elif question.type.ordered:
        found, floor = cell.divergences.wasserstein[items], cell.floor.wasserstein[items]
    else:
        found = cell.divergences.js_distance[items]
        floor = np.array([culture.floor.js_distance(int(items[0]), int(cell.n_valid[place]))])
    return float(mean_known(found)), float(mean_known(floor))


def _shares(question: Question, weights: Floats) -> list[float]:
    """Share of each option: of one item, or of every item of a list."""
    with np.errstate(invalid="ignore"):
        shares = weights / weights.sum(axis=-1, keepdims=True)
    of = shares[:, 1] if question.type is QuestionType.MULTIPLE else shares[0, : len(question.options)]
    return [float(share) for share in of]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRow(OfCell):
    """One cell."""

    bias: PositionBias
    p_holm: float  #: over the cells of the run; nan where there is no test

    @property
    def flagged(self) -> bool:
        """Whether the option shown first draws answers, or repels them, more than chance does."""
        return self.p_holm < LEVEL

    @property
    def telling(self) -> bool:
        """Whether there is a test, of answers enough to be spoken of in a heading."""
        return self.bias.answers >= ENOUGH and not isnan(self.p_holm)


def placement(analysis: Analysis) -> tuple[PlacementRow, ...]:
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
        raise NotRun("every question was shown in one order only")
    adjusted = holm([bias.p for _, bias in found]).tolist()
    return tuple(PlacementRow(cell=cell, bias=bias, p_holm=p) for (cell, bias), p in zip(found, adjusted, strict=True))


def _positions(items: ItemTable, question: Ints, code: Ints) -> Ints:
    """Position of an option in its question, by its code, shape (n,)."""
    codes = [question.codes for question in items.questions]
    flat, sizes = np.concatenate([np.array(each, dtype=np.int64) for each in codes]), [len(each) for each in codes]
    known = np.unique(flat)  # a code may be as large as it likes: its rank among all codes is not
    place = np.repeat(np.arange(len(codes)), sizes) * known.size + np.searchsorted(known, flat)
    order = np.argsort(place)
    found = np.searchsorted(place[order], question * known.size + np.searchsorted(known, code))
    return np.asarray(np.concatenate([np.arange(size) for size in sizes])[order[found]], dtype=np.int64)


@section("position", "Position bias", "Does the order shown move the answer?")
def position_section(analysis: Analysis, section: Section) -> Section:
    """Does the order shown move the answer?"""
    rows = analysis.figure(placement)

    def of(text: str, show: Callable[[PlacementRow], str], meaning: str = "") -> Field[PlacementRow]:
        return Field(text, lambda row: Entry(show(row), why=row.bias.reason), meaning)

    fields: list[Field[PlacementRow]] = [
        MODEL,
        of("First", lambda row: percent(row.bias.first), "share of answers that chose the option shown first"),
        of("Expected", lambda row: percent(row.bias.expected), "that share if order did not matter"),
        of("Moved", lambda row: percent(row.bias.moved), "share of the answers that order would have moved"),
        of("z", lambda row: fixed(row.bias.z, 1)),
        of("p, Holm", lambda row: chance(row.p_holm)),
        Field("Answers", lambda row: f"{row.bias.answers:,}", "to questions shown in more than one order"),
        Field("Flag", lambda row: "order matters" if row.flagged else ""),
    ]
    how = (
        "How often the option shown first was chosen, against how often the two would meet if the answers were dealt "
        "out anew among those asked. 100% moved: always the first, whatever it says."
    )
    shown = culture_table(analysis, rows, fields, "position-table", "Answers drawn to the option shown first")
    return replace(section, title=_ordered(rows) or section.title, paragraphs=(how,), tables=(shown,))


def _ordered(rows: Sequence[PlacementRow]) -> str:
    """Whose answers the order moves; empty where no cell was tested by answers enough."""
    tested = [row for row in rows if row.telling]
    names = [row.name for row in tested if row.flagged]
    if not tested:
        return ""
    if not names:
        return f"In none of {counted(len(tested), 'cell')} tested does the order of options move answers beyond chance"
    several, whose = dict.fromkeys(names), f"{len(names)} of {len(tested)} cells"
    return f"The order of options moves the answers of {' and '.join(several) if len(several) < 3 else whose}"
