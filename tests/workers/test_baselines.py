"""The baselines: their prompts, their steps, what is read of lists and votes, and that no step is asked twice."""

from dataclasses import replace

import pytest

from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.runs.run import Answer, AnswerState, Condition, Protocol
from defsurvey.storage.surveys.survey import Culture, Survey
from defsurvey.workers.engines.base import Completion, Engine, FinishReason, Request, Task
from defsurvey.workers.simulation.interview import Step, ask_again, interview
from defsurvey.workers.simulation.methods import questionnaire
from defsurvey.workers.simulation.methods.ccsv import DECODES, VOTE, CcsvList, list_entries, voted
from defsurvey.workers.simulation.prompts import languages, option_text
from tests.workers.citizens import CN, SURVEY, US, Asked, Noted, citizen, interviewed

CAO, SINGLE, LIST = (BUILT_IN_CONDITIONS[name] for name in ("cao2023", "ccsv-single", "ccsv-list"))
PROTOCOL = Protocol(seed=3)
QUESTIONS = ("family", "divorce")


def _interview(
    condition: Condition, engine: Engine, notes: Noted, *, culture: Culture = US, language: str = "en"
) -> list[Step]:
    who = citizen(PROTOCOL, culture=culture, condition=condition, language=language)
    return interviewed(who, PROTOCOL, engine, notes, *QUESTIONS)


def _again(answer: Answer, engine: Engine, notes: Noted) -> Answer:
    panel = questionnaire(citizen(PROTOCOL, condition=LIST), survey=SURVEY, questions=QUESTIONS, protocol=PROTOCOL)
    return ask_again(answer, panel, engine=engine, recall={}, notes=notes, attempt=1)


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
def test_an_answer_is_drafted_criticised_rewritten_and_voted_on(condition: Condition, language: str) -> None:
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
    assert not any("[" in message.content for request in engine.requests for message in request.messages)
    answers = steps[0].answers
    assert [answer.slot for answer in answers] == list(range(slots))
    assert {answer.state for answer in answers} == {AnswerState.ANSWERED}
    winner = notes.steps[2 + voted(texts[VOTE], DECODES)]
    assert answers[0].seed == winner.seed
    assert answers[-1].completion in winner.completion
    assert all(answer.remembered is None and answer.memory == () for answer in answers)


@pytest.mark.parametrize("cut", range(VOTE + 2))
@pytest.mark.parametrize("condition", [SINGLE, LIST], ids=["single", "list"])
def test_no_step_is_asked_twice(condition: Condition, cut: int) -> None:
    """Cut off after any step, the interview ends with the same answers and asks only for what is missing."""
    whole, engine, again = Noted(), Asked(), Asked()
    steps = _interview(condition, engine, whole)
    resumed = _interview(condition, again, Noted(whole.steps[:cut]))
    assert len(again.requests) == len(engine.requests) - cut

    def said(found: list[Step]) -> list[Answer]:
        unpaid = {"seconds": 0.0, "prompt_tokens": None, "completion_tokens": None}
        return [replace(answer, **unpaid) for step in found for answer in step.answers]  # type: ignore[arg-type]

    assert said(resumed) == said(steps)


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_an_engine_that_gives_up_fails_every_slot(after: int) -> None:
    """With its reason; what was said before is kept, and a retry begins a chain of its own."""
    notes, engine = Noted(), Asked()
    answers = _interview(LIST, Asked(gives_up_after=after), notes)[0].answers
    assert len(answers) == CcsvList.slots
    assert {(answer.state, answer.reason) for answer in answers} == {(AnswerState.FAILED, "no connection")}
    assert len(notes.done(0, 0)) == after
    fresh = [_again(answer, engine, notes) for answer in answers[3:5]]
    answered = AnswerState.ANSWERED
    assert [(answer.slot, answer.attempt, answer.state) for answer in fresh] == [(3, 1, answered), (4, 1, answered)]
    assert len(engine.requests) == VOTE + 1  # one chain for both
    assert [answer.seconds > 0 for answer in fresh] == [True, False]  # and paid for once


def _counted(gives_up_at: int) -> Asked:
    """Tells that every request had 100 tokens, and gives up at one of them."""

    def then(number: int, _request: Request, said: Completion) -> Completion:
        if number == gives_up_at:
            return replace(said, text="", finish=FinishReason.ERROR, error="no connection")
        return replace(said, prompt_tokens=100, completion_tokens=10)

    return Asked(then=then)


@pytest.mark.parametrize("rewrite", [0, DECODES - 1])
def test_rewrites_beside_one_that_failed_are_kept_and_counted(rewrite: int) -> None:
    notes = Noted()
    answer = _interview(SINGLE, _counted(3 + rewrite), notes)[0].answers[0]
    assert (answer.state, answer.reason) == (AnswerState.FAILED, "no connection")
    assert len(notes.done(0, 0)) == 2 + DECODES - 1
    assert (answer.prompt_tokens, answer.completion_tokens) == (100 * (1 + DECODES), 10 * (1 + DECODES))


def test_slots_that_are_asked_again_pay_for_what_each_asked() -> None:
    """Where a rewrite fails for one slot, the next asks for that one alone: no step is paid for twice."""
    notes, answers = Noted(), []
    for slot, engine in ((3, _counted(4)), (4, _counted(1)), (5, _counted(0)), (6, _counted(0))):
        failed = replace(_interview(LIST, Asked(gives_up_after=0), Noted())[0].answers[0], slot=slot)
        answers.append(_again(failed, engine, notes))
    assert [answer.state for answer in answers[:3]] == [AnswerState.FAILED, AnswerState.FAILED, AnswerState.ANSWERED]
    # of each step 100 tokens were read: draft, critique, all rewrites but one; then that one and the vote
    assert [answer.prompt_tokens for answer in answers] == [100 * (1 + DECODES), None, 200, None]
    assert len(notes.done(0, 1)) == VOTE + 1


@pytest.mark.parametrize("echo", [False, True])
def test_options_repeated_before_a_list_are_nobodys_answers(echo: bool) -> None:
    def brief(_number: int, request: Request, said: Completion) -> Completion:
        asked = request.asked
        if asked is None or asked.task is not Task.LIST:
            return said
        options = [option_text(asked.question, code, "en") for code in asked.shown] if echo else []
        return replace(said, text="\n".join([*options, said.text.splitlines()[0]]))

    for step in _interview(LIST, Asked(then=brief), Noted()):
        assert step.answers[0].state is AnswerState.ANSWERED
        assert {answer.state for answer in step.answers[1:]} == {AnswerState.UNPARSABLE}


@pytest.mark.parametrize(("rule", "state"), [("refuser", AnswerState.REFUSED), ("garbler", AnswerState.UNPARSABLE)])
def test_a_panel_that_gives_no_list_answers_nothing(rule: str, state: AnswerState) -> None:
    assert {answer.state for step in _interview(LIST, Asked(rule), Noted()) for answer in step.answers} == {state}


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("condition", [SINGLE, LIST], ids=["single", "list"])
def test_thoughts_of_a_step_are_kept_and_not_passed_on(condition: Condition, ends: bool) -> None:
    """Prompts and answers are those of one who never thinks; who is cut off amid thoughts answers nothing."""

    def think(_number: int, _request: Request, said: Completion) -> Completion:
        told = f"Enough.</think>\n{said.text}" if ends else ""
        return replace(said, text=f"<think>\nPerson 1: 4\nAnswer: Draft 5, Answer: 3.\n{told}")

    silent, thinking, notes = Asked(), Asked(then=think), Noted()
    plain, thought = _interview(condition, silent, Noted()), _interview(condition, thinking, notes)
    if ends:
        assert [request.messages for request in thinking.requests] == [r.messages for r in silent.requests]
        assert [[a.choices for a in step.answers] for step in thought] == [
            [a.choices for a in step.answers] for step in plain
        ]
        assert all(step.completion.startswith("<think>") for step in notes.steps)
    else:
        found = {(answer.state, answer.reason) for step in thought for answer in step.answers}
        assert found == {(AnswerState.UNPARSABLE, "cut off while thinking")}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Person 1: 2: Rather important\nPerson 2: 1", {0: "2: Rather important", 1: "1"}),
        ("1. 3\n2) 4\n- Person 3: 2", {0: "3", 1: "4", 2: "2"}),
        ("第1人：2：比较重要\n第 2 人: 1", {0: "2：比较重要", 1: "1"}),
        ("1: Very important\n2: Rather important\nPerson 1: 2\nPerson 2: 1", {0: "2", 1: "1"}),
        ("Here is the list:\nPerson 21: 2\nPerson 0: 1\nPerson 4:\nnone", {}),
    ],
)
def test_lists_are_read_by_the_number_of_the_person(text: str, found: dict[int, str]) -> None:
    assert list_entries(text, CcsvList.slots) == found


@pytest.mark.parametrize(
    ("text", "draft"),
    [
        ("Draft 5 of 5", 4),
        ("答案：2", 1),
        ("none", 0),
        ("I like 12 or 3", 2),
        ("在5份草稿中，草稿3最好。", 2),
        (f"Draft {5000 * '1'}, or 3", 2),
    ],
)
def test_a_vote_names_a_draft(text: str, draft: int) -> None:
    assert voted(text, DECODES) == draft


def test_a_human_panel_answers_as_people_do(small_survey: Survey) -> None:
    """The control of the metrics works for a list too: its shares are those of the reference distribution."""
    survey = replace(small_survey, cultures=(US,))
    question = survey.questions[0]
    chosen: list[int] = []
    for seed in range(40):
        protocol = replace(PROTOCOL, seed=seed)
        who = citizen(protocol, condition=LIST)
        asking = questionnaire(who, survey=survey, questions=[question.id], protocol=protocol)
        for step in interview(asking, engine=Asked("human", survey=survey), recall={}):
            chosen += [answer.choices[0] for answer in step.answers]
    assert len(chosen) == 800
    expected = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
    assert all(abs(chosen.count(code) / 800 - share) < 0.06 for code, share in expected.items())
