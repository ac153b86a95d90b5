"""What there is to choose from: surveys and models, as plain values that can be printed or dumped as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defsurvey.storage.runs.run import Cell, Draws, Participant, Protocol
from defsurvey.storage.surveys.catalogue import bundled_surveys, find_survey
from defsurvey.storage.surveys.importers.imported import number_notes, told
from defsurvey.storage.surveys.problem import nearest
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, Survey, UnknownName
from defsurvey.storage.visible import visible
from defsurvey.workers.models import ModelCard, ModelError, find_card, read_cards
from defsurvey.workers.simulation.answer_parser import unread_labels
from defsurvey.workers.simulation.prompts import languages

if TYPE_CHECKING:
    from rich.console import RenderableType

    from defsurvey.workers.engines.base import Request
    from defsurvey.workers.engines.checking import Checked

#: The survey whose first question is put to a model that is checked.
_ASKED = "wvs7"
#: Tables within a card.
_NESTED = ("api", "fallback")


def surveys() -> list[dict[str, Any]]:
    """The bundled surveys, one summary each."""
    return [_summary(find_survey(name)) for name in bundled_surveys()]


def _summary(survey: Survey) -> dict[str, Any]:
    return {
        "id": survey.id,
        "title": survey.title,
        "version": survey.version,
        "questions": len(survey.questions),
        "core": sum(question.core for question in survey.questions),
        "languages": list(survey.languages),
        "cultures": [culture.code for culture in survey.cultures],
        "citation": survey.citation,
        "terms": survey.terms,
    }


def show_survey(name: str, question: str | None) -> dict[str, Any]:
    """A survey with a line per question, or one question with what people answered."""
    survey = find_survey(name)
    if question is not None:
        return {"survey": survey.id, "question": _whole(survey, _asked_for(survey, question))}
    lines = [
        {
            "id": q.id,
            "type": q.type.value,
            "topic": q.topic,
            "dimensions": list(q.dimensions),
            "core": q.core,
            "text": dict(q.text),
        }
        for q in survey.questions
    ]
    return {
        **_summary(survey),
        "dimensions": dict(Counter(dimension for q in survey.questions for dimension in q.dimensions)),
        "lines": lines,
    }


def _asked_for(survey: Survey, name: str) -> Question:
    try:
        return survey.question(name)
    except UnknownName as error:
        known = [] if name in survey.excluded else [question.id for question in survey.questions]
        raise UnknownName(f"{error}{nearest(name, known)}") from None


def _whole(survey: Survey, question: Question) -> dict[str, Any]:
    references = {}
    for culture in survey.cultures:
        for group in Group:
            reference = survey.reference(question.id, culture.code, group)
            if reference is not None:
                references[f"{culture.code} {group.value}"] = {
                    "n": reference.n,
                    "low_n": reference.low_n,
                    "percent": {code: round(100 * share, 2) for code, share in reference.shares.items()},
                }
    return {
        "id": question.id,
        "type": question.type.value,
        "topic": question.topic,
        "max_choices": question.max_choices,
        "dimensions": list(question.dimensions),
        "text": dict(question.text),
        "options": [{"code": option.code, "label": dict(option.label)} for option in question.options],
        "paraphrases": [
            {"number": p.number, "language": p.language, "text": p.text, "model": p.model}
            for p in survey.paraphrases
            if p.question == question.id
        ],
        "references": references,
    }


def render_survey(shown: Mapping[str, Any]) -> RenderableType:
    """What ``survey show`` prints on a terminal: a survey's words are no markup, and hide nothing."""
    return _render_question(shown["question"]) if "question" in shown else _render_lines(shown)


def _render_lines(shown: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("id", "type", "dimensions", "core", "question"):
        table.add_column(column)
    for line in shown["lines"]:
        core, wording = "core" if line["core"] else "", next(iter(line["text"].values()))
        row = (line["id"], line["type"], " ".join(line["dimensions"]), core, wording)
        table.add_row(*(Text(visible(part)) for part in row))
    head = visible(f"{shown['title']} ({shown['questions']} questions, {shown['core']} core)")
    return Lines(Text(head, style="bold"), table)


def _render_question(question: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group as Lines
    from rich.table import Table
    from rich.text import Text

    wording = [Text(visible(f"{question['id']}: {text}"), style="bold") for text in question["text"].values()]
    labels = {option["code"]: " / ".join(option["label"].values()) for option in question["options"]}
    options = [Text(f"  {code:>3}  {visible(label)}") for code, label in labels.items()]
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("people", "n", *(str(option["code"]) for option in question["options"])):
        table.add_column(column, justify="left" if column == "people" else "right")
    for who, reference in question["references"].items():
        shares = [reference["percent"].get(option["code"]) for option in question["options"]]
        low = " (few)" if reference["low_n"] else ""
        people = Text(visible(who))
        table.add_row(
            people, f"{reference['n']:,}{low}", *("" if share is None else f"{share:.1f}%" for share in shares)
        )
    others = [
        Text(visible(f"  {p['number']} {p['language']}: {p['text']} ({p['model']})"), style="dim")
        for p in question["paraphrases"]
    ]
    return Lines(*wording, *options, table, *([Text("paraphrases:"), *others] if others else []))


def models(extra: Path | None) -> list[dict[str, Any]]:
    """Every model card."""
    return [_card(card) for card in read_cards(extra).values()]


def model(extra: Path | None, name: str) -> dict[str, Any]:
    """One model's card; raises ``workers.models.UnknownModel``."""
    return _card(find_card(name, read_cards(extra)))


def _card(card: ModelCard) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(card).items()}


def card_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """What ``models show`` prints: one field per line, those of ``api`` and ``fallback`` too; none empty."""
    for field, value in card.items():
        if isinstance(value, Mapping) and field in _NESTED:
            yield from (f"{field}.{line}" for line in card_lines(value))
        elif isinstance(value, Mapping):
            yield from (visible(f"{field}.{name}: {part}") for name, part in value.items())
        elif value not in (None, "", False, (), []):
            yield visible(f"{field}: {', '.join(value) if isinstance(value, (list, tuple)) else value}")


def template(extra: Path | None, name: str) -> str:
    """A chat template of our own in Jinja, by its name or by that of a model whose card names it.

    Raises:
        ModelError: neither a template nor a model is called so, or the model has no template of ours.
    """
    from defsurvey.workers.engines.transformers.templates import TEMPLATES

    named = name if name in TEMPLATES else find_card(name, read_cards(extra)).chat_template
    if named not in TEMPLATES:
        raise ModelError(
            f"model {name}: field chat_template: expected one of {', '.join(TEMPLATES)} to be printed, got {named}"
        )
    return TEMPLATES[named]


def check(extra: Path | None, name: str, *, cache: Path, weights: bool, device: str) -> Checked:
    """A model loaded as far as is asked for, and one prompt of the bundled survey put to it.

    Raises:
        UnknownModel: no card has that name.
        EngineUnavailable: something is missing or cannot be loaded, or the reply ended in an error.
    """
    from defsurvey.workers.engines.checking import check_model

    card = find_card(name, read_cards(extra))
    survey = find_survey(_ASKED)
    language = next((known for known in card.languages if known in survey.languages), survey.languages[0])
    request = _first_request(survey, card.name, language)
    return check_model(card, request, survey=survey, cache=cache, weights=weights, device=device)


def _first_request(survey: Survey, model: str, language: str) -> Request:
    """The survey's first question without an axis of diversity: one beam, no sampling, an empty memory."""
    from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
    from defsurvey.workers.simulation.interview import ask

    cell = Cell(
        id=0,
        model=model,
        culture=survey.cultures[0].code,
        condition=BUILT_IN_CONDITIONS["none"],
        language=language,
        participants=1,
    )
    draws = Draws(region=None, num_beams=1, do_sample=False, memory_capacity=0)
    participant = Participant(id=0, index=0, run="check", cell=cell, draws=draws)
    return ask(participant, 0, survey=survey, questions=(survey.questions[0].id,), protocol=Protocol(seed=0))


def checked_lines(checked: Checked) -> Iterator[str]:
    """What ``models check`` prints; what a model or its server says cannot write on the terminal."""
    yield from (visible(f"{name}: {value}") for name, value in checked.facts.items() if value)
    tokens = "" if checked.prompt_tokens is None else f" ({checked.prompt_tokens} tokens)"
    yield f"prompt{tokens}:"
    yield from (f"    {visible(line)}" for line in checked.prompt.splitlines())
    if checked.reply is not None:
        yield from (visible(f"served {name}: {value}") for name, value in (checked.served or {}).items())
        yield f"reply: {checked.reply!r}"
    if checked.note:
        yield checked.note


#: Width of the longest bar, in characters.
_BAR = 40
#: What items without a value dimension are counted under.
NO_DIMENSION = ""


def spread(name: str, *, topics: bool, dimensions: bool) -> dict[str, Any]:
    """Counts of a survey's questions by topic, and of its items by value dimension.

    An item is a question, or one option of a question that allows several: these have dimensions of their own.

    Args:
        name: a bundled survey or a folder.
        topics: whether to count questions by topic, in the order of the questionnaire.
        dimensions: whether to count items by dimension, in the survey's order; those without one come last.

    Raises:
        SurveyError: there is no such survey, or it is not sound.
    """
    survey = find_survey(name)
    counted: dict[str, Any] = {
        "id": survey.id,
        "title": survey.title,
        "questions": len(survey.questions),
        "items": sum(len(_items(question)) for question in survey.questions),
        "excluded": len(survey.excluded),
    }
    if topics:
        counted["topics"] = [
            {"topic": topic, "questions": number, "share": number / len(survey.questions)}
            for topic, number in Counter(question.topic for question in survey.questions).items()
        ]
    if dimensions:
        counted["dimensions"] = _dimensions(survey, counted["items"])
    return counted


def _dimensions(survey: Survey, items: int) -> list[dict[str, Any]]:
    numbers = Counter(item for question in survey.questions for item in _items(question))
    return [
        {
            "dimension": code,
            "name": dict(survey.dimensions.get(code, {})),
            "items": numbers[code],
            "share": numbers[code] / items,
        }
        for code in (*survey.dimensions, NO_DIMENSION)
        if numbers[code]
    ]


def _items(question: Question) -> list[str]:
    """The dimension of each item of a question."""
    if question.type is QuestionType.MULTIPLE:
        return [option.value.dimension if option.value is not None else NO_DIMENSION for option in question.options]
    return [question.value.dimension if question.value is not None else NO_DIMENSION]


def render_spread(counted: Mapping[str, Any]) -> RenderableType:
    """What ``survey show --topics --dimensions`` prints: a bar for each topic and dimension."""
    from rich.console import Group
    from rich.text import Text

    left_out = f", {counted['excluded']} excluded" if counted["excluded"] else ""
    parts: list[RenderableType] = [
        Text(f"{counted['title']} ({counted['questions']} questions, {counted['items']} items{left_out})", style="bold")
    ]
    if "topics" in counted:
        parts += [Text("Questions by topic", style="dim"), _bars(counted["topics"], "topic", "questions")]
    if "dimensions" in counted:
        rows = [{**row, "label": _label(row["dimension"], row["name"])} for row in counted["dimensions"]]
        parts += [Text("Items by value dimension", style="dim"), _bars(rows, "label", "items")]
    return Group(*parts)


def _label(code: str, name: Mapping[str, str]) -> str:
    return f"{code} {next(iter(name.values()), '')}".strip() or "no dimension"


def _bars(rows: list[dict[str, Any]], label: str, count: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    most = max(row[count] for row in rows)
    for row in rows:
        bar = "█" * max(1, round(_BAR * row[count] / most))
        table.add_row(Text(row[label]), str(row[count]), f"{row['share']:.1%}", Text(bar, style="cyan"))
    return table


def validation_notes(survey: Survey) -> list[str]:
    """All that is told of a survey when it is checked, one sentence each."""
    return [*survey_notes(survey), *number_notes(survey.questions)]


def survey_notes(survey: Survey) -> list[str]:
    """What the importers, which know neither prompts nor reading, do not tell themselves."""
    return [*_prompt_notes(survey), *_label_notes(survey.questions)]


def _prompt_notes(survey: Survey) -> list[str]:
    without = [language for language in survey.languages if language not in languages()]
    if not without:
        return []
    asked = f"only in {told(languages())}, and a folder cannot add one (docs/importing.md)"
    return [f"there is no prompt in {told(without)}, {asked}: a study that asks in it is refused"]


def _label_notes(questions: Iterable[Question]) -> list[str]:
    unread = [question.id for question in questions if any(unread_labels(question))]
    if not unread:
        return []
    why = "it has no letter, or differs from another in signs alone"
    return [f"a label in {told(unread)} cannot be read ({why}): a reply of that label without its number is unparsable"]
