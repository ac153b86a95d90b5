"""A run, measured: every model in every culture, beside people and simple respondents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from defsurvey.reports import cells as of_cells
from defsurvey.reports.cells import ItemTable, Ranking, ReferenceTable, Sample
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import Floats, Ints, Means, headline_mean, mean_known, means, ratio, shares_of
from defsurvey.reports.metrics.divergence import (
    Divergences,
    PaperValues,
    divergences,
    paper_values,
    smoothed_kl,
    wasserstein,
    without_one,
)
from defsurvey.reports.metrics.floor import Floor, FloorValues, respondents
from defsurvey.reports.metrics.intervals import Interval, Intervals, independent_variance, intervals_of_means
from defsurvey.reports.metrics.judges import JudgeNotes, Verdicts
from defsurvey.reports.metrics.quality import Diversity, Quality, diversity, effective_options, quality
from defsurvey.storage.runs.results import STATES, AnswerArrays, DrawArrays, Results
from defsurvey.storage.runs.run import AnswerState, Cell, Reply
from defsurvey.storage.surveys.survey import Culture

T = TypeVar("T")


class NotRun(Exception):
    """A figure that this run does not cover: "one language: nothing to compare"."""

    @property
    def reason(self) -> str:
        """Begins in lower case and ends without a full stop."""
        return str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What n simple respondents would score on average against one culture, smoothed KL in nats."""

    name: str
    n: int
    mean: float  #: the headline mean; nan where the culture has no reference


def mode_shares(reference: ReferenceTable) -> Floats:
    """Always gives the commonest answer (of a list: the options that more than half chose); ties are split."""
    highest = reference.shares == np.nanmax(reference.shares, axis=-1, keepdims=True, initial=-1.0)
    shares = highest / np.maximum(highest.sum(axis=-1, keepdims=True), 1)
    return np.where(np.isnan(reference.shares), np.nan, shares)


def expected_mean(source: Floats, items: ItemTable, reference: ReferenceTable, n: int) -> float:
    """The headline mean that n respondents who answer by ``source`` (I, K) would score against a reference."""
    values = respondents(source, reference.shares, reference.n, items.offered, n).smoothed_kl
    return float(headline_mean(values, items.grouping))


def controls(
    items: ItemTable, reference: ReferenceTable, others: dict[str, ReferenceTable], *, people: str, n: int
) -> tuple[Control, ...]:
    """n simple respondents of one culture: its own people, uniform answers, its mode, and people of other cultures."""
    sources = {
        f"{n} people of {people}" if n > 1 else f"1 person of {people}": reference.shares,
        "uniform answers": of_cells.uniform_shares(items),
        "always the commonest answer": mode_shares(reference),
        **{f"people of {name}": other.shares for name, other in others.items()},
    }
    return tuple(
        Control(name=name, n=n, mean=expected_mean(source, items, reference, n)) for name, source in sources.items()
    )


#: How far replies were read, in words.
READ = {
    Reply.FULL: "to their own end",
    Reply.FIRST_SENTENCE: "to the end of the first sentence of the explanation",
    Reply.ANSWER: "to the end of the answer, without an explanation",
    Reply.CHOICE: "as bare choices: the engine let them name options and say nothing else",
}


def why_not(reply: Reply) -> str:
    """Why what needs whole replies is not given; empty where replies are whole."""
    return "" if reply is Reply.FULL else f"replies were read {READ[reply]}"


def placed_only(
    counts: Floats, items: ItemTable, reference: ReferenceTable, found: Divergences, floor: FloorValues
) -> tuple[Divergences, FloorValues]:
    """The same divergences and floor, Wasserstein distances without residual options.

    For items with a residual option the distance of the answers that chose another, and the floor at their number; nan
    where nobody did.
    """
    rows = np.flatnonzero((items.offered & ~items.placed).any(axis=-1))
    if rows.size == 0:
        return found, floor
    # placed options move to the front in their order: one left out in between is no step
    order = np.argsort(~items.placed[rows], axis=-1, kind="stable")
    placed = np.take_along_axis(items.placed[rows], order, axis=-1)
    own, theirs = (
        np.where(placed, np.take_along_axis(table[rows], order, axis=-1), 0.0) for table in (counts, reference.shares)
    )
    shares = shares_of(theirs)
    expected = Floor(shares=shares, n_human=reference.n[rows], offered=placed).at(own.sum(axis=-1)).wasserstein
    distance, noise = found.wasserstein.copy(), floor.wasserstein.copy()
    distance[rows], noise[rows] = wasserstein(own, shares, placed), expected
    return replace(found, wasserstein=distance), replace(floor, wasserstein=noise)


FAILED, ANSWERED = STATES.index(AnswerState.FAILED), STATES.index(AnswerState.ANSWERED)


def answer_weights(answers: AnswerArrays, items: ItemTable, cell: int, participants: int) -> Floats:
    """What each participant of a cell answered, shape (P, I, K): 1 in the category chosen, slots added up, else 0."""
    here = (answers.cell == cell) & (answers.state == ANSWERED)
    person, question = answers.participant[here].astype(np.int64), answers.question[here].astype(np.int64)
    choices = answers.choices[here]
    people = max(participants, int(person.max(initial=-1)) + 1)
    weights = np.zeros((people, *items.offered.shape))
    first = np.zeros(len(items.questions), dtype=np.int64)
    first[items.question[::-1]] = np.arange(len(items.question))[::-1]
    single = items.whole[first[question]]
    # the number of zeros below the one bit set is the position of the option chosen
    chosen = np.bitwise_count(choices[single] - 1).astype(np.int64)
    np.add.at(weights, (person[single], first[question[single]], chosen), 1.0)
    for item in np.flatnonzero(~items.whole):
        rows = question == items.question[item]
        picked = (choices[rows] >> items.option[item]) & 1
        np.add.at(weights, (person[rows], np.full(int(rows.sum()), item), picked), 1.0)
    return weights


def single_answers(weights: Floats, items: ItemTable, reference: ReferenceTable) -> Floats:
    """What each participant's answer to each item scores alone, shape (P, I)."""
    alone = np.eye(items.offered.shape[1])[None] * items.offered[:, :, None]
    scores = smoothed_kl(alone, reference.shares[:, None], reference.n[:, None], items.offered[:, None])
    return ratio((weights * np.where(items.offered, scores, 0.0)).sum(axis=-1), weights.sum(axis=-1))


def codes(weights: Floats, items: ItemTable) -> Floats:
    """Code of each participant's answer to each item, shape (P, I)."""
    given = np.where(items.placed, items.code, 0.0)
    return ratio((weights * given).sum(axis=-1), (weights * items.placed).sum(axis=-1))


def intervals(items: ItemTable, reference: ReferenceTable, weights: Floats, points: Floats) -> Intervals:
    """Intervals of a cell's means, by what each participant answered (P, I, K) and the KL of each item (I,)."""
    known = ~np.isnan(points) & items.grouping.headline
    answers, people = weights[:, known], (reference.shares[known], reference.n[known], items.offered[known])
    counts = answers.sum(axis=0)
    changes = np.einsum("pik,ik->pi", answers, without_one(smoothed_kl, counts, *people))
    return intervals_of_means(
        points[known],
        independent_variance(counts, *people),
        np.where(answers.any(axis=-1), changes, np.nan),
        items.grouping.of(known),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAnalysis:
    """One model x culture x condition x language."""

    cell: Cell
    name: str  #: the model, with condition and language where the run has several
    n_valid: Ints  #: valid answers per question, shape (Q,)
    sample: Sample  #: what it is compared by
    p_people: float  #: that it is as far from people, by the corrected KL, as they themselves; nan if too few answers
    comparable: bool  #: whether it has answers enough to what the headline is of, for that or a comparison
    divergences: Divergences  #: per item
    floor: FloorValues  #: per item, at the item's own number of valid answers
    sound: Means  #: of the smoothed KL
    sound_floor: Means  #: the same for as many people of the culture
    sound_random: Means  #: the same for as many uniform answers
    paper: Means  #: of the plug-in KL, infinite values by the paper's rule
    paper_floor: Means  #: of the plug-in KL
    paper_values: PaperValues  #: per item
    intervals: Intervals  #: of ``sound``
    place: int  #: position in ``Run.cells``
    participant_kl: Floats  #: smoothed KL of each participant's own answer, per item, shape (P, I); nan where none
    participant_code: Floats  #: code of each participant's answer, residual options left out, shape (P, I)
    quality: Quality
    diversity: Diversity
    distinct_choices: float  #: distinct answers per question, mean; nan without a valid answer
    effective_options: float  #: exp(entropy), mean over the items answered that have a reference
    human_effective_options: float  #: the same items, people

    @property
    def culture(self) -> str:
        """Code of the culture that it answers for."""
        return self.cell.culture

    @property
    def counts(self) -> Floats:
        """Valid answers per item and category, shape (I, K)."""
        return self.sample.counts

    @property
    def panel(self) -> bool:
        """Whether one participant lists several answers to each question: one sample, not as many participants."""
        return self.cell.condition.slots > 1

    @property
    def interval(self) -> Interval:
        """Of ``sound.headline``, over participants, questions fixed."""
        return self.intervals.headline

    @property
    def paper_reason(self) -> str:
        """Why there is no ``paper.headline``; empty where there is."""
        return "" if np.isfinite(self.paper.headline) else self.paper_values.reason or self.paper.reason

    @property
    def excess(self) -> float:
        """How far the headline divergence lies above what as many people would score, in nats."""
        return self.sound.headline - self.sound_floor.headline


@dataclass(frozen=True, slots=True, kw_only=True)
class CultureAnalysis:
    """One culture: its people, simple respondents, and who comes closest."""

    culture: Culture
    reference: ReferenceTable
    floor: Floor
    cells: tuple[CellAnalysis, ...]
    controls: tuple[Control, ...]  #: the first: as many of its own people as a cell has answers to a question
    ranking: Ranking

    @property
    def name(self) -> str:
        """The culture's name in English, or its code."""
        return self.culture.name.get("en", self.culture.code)

    @property
    def named(self) -> str:
        """The name as it stands in a sentence: "the United States"."""
        return in_sentence(self.culture)


def in_sentence(culture: Culture) -> str:
    """A culture's name as it stands in an English sentence."""
    return culture.in_sentence or culture.name.get("en", culture.code)


def cell_names(cells: tuple[Cell, ...]) -> tuple[str, ...]:
    """What to call each cell beside its culture: no more than tells it from the others."""
    conditions = len({cell.condition.name for cell in cells}) > 1
    languages = len({(cell.culture, cell.language) for cell in cells}) > len({cell.culture for cell in cells})
    return tuple(
        " · ".join([cell.model, *[cell.condition.name] * conditions, *[cell.language] * languages]) for cell in cells
    )


def culture_analysis(
    results: Results, items: ItemTable, culture: Culture, references: Mapping[str, ReferenceTable], names: Sequence[str]
) -> CultureAnalysis:
    """Every cell of a culture, measured, and simple respondents."""
    reference = references[culture.code]
    floor = Floor(shares=reference.shares, n_human=reference.n, offered=items.offered)
    random = replace(floor, source=of_cells.uniform_shares(items))
    places = [place for place, cell in enumerate(results.run.cells) if cell.culture == culture.code]
    # where only probabilities were read there are no answers; such cells are measured by themselves (first_token)
    places = [place for place in places if results.run.cells[place].condition.slots] or places
    cells = tuple(_cell(results, items, reference, floor, random, place, names[place]) for place in places)
    others = {code: other for code, other in references.items() if code != culture.code}
    return CultureAnalysis(
        culture=culture,
        reference=reference,
        floor=floor,
        cells=cells,
        controls=controls(
            items,
            reference,
            {in_sentence(results.survey.culture(code)): other for code, other in others.items()},
            people=in_sentence(culture),
            n=max(cell.cell.participants * max(cell.cell.condition.slots, 1) for cell in cells),
        ),
        ranking=of_cells.rank({cell.name: cell.sample for cell in cells}, items, reference),
    )


def _cell(
    results: Results, items: ItemTable, reference: ReferenceTable, floor: Floor, random: Floor, place: int, name: str
) -> CellAnalysis:
    cell, answers, reply = results.run.cells[place], results.answers, results.run.protocol.reply
    here = answers.cell == place
    person, question, state = answers.participant[here], answers.question[here], answers.state[here]
    replied, chosen = state != FAILED, answers.choices[here] != 0
    weights = answer_weights(answers, items, place, cell.participants)
    sample = of_cells.sample_of(weights, items, reference)
    counts, known = sample.counts, (items, reference)
    n_valid = np.bincount(question[state == ANSWERED], minlength=len(items.questions))
    found, noise = placed_only(
        counts,
        *known,
        divergences(counts, reference.shares, reference.n, items.offered),
        floor.at(n_valid[items.question]),
    )
    ruled = paper_values(found.plug_in_kl, items.grouping.headline)
    options = np.stack([effective_options(counts), effective_options(reference.shares)])
    options[:, np.isnan(options).any(axis=0)] = np.nan
    # distinct pairs of a question and what was chosen, and the questions of them
    pairs = np.unique(np.stack([question[chosen].astype(np.int64), answers.choices[here][chosen]]), axis=1)
    return CellAnalysis(
        cell=cell,
        name=name,
        n_valid=n_valid,
        sample=sample,
        p_people=of_cells.told_from_people(sample, *known),
        comparable=of_cells.comparable(counts, *known),
        divergences=found,
        floor=noise,
        sound=means(found.smoothed_kl, items.grouping),
        sound_random=means(random.at(n_valid[items.question]).smoothed_kl, items.grouping),
        sound_floor=means(noise.smoothed_kl, items.grouping),
        paper=means(ruled.values, items.grouping),
        paper_floor=means(noise.plug_in_kl, items.grouping),
        paper_values=ruled,
        place=place,
        participant_kl=single_answers(weights, *known),
        participant_code=codes(weights, items),
        intervals=intervals(*known, weights, found.smoothed_kl),
        quality=quality(
            planned=cell.participants * cell.condition.slots * len(run_of_cells(results.run)[place].questions),
            **{each.value: np.bincount(person[state == at], minlength=len(weights)) for at, each in enumerate(STATES)},
        ),
        diversity=diversity(answers.digest[here][replied], question[replied])
        if reply is Reply.FULL
        else Diversity(replies=int(replied.sum()), reason=why_not(reply)),
        distinct_choices=float(pairs.shape[1] / len(np.unique(pairs[0]))) if chosen.any() else np.nan,
        effective_options=float(mean_known(options[0])),
        human_effective_options=float(mean_known(options[1])),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """A run, measured cell by cell."""

    results: Results
    items: ItemTable
    cultures: tuple[CultureAnalysis, ...]  #: in the order of the run's cells
    overall: Quality
    draws: DrawArrays | None = None  #: what participants drew; None: not read
    verdicts: Sequence[Verdicts] = ()  #: one per judge that was asked
    notes: JudgeNotes = field(default_factory=JudgeNotes)
    figures: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False, compare=False)  #: computed so far

    def figure(self, compute: Callable[[Analysis], T]) -> T:
        """What ``compute`` makes of this run, computed when it is first asked for; raises NotRun where it does."""
        if compute not in self.figures:
            try:
                self.figures[compute] = compute(self)
            except NotRun as reason:
                self.figures[compute] = reason
        found: T | NotRun = self.figures[compute]
        if isinstance(found, NotRun):
            raise found
        return found

    def figure_if_run(self, compute: Callable[[Analysis], T]) -> T | None:
        """The same; None where this run does not cover it."""
        try:
            return self.figure(compute)
        except NotRun:
            return None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Codes of the value dimensions that the run's items speak to, in the survey's order."""
        spoken = set(self.items.grouping.dimension.tolist())
        return tuple(code for place, code in enumerate(self.results.survey.dimensions) if place in spoken)

    @property
    def cells(self) -> tuple[CellAnalysis, ...]:
        """All cells, culture by culture."""
        return tuple(cell for culture in self.cultures for cell in culture.cells)


def analyse(
    results: Results,
    *,
    draws: DrawArrays | None = None,
    verdicts: Sequence[Verdicts] = (),
    notes: JudgeNotes | None = None,
) -> Analysis:
    """Measure every cell of a run, finished or not.

    What its participants drew and what judges said is read elsewhere; a figure that needs ``draws`` is not run without.
    """
    survey, run, progress = results.survey, results.run, results.progress
    items = of_cells.item_table(survey, run.questions)
    codes = tuple(dict.fromkeys(cell.culture for cell in run.cells))
    references = {code: of_cells.reference_table(survey, items, code) for code in codes}
    names = cell_names(run.cells)
    return Analysis(
        results=results,
        items=items,
        cultures=tuple(culture_analysis(results, items, survey.culture(code), references, names) for code in codes),
        overall=quality(planned=progress.planned, **{each.value: getattr(progress, each.value) for each in STATES}),
        draws=draws,
        verdicts=verdicts,
        notes=notes or JudgeNotes(),
    )
