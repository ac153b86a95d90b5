"""One model in one culture, and one culture with all of them: measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from defsurvey.reports.cells.comparing import Sample, comparable, sample_of, told_from_people
from defsurvey.reports.cells.items import (
    Floats,
    Ints,
    ItemTable,
    ReferenceTable,
    answer_weights,
    state_counts,
    valid_answers,
)
from defsurvey.reports.cells.ordered import placed_only
from defsurvey.reports.cells.participants import codes, intervals, single_answers
from defsurvey.reports.cells.ranking import Ranking, rank
from defsurvey.reports.cells.replies import diversity_of
from defsurvey.reports.cells.respondents import Control, controls, uniform_shares
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.metrics.aggregate import Means, mean_known, means
from defsurvey.reports.metrics.divergence import Divergences, PaperValues, divergences, paper_values
from defsurvey.reports.metrics.diversity import Diversity, diversity, effective_options
from defsurvey.reports.metrics.floor import Floor, FloorValues
from defsurvey.reports.metrics.intervals import Interval, Intervals
from defsurvey.reports.metrics.quality import Quality, quality
from defsurvey.storage.runs.results import STATES, Results
from defsurvey.storage.runs.run import AnswerState, Cell
from defsurvey.storage.surveys.survey import Culture

FAILED = STATES.index(AnswerState.FAILED)


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
        return english(self.culture)

    @property
    def named(self) -> str:
        """The name as it stands in a sentence: "the United States"."""
        return in_sentence(self.culture)


def english(culture: Culture) -> str:
    """A culture's name in English, or its code."""
    return culture.name.get("en", culture.code)


def in_sentence(culture: Culture) -> str:
    """A culture's name as it stands in an English sentence."""
    return culture.in_sentence or english(culture)


def cell_names(cells: tuple[Cell, ...]) -> tuple[str, ...]:
    """What to call each cell beside its culture: no more than tells it from the others."""
    conditions = {cell.condition.name for cell in cells}
    languages = {(cell.culture, cell.language) for cell in cells}
    several_languages = len(languages) > len({culture for culture, _ in languages})
    return tuple(
        " · ".join(
            [
                cell.model,
                *([cell.condition.name] if len(conditions) > 1 else []),
                *([cell.language] if several_languages else []),
            ]
        )
        for cell in cells
    )


def culture_analysis(
    results: Results,
    items: ItemTable,
    culture: Culture,
    references: Mapping[str, ReferenceTable],
    names: tuple[str, ...],
) -> CultureAnalysis:
    """Every cell of a culture, measured, and simple respondents."""
    reference = references[culture.code]
    floor = Floor(shares=reference.shares, n_human=reference.n, offered=items.offered)
    random = replace(floor, source=uniform_shares(items))
    places = [place for place, cell in enumerate(results.run.cells) if cell.culture == culture.code]
    # where only probabilities were read there are no answers; such cells are measured by themselves (first_token)
    places = [place for place in places if results.run.cells[place].condition.slots] or places
    cells = tuple(_cell(results, items, reference, floor, random, place, names[place]) for place in places)
    named = {code: in_sentence(results.survey.culture(code)) for code in references}
    return CultureAnalysis(
        culture=culture,
        reference=reference,
        floor=floor,
        cells=cells,
        controls=controls(
            items,
            reference,
            {named[code]: other for code, other in references.items() if code != culture.code},
            people=named[culture.code],
            n=max(_answering(cell.cell) for cell in cells),
        ),
        ranking=rank({cell.name: cell.sample for cell in cells}, items, reference),
    )


def _answering(cell: Cell) -> int:
    """How many answers to a question a cell plans: a panel gives those of several participants."""
    return cell.participants * max(cell.condition.slots, 1)


def _cell(
    results: Results, items: ItemTable, reference: ReferenceTable, floor: Floor, random: Floor, place: int, name: str
) -> CellAnalysis:
    cell, answers = results.run.cells[place], results.answers
    weights = answer_weights(answers, items, place, cell.participants)
    sample = sample_of(weights, items, reference)
    counts = sample.counts
    n_valid = valid_answers(answers, place, len(items.questions))
    found, noise = placed_only(
        counts,
        items,
        reference,
        divergences(counts, reference.shares, reference.n, items.offered),
        floor.at(n_valid[items.question]),
    )
    ruled = paper_values(found.plug_in_kl, items.grouping.headline)
    states = state_counts(answers, place, cell.participants)
    replied = (answers.cell == place) & (answers.state != FAILED)
    options = np.stack([effective_options(counts), effective_options(reference.shares)])
    options[:, np.isnan(options).any(axis=0)] = np.nan
    return CellAnalysis(
        cell=cell,
        name=name,
        n_valid=n_valid,
        sample=sample,
        p_people=told_from_people(sample, items, reference),
        comparable=comparable(counts, items, reference),
        divergences=found,
        floor=noise,
        sound=means(found.smoothed_kl, items.grouping),
        sound_random=means(random.at(n_valid[items.question]).smoothed_kl, items.grouping),
        sound_floor=means(noise.smoothed_kl, items.grouping),
        paper=means(ruled.values, items.grouping),
        paper_floor=means(noise.plug_in_kl, items.grouping),
        paper_values=ruled,
        place=place,
        participant_kl=single_answers(weights, items, reference),
        participant_code=codes(weights, items),
        intervals=intervals(items, reference, weights, found.smoothed_kl),
        quality=quality(
            planned=cell.participants * cell.condition.slots * len(run_of_cells(results.run)[place].questions),
            answered=states[AnswerState.ANSWERED],
            refused=states[AnswerState.REFUSED],
            unparsable=states[AnswerState.UNPARSABLE],
            failed=states[AnswerState.FAILED],
        ),
        diversity=diversity_of(
            diversity(answers.digest[replied], answers.question[replied]), results.run.protocol.reply
        ),
        distinct_choices=_distinct_choices(results, place),
        effective_options=float(mean_known(options[0])),
        human_effective_options=float(mean_known(options[1])),
    )


def _distinct_choices(results: Results, place: int) -> float:
    answers = results.answers
    here = (answers.cell == place) & (answers.choices != 0)
    if not here.any():
        return float("nan")
    pairs = np.unique(np.stack([answers.question[here].astype(np.int64), answers.choices[here]]), axis=1)
    return float(pairs.shape[1] / len(np.unique(pairs[0])))
