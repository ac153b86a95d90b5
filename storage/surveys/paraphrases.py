"""The paraphrases of a survey folder: ``paraphrases.yaml``."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from defsurvey.storage.surveys.problem import Fault, Problems
from defsurvey.storage.surveys.questions import Declared, declared_as
from defsurvey.storage.surveys.survey import Paraphrase
from defsurvey.storage.surveys.yaml_models import Text, Whole, YamlFile, YamlModel, check_text, dump_yaml

#: Paraphrases of the questions, beside the questions: a survey has those that were not rejected.
PARAPHRASES_FILE = "paraphrases.yaml"
#: A paraphrase has a number of at most two digits.
MOST_PARAPHRASES = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A wording as it was written, and whether it is used."""

    paraphrase: Paraphrase
    attempt: int = 0  #: which attempt at this number it was, counted from 0
    rejected: str = ""  #: why it is not used; empty: it is


def _text(written: object, info: ValidationInfo) -> str:
    """A wording that was rejected may be anything."""
    return str(written or "") if info.data.get("rejected") else check_text(written)


class _ParaphraseModel(YamlModel):
    number: Annotated[Whole, Field(ge=1, le=MOST_PARAPHRASES)]
    language: Annotated[Text, declared_as("languages")]
    rejected: Text = ""
    text: Annotated[str, BeforeValidator(_text)]
    model: Text
    prompt: Annotated[Text, declared_as("prompts")] = ""
    attempt: Annotated[Whole, Field(ge=0)] = 0


class _ParaphrasesModel(YamlModel):
    """``paraphrases.yaml``, whose entries are read one by one."""

    prompts: dict[str, Text] = Field(default_factory=dict)
    paraphrases: dict[str, list[Any]]


def read_paraphrases(text: str, declared: Declared, problems: Problems) -> tuple[Tried, ...]:
    """The well-formed entries in the order of the file; problems go to ``problems``, or raise Fault."""
    written = YamlFile(PARAPHRASES_FILE, text)
    top = written.read(_ParaphrasesModel)
    declared.prompts = top.prompts
    found: list[Tried] = []
    lines: dict[tuple[str, int, str], int] = {}
    for question, place in (
        (name, place) for name, entries in top.paraphrases.items() for place in range(len(entries))
    ):
        at = ("paraphrases", question, place)
        with problems.gathered():
            if question not in declared.ids:
                raise written.fault(("paraphrases", question), "a question of the survey", repr(question))
            one = written.read(_ParaphraseModel, at=at, called=f"{question}.paraphrase", context=declared)
            line = written.line(at)
            first = line if one.rejected else lines.setdefault((question, one.number, one.language), line)
            if first != line:
                expected = "one paraphrase of a number and language that is not rejected"
                got = f"number {one.number} in {one.language} again, first on line {first}"
                raise written.fault((*at, "number"), expected, got)
            paraphrase = Paraphrase(
                question=question,
                number=one.number,
                language=one.language,
                text=one.text,
                model=one.model,
                prompt=declared.prompts.get(one.prompt, ""),
            )
            found.append(Tried(paraphrase=paraphrase, attempt=one.attempt, rejected=one.rejected))
    return tuple(found)


def used(tried: Iterable[Tried], *, without: Collection[str] = ()) -> tuple[Paraphrase, ...]:
    """Those that were not rejected, sorted, but for those of some questions."""
    kept = [one.paraphrase for one in tried if not one.rejected and one.paraphrase.question not in without]
    return tuple(sorted(kept, key=lambda p: (p.question, p.number, p.language)))


def paraphrases_text(tried: Sequence[Tried]) -> str:
    """The file that holds these wordings."""
    prompts = {text: f"prompt-{n}" for n, text in enumerate(dict.fromkeys(t.paraphrase.prompt for t in tried), 1)}
    prompts.pop("", None)
    questions: dict[str, list[dict[str, object]]] = {}
    for one in tried:
        entry: dict[str, object] = {
            "number": one.paraphrase.number,
            "language": one.paraphrase.language,
            "text": one.paraphrase.text,
            "model": one.paraphrase.model,
            "prompt": prompts.get(one.paraphrase.prompt, ""),
            "attempt": one.attempt,
            "rejected": one.rejected,
        }
        kept = {key: value for key, value in entry.items() if value or key == "text"}
        questions.setdefault(one.paraphrase.question, []).append(kept)
    named = {"prompts": {name: text for text, name in prompts.items()}} if prompts else {}
    return dump_yaml({**named, "paraphrases": questions})


def read_tried(folder: Path, *, ids: Collection[str], languages: Sequence[str]) -> tuple[Tried, ...]:
    """All that was tried in a survey folder; empty where there is no such file.

    Raises:
        Fault: the file is not as it should be.
    """
    path, problems = folder / PARAPHRASES_FILE, Problems()
    if not path.is_file():
        return ()
    declared = Declared(ids=dict.fromkeys(ids, 0), languages=languages)
    tried = read_paraphrases(path.read_text(encoding="utf-8"), declared, problems)
    if problems.found:
        raise Fault(*problems.found)
    return tried


def write_tried(folder: Path, tried: Sequence[Tried]) -> None:
    """Replace the file of a survey folder, at once."""
    draft = folder / f".{PARAPHRASES_FILE}.{secrets.token_hex(4)}"
    draft.write_text(paraphrases_text(tried), encoding="utf-8", newline="\n")
    draft.replace(folder / PARAPHRASES_FILE)
