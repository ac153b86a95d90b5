"""A survey of six questions and three cultures, three cards and a study file about them, to test with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from defsurvey.jobs.study.study import Study
from defsurvey.jobs.study.study_file import parse_study
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
from defsurvey.workers.models import ModelCard

CARDS: Mapping[str, ModelCard] = {
    "tiny-model": ModelCard(name="tiny-model", hub="here/tiny-model", answer_prefix=True, languages=("en",)),
    "plain-model": ModelCard(name="plain-model", hub="here/plain-model", chat_template="none"),
    "human": ModelCard(name="human", engine="scripted", respondent="human"),
}

TEXT = """\
name: first
survey: small
questions: core
cultures: [us, cn]
models: [tiny-model]
conditions: [def]
"""


def _options(number: int) -> tuple[Option, ...]:
    return tuple(
        Option(code=code, label={"en": f"choice {code}", "zh": f"选项{code}"}) for code in range(1, number + 1)
    )


def _question(name: str, *, core: bool = True, zh: bool = True) -> Question:
    text = {"en": f"What of {name}?"} | ({"zh": f"{name}如何？"} if zh else {})
    return Question(
        id=name,
        type=QuestionType.ORDINAL,
        topic="topic",
        text=text,
        options=_options(4),
        value=Value(dimension="EVI", direction=1, basis="A", core=core),
    )


def _reference(question: str, culture: str) -> ReferenceDistribution:
    shares = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
    return ReferenceDistribution(question=question, culture=culture, group=Group.ALL, shares=shares, n=1000)


#: Q1-Q4 are core, Q5 and Q6 are not. China was not asked Q3 and Q6, Norway only Q6; Q5 has no Chinese wording.
SURVEY = Survey(
    id="small",
    title="A small survey",
    version="1",
    citation="nobody",
    terms="none",
    languages=("en", "zh", "no"),
    dimensions={"EVI": {"en": "Emancipative values", "zh": "解放价值观"}},
    questions=(
        _question("Q1"),
        _question("Q2"),
        _question("Q3"),
        _question("Q4"),
        _question("Q5", core=False, zh=False),
        _question("Q6", core=False),
    ),
    cultures=(
        Culture(
            code="us",
            name={"en": "United States", "zh": "美国"},
            language="en",
            regions=(Region(code="US-OH", name={"en": "Ohio", "zh": "俄亥俄州"}, share=1.0),),
        ),
        Culture(code="cn", name={"en": "China", "zh": "中国"}, language="zh"),
        Culture(code="no", name={"en": "Norway", "no": "Norge"}, language="no"),
    ),
    references=(
        *(_reference(f"Q{number}", "us") for number in range(1, 7)),
        *(_reference(f"Q{number}", "cn") for number in (1, 2, 4, 5)),
        _reference("Q6", "no"),
    ),
    fingerprint="f" * 64,
)


def written(**changes: str | None) -> str:
    """The study file ``TEXT`` with keys put in, replaced or, where None, taken out."""
    entries = dict(line.split(": ", 1) for line in TEXT.splitlines())
    for key, value in changes.items():
        if value is None:
            del entries[key]
        else:
            entries[key] = value
    return "".join(f"{key}: {value}\n" for key, value in entries.items())


def study(**changes: str | None) -> Study:
    """The study that ``written(**changes)`` describes."""
    return parse_study(written(**changes), path=Path("study.yaml"), cards=CARDS, survey=SURVEY)
