"""A small survey of our own and citizens to ask, for the tests of the simulation."""

from __future__ import annotations

from dataclasses import replace

from defsurvey.storage.runs.run import Cell, Condition, Participant, Protocol
from defsurvey.storage.surveys.survey import Culture, Option, Question, QuestionType, Region, Survey
from defsurvey.workers.simulation.methods import method_of

DEF = Condition(name="def")
NONE = Condition(name="none", prompt=False, config=False, memory=False, option_order=False)

US = Culture(
    code="us",
    name={"en": "United States", "zh": "美国"},
    language="en",
    regions=(
        Region(code="US-OH", name={"en": "Ohio", "zh": "俄亥俄州"}, share=0.5),
        Region(code="US-TX", name={"en": "Texas", "zh": "得克萨斯州"}, share=0.3),
        Region(code="US-ME", name={"en": "Maine", "zh": "缅因州"}, share=0.2),
    ),
)
CN = Culture(
    code="cn",
    name={"en": "China", "zh": "中国"},
    language="zh",
    regions=(
        Region(code="CN-SC", name={"en": "Sichuan", "zh": "四川"}, share=0.6),
        Region(code="CN-GD", name={"en": "Guangdong", "zh": "广东"}, share=0.4),
    ),
)


def _options(*labels: tuple[str, str], residual: int | None = None) -> tuple[Option, ...]:
    return tuple(
        Option(code=code, label={"en": en, "zh": zh}, residual=code == residual)
        for code, (en, zh) in enumerate(labels, start=1)
    )


FAMILY = Question(
    id="family",
    type=QuestionType.ORDINAL,
    topic="Life",
    text={"en": "How important is family in your life?", "zh": "家庭在您的生活中有多重要？"},
    options=_options(
        ("Very important", "非常重要"),
        ("Rather important", "比较重要"),
        ("Not very important", "不太重要"),
        ("Not at all important", "一点也不重要"),
    ),
)
AIM = Question(
    id="aim",
    type=QuestionType.SINGLE,
    topic="Aims",
    text={"en": "Which aim comes first: {order} or [NUM]?", "zh": "哪个目标最重要？"},
    options=_options(
        ("Growth", "发展经济"), ("Defence", "加强国防"), ("A say", "参与决策"), ("Something else", "其他"), residual=4
    ),
)
DIVORCE = Question(
    id="divorce",
    type=QuestionType.SCALE,
    topic="Ethics",
    text={"en": "Can divorce be justified?", "zh": "离婚是否可以接受？"},
    options=_options(
        ("Never", "完全不能"), *((str(point), str(point)) for point in range(2, 10)), ("Always", "完全可以")
    ),
)
QUALITIES = Question(
    id="qualities",
    type=QuestionType.MULTIPLE,
    topic="Children",
    text={"en": "Which qualities should children learn?", "zh": "孩子应该学习哪些品质？"},
    options=_options(("Good manners", "有礼貌"), ("Hard work", "勤奋"), ("Imagination", "想象力"), ("Thrift", "节俭")),
    max_choices=2,
)
#: Some more of the same kind, so that a memory can overflow.
MORE = tuple(replace(FAMILY, id=f"more{number}") for number in range(20))

SURVEY = Survey(
    id="small",
    title="A small survey",
    version="1",
    citation="",
    terms="",
    languages=("en", "zh"),
    dimensions={},
    questions=(FAMILY, AIM, DIVORCE, QUALITIES, *MORE),
    cultures=(US, CN),
    references=(),
)
QUESTIONS = tuple(question.id for question in SURVEY.questions)


def citizen(
    protocol: Protocol, index: int = 0, *, culture: Culture = US, condition: Condition = DEF, language: str = "en"
) -> Participant:
    """A participant at its first question."""
    cell = Cell(id=1, model="m", culture=culture.code, condition=condition, language=language, participants=20)
    return Participant(
        id=100 + index,
        index=index,
        run="r",
        cell=cell,
        draws=method_of(condition).draw(protocol, condition, culture, index),
    )
