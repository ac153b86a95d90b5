"""The paraphrases of a survey folder: ``paraphrases.yaml``."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from defsurvey.storage.surveys.problem import Fault, Problems
from defsurvey.storage.surveys.survey import Paraphrase
from defsurvey.storage.surveys.yaml_models import dump_yaml
from defsurvey.storage.surveys.yaml_text import Entry, parse_yaml

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ParaphraseReader:
    """Reads paraphrases against what the survey declares."""

    ids: Collection[str]  #: of all questions
    languages: Sequence[str]
    problems: Problems

    def read(self, root: Entry) -> tuple[Tried, ...]:
        """The well-formed entries in the order of the file; problems go to ``problems``, or raise Fault."""
        keys = root.fields(("paraphrases",), ("prompts",))
        prompts = {name: e.text() for name, e in (keys["prompts"].entries() if "prompts" in keys else {}).items()}
        found: list[Tried] = []
        places: dict[tuple[str, int, str], int] = {}
        for question, entry in keys["paraphrases"].entries().items():
            with self.problems.gathered():
                if question not in self.ids:
                    raise entry.fault("a question of the survey", repr(question))
                for item in entry.items():
                    with self.problems.gathered():
                        found.append(self._tried(question, item.named(f"{question}.paraphrase"), prompts, places))
        return tuple(found)

    def _tried(
        self, question: str, item: Entry, prompts: Mapping[str, str], places: dict[tuple[str, int, str], int]
    ) -> Tried:
        keys = item.fields(("number", "language", "text", "model"), ("prompt", "attempt", "rejected"))
        expected = f"a whole number from 1 to {MOST_PARAPHRASES}"
        number = keys["number"].integer(expected)
        if not 1 <= number <= MOST_PARAPHRASES:
            raise keys["number"].fault(expected)
        language = keys["language"].choice(self.languages)
        rejected = keys["rejected"].text() if "rejected" in keys else ""
        attempt = keys["attempt"].integer("a whole number, 0 or more") if "attempt" in keys else 0
        place = (question, number, language)
        if not rejected and place in places:
            got = f"number {number} in {language} again, first on line {places[place]}"
            raise keys["number"].fault("one paraphrase of a number and language that is not rejected", got)
        if not rejected:
            places[place] = item.line
        text = keys["text"].node.value if rejected and keys["text"].is_text else keys["text"].text()
        return Tried(
            paraphrase=Paraphrase(
                question=question,
                number=number,
                language=language,
                text=str(text),
                model=keys["model"].text(),
                prompt=prompts[keys["prompt"].choice(prompts)] if "prompt" in keys else "",
            ),
            attempt=attempt,
            rejected=rejected,
        )


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
    reader = ParaphraseReader(ids=ids, languages=languages, problems=problems)
    tried = reader.read(parse_yaml(PARAPHRASES_FILE, path.read_text(encoding="utf-8")))
    if problems.found:
        raise Fault(problems.found[0])
    return tried


def write_tried(folder: Path, tried: Sequence[Tried]) -> None:
    """Replace the file of a survey folder, at once."""
    draft = folder / f".{PARAPHRASES_FILE}.{secrets.token_hex(4)}"
    draft.write_text(paraphrases_text(tried), encoding="utf-8", newline="\n")
    draft.replace(folder / PARAPHRASES_FILE)
