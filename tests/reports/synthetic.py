"""Results made up for tests: a tiny survey, and answers drawn from shares that the test chooses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defsurvey.reports.metrics.judges import Verdicts
from defsurvey.storage.runs.results import STATES, AnswerArrays, Results, Sample
from defsurvey.storage.runs.run import (
    Answer,
    AnswerState,
    Cell,
    Condition,
    Draws,
    Progress,
    Protocol,
    Run,
    UsedDecoding,
)
from defsurvey.storage.surveys import survey as surveys

ANSWERED, REFUSED, UNPARSABLE, FAILED = (STATES.index(state) for state in AnswerState)

#: (question, participants, generator) -> sets of options as bits, shape (participants,).
Respondent = Callable[[surveys.Question, str, int, np.random.Generator], NDArray[np.int64]]


def option(code: int, en: str, zh: str, dimension: str | None = None) -> surveys.Option:
    """An option; with a dimension it belongs to a list."""
    value = None if dimension is None else surveys.Value(dimension=dimension, direction=1, basis="B", core=True)
    return surveys.Option(code=code, label={"en": en, "zh": zh}, value=value)


FAMILY = [
    (1, "Very", "非常重要"),
    (2, "Rather", "比较重要"),
    (3, "Not very", "不太重要"),
    (4, "Not at all", "完全不重要"),
]
GOALS = [(1, "Order", "秩序"), (2, "Voice", "发言权"), (3, "Prices", "物价")]
POINTS = [(code, str(code), str(code)) for code in range(1, 11)]
QUALITIES = [(1, "Manners", "礼貌", "TDI"), (2, "Independence", "独立", "IDV"), (3, "Hard work", "勤奋")]
_UP_TO_TWO = "孩子应学习哪些品质?最多两个。"
_WORDED = [
    (surveys.QuestionType.ORDINAL, "TDI", FAMILY, "How important is family in your life?", "家庭在您的生活中有多重要?"),
    (surveys.QuestionType.SINGLE, "EVI", GOALS, "Which goal comes first?", "哪个目标最重要?"),
    (surveys.QuestionType.SCALE, "IVR", POINTS, "How satisfied are you, from 1 to 10?", "您有多满意,从1到10?"),
    (surveys.QuestionType.MULTIPLE, None, QUALITIES, "Which qualities should children learn? Up to two.", _UP_TO_TWO),
]
QUESTIONS = tuple(
    surveys.Question(
        id=f"Q{number}",
        type=kind,
        topic="Life",
        text={"en": en, "zh": zh},
        options=tuple(option(*given) for given in options),
        max_choices=2 if kind is surveys.QuestionType.MULTIPLE else 1,
        value=None if dimension is None else surveys.Value(dimension=dimension, direction=-1, basis="A", core=True),
    )
    for number, (kind, dimension, options, en, zh) in enumerate(_WORDED, start=1)
)

SHARES: dict[str, dict[str, list[float]]] = {
    "us": {
        "Q1": [0.911, 0.071, 0.016, 0.002],
        "Q2": [0.5, 0.3, 0.2],
        "Q3": [0.02, 0.02, 0.03, 0.05, 0.1, 0.1, 0.2, 0.28, 0.12, 0.08],
        "Q4": [0.5, 0.55, 0.68],
    },
    "cn": {
        "Q1": [0.864, 0.13, 0.006, 0.0],
        "Q2": [0.35, 0.1, 0.55],
        "Q3": [0.03, 0.02, 0.04, 0.05, 0.15, 0.2, 0.18, 0.2, 0.08, 0.05],
        "Q4": [0.85, 0.78, 0.2],
    },
}
PEOPLE = {"us": 2593, "cn": 3028}
_DIMENSIONS = [
    ("EVI", "emancipative values", "解放价值观"),
    ("IDV", "individualism", "个人主义"),
    ("IVR", "indulgence", "放纵"),
    ("TDI", "traditional values", "传统价值观"),
]
_UNITED_STATES, _OHIO = {"en": "United States", "zh": "美国"}, {"en": "Ohio", "zh": "俄亥俄州"}
_CHINA, _GUANGDONG = {"en": "China", "zh": "中国"}, {"en": "Guangdong", "zh": "广东"}
_CULTURES = [
    ("us", _UNITED_STATES, "the United States", "en", "US-OH", _OHIO),
    ("cn", _CHINA, "", "zh", "CN-GD", _GUANGDONG),
]


def survey(
    *, shares: dict[str, dict[str, list[float]]] = SHARES, questions: tuple[surveys.Question, ...] = QUESTIONS
) -> surveys.Survey:
    by_id = {question.id: question for question in questions}
    return surveys.Survey(
        id="tiny",
        title="Tiny Values Survey",
        version="1",
        citation="Nobody (2020), Tiny Values Survey, made up.",
        terms="Free for tests.",
        languages=("en", "zh"),
        dimensions={code: {"en": en, "zh": zh} for code, en, zh in _DIMENSIONS},
        questions=questions,
        cultures=tuple(
            surveys.Culture(
                code=code,
                name=name,
                in_sentence=called,
                language=language,
                regions=(surveys.Region(code=region, name=place, share=1.0),),
            )
            for code, name, called, language, region, place in _CULTURES
        ),
        references=tuple(
            surveys.ReferenceDistribution(
                question=name,
                culture=culture,
                group=surveys.Group.ALL,
                shares=dict(zip(by_id[name].codes, known, strict=True)),
                n=PEOPLE[culture],
            )
            for culture, answers in shares.items()
            for name, known in answers.items()
            if name in by_id
        ),
        fingerprint="f" * 64,
    )


def human(question: surveys.Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    shares = np.array(SHARES[culture][question.id.partition("-")[0]])
    if question.type is surveys.QuestionType.MULTIPLE:
        picked = rng.random((people, len(shares))) < shares
        return (picked * (1 << np.arange(len(shares)))).sum(axis=1).astype(np.int64)
    return (1 << rng.choice(len(shares), size=people, p=shares / shares.sum())).astype(np.int64)


def uniform(question: surveys.Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return (1 << rng.integers(len(question.options), size=people)).astype(np.int64)


def last(question: surveys.Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.full(people, 1 << (len(question.options) - 1), dtype=np.int64)


def rare(question: surveys.Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return (last if question.id.startswith("Q2") else human)(question, culture, people, rng)


def results(
    cells: Sequence[tuple[str, str, str, Respondent]] = (("human", "us", "def", human), ("human", "cn", "def", human)),
    *,
    participants: int = 20,
    tiny: surveys.Survey | None = None,
    states: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
    done: float = 1.0,
    seed: int = 1,
    samples: tuple[Sample, ...] = (),
    study: str = "name: tiny\nsurvey: tiny\n",
) -> Results:
    """A run of the tiny survey by cells of a model, a culture, a condition and how it answers.

    ``states`` are the shares of answered, refused, unparsable and failed; ``done`` the share of the planned answers
    that have ended.
    """
    known, rng = tiny or survey(), np.random.default_rng(seed)
    choices = np.array(
        [
            [respondent(question, culture, participants, rng) for question in known.questions]
            for _, culture, _, respondent in cells
        ]
    )
    planned = choices.size
    ended = np.sort(rng.permutation(planned)[: round(done * planned)])
    # answers stand cell by cell, participant by participant, question by question
    shape = (len(cells), participants, len(known.questions))
    cell, participant, question = (axis.ravel()[ended] for axis in np.indices(shape, dtype=np.int32))
    state = rng.choice(4, size=len(ended), p=states).astype(np.int8)
    counts = dict(zip((each.value for each in STATES), np.bincount(state, minlength=4).tolist(), strict=True))
    models = sorted({model for model, *_ in cells})
    run = Run(
        id="run-1",
        created_at=datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
        survey=known.fingerprint,
        questions=tuple(question.id for question in known.questions),
        protocol=Protocol(seed=7),
        cells=tuple(
            Cell(
                id=place,
                model=model,
                culture=culture,
                condition=Condition(name=condition),
                language=known.culture(culture).language,
                participants=participants,
            )
            for place, (model, culture, condition, _) in enumerate(cells, start=1)
        ),
        study=study,
    )
    return Results(
        run=run,
        survey=known,
        answers=AnswerArrays(
            cell=cell,
            participant=participant,
            question=question,
            slot=np.zeros(len(ended), dtype=np.int32),
            state=state,
            choices=np.where(state == ANSWERED, choices.transpose(0, 2, 1).ravel()[ended], 0),
            shown=np.ones(len(ended), dtype=np.int64),
            digest=rng.integers(0, 5, size=len(ended)),
        ),
        samples=samples,
        progress=Progress(planned=planned, **counts),
        engines={model: {"engine": "scripted", "weights": "none"} for model in models},
        versions={"numpy": "2.0", "defsurvey": "0.1.0"},
        revision=planned,
        model_seconds=dict.fromkeys(models, 12.5),
    )


def refusing(made: Results, where: NDArray[np.bool_]) -> Results:
    """The same run where those of its valid answers are refused instead, shape (n,)."""
    of, gone = made.answers, where & (made.answers.state == ANSWERED)
    answers = replace(
        of, state=np.where(gone, REFUSED, of.state).astype(np.int8), choices=np.where(gone, 0, of.choices)
    )
    count, progress = int(gone.sum()), made.progress
    moved = replace(progress, answered=progress.answered - count, refused=progress.refused + count)
    return replace(made, answers=answers, progress=moved)


def answering(made: Results, cell: int, participants: int) -> Results:
    return refusing(made, (made.answers.cell == cell) & (made.answers.participant >= participants))


def sample(
    completion: str,
    *,
    cell: int = 0,
    question: str = "Q1",
    state: AnswerState = AnswerState.ANSWERED,
    region: str | None = "US-OH",
) -> Sample:
    options = next(known for known in QUESTIONS if known.id == question).codes
    return Sample(
        cell=cell,
        participant=3,
        answer=Answer(
            participant=4,
            item=2,
            question=question,
            state=state,
            choices=(2,) if state is AnswerState.ANSWERED else (),
            completion=completion,
            reason="" if state is AnswerState.ANSWERED else "the model declined",
            shown=tuple(reversed(options)),
            memory=(0, 1),
            draws=Draws(region=region, num_beams=3, do_sample=True, memory_capacity=4),
            seed=99,
            used=UsedDecoding(num_beams=3, do_sample=True, temperature=1.0, top_p=1.0, max_new_tokens=512),
        ),
        remembered_questions=("Q2", "Q3"),
    )


def one_question() -> surveys.Survey:
    return survey(questions=QUESTIONS[:1])


def repeated(times: int) -> surveys.Survey:
    """The survey with every question asked so many times: Q1-1, Q1-2, ..."""
    names = [(question, f"{question.id}-{n}") for n in range(1, times + 1) for question in QUESTIONS]
    return survey(
        questions=tuple(replace(question, id=name) for question, name in names),
        shares={culture: {name: known[question.id] for question, name in names} for culture, known in SHARES.items()},
    )


def without_reference(culture: str, question: str) -> surveys.Survey:
    known = survey()
    kept = tuple(r for r in known.references if (r.culture, r.question) != (culture, question))
    return replace(known, references=kept)


def verdicts(verdict: ArrayLike, **columns: ArrayLike) -> Verdicts:
    """What one judge said of the first cell: one answer per row, on the first dimension, unless said otherwise."""
    n = len(np.atleast_1d(verdict))
    given = {"cell": np.zeros(n), "answer": np.arange(n), "dimension": np.zeros(n), "weight": np.ones(n)} | columns
    kinds = {"cell": np.int32, "answer": np.int64, "dimension": np.int8, "weight": np.float64}
    arrays = {name: np.asarray(given[name], dtype=kind) for name, kind in kinds.items()}
    return Verdicts(judge="judge 1", verdict=np.asarray(verdict, dtype=np.int8), **arrays)  # type: ignore[arg-type]
