"""A study at full scale whose effects are known, since they were put in: for tests and benchmarks.

Eleven models answer as simulated citizens of two cultures. What each does is a distribution per question, drawn
from in one go; the truth about it stands in ``MODELS``. Deliberately runs no engine.

    honest            answers exactly as people do
    first             always the first option it is shown, whatever that is
    men               the answer most typical of men, wherever men's answers are known
    alpha-, gamma-    part people, part a distortion of its own for every question: the same for both series (null)
    beta-             more of the same distortion (a known difference between series)
    -base             more than its -instruct (an effect of the training stage)
    refuser           as alpha-instruct, but leaves a third of the questions unanswered
    random            every option alike
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product

import numpy as np
from numpy.typing import NDArray

from defsurvey.storage.runs.results import AnswerArrays, DrawArrays, Results
from defsurvey.storage.runs.run import Cell, Condition, Progress, Protocol, Run
from defsurvey.storage.surveys.survey import (
    Culture,
    Group,
    Option,
    Question,
    QuestionType,
    ReferenceDistribution,
    Region,
    Survey,
    Value,
)
from tests.reports.synthetic import ANSWERED, REFUSED, refusing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Model -> how far from people, 0 to 1; of the rest what it does stands in the module's docstring.
DISTORTION = {
    **dict.fromkeys(("honest", "random", "first", "men"), 0.0),
    **dict.fromkeys(("alpha-instruct", "gamma-instruct", "refuser"), 0.25),
    **dict.fromkeys(("alpha-base", "gamma-base", "beta-instruct"), 0.55),
    "beta-base": 0.85,
}
MODELS = tuple(sorted(DISTORTION))
FACTS = {
    f"{series}-{stage}": {"series": series.capitalize(), "stage": stage, "parameters": size}
    for series, size in (("alpha", "7B"), ("beta", "13B"), ("gamma", "8B"))
    for stage in ("base", "instruct")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    results: Results
    draws: DrawArrays


def planted(
    survey: Survey | None = None,
    *,
    participants: int = 20,
    models: Sequence[str] = MODELS,
    seed: int = 20250314,
    refuses: Sequence[str] = ("refuser",),
    refusal: float = 1 / 3,
) -> Planted:
    """A finished run of these models in every culture of the survey, ``wide_survey()`` where none is given.

    Choices are drawn before refusals, so that a model answers alike whatever it refuses: the models that ``refuses``
    names leave that share unanswered at random.
    """
    known = survey or wide_survey()
    ids = tuple(question.id for question in known.questions)
    cells = tuple(
        Cell(
            id=place,
            model=model,
            culture=culture.code,
            condition=Condition(name="def", option_order=True),
            language=culture.language,
            participants=participants,
        )
        for place, (model, culture) in enumerate(product(sorted(models), known.cultures), start=1)
    )
    shape = (len(cells), participants, len(ids))
    choices, shown = np.zeros((2, *shape), dtype=np.int64)
    for place, question in enumerate(known.questions):
        first = _first_shown(question, participants, _stream(seed, 1, place))
        shown[:, :, place] = np.array(question.codes)[first]
        for number, cell in enumerate(cells):
            own = _stream(seed, 2, place, MODELS.index(cell.model), cell.culture == known.cultures[0].code)
            choices[number, :, place] = _choices(known, question, cell, first, place, own)
    state = np.full(shape, ANSWERED, dtype=np.int8)
    refused = np.random.default_rng((seed, 3)).random(shape) < refusal
    for number, cell in enumerate(cells):
        if cell.model in refuses:
            state[number][refused[number]] = REFUSED
    results = _results(known, ids, cells, choices, shown, state, seed)
    return Planted(results=results, draws=_draws(known, cells, participants, seed))


def _stream(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def _first_shown(question: Question, people: int, rng: np.random.Generator) -> Ints:
    """Position of the option each participant sees first: nominal options permuted, ordered ones turned around."""
    last = len(question.options) - sum(option.residual for option in question.options)
    if question.type.ordered:
        return np.asarray(np.where(rng.random(people) < 0.5, 0, last - 1), dtype=np.int64)
    return np.asarray(rng.integers(0, last, people), dtype=np.int64)


def _choices(survey: Survey, question: Question, cell: Cell, first: Ints, place: int, rng: np.random.Generator) -> Ints:
    if cell.model == "first":
        return np.asarray(1 << first, dtype=np.int64)
    people, known = len(first), _shares(survey, question, cell.culture, Group.ALL)
    size = len(known)
    if question.type is QuestionType.MULTIPLE:
        own = np.full(size, 0.4) if cell.model == "random" else known
        bits = rng.random((people, size)) < np.maximum(own, 0.01)
        bits[np.arange(people), rng.integers(0, size, people)] |= ~bits.any(axis=1)
        return np.asarray((bits << np.arange(size)).sum(axis=1), dtype=np.int64)
    if cell.model == "random":
        own = np.full(size, 1 / size)
    elif cell.model == "men":
        own = _typical_of_men(survey, question, cell.culture, known)
    else:
        # one distortion per question and culture, shared by all models: what differs is how much of it each has
        bend = _stream(77, place, cell.culture == survey.cultures[0].code).dirichlet(np.full(size, 0.6))
        own = (1 - DISTORTION[cell.model]) * known + DISTORTION[cell.model] * bend
    bounds = np.cumsum(own / own.sum())
    position = np.minimum(np.searchsorted(bounds, rng.random(people), side="right"), size - 1)
    return np.asarray(1 << position, dtype=np.int64)


def _shares(survey: Survey, question: Question, culture: str, group: Group) -> Floats:
    reference = survey.reference(question.id, culture, group)
    assert reference is not None
    given = np.array([reference.shares.get(code, 0.0) for code in question.codes])
    return given if question.type is QuestionType.MULTIPLE else given / given.sum()


def _typical_of_men(survey: Survey, question: Question, culture: str, known: Floats) -> Floats:
    if survey.reference(question.id, culture, Group.MALE) is None:
        return known
    men, women = (_shares(survey, question, culture, group) for group in (Group.MALE, Group.FEMALE))
    lift = np.where(known >= 0.05, men / np.maximum(women, 1e-9), -1.0)
    picked = np.full(len(known), 0.05 / len(known))
    picked[int(np.argmax(lift))] += 0.95
    return picked


def _results(
    survey: Survey, ids: tuple[str, ...], cells: tuple[Cell, ...], choices: Ints, shown: Ints, state: Ints, seed: int
) -> Results:
    cell, participant, question = (axis.ravel() for axis in np.indices(choices.shape, dtype=np.int32))
    planned, refused = choices.size, int((state == REFUSED).sum())
    models = sorted({cell.model for cell in cells})
    return Results(
        run=Run(
            id="planted",
            created_at=datetime(2026, 3, 14, 15, 9, tzinfo=UTC),
            survey=survey.fingerprint,
            questions=ids,
            protocol=Protocol(seed=seed),
            cells=cells,
            study="name: planted\n",
        ),
        survey=survey,
        answers=AnswerArrays(
            cell=cell,
            participant=participant,
            question=question,
            slot=np.zeros(planned, dtype=np.int32),
            state=state.ravel(),
            choices=np.where(state == ANSWERED, choices, 0).ravel(),
            shown=shown.ravel(),
            digest=np.random.default_rng((seed, 4)).integers(0, 1 << 40, planned),
        ),
        samples=(),
        progress=Progress(planned=planned, answered=planned - refused, refused=refused),
        engines={model: {"engine": "scripted"} for model in models},
        versions={"numpy": np.__version__},
        revision=planned,
        model_seconds=dict.fromkeys(models, 100.0),
        model_facts={model: FACTS[model] for model in models if model in FACTS},
    )


def _draws(survey: Survey, cells: tuple[Cell, ...], participants: int, seed: int) -> DrawArrays:
    """Decoding and memory depend on the participant alone, the region on the culture too: as in a real run."""
    rng = np.random.default_rng((seed, 5))
    axes = {
        "num_beams": rng.integers(1, 6, participants).astype(np.float64),
        "do_sample": rng.integers(0, 2, participants).astype(np.float64),
        "memory_capacity": rng.integers(0, 16, participants),
    }
    regions = tuple(region.code for culture in survey.cultures for region in culture.regions)
    where: dict[str, Ints] = {}
    for culture in survey.cultures:
        own = [regions.index(region.code) for region in culture.regions]
        where[culture.code] = rng.choice(own, participants) if own else np.full(participants, -1)
    return DrawArrays(
        cell=np.repeat(np.arange(len(cells), dtype=np.int32), participants),
        participant=np.tile(np.arange(participants, dtype=np.int32), len(cells)),
        question=np.full(len(cells) * participants, -1, dtype=np.int32),
        **{name: np.tile(drawn, len(cells)) for name, drawn in axes.items()},
        region=np.concatenate([where[cell.culture] for cell in cells]).astype(np.int32),
        regions=regions,
    )


def without(made: Planted, model: str) -> Planted:
    """The same run where that model has no valid answer at all: every one refused."""
    places = [place for place, cell in enumerate(made.results.run.cells) if cell.model == model]
    return replace(made, results=refusing(made.results, np.isin(made.results.answers.cell, places)))


#: Dimensions and groups of a survey made up at full scale: two populations, groups that mix to all.
DIMENSIONS = ("EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI")
_GROUPS = (Group.MALE, Group.FEMALE, Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS)


def wide_survey(questions: int = 576, *, seed: int = 11) -> Survey:
    rng = np.random.default_rng(seed)
    asked = tuple(_question(number, rng) for number in range(questions))
    return Survey(
        id="wide",
        title="Wide Survey",
        version="1",
        citation="Nobody (2020), Wide Survey, made up.",
        terms="Free for tests.",
        languages=("en",),
        dimensions={code: {"en": code} for code in DIMENSIONS},
        questions=asked,
        cultures=tuple(
            Culture(
                code=code,
                name={"en": name},
                in_sentence=called,
                language="en",
                regions=tuple(
                    Region(code=f"{code.upper()}-{n}", name={"en": f"Region {n}"}, share=0.25) for n in range(4)
                ),
            )
            for code, name, called in (("us", "United States", "the United States"), ("cn", "China", ""))
        ),
        references=tuple(
            reference
            for question in asked
            for culture, people in (("us", 2500), ("cn", 3000))
            for reference in _references(question, culture, people, rng)
        ),
        fingerprint="e" * 64,
    )


_KINDS = [*[(QuestionType.ORDINAL, 4)] * 2, (QuestionType.ORDINAL, 5), (QuestionType.SCALE, 10)]
_KINDS += [(QuestionType.SINGLE, 4), (QuestionType.SINGLE, 3)]


def _question(number: int, rng: np.random.Generator) -> Question:
    listed = number % 97 == 96
    kind, size = (QuestionType.MULTIPLE, 6) if listed else _KINDS[number % 6]
    direction = int(rng.choice([-1, 1]))
    value = Value(dimension=DIMENSIONS[number % 9], direction=direction, basis="B", core=number % 10 == 0)
    return Question(
        id=f"W{number + 1}",
        type=kind,
        topic=f"Topic {number % 12 + 1}",
        text={"en": f"Question {number + 1} of the wide survey?"},
        options=tuple(
            Option(code=code, label={"en": f"Answer {code}"}, value=value if listed else None)
            for code in range(1, size + 1)
        ),
        max_choices=3 if listed else 1,
        value=None if listed else value,
    )


def _references(
    question: Question, culture: str, people: int, rng: np.random.Generator
) -> tuple[ReferenceDistribution, ...]:
    codes, size = question.codes, len(question.codes)
    if question.type is QuestionType.MULTIPLE:
        base = np.clip(rng.uniform(0.1, 0.7, size) * (1.8 / (0.4 * size)), 0.05, 0.85)
        tilt = rng.uniform(0.7, 1.3, (2, size))
    else:
        base, tilt = rng.dirichlet(np.full(size, 1.5)), rng.uniform(0.6, 1.4, (2, size))
    parts = {Group.ALL: base}
    for (first, second), lean in zip(((0, 1), (2, 4)), tilt, strict=True):
        moved = np.clip(base * lean, 0.0, 2 * base)
        if question.type is not QuestionType.MULTIPLE:
            moved /= moved.sum()
        moved = (base + moved) / 2
        parts |= {_GROUPS[first]: moved, _GROUPS[second]: np.clip(2 * base - moved, 0.0, 1.0)}
    parts[Group.AGE_30_49] = base
    weights = {Group.ALL: 1.0, Group.AGE_30_49: 0.4, Group.AGE_LE29: 0.3, Group.AGE_50PLUS: 0.3}
    return tuple(
        ReferenceDistribution(
            question=question.id,
            culture=culture,
            group=group,
            shares=dict(zip(codes, shares.tolist(), strict=True)),
            n=int(people * weights.get(group, 0.5)),
        )
        for group, shares in parts.items()
    )
