"""A finished (or unfinished) run as reports read it: arrays, not one object per answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, Text, and_, func, select, tuple_, type_coerce

from defsurvey.storage.database import Database
from defsurvey.storage.runs import outbox, store, tables
from defsurvey.storage.runs.probes import Probe, read_probes
from defsurvey.storage.runs.rows import noun
from defsurvey.storage.runs.run import Answer, AnswerState, DrawsPer, EngineDescription, Progress, Run
from defsurvey.storage.runs.steps import ProbabilityRow, read_probabilities
from defsurvey.storage.surveys.survey import Survey

#: Codes of ``AnswerArrays.state``: the position in this tuple.
STATES: tuple[AnswerState, ...] = tuple(AnswerState)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerArrays:
    """One row per stored answer, ordered by cell, participant, question, slot; every array has shape (n,)."""

    cell: NDArray[np.int32]  #: position in ``Run.cells``
    participant: NDArray[np.int32]  #: the participant's index within its cell
    question: NDArray[np.int32]  #: position in ``Run.questions``
    slot: NDArray[np.int32]
    state: NDArray[np.int8]  #: position in ``STATES``
    choices: NDArray[np.int64]  #: bit k is set if option k (the survey's order) was chosen
    shown: NDArray[np.int64]  #: code of the option shown first
    digest: NDArray[np.int64]  #: hash of the completion: equal replies have equal digests


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawArrays:
    """What was drawn on the axes of DEF; a configuration is what an engine really used, not what it was asked for.

    One row per participant, or, where the axes are drawn anew for every question, one per answer; shape (n,).
    """

    cell: NDArray[np.int32]  #: position in ``Run.cells``
    participant: NDArray[np.int32]  #: the participant's index within its cell
    question: NDArray[np.int32]  #: position in ``Run.questions``; -1: the draw holds for all of them
    num_beams: NDArray[np.float64]  #: nan: the provider's default
    do_sample: NDArray[np.float64]  #: 1 or 0; nan: the provider's default
    memory_capacity: NDArray[np.int64]
    region: NDArray[np.int32]  #: position in ``regions``; -1: the country alone
    regions: tuple[str, ...]  #: codes of the regions drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer with what is needed to show it as it was asked."""

    cell: int  #: position in ``Run.cells``
    participant: int  #: index within the cell
    answer: Answer
    remembered_questions: tuple[str, ...]  #: ids of the questions remembered, in the order shown


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """Tokens of a model's answers, as far as its engine counted them."""

    answers: int  #: that carry both counts
    prompt: int  #: summed over these
    completion: int
    seconds: float  #: of the same answers, summed


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that a report of one run is made of."""

    run: Run
    survey: Survey
    answers: AnswerArrays
    samples: tuple[Sample, ...]  #: a few, spread over cells and states; then one of each question that has none yet
    progress: Progress
    engines: Mapping[str, EngineDescription]  #: model -> what served it
    versions: Mapping[str, str]  #: package -> version that computed the answers
    revision: int  #: of the ledger: number of answers committed, retries included
    model_seconds: Mapping[str, float]  #: model -> summed seconds of its completions
    out_of_sequence: int = 0  #: answers that were asked again later, from the memory that they were shown
    #: model -> what its card says of it, as far as it does: ``series``, ``stage`` (of training), ``parameters`` ("7B");
    #: ``input_price`` and ``output_price`` in US dollars per million tokens, and when they were ``priced``
    model_facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()  #: what models know of the survey; empty: nobody asked
    tokens: Mapping[str, TokenCount] = field(default_factory=dict)  #: model -> its tokens; none: nothing was counted
    probabilities: tuple[ProbabilityRow, ...] = ()  #: of options by the next token, of the cells where they were read


_A, _P = tables.answer.c, tables.participant.c
#: Keys in one statement.
_KEYS = 500
#: What the description of what served a model has from its card.
_FACTS = ("series", "stage", "parameters", "input_price", "output_price", "priced")


def read_results(database: Database, run_id: str, *, samples: int = 10) -> Results:
    """Everything that a report of a run is made of; raises ``storage.runs.store.UnknownRun``.

    So many answers are shown as they were given, spread over cells and states by the study's seed; one of every
    question that has none among them comes after these.
    """
    with database.read() as connection:  # one state: a run in progress is read as it stood at one moment
        run = store.run_in(connection, run_id)
        survey = store.load_survey(database, run.survey)
        progress = store.total(store.progress_in(connection, run_id).values())
        ids, answers = _arrays(connection, run, survey)
        chosen = _pick(answers, samples, np.random.default_rng(run.protocol.seed))
        again = select(func.count()).select_from(tables.ANSWERS).where(_P.run == run_id, _A.out_of_sequence)
        out_of_sequence = connection.execute(again).scalar_one()
        shown = _samples(connection, run, answers, ids, chosen)
        served = connection.execute(select(tables.served).where(tables.served.c.run == run_id)).all()
        seconds, tokens = _spent(connection, run_id)
        revision, _ = outbox.revisions_in(connection, run_id)
    versions = {package: version for row in served for package, version in row.versions.items()}
    weighed = any(cell.condition.slots == 0 for cell in run.cells)
    return Results(
        run=run,
        survey=survey,
        answers=answers,
        samples=shown,
        out_of_sequence=out_of_sequence,
        progress=progress,
        engines={row.model: _only(row.description, facts=False) for row in served},
        versions=versions,
        revision=revision,
        model_seconds=seconds,
        model_facts={row.model: facts for row in served if (facts := _only(row.description, facts=True))},
        tokens=tokens,
        probabilities=tuple(read_probabilities(database, run_id)) if weighed else (),
        probes=read_probes(database, run_id),
    )


def _only(description: Mapping[str, str], *, facts: bool) -> dict[str, str]:
    """Of a description, what its model's card says, or all else."""
    return {name: value for name, value in description.items() if (name in _FACTS) is facts}


def _arrays(connection: Connection, run: Run, survey: Survey) -> tuple[NDArray[np.int64], AnswerArrays]:
    """Participant ids (n,) and the answers as arrays, in the documented order."""
    choices: Any = type_coerce(_A.choices, Text)
    shown: Any = type_coerce(_A.shown, Text)
    columns = (_P.cell, _P.number, _A.question, _A.slot, _A.state, choices, shown, _A.digest, _P.id)
    query: Select[Any] = select(*columns).select_from(tables.ANSWERS).where(_P.run == run.id)
    cells = {cell.id: position for position, cell in enumerate(run.cells)}
    questions = {question: position for position, question in enumerate(run.questions)}
    states = {state.value: position for position, state in enumerate(STATES)}

    @cache
    def mask(question: str, chosen: str) -> int:
        """The chosen options as bits."""
        codes = survey.question(question).codes
        return sum(1 << codes.index(int(code)) for code in chosen.split(",")) if chosen else 0

    rows = [
        (cells[cell], who, questions[asked], slot, states[state], mask(asked, chosen), int(first.split(",", 1)[0]), *of)
        for cell, who, asked, slot, state, chosen, first, *of in connection.execute(query)
    ]
    table = np.array(rows, dtype=np.int64).reshape(len(rows), len(columns))
    table = table[np.lexsort(table[:, [3, 2, 1, 0]].T)]
    arrays = AnswerArrays(
        **dict(zip(("cell", "participant", "question", "slot"), table[:, :4].T.astype(np.int32), strict=True)),
        state=table[:, 4].astype(np.int8),
        choices=table[:, 5],
        shown=table[:, 6],
        digest=table[:, 7],
    )
    return table[:, 8], arrays


def _pick(answers: AnswerArrays, samples: int, rng: np.random.Generator) -> list[int]:
    """Rows to show: in turn from every cell and state, so that rare states are seen too; then one of each question."""
    strata: dict[tuple[int, int], list[int]] = {}
    for row in rng.permutation(answers.cell.size):
        strata.setdefault((int(answers.state[row]), int(answers.cell[row])), []).append(int(row))
    chosen: list[int] = []
    while strata and len(chosen) < samples:
        for key in sorted(strata):
            chosen.append(strata[key].pop())
            if not strata[key]:
                del strata[key]
    chosen = sorted(chosen[:samples])
    shown = set(answers.question[chosen].tolist())
    for row in rng.permutation(answers.question.size).tolist() if samples else ():
        if int(answers.question[row]) not in shown:
            shown.add(int(answers.question[row]))
            chosen.append(row)
    return chosen


def _samples(
    connection: Connection, run: Run, answers: AnswerArrays, ids: NDArray[np.int64], chosen: list[int]
) -> tuple[Sample, ...]:
    """The chosen rows with their texts."""
    keys = {row: (int(ids[row]), run.questions[answers.question[row]], int(answers.slot[row])) for row in chosen}
    given = _select(connection, [tables.answer], (_A.participant, _A.question, _A.slot), list(keys.values()))
    found = {
        (answer.participant, answer.question, answer.slot): answer for answer in (noun(Answer, row) for row in given)
    }
    remembered = sorted({(answer.participant, item) for answer in found.values() for item in answer.memory})
    columns = (_A.participant, _A.item)
    also = _select(connection, [*columns, _A.question], columns, remembered)
    asked = {(who, item): question for who, item, question in also}
    return tuple(
        Sample(
            cell=int(answers.cell[row]),
            participant=int(answers.participant[row]),
            answer=found[key],
            remembered_questions=tuple(asked[key[0], item] for item in found[key].memory),
        )
        for row, key in keys.items()
    )


def _select(connection: Connection, what: Sequence[Any], columns: Sequence[Any], keys: Sequence[Any]) -> Iterator[Any]:
    """Answers whose columns are among the keys, of which few enough are in one statement."""
    for start in range(0, len(keys), _KEYS):
        yield from connection.execute(select(*what).where(tuple_(*columns).in_(keys[start : start + _KEYS])))


def _spent(connection: Connection, run: str) -> tuple[dict[str, float], dict[str, TokenCount]]:
    """Of each model the summed seconds of its answers, and the tokens of those that carry counts."""
    counted = and_(_A.prompt_tokens.is_not(None), _A.completion_tokens.is_not(None))
    model, sums = tables.cell.c.model, map(func.sum, (_A.prompt_tokens, _A.completion_tokens, _A.seconds))
    told = (func.sum(_A.seconds), func.count().filter(counted), *(each.filter(counted) for each in sums))
    query = select(model, *told).select_from(tables.ANSWERS_IN_CELLS).where(_P.run == run).group_by(model)
    rows = connection.execute(query).all()
    return {row[0]: float(row[1]) for row in rows}, {
        model: TokenCount(answers=answers, prompt=int(prompt), completion=int(completion), seconds=float(seconds))
        for model, _, answers, prompt, completion, seconds in rows
        if answers
    }


def read_draws(database: Database, run_id: str) -> DrawArrays:
    """The configurations of a run: one row per participant, or per answer where each question has its own draws."""
    with database.read() as connection:
        run = store.run_in(connection, run_id)
        per_question = run.protocol.draws is DrawsPer.QUESTION
        query = (
            select(_P.cell, _P.number, _A.question, _A.draws, _A.used)
            .select_from(tables.ANSWERS)
            .where(_P.run == run_id, _A.slot == 0)
            .order_by(_P.cell, _P.number, _A.item)
        )
        if not per_question:
            first = select(func.min(_A.item)).where(_A.participant == _P.id).correlate(tables.participant)
            query = query.where(_A.item == first.scalar_subquery())
        rows = connection.execute(query).all()
    cells = {cell.id: position for position, cell in enumerate(run.cells)}
    questions = {question: position for position, question in enumerate(run.questions)}
    regions = tuple(sorted({row.draws["region"] for row in rows} - {None}))
    places = {None: -1, **{region: position for position, region in enumerate(regions)}}
    return DrawArrays(
        cell=np.array([cells[row.cell] for row in rows], dtype=np.int32),
        participant=np.array([row.number for row in rows], dtype=np.int32),
        question=np.array([questions[row.question] if per_question else -1 for row in rows], dtype=np.int32),
        num_beams=np.array([row.used["num_beams"] for row in rows], dtype=np.float64),  # None becomes nan
        do_sample=np.array([row.used["do_sample"] for row in rows], dtype=np.float64),
        memory_capacity=np.array([row.draws["memory_capacity"] for row in rows], dtype=np.int64),
        region=np.array([places[row.draws["region"]] for row in rows], dtype=np.int32),
        regions=regions,
    )
