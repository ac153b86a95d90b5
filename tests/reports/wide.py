"""A survey made up at full scale: two populations, nine dimensions, groups that mix to all.

Importable by tests and benchmarks. Deliberately knows nothing of models (see ``tests.reports.planted``).
"""

from __future__ import annotations

import numpy as np

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

DIMENSIONS = ("EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI")
_GROUPS = (Group.MALE, Group.FEMALE, Group.AGE_LE29, Group.AGE_30_49, Group.AGE_50PLUS)


def wide_survey(questions: int = 576, *, seed: int = 11) -> Survey:
    """A survey of two made-up populations: ordinal, nominal, scales and a few lists, groups known for both."""
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


def _question(number: int, rng: np.random.Generator) -> Question:
    kind, size = [
        (QuestionType.ORDINAL, 4),
        (QuestionType.ORDINAL, 4),
        (QuestionType.ORDINAL, 5),
        (QuestionType.SCALE, 10),
        (QuestionType.SINGLE, 4),
        (QuestionType.SINGLE, 3),
    ][number % 6]
    if number % 97 == 96:
        kind, size = QuestionType.MULTIPLE, 6
    value = Value(
        dimension=DIMENSIONS[number % 9], direction=int(rng.choice([-1, 1])), basis="B", core=number % 10 == 0
    )
    listed = kind is QuestionType.MULTIPLE
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
    """All people and five groups; men and women, and the ages, mix to all."""
    codes, size = question.codes, len(question.codes)
    if question.type is QuestionType.MULTIPLE:
        base = rng.uniform(0.1, 0.7, size) * (1.8 / (0.4 * size))
        base = np.clip(base, 0.05, 0.85)
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
