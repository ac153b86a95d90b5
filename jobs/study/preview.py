"""One prompt of a study, exactly as the model will be asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from defsurvey.jobs.study.study import Study, StudyError
from defsurvey.storage.runs.run import Cell, Draws, DrawsPer, Participant
from defsurvey.storage.surveys.problem import nearest, one_of
from defsurvey.storage.text import visible
from defsurvey.workers.engines.base import Request
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.methods import method_of, questionnaire

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request of a study."""

    cell: Cell
    participant: int  #: index within the cell
    item: int  #: position of the question in the participant's own order
    question: str
    draws: Draws
    region: str | None  #: name of the drawn region in the prompt's language
    request: Request
    reply_start: str  #: what the model's reply is begun with; empty where it is not
    template: str  #: how the messages become text, in words
    text: str | None  #: the very text that the model continues; None where its tokenizer would be needed
    memory: str  #: what is remembered when it is asked, in words
    steps: str  #: what is asked after it before there is an answer, in words; empty where nothing is


def preview(
    study: Study,
    *,
    cards: Mapping[str, ModelCard],
    model: str | None = None,
    participant: int = 0,
    question: str | None = None,
) -> list[Prompt]:
    """The same participant's request in every cell of one model; by default of the first, about its first question."""
    model = study.models[0] if model is None else model
    if not 0 <= participant < study.participants:
        raise StudyError(f"participant: expected 0 to {study.participants - 1}, got {participant}")
    if question is not None and question in study.survey.excluded:
        got = f"{question!r}, excluded because: {study.survey.excluded[question]}"
        raise StudyError(f"question: expected one that is not excluded, got {got}")
    for what, name, known in (("model", model, study.models), ("question", question, study.questions)):
        if name is not None and name not in known:
            got = f"{name!r}{nearest(name, known)}"
            raise StudyError(f"{what}: expected one that the study has ({one_of(known)}), got {got}")
    return [_prompt(study, cell, cards[model], participant, question) for cell in study.cells() if cell.model == model]


def _prompt(study: Study, cell: Cell, card: ModelCard, index: int, question: str | None) -> Prompt:
    from defsurvey.workers.engines.transformers.core.prompt import render_prompt

    method = method_of(cell.condition)
    index = min(index, cell.participants - 1)  # a panel has one participant alone
    order = method.order(study.protocol, index, study.questions)
    item = 0 if question is None else order.index(question)
    culture = study.survey.culture(cell.culture)
    asked_about = order[item] if study.protocol.draws is DrawsPer.QUESTION else None
    most = study.survey.most_paraphrases
    draws = method.draw(study.protocol, cell.condition, culture, index, asked_about, paraphrases=most)
    participant = Participant(id=0, index=index, run=study.name, cell=cell, draws=draws)
    asked = questionnaire(participant, survey=study.survey, questions=study.questions, protocol=study.protocol)
    request = asked.request(item)
    # where probabilities are read the reply is begun, whatever the card says
    begun = card.answer_prefix or (bool(request.choices) and card.capabilities.weights)
    if request.closed is not None:  # so it is where a reply is held to options, but within JSON there is no beginning
        begun = card.capabilities.weights or (card.answer_prefix and card.structured != "json_schema")
    bare = card.capabilities.weights and card.chat_template == "none"
    return Prompt(
        cell=cell,
        participant=index,
        item=item,
        question=order[item],
        draws=draws,
        region=None if draws.region is None else culture.region(draws.region).name[cell.language],
        request=request,
        reply_start=request.reply_start if begun else "",
        template=_template(card),
        text=render_prompt(None, card.chat_template, request, answer_prefix=begun) if bare else None,
        memory=_memory(item, draws.memory_capacity),
        steps=method.steps,
    )


def _template(card: ModelCard) -> str:
    if not card.capabilities.reads_prompts:
        return "a scripted respondent answers without reading the messages"
    if not card.capabilities.weights:
        behind = "the server" if card.hosted else "the card's own engine"
        return f"the messages are given to {behind} as they are"
    if card.chat_template == "tokenizer":
        return "the template of the model's own tokenizer is put around the messages"
    if card.chat_template == "none":
        return "no template: the messages are joined as bare text"
    return f"the template {card.chat_template} is put around the messages"


def _memory(item: int, capacity: int) -> str:
    if item == 0:
        return "empty: this is the participant's first question"
    if capacity == 0:
        return "empty: this participant remembers nothing"
    most = min(item, capacity)
    return f"shown empty; in a run up to {most} earlier answers stand before it, and they depend on the run"


def to_json(prompt: Prompt) -> dict[str, object]:
    """A prompt for a program to read."""
    request = prompt.request
    return {
        **prompt.cell.names,
        "participant": prompt.participant,
        "item": prompt.item,
        "question": prompt.question,
        "shown": list(request.asked.shown) if request.asked is not None else [],
        "region": prompt.draws.region,
        "memory_capacity": prompt.draws.memory_capacity,
        "memory": prompt.memory,
        "steps": prompt.steps,
        "decoding": asdict(request.decoding),
        "closed": request.closed and asdict(request.closed),
        "seed": request.seed,
        "messages": [asdict(message) for message in request.messages],
        "reply_start": prompt.reply_start,
        "template": prompt.template,
        "text": prompt.text,
    }


def render(prompts: Iterable[Prompt]) -> RenderableType:
    """Prompts for a person to read: never taken for markup, and invisible signs of a survey are written out."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for prompt in prompts:
        asked = f"participant {prompt.participant}, question {prompt.question}"
        parts.append(Text(visible(f"{', '.join(prompt.cell.names.values())}: {asked}"), style="bold"))
        facts = Table.grid(padding=(0, 2))
        for label, fact in _facts(prompt):
            facts.add_row(Text(label), Text(visible(fact)))
        parts.append(facts)
        said: list[tuple[str, str]] = [(message.role, visible(message.content)) for message in prompt.request.messages]
        said += [("assistant, begun for the model", prompt.reply_start)] if prompt.reply_start else []
        parts += [Panel(Text(words), title=who, title_align="left") for who, words in said]
    return Group(*parts)


def _facts(prompt: Prompt) -> Iterable[tuple[str, str]]:
    decoding = prompt.request.decoding
    yield "region", "none: the country alone" if prompt.region is None else f"{prompt.region} ({prompt.draws.region})"
    yield "memory", f"capacity {prompt.draws.memory_capacity}, {prompt.memory}"
    sampling = f"sampled at temperature {decoding.temperature:g}, top_p {decoding.top_p:g}"
    sampling += f", top_k {decoding.top_k}" if decoding.top_k else ""
    beams = f"{decoding.num_beams} beam{'s' if decoding.num_beams > 1 else ''}"
    how = sampling if decoding.do_sample else "not sampled"
    yield "decoding", f"{beams}, {how}, at most {decoding.max_new_tokens} new tokens"
    if prompt.steps:
        yield "steps", prompt.steps
    if (closed := prompt.request.closed) is not None:
        number = "one" if closed.most == 1 else f"1 to {closed.most}"
        yield "reply", f"held to {number} of {', '.join(closed.options)}: no explanation can be written"
    yield "seed", str(prompt.request.seed)
    yield "template", prompt.template
