"""Every bundled card that loads weights, end to end with a tiny random model of its architecture."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from defsurvey.storage.runs.run import Cell, Condition, Draws, Participant, Protocol
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, FinishReason, Message, Request
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.engines.transformers.core.prompt import render_prompt
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.models import ModelCard, find_card, read_cards
from defsurvey.workers.simulation.methods import questionnaire
from tests.workers.citizens import SURVEY
from tests.workers.engine.scripted_logits import generated
from tests.workers.families.tiny_families import FAMILIES, write_family

CONDITION = Condition(name="none", prompt=False, config=False, memory=False, option_order=False)
TURNS = (
    Message(role="user", content="Hi."),
    Message(role="assistant", content="Hello."),
    Message(role="user", content="And?"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A family's card, its model behind an engine, and the same weights in the library's own hands."""

    name: str
    card: ModelCard
    engine: Engine
    model: Any
    tokenizer: Any


@pytest.fixture(scope="module", params=FAMILIES)
def opened(
    request: pytest.FixtureRequest, one_thread: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    """The bundled card with a tiny model's path in place of the hub's; 4 bits need a GPU, so here they are 32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name: str = request.param
    folder = write_family(tmp_path_factory.mktemp(name), FAMILIES[name])
    bundled = find_card(name, read_cards())
    card = bundled.model_copy(update={"hub": None, "path": folder, "dtype": "float32", "quantisation": "none"})
    model: Any = AutoModelForCausalLM
    engine = open_engine(card, survey=SURVEY, cache=folder, threads=1)
    yield Opened(
        name=name,
        card=card,
        engine=engine,
        model=model.from_pretrained(folder, dtype="float32").eval(),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )
    engine.close()


def interview_request(survey: Survey, card: ModelCard) -> Request:
    """The first question of an interview, greedy, forty tokens at most."""
    cell = Cell(id=0, model=card.name, culture="us", condition=CONDITION, language="en", participants=1)
    draws = Draws(region=None, num_beams=1, do_sample=False, memory_capacity=0)
    who = Participant(id=0, index=0, run="r", cell=cell, draws=draws)
    protocol = Protocol(seed=5, max_new_tokens=40)
    return questionnaire(who, survey=survey, questions=(survey.questions[0].id,), protocol=protocol).request(0)


def rendered(opened: Opened, request: Request) -> str:
    card = opened.card
    options = card.template_options
    return render_prompt(
        opened.tokenizer, card.chat_template, request, answer_prefix=card.answer_prefix, options=options
    )


def test_a_conversation_is_rendered_as_the_model_was_trained(opened: Opened) -> None:
    request = replace(interview_request(SURVEY, opened.card), messages=TURNS)
    assert rendered(opened, request) == FAMILIES[opened.name].prompt


def test_an_interview_is_answered_as_by_the_library_alone(opened: Opened) -> None:
    assert opened.engine.describe()["batching"] == "continuous"
    asked = interview_request(SURVEY, opened.card)
    neighbour = opened.engine.submit(replace(asked, messages=TURNS))
    completion = opened.engine.submit(asked).result(timeout=60)
    assert neighbour.result(timeout=60).finish is not FinishReason.ERROR
    text = rendered(opened, asked)
    written = text.startswith(FAMILIES[opened.name].begin or "no token")
    ids = opened.tokenizer(text, add_special_tokens=not written)["input_ids"]
    ends = {opened.tokenizer.eos_token_id, *opened.tokenizer.convert_tokens_to_ids(list(opened.card.ends))}
    resolved = ResolvedRequest(prompt=tuple(ids), max_new_tokens=40, ends=tuple(sorted(ends)))
    reply = generated(opened.model, resolved)
    begun = asked.reply_start if opened.card.answer_prefix else ""
    assert completion.text == begun + opened.tokenizer.decode(reply, skip_special_tokens=True)
    assert (completion.prompt_tokens, completion.completion_tokens) == (len(ids), len(reply))


def test_every_card_with_weights_has_a_family_here() -> None:
    loaded = {name for name, card in read_cards().items() if card.engine == "transformers"}
    assert loaded == {*FAMILIES, "smollm2-135m-instruct"}
