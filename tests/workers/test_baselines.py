"""The baselines: their prompts, their steps, what is read of lists and votes, and that no step is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count

import pytest

from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.runs.run import Answer, AnswerState, CompletedStep, Protocol
from defsurvey.storage.surveys.survey import Culture, Survey
from defsurvey.workers.engines.base import (
    NO_DECODING,
    Completion,
    Engine,
    EngineUnavailable,
    FinishReason,
    Request,
    Task,
)
from defsurvey.workers.engines.scripted import ScriptedEngine
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.interview import Step, ask_again, interview
from defsurvey.workers.simulation.methods import questionnaire
from defsurvey.workers.simulation.methods.ccsv import DECODES, VOTE, CcsvList, list_entries, voted
from defsurvey.workers.simulation.prompts import languages, option_text
from tests.workers.citizens import CN, FAMILY, SURVEY, US, citizen

CAO, SINGLE, LIST = (BUILT_IN_CONDITIONS[name] for name in ("cao2023", "ccsv-single", "ccsv-list"))
PROTOCOL = Protocol(seed=3)
QUESTIONS = ("family", "divorce")


class Noted:
    """Notes in memory."""

    def __init__(self, steps: Sequence[CompletedStep] = ()) -> None:
        self.steps = list(steps)

    def done(self, item: int, attempt: int) -> Sequence[CompletedStep]:
        """Those of one answer."""
        return [step for step in self.steps if (step.item, step.attempt) == (item, attempt)]

    def keep(self, step: CompletedStep) -> None:
        """At the end."""
        self.steps.append(step)


class Asked(Engine):
    """A scripted respondent that notes what it is asked and gives up after so many requests."""

    def __init__(self, rule: str = "uniform", *, gives_up_after: int = 10_000, survey: Survey = SURVEY) -> None:
        self._engine = ScriptedEngine(ModelCard(name="m", engine="scripted", respondent=rule), survey)
        self._left = gives_up_after
        self.requests: list[Request] = []

    def submit(self, request: Request) -> Future[Completion]:
        """Note it and pass it on."""
        self.requests.append(request)
        self._left -= 1
        if self._left >= 0:
            return self._engine.submit(request)
        future: Future[Completion] = Future()
        future.set_result(Completion(text="", finish=FinishReason.ERROR, used=NO_DECODING, error="no connection"))
        return future

    def describe(self) -> dict[str, str]:
        """Nothing worth telling."""
        return {}

    def close(self) -> None:
        """Nothing to close."""

    @property
    def tasks(self) -> list[Task]:
        """What was asked for, in order."""
        return [request.asked.task for request in self.requests if request.asked is not None]


def _interview(
    condition: object, engine: Engine, notes: Noted, *, culture: Culture = US, language: str = "en", index: int = 0
) -> list[Step]:
    clock = count(0.0, 0.5)
    who = citizen(PROTOCOL, index, culture=culture, condition=condition, language=language)  # type: ignore[arg-type]
    return list(
        interview(
            questionnaire(who, survey=SURVEY, questions=QUESTIONS, protocol=PROTOCOL),
            engine=engine,
            recall={},
            notes=notes,
            clock=lambda: next(clock),
        )
    )


def _again(answer: Answer, engine: Engine, notes: Noted) -> Answer:
    """The answer of one slot of a panel, asked again for the first time."""
    return ask_again(
        answer,
        questionnaire(citizen(PROTOCOL, condition=LIST), survey=SURVEY, questions=QUESTIONS, protocol=PROTOCOL),
        engine=engine,
        recall={},
        notes=notes,
        attempt=1,
    )


@pytest.mark.parametrize("language", sorted(languages()))
def test_the_average_person_is_asked_for_in_two_wordings_in_turn(language: str) -> None:
    """By participant number; country named in the prompt's language, nobody's region, one greedy beam."""
    asked = []
    for index in range(4):
        who = citizen(PROTOCOL, index, culture=CN, condition=CAO, language=language)
        asked.append(questionnaire(who, survey=SURVEY, questions=QUESTIONS, protocol=PROTOCOL).request(0))
    prompts = [request.messages[-1].content for request in asked]
    assert prompts[0] == prompts[2] != prompts[1] == prompts[3]
    for prompt in prompts:
        assert CN.name[language] in prompt
        assert prompt.endswith("4: Not at all important" if language == "en" else "4：一点也不重要")
        assert "[" not in prompt
    assert {(r.decoding.num_beams, r.decoding.do_sample) for r in asked} == {(1, False)}


@pytest.mark.parametrize("language", sorted(languages()))
@pytest.mark.parametrize("condition", [SINGLE, LIST], ids=["single", "list"])
def test_an_answer_is_drafted_criticised_rewritten_and_voted_on(condition: object, language: str) -> None:
    """Eight completions, each sampled with a seed of its own and each shown what came before it."""
    engine, notes = Asked(), Noted()
    steps = _interview(condition, engine, notes, culture=CN, language=language)
    slots = 1 if condition is SINGLE else CcsvList.slots
    first = Task.ANSWER if condition is SINGLE else Task.LIST
    assert engine.tasks == [first, Task.CRITIQUE, *[first] * DECODES, Task.VOTE] * len(QUESTIONS)
    assert [len(step.answers) for step in steps] == [slots, slots]
    assert [step.number for step in notes.steps] == [*range(VOTE + 1)] * 2
    texts = [step.completion for step in notes.steps[: VOTE + 1]]
    draft, critique, rewrite, vote = (engine.requests[n].messages for n in (0, 1, 2, VOTE))
    assert [message.content for message in critique[:2]] == [draft[0].content, texts[0]]
    assert [message.content for message in rewrite[:4]] == [m.content for m in critique] + [texts[1]]
    assert all(text in vote[0].content for text in texts[2:VOTE])
    assert len({request.seed for request in engine.requests}) == len(engine.requests)
    assert {(r.decoding.num_beams, r.decoding.do_sample) for r in engine.requests} == {(1, True)}
    for request in engine.requests:
        assert all("[" not in message.content for message in request.messages)
    answers = steps[0].answers
    assert [answer.slot for answer in answers] == list(range(slots))
    assert {answer.state for answer in answers} == {AnswerState.ANSWERED}
    winner = notes.steps[2 + voted(texts[VOTE], DECODES)]
    assert answers[0].seed == winner.seed
    assert answers[-1].completion in winner.completion
    assert all(answer.remembered is None and answer.memory == () for answer in answers)


@pytest.mark.parametrize("cut", range(VOTE + 2))
@pytest.mark.parametrize("condition", [SINGLE, LIST], ids=["single", "list"])
def test_no_step_is_asked_twice(condition: object, cut: int) -> None:
    """Cut off after any step, the interview ends with the same answers and asks only for what is missing."""
    whole, engine = Noted(), Asked()
    steps = _interview(condition, engine, whole)
    again = Asked()
    resumed = _interview(condition, again, Noted(whole.steps[:cut]))
    assert len(again.requests) == len(engine.requests) - cut
    costs = {"seconds": 0.0, "prompt_tokens": None, "completion_tokens": None}

    def said(found: list[Step]) -> list[object]:
        return [replace(answer, **costs) for step in found for answer in step.answers]  # type: ignore[arg-type]

    assert said(resumed) == said(steps)


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_an_engine_that_gives_up_fails_every_slot(after: int) -> None:
    """With its reason; what was said before is kept, and a retry begins a chain of its own."""
    notes = Noted()
    steps = _interview(LIST, Asked(gives_up_after=after), notes)
    answers = steps[0].answers
    assert len(answers) == CcsvList.slots
    assert {(answer.state, answer.reason) for answer in answers} == {(AnswerState.FAILED, "no connection")}
    assert len(notes.done(0, 0)) == after
    engine = Asked()
    fresh = [_again(answer, engine, notes) for answer in answers[3:5]]
    assert [(answer.slot, answer.attempt, answer.state) for answer in fresh] == [
        (3, 1, AnswerState.ANSWERED),
        (4, 1, AnswerState.ANSWERED),
    ]
    assert len(engine.requests) == VOTE + 1  # one chain for both
    assert [answer.seconds > 0 for answer in fresh] == [True, False]  # and paid for once


class Counted(Asked):
    """Tells that every request had 100 tokens, and gives up at one of them."""

    def __init__(self, gives_up_at: int) -> None:
        super().__init__()
        self._gives_up_at = gives_up_at

    def submit(self, request: Request) -> Future[Completion]:
        """As it is told."""
        said = super().submit(request).result()
        future: Future[Completion] = Future()
        if len(self.requests) == self._gives_up_at:
            future.set_result(replace(said, text="", finish=FinishReason.ERROR, error="no connection"))
        else:
            future.set_result(replace(said, prompt_tokens=100, completion_tokens=10))
        return future


@pytest.mark.parametrize("rewrite", [0, DECODES - 1])
def test_rewrites_beside_one_that_failed_are_kept_and_counted(rewrite: int) -> None:
    """They were paid for, whichever of them failed."""
    notes = Noted()
    answer = _interview(SINGLE, Counted(3 + rewrite), notes)[0].answers[0]
    assert (answer.state, answer.reason) == (AnswerState.FAILED, "no connection")
    assert len(notes.done(0, 0)) == 2 + DECODES - 1
    assert (answer.prompt_tokens, answer.completion_tokens) == (100 * (1 + DECODES), 10 * (1 + DECODES))


def test_slots_that_are_asked_again_pay_for_what_each_asked() -> None:
    """Where a rewrite fails for one slot, the next asks for that one alone: no step is paid for twice."""
    notes = Noted()
    answers = []
    for slot, engine in ((3, Counted(4)), (4, Counted(1)), (5, Counted(0)), (6, Counted(0))):
        failed = replace(_interview(LIST, Asked(gives_up_after=0), Noted())[0].answers[0], slot=slot)
        answers.append(_again(failed, engine, notes))
    assert [answer.state for answer in answers[:3]] == [AnswerState.FAILED, AnswerState.FAILED, AnswerState.ANSWERED]
    kept = [
        1 + DECODES,
        None,
        2,
        None,
    ]  # of each step 100 tokens were read: draft, critique, all rewrites but one, vote
    assert [answer.prompt_tokens for answer in answers] == [count and 100 * count for count in kept]
    assert len(notes.done(0, 1)) == VOTE + 1


class Gone(Counted):
    """Does not serve one request: it is told by the future, or when it is submitted."""

    def __init__(self, failing: int, *, at_once: bool) -> None:
        super().__init__(0)
        self._gone_at, self._at_once = failing, at_once

    def submit(self, request: Request) -> Future[Completion]:
        """A reply, or none."""
        future = super().submit(request)
        if len(self.requests) != self._gone_at:
            return future
        if self._at_once:
            raise EngineUnavailable("the account is used up")
        future = Future()
        future.set_exception(EngineUnavailable("the account is used up"))
        return future


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("rewrite", range(DECODES))
def test_rewrites_beside_an_account_that_is_used_up_are_kept(rewrite: int, at_once: bool) -> None:
    """They were paid for; they are not asked again when the run goes on."""
    notes = Noted()
    with pytest.raises(EngineUnavailable, match="used up"):
        _interview(SINGLE, Gone(3 + rewrite, at_once=at_once), notes)
    assert len(notes.done(0, 0)) == 2 + DECODES - 1


class Brief(Asked):
    """Gives a line for the first person only, behind the options where it is to repeat them."""

    def __init__(self, *, echo: bool) -> None:
        super().__init__()
        self._echo = echo

    def submit(self, request: Request) -> Future[Completion]:
        """The first line of what is answered."""
        asked = request.asked
        if asked is None or asked.task is not Task.LIST:
            return super().submit(request)
        completion = super().submit(request).result()
        options = [option_text(asked.question, code, "en") for code in asked.shown]
        lines = [*(options if self._echo else ()), completion.text.splitlines()[0]]
        future: Future[Completion] = Future()
        future.set_result(replace(completion, text="\n".join(lines)))
        return future


def test_options_repeated_before_a_list_are_nobodys_answers() -> None:
    """Who has no line has none, with the options before the list or without."""
    for step in (*_interview(LIST, Brief(echo=False), Noted()), *_interview(LIST, Brief(echo=True), Noted())):
        assert step.answers[0].state is AnswerState.ANSWERED
        assert {answer.state for answer in step.answers[1:]} == {AnswerState.UNPARSABLE}


@pytest.mark.parametrize(("rule", "state"), [("refuser", AnswerState.REFUSED), ("garbler", AnswerState.UNPARSABLE)])
def test_a_panel_that_gives_no_list_answers_nothing(rule: str, state: AnswerState) -> None:
    """Every slot ends in one state."""
    steps = _interview(LIST, Asked(rule), Noted())
    states = {answer.state for step in steps for answer in step.answers}
    assert states == {state}


def test_conditions_of_one_participant_share_its_draws() -> None:
    """What DEF draws is drawn whatever the condition; a baseline switches axes off and alters none."""
    for index in range(20):
        both = [citizen(PROTOCOL, index, condition=BUILT_IN_CONDITIONS[name]).draws for name in BUILT_IN_CONDITIONS]
        drawn = both[0]
        assert {draws.region for draws in both} <= {drawn.region, None}
        assert {draws.num_beams for draws in both} <= {drawn.num_beams, 1}
        assert {draws.memory_capacity for draws in both} <= {drawn.memory_capacity, 0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Person 1: 2: Rather important\nPerson 2: 1", {0: "2: Rather important", 1: "1"}),
        ("1. 3\n2) 4\n- Person 3: 2", {0: "3", 1: "4", 2: "2"}),
        ("第1人：2：比较重要\n第 2 人: 1", {0: "2：比较重要", 1: "1"}),
        ("**Person 1:** 2\nPerson 1: 3", {0: "** 2"}),
        ("1: Very important\n2: Rather important\nPerson 1: 2\nPerson 2: 1", {0: "2", 1: "1"}),
        ("Here is the list:\nPerson 21: 2\nPerson 0: 1\nPerson 4:\nnone", {}),
        ("", {}),
    ],
)
def test_lists_are_read_by_the_number_of_the_person(text: str, found: dict[int, str]) -> None:
    """The first line of each counts; numbers beyond the panel are nobody's."""
    assert list_entries(text, CcsvList.slots) == found


@pytest.mark.parametrize(
    ("text", "draft"),
    [
        ("Answer: 4", 3),
        ("Draft 5 of 5", 4),
        ("答案：2", 1),
        ("none", 0),
        ("I like 12 or 3", 2),
        ("", 0),
        ("Among the 5 drafts, Draft 2 is closest.", 1),
        ("在5份草稿中，草稿3最好。", 2),
        ("The best answer is draft 4 of 5", 3),
        (5000 * "1", 0),
        (f"Draft {5000 * '1'}, or 3", 2),
    ],
)
def test_a_vote_names_a_draft(text: str, draft: int) -> None:
    """The first number that a draft has; where there is none, the first draft stands."""
    assert voted(text, DECODES) == draft


def test_a_human_panel_answers_as_people_do(small_survey: Survey) -> None:
    """The control of the metrics works for a list too: its shares are those of the reference distribution."""
    survey = replace(small_survey, cultures=(US,))
    question = survey.questions[0]
    shares: dict[int, int] = {}
    for seed in range(40):
        who = citizen(replace(PROTOCOL, seed=seed), condition=LIST)
        steps = interview(
            questionnaire(who, survey=survey, questions=[question.id], protocol=replace(PROTOCOL, seed=seed)),
            engine=Asked("human", survey=survey),
            recall={},
        )
        for step in steps:
            for answer in step.answers:
                shares[answer.choices[0]] = shares.get(answer.choices[0], 0) + 1
    total = sum(shares.values())
    assert total == 800
    expected = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
    assert all(abs(shares[code] / total - share) < 0.06 for code, share in expected.items())


def test_the_control_fails_where_nobody_knows_what_people_say() -> None:
    """A respondent without reference gives up at the first step, and says why."""
    steps = _interview(SINGLE, Asked("human"), Noted())
    assert steps[0].answers[0].state is AnswerState.FAILED
    assert FAMILY.id in steps[0].answers[0].reason
