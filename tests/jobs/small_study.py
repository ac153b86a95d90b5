"""A survey of six questions and three cultures, three cards and a study file about them, to test with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study.study import Study
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.surveys.survey import Culture, Group, Option, Question, QuestionType, Region, Survey, Value
from defsurvey.storage.surveys.survey import ReferenceDistribution as Reference
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


def _question(name: str, *, core: bool = True, zh: bool = True) -> Question:
    return Question(
        id=name,
        type=QuestionType.ORDINAL,
        topic="topic",
        text={"en": f"What of {name}?"} | ({"zh": f"{name}如何？"} if zh else {}),
        options=tuple(Option(code=code, label={"en": f"choice {code}", "zh": f"选项{code}"}) for code in range(1, 5)),
        value=Value(dimension="EVI", direction=1, basis="A", core=core),
    )


SHARES = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
#: Q1-Q4 are core, Q5 and Q6 are not. China was not asked Q3 and Q6, Norway only Q6; Q5 has no Chinese wording.
ASKED = {"us": (1, 2, 3, 4, 5, 6), "cn": (1, 2, 4, 5), "no": (6,)}
OHIO = Region(code="US-OH", name={"en": "Ohio", "zh": "俄亥俄州"}, share=1.0)
SURVEY = Survey(
    id="small",
    title="A small survey",
    version="1",
    citation="nobody",
    terms="none",
    languages=("en", "zh", "no"),
    dimensions={"EVI": {"en": "Emancipative values", "zh": "解放价值观"}},
    questions=(
        *(_question(f"Q{number}") for number in range(1, 5)),
        _question("Q5", core=False, zh=False),
        _question("Q6", core=False),
    ),
    cultures=(
        Culture(code="us", name={"en": "United States", "zh": "美国"}, language="en", regions=(OHIO,)),
        Culture(code="cn", name={"en": "China", "zh": "中国"}, language="zh"),
        Culture(code="no", name={"en": "Norway", "no": "Norge"}, language="no"),
    ),
    references=tuple(
        Reference(question=f"Q{number}", culture=culture, group=Group.ALL, shares=SHARES, n=1000)
        for culture, numbers in ASKED.items()
        for number in numbers
    ),
    fingerprint="f" * 64,
)


def written(**changes: str | None) -> str:
    """The study file ``TEXT`` with keys put in, replaced or, where None, taken out."""
    entries = dict[str, str | None](line.split(": ", 1) for line in TEXT.splitlines()) | changes
    return "".join(f"{key}: {value}\n" for key, value in entries.items() if value is not None)


def study(**changes: str | None) -> Study:
    """The study that ``written(**changes)`` describes."""
    return parse_study(written(**changes), path=Path("study.yaml"), cards=CARDS, survey=SURVEY)


def typed(*words: str, **environment: str) -> Result:
    """The outcome of a command in this process."""
    return CliRunner().invoke(main, words, env=environment)
