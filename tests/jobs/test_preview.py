"""One prompt of a study, exactly as the model will be asked."""

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from defsurvey.jobs.study.preview import preview, render, to_json
from defsurvey.jobs.study.study import Study, StudyError
from defsurvey.storage.runs.run import Participant
from defsurvey.workers.engines.base import NO_DECODING, Completion, FinishReason, Request
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.interview import interview
from defsurvey.workers.simulation.methods import method_of, questionnaire
from tests.jobs.small_study import CARDS, SURVEY, study

PLAIN = CARDS["plain-model"]
MORE_CARDS = {
    **CARDS,
    "chatml-model": PLAIN.model_copy(update={"name": "chatml-model", "chat_template": "chatml"}),
    "begun-model": PLAIN.model_copy(update={"name": "begun-model", "answer_prefix": True}),
    "served-model": ModelCard(name="served-model", engine="openai", model="m"),
    "own-model": ModelCard(name="own-model", engine="a.package:engine"),
}


class Listener:
    """An engine that keeps what it is asked and answers 1."""

    def __init__(self) -> None:
        self.heard: list[Request] = []

    def submit(self, request: Request) -> Future[Completion]:
        self.heard.append(request)
        done: Future[Completion] = Future()
        done.set_result(Completion(text="Answer: 1: choice 1", finish=FinishReason.STOP, used=NO_DECODING))
        return done

    def describe(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        """Nothing is held."""


def asked_in_a_run(read: Study, index: int) -> list[Request]:
    """What a participant of the study's first cell is really asked with."""
    cell = replace(read.cells()[0], id=9)
    draws = method_of(cell.condition).draw(read.protocol, cell.condition, SURVEY.culture(cell.culture), index)
    participant = Participant(id=77, index=index, run=read.name, cell=cell, draws=draws)
    asked = questionnaire(participant, survey=SURVEY, questions=read.questions, protocol=read.protocol)
    engine = Listener()
    assert len(list(interview(asked, engine=engine, recall={}))) == len(read.questions)
    return engine.heard


def printed(read: Study) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render(preview(read, cards=MORE_CARDS)))
    return capture.get()


@pytest.mark.parametrize("draws", ["participant", "question"])
@pytest.mark.parametrize("index", [0, 3])
def test_first_question_is_to_the_letter_what_a_run_asks(draws: str, index: int) -> None:
    read = study(question_order="shuffled", draws=draws, preset="code", seed="5")
    prompt = preview(read, cards=CARDS, participant=index)[0]
    first = asked_in_a_run(read, index)[0]
    assert prompt.request == first
    assert (prompt.draws.num_beams, prompt.draws.do_sample) == (first.decoding.num_beams, first.decoding.do_sample)
    assert prompt.memory.startswith("empty: this is the participant's first question")


def test_later_question_is_a_runs_but_for_what_is_remembered() -> None:
    read = study(cultures="[us]", seed="1")
    for index in range(read.participants):
        prompt = preview(read, cards=CARDS, participant=index, question="Q4")[0]
        heard = asked_in_a_run(read, index)[3]
        assert prompt.item == 3
        assert prompt.request == replace(heard, messages=heard.messages[-1:])
        most = min(3, prompt.draws.memory_capacity)
        assert len(heard.messages) == 1 + 2 * most
        told = f"up to {most} earlier answers" if most else "this participant remembers nothing"
        assert told in prompt.memory


@pytest.mark.parametrize(
    ("model", "start", "template", "begun"),
    [
        ("tiny-model", "Answer: ", "the template of the model's own tokenizer", None),
        ("plain-model", "", "no template: the messages are joined as bare text", "\n"),
        ("begun-model", "Answer: ", "no template: the messages are joined as bare text", "\nAnswer: "),
        ("human", "", "a scripted respondent answers without reading the messages", None),
        ("chatml-model", "", "the template chatml is put around the messages", None),
        ("served-model", "", "the messages are given to the server as they are", None),
        ("own-model", "", "the messages are given to the card's own engine as they are", None),
    ],
)
def test_what_the_card_adds(model: str, start: str, template: str, begun: str | None) -> None:
    """The reply's beginning, the template, and the very text that the model continues where no template is used."""
    prompt = preview(replace(study(), models=(model,)), cards=MORE_CARDS)[0]
    assert prompt.reply_start == start
    assert prompt.template.startswith(template)
    assert prompt.text == (None if begun is None else prompt.request.messages[0].content + begun)


def test_condition_first_token_begins_the_reply_whatever_the_card_says() -> None:
    read = study(models="[plain-model]", conditions="[first-token]")
    english, chinese = preview(read, cards=CARDS)
    assert (english.reply_start, chinese.reply_start) == ("Answer: ", "答案：")
    assert english.text == english.request.messages[0].content + "\nAnswer: "
    rule = study(models="[human]", conditions="[first-token]")
    assert preview(rule, cards=CARDS)[0].reply_start == ""


@pytest.mark.parametrize(("model", "start"), [("plain-model", "Answer: "), ("served-model", "")])
def test_a_reply_that_is_held_to_options_is_shown_with_them(model: str, start: str) -> None:
    """It is begun where weights are here, and never within JSON."""
    read = replace(study(reply="choice", cultures="[us]"), models=(model,))
    (prompt,) = preview(read, cards=MORE_CARDS)
    assert prompt.reply_start == start
    assert to_json(prompt)["closed"] == {"options": tuple("1234"), "most": 1, "separator": ", "}
    assert "held to one of 1, 2, 3, 4: no explanation can be written" in printed(read)


@pytest.mark.parametrize(
    ("picked", "told"),
    [
        ({"model": "humam"}, r"model: expected one that the study has \(tiny-model\), got 'humam'"),
        ({"question": "q2"}, r"question: expected .* \(Q1, Q2, Q4\), got 'q2' \(did you mean 'Q2'\?\)"),
        ({"participant": 20}, "participant: expected 0 to 19, got 20"),
    ],
)
def test_what_the_study_does_not_have_is_refused(picked: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        preview(study(), cards=CARDS, **picked)


def test_a_person_reads_the_prompt_and_nothing_in_it_writes_on_the_terminal() -> None:
    """With its draws; square brackets are no markup, signs that a terminal obeys are written out, lines stay lines."""
    question = replace(SURVEY.questions[0], text={"en": "What\nof [bold]\x1b[2Jthis\u202e?", "zh": "如何？"})
    region = replace(SURVEY.culture("us").regions[0], name={"en": "Ohio\x1b[8m"})
    cultures = (replace(SURVEY.culture("us"), regions=(region,)), *SURVEY.cultures[1:])
    survey = replace(SURVEY, questions=(question, *SURVEY.questions[1:]), cultures=cultures)
    text = printed(replace(study(), survey=survey))
    assert "of [bold]⟨U+001B⟩[2Jthis⟨U+202E⟩?" in text
    assert "Ohio⟨U+001B⟩[8m (US-OH)" in text
    assert not {"\x1b", "\u202e"} & set(text)
    for said in ("1: choice 1", "at most 512 new tokens", "assistant, begun for the model", "none: the country alone"):
        assert said in text
    assert "begun for the model" not in printed(study(models="[human]"))
