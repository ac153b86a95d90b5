"""Several runs as one: models are run weeks apart, and a survey may ask each culture other questions.

Two runs that belong into one report asked the same questions of one survey, or have neither a culture nor a question in
common. Their arrays are put one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.runs.results import AnswerArrays, DrawArrays, Results, TokenCount
from defsurvey.storage.runs.run import Cell, EngineDescription, Progress, Protocol, Reply, Run
from defsurvey.storage.runs.verdicts import JudgeArrays, Pairs, RunJudgements
from defsurvey.storage.surveys.survey import Survey, Wording

_Value = TypeVar("_Value")
#: Between the runs in the name of a report of several: no run has a space in its name.
_AND = " + "


class CannotMerge(ValueError):
    """Runs that do not belong into one report; the message names what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointRun(Run):
    """Several runs as one, whose cells follow each other run by run.

    Its questions are those of all runs; each cell was asked those of its own run. Its protocol is the first run's, but
    for how far replies were read: what a run was asked with stands in ``parts``.
    """

    parts: tuple[Run, ...]


def merge(results: Sequence[Results]) -> Results:
    """One Results of several runs; a single one is given back as it is.

    Cells follow each other run by run. A model that answered the same questions in several of the runs is called by the
    run as well, "model (run)", so that the two are compared and not confused. Where it answered the questions of one
    culture in one run and of another in the other, served alike, it is one model.

    Raises:
        CannotMerge: there is no run, one is named twice, or survey, questions or preset of two of them differ.
    """
    if not results:
        raise CannotMerge("there is no run to report on")
    if len(results) == 1:
        return results[0]
    for one, other in combinations(results, 2):
        if one.run.id == other.run.id:
            raise CannotMerge(f"run {one.run.id} is named twice")
    for one, other in combinations(results, 2):
        _check(one, other)
    named = _told_apart(results)
    questions = _questions(named)
    return Results(
        run=_run(named, questions),
        survey=_survey(named, questions),
        answers=_answers(named, questions),
        samples=tuple(
            replace(sample, cell=sample.cell + offset)
            for offset, each in zip(_offsets(named), named, strict=True)
            for sample in each.samples
        ),
        progress=_progress(each.progress for each in named),
        engines=_added([each.engines for each in named], _both),
        versions=_versions(named),
        revision=sum(each.revision for each in named),
        out_of_sequence=sum(each.out_of_sequence for each in named),
        model_seconds=_added([each.model_seconds for each in named], float.__add__),
        model_facts=_joined(each.model_facts for each in named),
        tokens=_added([each.tokens for each in named], _more),
        probabilities=tuple(
            replace(row, cell=row.cell + offset)
            for offset, each in zip(_offsets(named), named, strict=True)
            for row in each.probabilities
        ),
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
    regions = tuple(dict.fromkeys(region for each in known for region in each.regions))
    where = [np.array([regions.index(region) for region in each.regions], dtype=np.int32) for each in known]
    columns = {
        field.name: np.concatenate([getattr(each, field.name) for each in known])
        for field in fields(DrawArrays)
        if field.name not in ("cell", "question", "region", "regions")
    }
    places = _places(results, _questions(results))
    return DrawArrays(
        question=np.concatenate(
            [
                np.where(each.question >= 0, place[each.question], -1).astype(np.int32)
                for each, place in zip(known, places, strict=True)
            ]
        ),
        cell=np.concatenate([each.cell + offset for each, offset in zip(known, _offsets(results), strict=True)]).astype(
            np.int32
        ),
        region=np.concatenate(
            [
                np.where(each.region >= 0, of[each.region] if of.size else -1, -1)
                for each, of in zip(known, where, strict=True)
            ]
        ).astype(np.int32),
        regions=regions,
        **columns,
    )


def merge_judgements(results: Sequence[Results], said: Sequence[RunJudgements]) -> RunJudgements:
    """What was said of the answers of several runs as one, cells as in the merged results.

    A judge that judged several of the runs, in one version, is one judge; others stay apart.
    """
    parts: dict[str, list[JudgeArrays]] = {}
    for offset, each in zip(_offsets(results), said, strict=True):
        for judge in each.judges:
            parts.setdefault(judge.judge, []).append(replace(judge, cell=(judge.cell + offset).astype(np.int32)))
    return RunJudgements(
        judges=tuple(_one_judge(parts[name]) for name in sorted(parts)),
        told=tuple(dict.fromkeys(told for each in said for told in each.told)),
        partial=frozenset().union(*(each.partial for each in said)),
        revision=sum(each.revision for each in said),
        people=dict(sum((Counter(each.people) for each in said), Counter())),
    )


def _one_judge(parts: Sequence[JudgeArrays]) -> JudgeArrays:
    """Cells are apart, so that answers of two runs may share a number."""
    columns = ("cell", "answer", "dimension", "verdict", "weight")
    others = sorted({pairs.other for part in parts for pairs in part.pairs})
    return JudgeArrays(
        judge=parts[0].judge,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        pairs=tuple(_pairs(other, [p for part in parts for p in part.pairs if p.other == other]) for other in others),
    )


def _pairs(other: str, parts: Sequence[Pairs]) -> Pairs:
    columns = ("dimension", "first", "second")
    return Pairs(other=other, **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns})


def differences(results: Sequence[Results]) -> tuple[str, ...]:
    """Settings in which runs of one preset differ: they may be reported together, but a reader must know.

    Returns:
        The names of the settings with their values, as words; empty where all agree.
    """
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
        names = f"{first.survey.title} and {other.survey.title}"
        versions = names if first.survey.title != other.survey.title else f"two versions of {first.survey.title}"
        raise CannotMerge(f"{pair} differ in survey: {versions}")
    if set(first.run.questions) != set(other.run.questions):
        apart = sorted(set(first.run.questions) ^ set(other.run.questions))
        shown = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
        raise CannotMerge(f"{pair} differ in questions: {shown} only in one of them")
    if first.run.questions != other.run.questions:
        raise CannotMerge(f"{pair} differ in the order of their questions")


def _told_apart(results: Sequence[Results]) -> list[Results]:
    """The same results with every model that is not one model in all of them called by its run as well."""
    several: set[str] = set()
    for one, other in combinations(results, 2):
        shared = {cell.model for cell in one.run.cells} & {cell.model for cell in other.run.cells}
        several |= {model for model in shared if not (_apart(one, other) and _served_alike(model, one, other))}
    return [_renamed(each, {model: f"{model} ({each.run.id})" for model in several}) for each in results]


def _served_alike(model: str, one: Results, other: Results) -> bool:
    """Whether card and engine are the same; a scripted respondent names the survey that it answers as well."""
    engines = [{**each.engines.get(model, {}), "survey": ""} for each in (one, other)]
    return engines[0] == engines[1] and one.model_facts.get(model) == other.model_facts.get(model)


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


#: How far replies are read, the furthest first: figures of several runs claim no more than the shortest allows.
_REPLIES = tuple(Reply)


def _offsets(results: Sequence[Results]) -> list[int]:
    """How many cells stand before those of each run."""
    sizes = [len(each.run.cells) for each in results]
    return [sum(sizes[:place]) for place in range(len(sizes))]


def _questions(results: Sequence[Results]) -> tuple[str, ...]:
    """The questions of all runs, each once, in the order of the runs."""
    return tuple(dict.fromkeys(name for each in results for name in each.run.questions))


def _places(results: Sequence[Results], questions: Sequence[str]) -> list[NDArray[np.int32]]:
    """For each run, where its questions stand among those of all."""
    place = {name: position for position, name in enumerate(questions)}
    return [np.array([place[name] for name in each.run.questions], dtype=np.int32) for each in results]


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
        excluded=_joined(survey.excluded for survey in surveys),
        paraphrases=tuple(p for survey in surveys for p in survey.paraphrases if p.question in asked),
        fingerprint=" and ".join(survey.fingerprint for survey in surveys),
    )


def _run(results: Sequence[Results], questions: tuple[str, ...]) -> JointRun:
    first = results[0].run
    cells: list[Cell] = []
    for each in results:
        cells += [replace(cell, id=len(cells) + number) for number, cell in enumerate(each.run.cells, start=1)]
    return JointRun(
        id=_AND.join(each.run.id for each in results),
        created_at=max(each.run.created_at for each in results),
        survey=first.survey,
        questions=questions,
        cells=tuple(cells),
        protocol=replace(first.protocol, reply=max((each.run.protocol.reply for each in results), key=_REPLIES.index)),
        study="\n".join(f"# run {each.run.id}\n{each.run.study}" for each in results),
        cancelled=any(each.run.cancelled for each in results),
        parts=tuple(each.run for each in results),
    )


def _answers(results: Sequence[Results], questions: Sequence[str]) -> AnswerArrays:
    columns: dict[str, list[NDArray[np.generic]]] = {field.name: [] for field in fields(AnswerArrays)}
    for offset, places, each in zip(_offsets(results), _places(results, questions), results, strict=True):
        moved = replace(
            each.answers,
            cell=(each.answers.cell + offset).astype(each.answers.cell.dtype),
            question=places[each.answers.question],
        )
        for name, parts in columns.items():
            parts.append(getattr(moved, name))
    return AnswerArrays(**{name: np.concatenate(parts) for name, parts in columns.items()})


def _progress(parts: Iterable[Progress]) -> Progress:
    known = list(parts)
    return Progress(**{field.name: sum(getattr(each, field.name) for each in known) for field in fields(Progress)})


def _joined(parts: Iterable[Mapping[str, _Value]]) -> dict[str, _Value]:
    return {name: value for part in parts for name, value in part.items()}


def _added(parts: Sequence[Mapping[str, _Value]], add: Callable[[_Value, _Value], _Value]) -> dict[str, _Value]:
    """Model -> its amounts in all runs together."""
    found: dict[str, _Value] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = add(found[name], value) if name in found else value
    return found


def _both(one: EngineDescription, other: EngineDescription) -> EngineDescription:
    return {**one, **{name: value for name, value in other.items() if name not in one}} | {
        name: f"{one[name]} and {value}" for name, value in other.items() if one.get(name, value) != value
    }


def _more(one: TokenCount, other: TokenCount) -> TokenCount:
    return TokenCount(**{field.name: getattr(one, field.name) + getattr(other, field.name) for field in fields(one)})


def _versions(results: Sequence[Results]) -> dict[str, str]:
    """Package -> its version, or all versions that computed answers."""
    found: dict[str, list[str]] = {}
    for each in results:
        for package, version in each.versions.items():
            if version not in found.setdefault(package, []):
                found[package].append(version)
    return {package: " and ".join(versions) for package, versions in found.items()}
