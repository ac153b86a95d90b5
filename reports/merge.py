"""Several runs as one: they asked the same questions of one survey, or have neither culture nor question in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import accumulate, combinations
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.runs.results import AnswerArrays, DrawArrays, Results, Sample, TokenCount
from defsurvey.storage.runs.run import Progress, Protocol, Reply, Run
from defsurvey.storage.runs.steps import ProbabilityRow
from defsurvey.storage.runs.verdicts import JudgeArrays, Pairs, RunJudgements
from defsurvey.storage.surveys.survey import Survey, Wording

_Value = TypeVar("_Value")
_Row = TypeVar("_Row", Sample, ProbabilityRow)
_Total = TypeVar("_Total")
#: Between the runs in the name of a report of several: no run has a space in its name.
_AND = " + "


class CannotMerge(ValueError):
    """Runs that do not belong into one report; the message names what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointRun(Run):
    """Several runs as one, whose cells follow each other run by run; each was asked the questions of its own run.

    Its protocol is the first run's, but for how far replies were read: what a run was asked with stands in ``parts``.
    """

    parts: tuple[Run, ...]


def merge(results: Sequence[Results]) -> Results:
    """One Results of several runs, at least one, cells run by run; a single one is given back as it is.

    A model that answered the same questions in several of the runs is called by the run as well, "model (run)", so that
    the two are compared and not confused. Where it answered the questions of one culture in one run and of another in
    the other, served alike, it is one model.

    Raises:
        CannotMerge: one is named twice, or survey, questions or preset of two of them differ.
    """
    if len(results) == 1:
        return results[0]
    twice = [run for run, times in Counter(each.run.id for each in results).items() if times > 1]
    if twice:
        raise CannotMerge(f"run {twice[0]} is named twice")
    for one, other in combinations(results, 2):
        _check(one, other)
    named, questions = _told_apart(results), _questions(results)
    answers = [
        replace(
            each.answers,
            cell=each.answers.cell + offset,
            question=_places(each.run.questions, questions)[each.answers.question],
        )
        for offset, each in zip(_offsets(named), named, strict=True)
    ]
    return Results(
        run=_run(named, questions),
        survey=_survey(named, questions),
        answers=_stacked(AnswerArrays, answers),
        samples=_moved(named, [each.samples for each in named]),
        progress=_sum(Progress, [each.progress for each in named]),
        engines=_by_model([each.engines for each in named], _told_together),
        versions=_told_together([each.versions for each in named]),
        revision=sum(each.revision for each in named),
        out_of_sequence=sum(each.out_of_sequence for each in named),
        model_seconds=_by_model([each.model_seconds for each in named], sum),
        model_facts=_by_model([each.model_facts for each in named], itemgetter(-1)),
        tokens=_by_model([each.tokens for each in named], partial(_sum, TokenCount)),
        probabilities=_moved(named, [each.probabilities for each in named]),
        probes=tuple(probe for each in named for probe in each.probes),
    )


def runs_of(run: Run) -> tuple[Run, ...]:
    """The runs that a report is of."""
    return run.parts if isinstance(run, JointRun) else (run,)


def run_ids(run: Run) -> tuple[str, ...]:
    """The runs that a report is of, by the names that commands know them by."""
    return tuple(part.id for part in runs_of(run))


def run_of_cells(run: Run) -> tuple[Run, ...]:
    """The run that each cell is of, in the order of the cells."""
    return tuple(part for part in runs_of(run) for _ in part.cells)


def merge_draws(results: Sequence[Results], draws: Sequence[DrawArrays | None]) -> DrawArrays | None:
    """The draws of several runs as one, rows in the order of the merged cells; None where any of them is missing."""
    known = [each for each in draws if each is not None]
    if len(known) < len(results) or not known:
        return None
    regions, asked = tuple(dict.fromkeys(region for each in known for region in each.regions)), _questions(results)
    moved = [
        replace(
            each,
            cell=each.cell + offset,
            question=_places(of.run.questions, asked)[each.question],
            region=_places(each.regions, regions)[each.region],
        )
        for each, of, offset in zip(known, results, _offsets(results), strict=True)
    ]
    return _stacked(DrawArrays, moved, regions=regions)


def merge_judgements(results: Sequence[Results], said: Sequence[RunJudgements]) -> RunJudgements:
    """What was said of the answers of several runs; a judge of several, in one version, is one judge."""
    parts: dict[str, list[JudgeArrays]] = {}
    for offset, each in zip(_offsets(results), said, strict=True):
        for judge in each.judges:
            parts.setdefault(judge.judge, []).append(replace(judge, cell=judge.cell + offset))
    return RunJudgements(
        judges=tuple(_one_judge(parts[name]) for name in sorted(parts)),
        told=tuple(dict.fromkeys(told for each in said for told in each.told)),
        partial=frozenset().union(*(each.partial for each in said)),
        revision=sum(each.revision for each in said),
        people=dict(sum((Counter(each.people) for each in said), Counter())),
    )


def _one_judge(parts: Sequence[JudgeArrays]) -> JudgeArrays:
    """Cells are apart, so that answers of two runs may share a number."""
    pairs: dict[str, list[Pairs]] = {}
    for part in parts:
        for each in part.pairs:
            pairs.setdefault(each.other, []).append(each)
    together = tuple(_stacked(Pairs, pairs[other], other=other) for other in sorted(pairs))
    return _stacked(JudgeArrays, parts, judge=parts[0].judge, pairs=together)


def differences(results: Sequence[Results]) -> tuple[str, ...]:
    """Settings in which runs of one preset differ, with their values, as words: a reader must know."""
    said = []
    for name in (field.name for field in fields(Protocol) if field.name != "preset"):
        values = {str(getattr(each.run.protocol, name)): each.run.id for each in reversed(results)}
        if len(values) > 1:
            told = ", ".join(f"{value} in {run}" for value, run in sorted(values.items(), key=lambda pair: pair[1]))
            said.append(f"{name.replace('_', ' ')} ({told})")
    return tuple(said)


def _apart(one: Results, other: Results) -> bool:
    """Whether two runs have neither a culture nor a question in common: nothing of them is compared item by item."""
    cultures = [{cell.culture for cell in each.run.cells} for each in (one, other)]
    return cultures[0].isdisjoint(cultures[1]) and set(one.run.questions).isdisjoint(other.run.questions)


def _check(first: Results, other: Results) -> None:
    pair = f"runs {first.run.id} and {other.run.id}"
    if first.run.protocol.preset is not other.run.protocol.preset:
        one, two = first.run.protocol.preset.value, other.run.protocol.preset.value
        raise CannotMerge(f"{pair} differ in preset: {one} and {two}")
    if _apart(first, other):
        return
    if first.run.survey != other.run.survey:
        titles = list(dict.fromkeys((first.survey.title, other.survey.title)))
        versions = " and ".join(titles) if len(titles) > 1 else f"two versions of {titles[0]}"
        raise CannotMerge(f"{pair} differ in survey: {versions}")
    apart = sorted(set(first.run.questions) ^ set(other.run.questions))
    if apart:
        shown = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
        raise CannotMerge(f"{pair} differ in questions: {shown} only in one of them")
    if first.run.questions != other.run.questions:
        raise CannotMerge(f"{pair} differ in the order of their questions")


def _told_apart(results: Sequence[Results]) -> list[Results]:
    """The same results with every model that is not one model in all of them called by its run as well."""
    several: set[str] = set()
    for one, other in combinations(results, 2):
        for model in {cell.model for cell in one.run.cells} & {cell.model for cell in other.run.cells}:
            # a scripted respondent's engine names the survey that it answers as well
            served = [
                ({**each.engines.get(model, {}), "survey": ""}, each.model_facts.get(model)) for each in (one, other)
            ]
            if not _apart(one, other) or served[0] != served[1]:
                several.add(model)
    return [_renamed(each, {model: f"{model} ({each.run.id})" for model in several}) for each in results]


def _renamed(results: Results, names: Mapping[str, str]) -> Results:
    def keys(known: Mapping[str, _Value]) -> dict[str, _Value]:
        return {names.get(model, model): value for model, value in known.items()}

    cells = tuple(replace(cell, model=names.get(cell.model, cell.model)) for cell in results.run.cells)
    return replace(
        results,
        run=replace(results.run, cells=cells),
        engines=keys(results.engines),
        model_seconds=keys(results.model_seconds),
        model_facts=keys(results.model_facts),
        tokens=keys(results.tokens),
        probes=tuple(replace(p, model=names.get(p.model, p.model)) for p in results.probes),
    )


def _offsets(results: Sequence[Results]) -> list[int]:
    """How many cells stand before those of each run."""
    return [0, *accumulate(len(each.run.cells) for each in results)][:-1]


def _moved(results: Sequence[Results], rows: Sequence[Sequence[_Row]]) -> tuple[_Row, ...]:
    """Rows of each run, their cells counted through all runs."""
    return tuple(
        replace(row, cell=row.cell + offset)
        for offset, each in zip(_offsets(results), rows, strict=True)
        for row in each
    )


def _questions(results: Sequence[Results]) -> tuple[str, ...]:
    """The questions of all runs, each once, in the order of the runs."""
    return tuple(dict.fromkeys(name for each in results for name in each.run.questions))


def _places(names: Sequence[str], among: Sequence[str]) -> NDArray[np.int32]:
    """Where each of these names stands among those of all runs, and at the end -1: none stays none."""
    place = {name: position for position, name in enumerate(among)}
    return np.array([*(place[name] for name in names), -1], dtype=np.int32)


def _survey(results: Sequence[Results], questions: Sequence[str]) -> Survey:
    """The survey of all runs: the one that they have, or what was asked of several in one."""
    surveys = list({each.run.survey: each.survey for each in results}.values())
    if len(surveys) == 1:
        return surveys[0]
    asked = set(questions)
    dimensions: dict[str, Wording] = {}
    for survey in surveys:
        for code, name in survey.dimensions.items():
            dimensions[code] = {**name, **dimensions.get(code, {})}
    return replace(
        surveys[0],
        id=_AND.join(survey.id for survey in surveys),
        title="; ".join(dict.fromkeys(survey.title for survey in surveys)),
        version=" and ".join(dict.fromkeys(survey.version for survey in surveys)),
        citation=" ".join(dict.fromkeys(survey.citation for survey in surveys)),
        terms=" ".join(dict.fromkeys(survey.terms for survey in surveys)),
        languages=tuple(dict.fromkeys(language for survey in surveys for language in survey.languages)),
        dimensions=dimensions,
        questions=tuple(question for survey in surveys for question in survey.questions if question.id in asked),
        cultures=tuple(culture for survey in surveys for culture in survey.cultures),
        references=tuple(r for survey in surveys for r in survey.references if r.question in asked),
        excluded=_by_model([survey.excluded for survey in surveys], itemgetter(-1)),
        paraphrases=tuple(p for survey in surveys for p in survey.paraphrases if p.question in asked),
        fingerprint=" and ".join(survey.fingerprint for survey in surveys),
    )


def _run(results: Sequence[Results], questions: tuple[str, ...]) -> JointRun:
    first, furthest = results[0].run, list(Reply)
    cells = [cell for each in results for cell in each.run.cells]
    return JointRun(
        id=_AND.join(each.run.id for each in results),
        created_at=max(each.run.created_at for each in results),
        survey=first.survey,
        questions=questions,
        cells=tuple(replace(cell, id=number) for number, cell in enumerate(cells, start=1)),
        # figures of several runs claim no more than the shortest replies allow
        protocol=replace(first.protocol, reply=max((each.run.protocol.reply for each in results), key=furthest.index)),
        study="\n".join(f"# run {each.run.id}\n{each.run.study}" for each in results),
        cancelled=any(each.run.cancelled for each in results),
        parts=tuple(each.run for each in results),
    )


def _stacked(kind: type[_Value], parts: Sequence[_Value], **given: object) -> _Value:
    """Arrays one after the other, but for the columns that are given."""
    names = [field.name for field in fields(kind) if field.name not in given]  # type: ignore[arg-type]
    return kind(**given, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _sum(kind: type[_Value], parts: Sequence[_Value]) -> _Value:
    """Field by field."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: sum(getattr(part, name) for part in parts) for name in names})


def _by_model(parts: Sequence[Mapping[str, _Value]], together: Callable[[list[_Value]], _Total]) -> dict[str, _Total]:
    """Name, as of a model -> what it has in all runs together."""
    models = dict.fromkeys(model for part in parts for model in part)
    return {model: together([part[model] for part in parts if model in part]) for model in models}


def _told_together(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Under each name its value, or all values that there are."""
    return {name: " and ".join(dict.fromkeys(values)) for name, values in _by_model(parts, list).items()}
