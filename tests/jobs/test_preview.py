"""One prompt of a study, exactly as the model will be asked."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from defsurvey.jobs.study.preview import preview, render, to_json
from defsurvey.jobs.study.study import Study, StudyError
from defsurvey.storage.runs.run import Cell, Participant, UsedDecoding
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.interview import interview
from defsurvey.workers.simulation.methods import method_of, questionnaire
from tests.jobs.small_study import CARDS, SURVEY, study


class Listener:
    """An engine that keeps what it is asked and answers 1."""

    def __init__(self) -> None:
        self.heard: list[Request] = []

    def submit(self, request: Request) -> Future[Completion]:
        """Keep the request."""
        self.heard.append(request)
        used = UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None)
        done: Future[Completion] = Future()
        done.set_result(Completion(text="Answer: 1: choice 1", finish=FinishReason.STOP, used=used))
        return done

    def describe(self) -> dict[str, str]:
        """Nothing is served."""
        return {}

    def close(self) -> None:
        """Nothing is held."""


def asked_in_a_run(read: Study, index: int) -> list[Request]:
    """What a participant of the study's first cell is really asked with."""
    planned = read.cells()[0]
    cell = Cell(
        id=9,
        model=planned.model,
        culture=planned.culture,
        condition=planned.condition,
        language=planned.language,
        participants=read.participants,
    )
    draws = method_of(planned.condition).draw(read.protocol, planned.condition, SURVEY.culture(planned.culture), index)
    participant = Participant(id=77, index=index, run=read.name, cell=cell, draws=draws)
    engine = Listener()
    steps = interview(
        questionnaire(participant, survey=SURVEY, questions=read.questions, protocol=read.protocol),
        engine=engine,
        recall={},
    )
    assert len(list(steps)) == len(read.questions)
    return engine.heard


def printed(read: Study, **picked: Any) -> str:
    """A preview as it is printed."""
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render(preview(read, cards=CARDS, **picked)))
    return capture.get()


@pytest.mark.parametrize("draws", ["participant", "question"])
@pytest.mark.parametrize("index", [0, 3])
def test_first_question_is_what_a_run_asks(draws: str, index: int) -> None:
    """The first request is to the letter what an interview sends: messages, decoding, seed, options."""
    read = study(question_order="shuffled", draws=draws, preset="code", seed="5")
    prompt = preview(read, cards=CARDS, participant=index)[0]
    first = asked_in_a_run(read, index)[0]
    assert prompt.request == first
    assert (prompt.draws.num_beams, prompt.draws.do_sample) == (first.decoding.num_beams, first.decoding.do_sample)
    assert prompt.memory.startswith("empty: this is the participant's first question")


def test_later_question() -> None:
    """A later request is a run's but for the remembered answers, and it says so."""
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


def test_every_cell_of_a_model() -> None:
    """A preview shows the same participant in every culture, condition and language of one model."""
    read = study(models="[human, tiny-model]", conditions="[def, none]")
    shown = preview(read, cards=CARDS, model="tiny-model")
    assert [prompt.cell for prompt in shown] == [cell for cell in read.cells() if cell.model == "tiny-model"]
    assert {prompt.cell.model for prompt in preview(read, cards=CARDS)} == {"human"}


def test_region() -> None:
    """The region drawn is named in the prompt's language; where none is drawn the country stands alone."""
    with_region, chinese = preview(study(), cards=CARDS)
    assert with_region.region == "Ohio"
    assert "United States, living in Ohio" in with_region.request.messages[0].content
    assert chinese.region is None
    assert "中国" in chinese.request.messages[0].content
    assert "none: the country alone" in printed(study(cultures="[cn]"))


@pytest.mark.parametrize(
    ("model", "start", "template"),
    [
        ("tiny-model", "Answer: ", "the template of the model's own tokenizer"),
        ("plain-model", "", "no template: the messages are joined as bare text"),
        ("human", "", "a scripted respondent answers without reading the messages"),
        ("chatml-model", "", "the template chatml is put around the messages"),
        ("served-model", "", "the messages are given to the server as they are"),
        ("own-model", "", "the messages are given to the card's own engine as they are"),
    ],
)
def test_what_the_card_adds(model: str, start: str, template: str) -> None:
    """The beginning of the reply and the template are what the model's card says."""
    plain = CARDS["plain-model"]
    cards = dict(CARDS) | {
        "chatml-model": plain.model_copy(update={"name": "chatml-model", "chat_template": "chatml"}),
        "served-model": ModelCard(name="served-model", engine="openai", model="m"),
        "own-model": ModelCard(name="own-model", engine="a.package:engine"),
    }
    prompt = preview(replace(study(), models=(model,)), cards=cards)[0]
    assert prompt.reply_start == start
    assert prompt.template.startswith(template)


def test_text_without_a_template() -> None:
    """Where no template is used, the preview tells the very text that the model continues; else it makes none up."""
    bare = dict(CARDS) | {"plain-model": CARDS["plain-model"].model_copy(update={"answer_prefix": True})}
    prompt = preview(study(models="[plain-model]", cultures="[us]"), cards=bare)[0]
    assert prompt.text == prompt.request.messages[0].content + "\nAnswer: "
    assert preview(study(), cards=CARDS)[0].text is None
    assert preview(study(models="[human]"), cards=CARDS)[0].text is None


def test_what_probabilities_are_read_behind() -> None:
    """Condition first-token begins the reply whatever the card says; a rule that reads no prompt has none begun."""
    read = study(models="[plain-model]", cultures="[us, cn]", language="native", conditions="[first-token]")
    english, chinese = preview(read, cards=CARDS)
    assert (english.reply_start, chinese.reply_start) == ("Answer: ", "答案：")
    assert english.text == english.request.messages[0].content + "\nAnswer: "
    assert "assistant, begun for the model" in printed(read)
    read = study(models="[human]", cultures="[us]", conditions="[first-token]")
    assert preview(read, cards=CARDS)[0].reply_start == ""


@pytest.mark.parametrize(
    ("picked", "told"),
    [
        ({"model": "humam"}, r"model: expected one that the study has \(tiny-model\), got 'humam'"),
        ({"question": "Q3"}, r"question: expected one that the study has \(Q1, Q2, Q4\), got 'Q3'"),
        ({"question": "q2"}, r"did you mean 'Q2'\?"),
        ({"participant": 20}, "participant: expected 0 to 19, got 20"),
        ({"participant": -1}, "participant: expected 0 to 19, got -1"),
    ],
)
def test_wrong_choice(picked: dict[str, Any], told: str) -> None:
    """A model, question or participant that the study does not have is refused."""
    with pytest.raises(StudyError, match=told):
        preview(study(), cards=CARDS, **picked)


def test_json() -> None:
    """A program reads the same request."""
    shown = preview(study(), cards=CARDS, participant=2)
    body = json.loads(json.dumps([to_json(prompt) for prompt in shown]))
    first, request = body[0], shown[0].request
    assert [one["culture"] for one in body] == ["us", "cn"]
    assert first["messages"] == [{"role": "user", "content": request.messages[0].content}]
    assert first["decoding"]["num_beams"] == request.decoding.num_beams
    assert first["seed"] == request.seed
    assert first["shown"] == [1, 2, 3, 4]
    assert first["region"] == "US-OH"
    assert first["reply_start"] == "Answer: "


def test_printed() -> None:
    """A person reads the prompt as it is, with its draws; square brackets in it are not taken for markup."""
    question = replace(SURVEY.questions[0], text={"en": "What of [bold]this[/bold]?", "zh": "如何？"})
    survey = replace(SURVEY, questions=(question, *SURVEY.questions[1:]))
    text = printed(replace(study(), survey=survey))
    assert "What of [bold]this[/bold]?" in text
    assert "1: choice 1" in text
    assert "Ohio (US-OH)" in text
    assert "at most 512 new tokens" in text
    assert "assistant, begun for the model" in text
    assert "begun for the model" not in printed(study(models="[human]"))


def test_what_a_survey_says_cannot_write_on_the_terminal() -> None:
    """Signs that a terminal obeys are written out; lines stay lines."""
    question = replace(SURVEY.questions[0], text={"en": "What\nof \x1b[2Jthis\u202e?", "zh": "如何？"})
    read = study()
    region = replace(SURVEY.culture("us").regions[0], name={"en": "Ohio\x1b[8m"})
    cultures = (replace(SURVEY.culture("us"), regions=(region,)), *SURVEY.cultures[1:])
    survey = replace(SURVEY, questions=(question, *SURVEY.questions[1:]), cultures=cultures)
    text = printed(replace(read, survey=survey))
    assert "of ⟨U+001B⟩[2Jthis⟨U+202E⟩?" in text
    assert "Ohio⟨U+001B⟩[8m (US-OH)" in text
    assert not {"\x1b", "\u202e"} & set(text)
