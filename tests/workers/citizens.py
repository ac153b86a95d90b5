"""A small survey of our own, citizens to ask and who answers for them, for the tests of the simulation."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count

from defsurvey.storage.runs.run import Cell, CompletedStep, Condition, Participant, Protocol
from defsurvey.storage.surveys.survey import Culture, Option, Question, QuestionType, Region, Survey
from defsurvey.workers.engines.base import NO_DECODING, Completion, Engine, FinishReason, Request, Task
from defsurvey.workers.engines.scripted import ScriptedEngine
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.interview import Step, interview
from defsurvey.workers.simulation.methods import method_of, questionnaire

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
    cell = Cell(id=1, model="m", culture=culture.code, condition=condition, language=language, participants=20)
    return Participant(
        id=100 + index,
        index=index,
        run="r",
        cell=cell,
        draws=method_of(condition).draw(protocol, condition, culture, index),
    )


class Noted:
    def __init__(self, steps: Sequence[CompletedStep] = ()) -> None:
        self.steps = list(steps)

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:
        return [step for step in self.steps if (step.item, step.attempt) == (item, attempt)]

    def keep(self, step: CompletedStep) -> None:
        self.steps.append(step)


class Asked(Engine):
    """A scripted respondent that notes what it is asked and gives up after so many requests.

    ``then`` is given the number of each request, from 1, and its reply, and says what becomes of it; what it raises is
    raised by ``submit`` or, where it is ``late``, by the future.
    """

    def __init__(
        self,
        rule: str = "uniform",
        *,
        gives_up_after: int = 10_000,
        survey: Survey = SURVEY,
        then: Callable[[int, Request, Completion], Completion] = lambda _number, _request, said: said,
        late: bool = False,
    ) -> None:
        self._engine = ScriptedEngine(ModelCard(name="m", engine="scripted", respondent=rule), survey)
        self._left, self._then, self._late = gives_up_after, then, late
        self.requests: list[Request] = []

    def submit(self, request: Request) -> Future[Completion]:
        self.requests.append(request)
        future: Future[Completion] = Future()
        said = Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error="no connection")
        if len(self.requests) <= self._left:
            said = self._engine.submit(request).result()
        try:
            future.set_result(self._then(len(self.requests), request, said))
        except Exception as error:
            if not self._late:
                raise
            future.set_exception(error)
        return future

    @property
    def tasks(self) -> list[Task]:
        return [request.asked.task for request in self.requests if request.asked is not None]


def interviewed(who: Participant, protocol: Protocol, engine: Engine, notes: Noted, *questions: str) -> list[Step]:
    """All steps of an interview, each look at the clock half a second after the one before."""
    clock = count(0.0, 0.5)
    asking = questionnaire(who, survey=SURVEY, questions=questions, protocol=protocol)
    return list(interview(asking, engine=engine, recall={}, notes=notes, clock=lambda: next(clock)))
