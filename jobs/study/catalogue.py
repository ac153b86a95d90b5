"""What there is to choose from: surveys and models, as plain values that can be printed or dumped as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defsurvey.jobs.system import BadOutput
from defsurvey.storage.runs.run import Cell, Draws, Participant, Protocol
from defsurvey.storage.surveys.folder import bundled_surveys, find_survey
from defsurvey.storage.surveys.importers.imported import number_notes
from defsurvey.storage.surveys.problem import UnknownName, listed, nearest
from defsurvey.storage.surveys.survey import Group, Question, QuestionType, Survey
from defsurvey.storage.text import visible
from defsurvey.workers.models import SERVER_FIELDS, ModelCard, ModelError, find_card, read_cards
from defsurvey.workers.simulation.answer_parser import unread_labels
from defsurvey.workers.simulation.methods import questionnaire
from defsurvey.workers.simulation.prompts import languages

if TYPE_CHECKING:
    from rich.console import RenderableType

    from defsurvey.workers.engines.opening import Checked

_ASKED = "wvs7"  #: the survey whose first question is put to a model that is checked
_STARTERS = Path(__file__).with_name("starters")
#: What each is for; ``coffee`` is a survey's folder.
STARTERS = {
    "demo.yaml": "a study: what is asked of whom; run it: defsurvey run {path}",
    "coffee": "a survey of your own: questions, and what people answered; check it: defsurvey survey validate {path}",
    "models.toml": "cards of your own models; they are found here by themselves: defsurvey models list",
}
_BAR = 40  #: width of the longest bar, in characters


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
        try:
            return {"survey": survey.id, "question": _whole(survey, survey.question(question))}
        except UnknownName as error:
            known = [] if question in survey.excluded else [one.id for one in survey.questions]
            raise UnknownName(f"{error}{nearest(question, known)}") from None
    counts = Counter(dimension for q in survey.questions for dimension in q.dimensions)
    lines = [{**_line(q), "core": q.core} for q in survey.questions]
    return {**_summary(survey), "dimensions": dict(counts), "lines": lines}


def _line(question: Question) -> dict[str, Any]:
    of = {"topic": question.topic, "dimensions": list(question.dimensions), "text": dict(question.text)}
    return {"id": question.id, "type": question.type.value, **of}


def _whole(survey: Survey, question: Question) -> dict[str, Any]:
    references = {}
    for culture, group in product(survey.cultures, Group):
        if known := survey.reference(question.id, culture.code, group):
            percent = {code: round(100 * share, 2) for code, share in known.shares.items()}
            references[f"{culture.code} {group.value}"] = {"n": known.n, "low_n": known.low_n, "percent": percent}
    return {
        **_line(question),
        "max_choices": question.max_choices,
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
    from rich.console import Group as Lines
    from rich.text import Text

    if "question" in shown:
        return Lines(*_question_parts(shown["question"]))
    rows = [
        (q["id"], q["type"], " ".join(q["dimensions"]), "core" if q["core"] else "", next(iter(q["text"].values())))
        for q in shown["lines"]
    ]
    head = visible(f"{shown['title']} ({shown['questions']} questions, {shown['core']} core)")
    return Lines(Text(head, style="bold"), _table(("id", "type", "dimensions", "core", "question"), rows))


def _question_parts(question: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    for wording in question["text"].values():
        yield Text(visible(f"{question['id']}: {wording}"), style="bold")
    codes = [option["code"] for option in question["options"]]
    for option in question["options"]:
        yield Text(visible(f"  {option['code']:>3}  {' / '.join(option['label'].values())}"))
    rows = []
    for who, reference in question["references"].items():
        shares = [reference["percent"].get(code) for code in codes]
        number = f"{reference['n']:,}{' (few)' if reference['low_n'] else ''}"
        rows.append((who, number, *("" if share is None else f"{share:.1f}%" for share in shares)))
    yield _table(("people", "n", *map(str, codes)), rows, right_from=1)
    if question["paraphrases"]:
        yield Text("paraphrases:")
    for p in question["paraphrases"]:
        yield Text(visible(f"  {p['number']} {p['language']}: {p['text']} ({p['model']})"), style="dim")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right_from: int = 9) -> RenderableType:
    from rich.table import Column, Table
    from rich.text import Text

    columns = [Column(name, justify="right" if place >= right_from else "left") for place, name in enumerate(head)]
    table = Table(*columns, box=None, padding=(0, 2), header_style="dim")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table


def spread(name: str, *, topics: bool, dimensions: bool) -> dict[str, Any]:
    """Counts of a survey's questions by topic, and of its items by value dimension: the paper's Figure 3."""
    survey = find_survey(name)
    questions, items = Counter(question.topic for question in survey.questions), Counter[str]()
    for question in survey.questions:  # it is one item, or each of its options is where it allows several
        carriers = question.options if question.type is QuestionType.MULTIPLE else (question,)
        items.update("" if carrier.value is None else carrier.value.dimension for carrier in carriers)
    asked, measured = questions.total(), items.total()
    counted: dict[str, Any] = {"id": survey.id, "title": survey.title}
    counted |= {"questions": asked, "items": measured, "excluded": len(survey.excluded)}
    if topics:
        counted["topics"] = [{"topic": topic, "questions": n, "share": n / asked} for topic, n in questions.items()]
    if dimensions:
        names = {**survey.dimensions, "": {}}
        counted["dimensions"] = [
            {"dimension": code, "name": dict(name), "items": items[code], "share": items[code] / measured}
            for code, name in names.items()
            if items[code]
        ]
    return counted


def render_spread(shown: Mapping[str, Any]) -> RenderableType:
    """What ``survey show --topics --dimensions`` prints: a bar for each topic and dimension."""
    from rich.console import Group as Lines
    from rich.table import Column, Table
    from rich.text import Text

    left_out = f", {shown['excluded']} excluded" if shown["excluded"] else ""
    head = f"{shown['title']} ({shown['questions']} questions, {shown['items']} items{left_out})"
    parts: list[RenderableType] = [Text(head, style="bold")]
    for title, rows, counted in (
        ("Questions by topic", shown.get("topics"), "questions"),
        ("Items by value dimension", shown.get("dimensions"), "items"),
    ):
        if rows is None:
            continue
        table = Table.grid("", Column(justify="right"), Column(justify="right"), "", padding=(0, 2))
        most = max(row[counted] for row in rows)
        for row in rows:
            label = row["topic"] if "topic" in row else f"{row['dimension']} {next(iter(row['name'].values()), '')}"
            bar = Text("█" * max(1, round(_BAR * row[counted] / most)), style="cyan")
            table.add_row(Text(label.strip() or "no dimension"), str(row[counted]), f"{row['share']:.1%}", bar)
        parts += [Text(title, style="dim"), table]
    return Lines(*parts)


def validation_notes(survey: Survey) -> list[str]:
    """What is worth knowing of a sound survey, one sentence each."""
    return [*survey_notes(survey), *number_notes(survey.questions)]


def survey_notes(survey: Survey) -> list[str]:
    """Of these what no importer says by itself: languages without a prompt, and labels that cannot be read."""
    notes = []
    if without := [language for language in survey.languages if language not in languages()]:
        asked = f"only in {listed(languages())}, and a folder cannot add one (docs/importing.md)"
        notes.append(f"there is no prompt in {listed(without)}, {asked}: a study that asks in it is refused")
    if unread := [question.id for question in survey.questions if any(unread_labels(question))]:
        why = "it has no letter, or differs from another in signs alone"
        so = "a reply of that label without its number is unparsable"
        notes.append(f"a label in {listed(unread)} cannot be read ({why}): {so}")
    return notes


def card_fields(card: ModelCard) -> dict[str, Any]:
    """What ``models show --json`` prints; what is asked of a server stands apart."""
    fields = card.model_dump()
    server = {name: fields.pop(name) for name in SERVER_FIELDS}
    retired = fields.pop("retired")
    path = None if card.path is None else str(card.path)
    return {**fields, "path": path, "api": server if card.hosted else None, "retired": retired}


def card_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """What ``models show`` prints: one field per line, those of ``api`` and ``fallback`` too; none empty."""
    for field, value in card.items():
        if isinstance(value, Mapping) and field in ("api", "fallback"):  # tables within a card
            yield from (f"{field}.{line}" for line in card_lines(value))
        elif isinstance(value, Mapping):
            yield from (visible(f"{field}.{name}: {part}") for name, part in value.items())
        elif value not in (None, "", False, (), []):
            yield visible(f"{field}: {', '.join(value) if isinstance(value, (list, tuple)) else value}")


def template(extra: Path | None, name: str) -> str:
    """A chat template of our own in Jinja, by its name or by that of a model whose card names it."""
    from defsurvey.workers.engines.transformers.core.prompt import own_templates

    known = own_templates()
    named = name if name in known else find_card(name, read_cards(extra)).chat_template
    if named not in known:
        expected = f"expected one of {', '.join(known)} to be printed"
        raise ModelError(f"model {name}: field chat_template: {expected}, got {named}")
    return known[named]


def check(extra: Path | None, name: str, *, cache: Path, weights: bool, device: str) -> Checked:
    """A model loaded as far as is asked for, and the first question of the bundled survey put to it, nothing drawn."""
    from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
    from defsurvey.workers.engines.opening import check_model

    card = find_card(name, read_cards(extra))
    survey = find_survey(_ASKED)
    culture, none = survey.cultures[0].code, BUILT_IN_CONDITIONS["none"]
    language = next((known for known in card.languages if known in survey.languages), survey.languages[0])
    cell = Cell(id=0, model=card.name, culture=culture, condition=none, language=language, participants=1)
    draws = Draws(region=None, num_beams=1, do_sample=False, memory_capacity=0)
    participant = Participant(id=0, index=0, run="check", cell=cell, draws=draws)
    questions = (survey.questions[0].id,)
    asked = questionnaire(participant, survey=survey, questions=questions, protocol=Protocol(seed=0))
    return check_model(card, asked.request(0), survey=survey, cache=cache, weights=weights, device=device)


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


def write_starters(folder: Path) -> Iterator[str]:
    """Write files to start from into a folder, which is made. Yields a line about each; none replaces another."""
    for name in STARTERS:
        if (folder / name).exists():
            raise BadOutput(f"{folder / name} is there already: nothing was written; name another folder")
    for name, about in STARTERS.items():
        source = _STARTERS / name
        for file in sorted(source.iterdir()) if source.is_dir() else [source]:
            target = folder / file.relative_to(_STARTERS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        yield f"{folder / name}: {about.format(path=folder / name)}"
