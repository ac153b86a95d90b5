"""Do the models of a run know its survey? Probes as figures, model by model and question by question.

The tests themselves are in ``reports.metrics.contamination``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from defsurvey.reports.analysis import Analysis
from defsurvey.reports.figures.words import NotRun
from defsurvey.reports.merge import run_ids
from defsurvey.reports.metrics.contamination import Guessed, Recalled, guessed, recalled, similarity
from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Question, Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledRow:
    """What one model recalls of the options, asked in one language."""

    model: str
    language: str
    questions: tuple[str, ...]  #: whose options have words
    test: Recalled


@dataclass(frozen=True, slots=True, kw_only=True)
class GuessedRow:
    """How near one model comes to the published percentages of one culture, asked in one language."""

    model: str
    culture: str
    language: str
    questions: tuple[str, ...]  #: whose percentages could be read
    asked: int
    test: Guessed


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """Both checks, in the order of models, cultures and languages."""

    recalled: tuple[RecalledRow, ...]
    guessed: tuple[GuessedRow, ...]


def contamination(analysis: Analysis) -> Contamination | NotRun:
    """What the probes of a run say; not run where nobody asked."""
    results = analysis.results
    if not results.probes:
        asking = [f"defsurvey contamination {run}" for run in run_ids(results.run)]
        return NotRun(reason=f"nobody asked; {' and '.join(asking)} {'does' if len(asking) == 1 else 'do'}")
    by_kind = {kind: [probe for probe in _in_order(results) if probe.kind is kind] for kind in ProbeKind}
    survey, seed = results.survey, results.run.protocol.seed
    keys = dict.fromkeys((probe.model, probe.language) for probe in by_kind[ProbeKind.OPTIONS])
    asked = dict.fromkeys((probe.model, probe.culture, probe.language) for probe in by_kind[ProbeKind.PERCENTAGES])
    return Contamination(
        recalled=tuple(
            _recalled(survey, [p for p in by_kind[ProbeKind.OPTIONS] if (p.model, p.language) == key], seed)
            for key in keys
        ),
        guessed=tuple(
            _guessed(
                survey, [p for p in by_kind[ProbeKind.PERCENTAGES] if (p.model, p.culture, p.language) == key], seed
            )
            for key in asked
        ),
    )


def _in_order(results: Results) -> list[Probe]:
    """The probes in the order of the run's models and questions; cultures and languages follow the models."""
    models = list(dict.fromkeys(cell.model for cell in results.run.cells))
    questions = {name: place for place, name in enumerate(results.run.questions)}
    return sorted(results.probes, key=lambda p: (models.index(p.model), p.culture, p.language, questions[p.question]))


def _recalled(survey: Survey, probes: list[Probe], seed: int) -> RecalledRow:
    """Nothing is compared with a question whose options are all numbers: any reply is as near to them as any other."""
    first, language = probes[0], probes[0].language
    offered = [(probe, _labels(survey.question(probe.question), language)) for probe in probes]
    worded = [(probe, labels) for probe, labels in offered if labels]
    labels = [each for _, each in worded]
    near = {each: [similarity(probe.completion, each) for probe, _ in worded] for each in dict.fromkeys(labels)}
    size = len(worded)
    return RecalledRow(
        model=first.model,
        language=language,
        questions=tuple(probe.question for probe, _ in worded),
        test=recalled(
            np.array([near[each] for each in labels]).reshape(size, size).T,
            np.array([[one == other for other in labels] for one in labels]).reshape(size, size),
            np.random.default_rng(seed),
        ),
    )


def _labels(question: Question, language: str) -> tuple[str, ...]:
    """What a question offers but for "other": with the points of a scale that have no label of their own left out."""
    labels = (option.label[language] for option in question.options if not option.residual)
    return tuple(label for label in labels if not label.strip().isdecimal())


def _guessed(survey: Survey, probes: list[Probe], seed: int) -> GuessedRow:
    first = probes[0]
    read = [(probe, shares) for probe in probes if probe.percent and (shares := _published(survey, probe))]
    test = guessed(
        [[probe.percent[code] for code in shares] for probe, shares in read if probe.percent],
        [list(shares.values()) for _, shares in read],
        np.random.default_rng(seed),
    )
    return GuessedRow(
        model=first.model,
        culture=first.culture,
        language=first.language,
        questions=tuple(probe.question for probe, _ in read),
        asked=len(probes),
        test=test,
    )


def _published(survey: Survey, probe: Probe) -> dict[int, float]:
    """Option code -> published percentage, of the options whose share is known."""
    reference = survey.reference(probe.question, probe.culture)
    shares: Iterable[tuple[int, float]] = reference.shares.items() if reference is not None else ()
    return {code: 100 * share for code, share in shares}
