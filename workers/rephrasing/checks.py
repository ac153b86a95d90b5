"""Whether another wording of a question can stand for it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from defsurvey.storage.surveys.survey import Question, Survey
from defsurvey.storage.text import control
from defsurvey.workers.simulation.prompts import words

#: How long a wording may be, as a multiple of the question, and how many characters more are always allowed.
SHORTEST, LONGEST, GRACE = 0.5, 2.0, 15
#: At least this share of the letters must be of the question's script.
SAME_SCRIPT = 0.8
#: At least this share of the words must occur somewhere in the survey in that language.
KNOWN_WORDS = 0.2
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words of a survey's questions and options, by language."""

    words: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, survey: Survey) -> Vocabulary:
        """The vocabulary of a survey."""
        found: dict[str, set[str]] = {language: set() for language in survey.languages}
        for question in survey.questions:
            for wording in (question.text, *(option.label for option in question.options)):
                for language, text in wording.items():
                    found.setdefault(language, set()).update(_words(text))
        return cls({language: frozenset(known) for language, known in found.items()})

    def share(self, text: str, language: str) -> float:
        """The share of a text's words that are known in a language, in [0, 1]; 1 for a text without words."""
        told = _words(text)
        return sum(word in self.words.get(language, ()) for word in told) / len(told) if told else 1.0


def fault(text: str, question: Question, language: str, *, vocabulary: Vocabulary, known: Iterable[str]) -> str:
    """Why a wording cannot stand for a question; empty where nothing speaks against it.

    Args:
        text: the wording.
        question: what it is a paraphrase of.
        language: of the wording.
        vocabulary: of the survey.
        known: the wordings that there are already, the question's own among them.
    """
    own = question.text[language]
    if not text:
        return "it is empty"
    if "\n" in text:
        return "it has several lines where the question alone was asked for"
    if sign := control(text):
        return f"it has a control character ({sign}), which no text of a survey may have"
    marker = next((mark for mark in _markers(language) if mark in _plain(text)), None)
    if marker is not None:
        return f"it answers ({marker!r}) in place of asking"
    if _bare(text) in {_bare(wording) for wording in known}:
        return "it is a wording that there is already"
    in_other = _language_fault(text, own, language, vocabulary)
    if in_other:
        return in_other
    shortest, longest = len(own) * SHORTEST, len(own) * LONGEST + GRACE
    if not shortest <= len(text) <= longest:
        return f"it has {len(text)} characters, and the question {len(own)}"
    return _options_fault(text, own, question, language)


def _language_fault(text: str, own: str, language: str, vocabulary: Vocabulary) -> str:
    script, of_own = _script(own)
    _, same = _script(text, script)
    if same < min(SAME_SCRIPT, of_own):
        return f"{same:.0%} of its letters are {script.capitalize()}, the script of the question in {language}"
    if script in _UNSPACED:
        return ""
    share = vocabulary.share(text, language)
    other = max(
        (code for code in vocabulary.words if code != language), key=lambda c: vocabulary.share(text, c), default=""
    )
    if other and vocabulary.share(text, other) > share:
        return f"it is worded in {other} rather than {language}"
    if share < KNOWN_WORDS:
        return f"{share:.0%} of its words occur in the survey in {language}: it seems to be in another language"
    return ""


def _options_fault(text: str, own: str, question: Question, language: str) -> str:
    before, now = _named(own, question, language), _named(text, question, language)
    leaked = [label for label in now if label not in before]
    if leaked:
        return f"it names the answer {leaked[0]!r}, which the question does not"
    lost = [label for label in before if label not in now]
    if now and lost:
        return f"it names the answer {now[0]!r} without {lost[0]!r}"
    numbers, wanted = (Counter(re.findall(r"\d+", _plain(wording))) for wording in (text, own))
    if numbers != wanted:
        odd = next(iter((numbers - wanted) or (wanted - numbers)))
        return f"the number {odd} is in one of the two wordings alone"
    return ""


def _named(text: str, question: Question, language: str) -> list[str]:
    """Labels of options that a text names, longest first; a label within a longer one that is named does not count."""
    left, found = _plain(text), []
    labels = {option.label[language] for option in question.options if not option.residual}
    for label in sorted(labels, key=lambda label: (-len(label), label)):
        plain = _plain(label)
        if plain.isdecimal():
            continue
        pattern = re.escape(plain)
        if _script(plain)[0] not in _UNSPACED:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        if re.search(pattern, left):
            found.append(label)
            left = re.sub(pattern, "|", left)
    return found


def _markers(language: str) -> tuple[str, ...]:
    table = words(language)
    return tuple(_plain(marker) for marker in (table.answer, table.explanation))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bare(text: str) -> str:
    """Letters and digits alone: what is left of a wording without its punctuation."""
    return "".join(character for character in _plain(text) if character.isalnum())


def _words(text: str) -> list[str]:
    return _WORD.findall(_plain(text))


def _script(text: str, script: str = "") -> tuple[str, float]:
    """A script (the commonest where none is named) and its share of the letters; 1 where there are none."""
    scripts = Counter(unicodedata.name(c, "?").partition(" ")[0] for c in text if c.isalpha())
    if not scripts:
        return script, 1.0
    named = script or scripts.most_common(1)[0][0]
    return named, scripts[named] / scripts.total()
