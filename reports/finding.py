"""The sentence that says what was found, and the sentences that bear it out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isnan

import numpy as np

from defsurvey.reports.analysis import Analysis, CellAnalysis, CultureAnalysis
from defsurvey.reports.cells import LEVEL, ItemTable
from defsurvey.reports.figures.shared import ENOUGH
from defsurvey.reports.merge import run_of_cells
from defsurvey.reports.number_format import NAMED, counted, listed, nats, percent

#: Below this share of valid answers the finding says so.
LOW_VALIDITY = 0.8
#: A caution is due where a model has more answers to a question than this part of the people behind its reference.
OF_PEOPLE = 10


class Standing(StrEnum):
    """Where a cell lies between people and uniform answers, by its interval and the test against people."""

    UNKNOWN = "unknown"  #: no value, or no interval to judge it by
    NARROWER = "narrower"  #: below the floor: its answers are more alike than those of as many people
    ALIKE = "alike"  #: its interval holds the floor, and the test does not tell it from people
    CLOSER = "closer"  #: above the floor, or told from people by the test, and below uniform answers
    UNIFORM = "uniform"  #: its interval holds what uniform answers score
    FURTHER = "further"  #: above uniform answers
    UNDECIDED = "undecided"  #: its interval holds both, or rests on too few answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the report says first."""

    headline: str
    sentences: tuple[str, ...]  #: the figures behind it
    cautions: tuple[str, ...]  #: what a reader must know before citing it


def standing(cell: CellAnalysis, items: ItemTable) -> Standing:
    """Judge a cell by its interval, where it has answers or items enough: that of a handful is too narrow.

    A smoothed mean at the floor may be that of people's commonest answers, given more often than by people: the test by
    the corrected KL tells.
    """
    low, high = cell.interval.low, cell.interval.high
    if isnan(low) or isnan(cell.sound_floor.headline):
        return Standing.UNKNOWN
    behind, _, answers = _behind(cell, items)
    # as many answers as ten to each of ten items come to, if fewer to each
    if not cell.comparable and not (behind >= ENOUGH and answers >= ENOUGH**2):
        return Standing.UNDECIDED
    if high < cell.sound_floor.headline:
        return Standing.NARROWER
    if low <= cell.sound_floor.headline and high >= cell.sound_random.headline:
        return Standing.UNDECIDED
    if low <= cell.sound_floor.headline:
        return Standing.CLOSER if cell.p_people < LEVEL else Standing.ALIKE
    if high < cell.sound_random.headline:
        return Standing.CLOSER
    return Standing.UNIFORM if low <= cell.sound_random.headline else Standing.FURTHER


def _behind(cell: CellAnalysis, items: ItemTable) -> tuple[int, int, int]:
    """Items with a value behind the mean, their questions, and the valid answers to these."""
    behind = ~np.isnan(cell.divergences.smoothed_kl) & items.grouping.headline
    questions = np.unique(items.question[behind])
    return int(np.count_nonzero(behind)), len(questions), int(cell.n_valid[questions].sum())


def find(analysis: Analysis) -> Finding:
    """Say what a run shows, and no more."""
    valid = analysis.overall.valid
    headline = _headline(analysis)
    if valid.count > 0 and valid.share < LOW_VALIDITY:
        headline += f", judging by the {percent(valid.share)} of answers that are valid"
    sentences = [_sentence(culture, analysis.items) for culture in analysis.cultures if _measured(culture)]
    if "uniform answers" in " ".join((headline, *sentences)):
        sentences.append("Uniform answers are those of respondents who pick every option equally often.")
    return Finding(headline=headline, sentences=tuple(sentences), cautions=tuple(_cautions(analysis)))


def _measured(culture: CultureAnalysis) -> list[CellAnalysis]:
    return [cell for cell in culture.cells if not isnan(cell.sound.headline)]


def _headline(analysis: Analysis) -> str:
    overall = analysis.overall
    if overall.done == 0:
        return "Nothing has been answered yet"
    if overall.valid.count == 0:
        return f"Nothing can be compared: none of {overall.done:,} answers is valid"
    measured = [culture for culture in analysis.cultures if _measured(culture)]
    if not measured:
        other = any(not isnan(cell.sound.question_mean) for cell in analysis.cells)
        answer = "valid answer to a question of a value dimension" if other else "valid answer"
        return f"Nothing can be compared: no {answer} meets a reference distribution"
    if all(len(culture.cells) == 1 for culture in analysis.cultures):
        return _one_each(measured, analysis.items)
    return _closest(measured)


def _closest(cultures: Sequence[CultureAnalysis]) -> str:
    winners: dict[tuple[str, ...], list[str]] = {}
    untold: list[str] = []
    for culture in cultures:
        order = culture.ranking.order
        if order:
            apart = culture.ranking.apart[0].tolist()
            first = tuple(name for (name, _), told in zip(order, apart, strict=True) if not told)
            (untold if len(first) == len(order) else winners.setdefault(first, [])).append(culture.named)
    if not winners and not untold:
        return "The answers are too few to say who comes closest"
    several = any(len({cell.cell.model for cell in culture.cells}) < len(culture.cells) for culture in cultures)
    kind = "condition or language" if several else "model"
    if not winners:
        return f"No {kind} is told from another as closest to people of {listed(untold)}"
    clauses: list[str] = []
    for names, theirs in winners.items():
        come = "" if clauses else " comes closest" if len(names) == 1 else " come closest"
        told = listed(names) if len(names) <= NAMED else f"{names[0]} and {len(names) - 1} others"
        clauses.append(f"{told}{come} to people of {listed(theirs)}{', not told apart' if len(names) > 1 else ''}")
    if untold:
        clauses.append(f"no {kind} is told from another for people of {listed(untold)}")
    return ", ".join(clauses)


_VERDICTS = {
    Standing.NARROWER: "answers more alike than {people} do",
    Standing.ALIKE: "cannot be told from {people}",
    Standing.CLOSER: "comes closer to {people} than uniform answers do, but not as close as people themselves",
    Standing.UNIFORM: "is about as far from {people} as uniform answers are",
    Standing.FURTHER: "is further from {people} than uniform answers are",
    Standing.UNDECIDED: "gave too few answers to tell it from {people}, or from uniform answers",
    Standing.UNKNOWN: "has too few participants to be compared with {people}",
}


def _one_each(cultures: Sequence[CultureAnalysis], items: ItemTable) -> str:
    verdicts: dict[tuple[str, Standing], list[str]] = {}
    for culture in cultures:
        cell = culture.cells[0]
        verdicts.setdefault((cell.name, standing(cell, items)), []).append(culture.named)
    clauses, last = [], ""
    for (name, where), named in verdicts.items():
        verdict = _VERDICTS[where].format(people=f"people of {listed(named)}")
        clauses.append(f"{'it' if name == last else name} {verdict}")
        last = name
    return "; ".join(clauses)


def _sentence(culture: CultureAnalysis, items: ItemTable) -> str:
    ranking, order = culture.ranking, culture.ranking.order
    if len(culture.cells) == 1 or not order:
        return " ".join(_single(culture, cell, items) for cell in _measured(culture)[:NAMED])
    (first, value), (second, next_value) = order[0], order[1]
    p, pairs = float(ranking.p[0, 1]), len(order) * (len(order) - 1) // 2
    how = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}" + (f", adjusted for {pairs} pairs" if pairs > 1 else "")
    gap = f"they differ ({how})" if ranking.apart[0, 1] else f"the difference may be chance ({how})"
    return (
        f"{culture.name}: {first} scores {nats(value)} and {second}, the next, {nats(next_value)}; {gap} "
        f"({counted(int(ranking.shared[0, 1]), 'question')}, all brought down to {ranking.n} answers each). "
        f"{ranking.n} real people would score {nats(ranking.people)}, uniform answers {nats(ranking.random)}."
    )


def _single(culture: CultureAnalysis, cell: CellAnalysis, items: ItemTable) -> str:
    interval, (_, questions, answers) = cell.interval, _behind(cell, items)
    between = "" if isnan(interval.low) else f" (95% interval {nats(max(interval.low, 0))} to {nats(interval.high)})"
    return (
        f"{culture.name}: {cell.name} lies {nats(cell.sound.headline)} nats from people{between}, by "
        f"{counted(answers, 'valid answer')} to {counted(questions, 'question')}; "
        f"equally many real people would score {nats(cell.sound_floor.headline)}, "
        f"uniform answers {nats(cell.sound_random.headline)}."
    )


def _cautions(analysis: Analysis) -> Iterable[str]:
    overall, results = analysis.overall, analysis.results
    named = [(f"{cell.name}, {culture.name}", cell) for culture in analysis.cultures for cell in culture.cells]
    if overall.done < overall.planned:
        state = "was cancelled" if results.run.cancelled else "is unfinished"
        yield f"The run {state}: {overall.done:,} of {overall.planned:,} planned answers have ended; figures will move."
    rates = [(name, cell.quality.valid.share) for name, cell in named if cell.quality.done]
    low = [f"{name}: {percent(share)}" for name, share in rates if share < LOW_VALIDITY]
    if low and overall.valid.count > 0:  # else the headline says so
        yield (
            f"Fewer than {LOW_VALIDITY:.0%} of the answers are valid, and the figures describe only those: "
            f"{'; '.join(low)}."
            if len(low) <= NAMED
            else f"In {len(low)} of {len(named)} cells fewer than {LOW_VALIDITY:.0%} of the answers are valid; "
            "their figures describe only the answers that could be read."
        )
    alike = [name for name, cell in named if standing(cell, analysis.items) is Standing.NARROWER]
    if alike:
        yield (
            f"{'; '.join(alike) if len(alike) <= NAMED else f'In {len(alike)} of {len(named)} cells'}: answers more "
            "alike than those of as many people. The divergence lies below the noise floor for want of variety, not "
            "because it is closer."
        )
    for culture in analysis.cultures:
        yield from _cautions_of(culture, analysis)
    if any(cell.cell.participants == 1 and not cell.panel for cell in analysis.cells):
        yield "One participant shows no spread: there is no interval, and the noise floor is high."
    panels = list(dict.fromkeys(cell.cell.condition.name for cell in analysis.cells if cell.panel))
    if panels:
        yield (
            f"{listed(panels)}: one panel answers for a whole cell. Its answers are one sample, not independent "
            "participants: there is no interval, and no test against as many people."
        )


def _cautions_of(culture: CultureAnalysis, analysis: Analysis) -> Iterable[str]:
    results, items, ranking = analysis.results, analysis.items, culture.ranking
    asked = run_of_cells(results.run)[culture.cells[0].place].questions
    unknown = sum(results.survey.reference(name, culture.culture.code) is None for name in asked)
    if unknown:
        yield f"{unknown} of {len(asked)} questions have no reference for {culture.named}."
    if culture.reference.low_n.any():
        yield f"Some references for {culture.named} rest on too few people for anything but a demonstration."
    # where people's shares are known hardly better than a model's, what takes them as exact is too strict
    most = np.max([cell.n_valid for cell in culture.cells], axis=0)
    questions = len(np.unique(items.question[most[items.question] > culture.reference.n / OF_PEOPLE]))
    if questions:
        yield (
            f"On {counted(questions, 'question')} a model gave more answers than a tenth of the people asked in "
            f"{culture.named}. Noise floors and tests of questions take people's shares as exact: they would tell even "
            "other real people apart too often there."
        )
    if len(culture.cells) > 1 and ranking.reason:
        yield f"No ranking for {culture.named}: {ranking.reason}."
    elif ranking.unranked:
        names = [name for name, _ in ranking.unranked]
        told = listed(names) if len(names) <= NAMED else f"{len(names)} cells"
        yield f"Not ranked for {culture.named}, too few valid answers: {told}."
