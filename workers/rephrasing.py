"""Paraphrases of a survey's questions: asked of an engine, round by round, and checked."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from defsurvey.storage.runs.run import Decoding
from defsurvey.storage.surveys.questions import Tried
from defsurvey.storage.surveys.survey import Paraphrase, Question, Survey
from defsurvey.storage.text import control
from defsurvey.workers.engines.base import Engine, EngineUnavailable, FinishReason, Request, ask_together
from defsurvey.workers.simulation.answer_parser import spoken
from defsurvey.workers.simulation.draws import substream
from defsurvey.workers.simulation.prompts import conversation, fill, of_language, option_text, words

#: Requests under way at once; a process that is killed loses at most so many wordings.
BATCH = 16
#: The likeliest wording first; where that is rejected, others that are not far from it.
_FIRST = Decoding(do_sample=False, max_new_tokens=256)
_AGAIN = Decoding(do_sample=True, temperature=0.7, top_p=0.9, max_new_tokens=256)
_UNFINISHED = {FinishReason.REFUSAL: "the model declined", FinishReason.LENGTH: "it was cut off at the longest reply"}
_QUOTES = ('""', "“”", "''", "‘’", "「」", "«»")
#: How long a wording may be, as a multiple of the question, and how many characters more are always allowed.
SHORTEST, LONGEST, GRACE = 0.5, 2.0, 15
#: At least this share of the letters must be of the question's script.
SAME_SCRIPT = 0.8
#: At least this share of the words must occur somewhere in the survey in that language.
KNOWN_WORDS = 0.2
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
Vocabulary = Mapping[str, Set[str]]  #: language -> the words of a survey in it
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted."""

    survey: Survey
    model: str  #: name of the model's card, kept with every wording
    languages: tuple[str, ...]
    questions: tuple[str, ...]  #: ids in survey order
    count: int  #: paraphrases of each question in each language
    attempts: int  #: how often each may be tried
    seed: int

    def open(self, tried: Sequence[Tried]) -> list[tuple[int, str, str]]:
        """(number, language, question) of every paraphrase that is still missing and may be tried again."""
        done, attempts = {_key(one) for one in tried if not one.rejected}, Counter(map(_key, tried))
        return [
            key
            for number in range(1, self.count + 1)
            for language in self.languages
            for question in self.questions
            if (key := (number, language, question)) not in done and attempts[key] < self.attempts
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came of some requests."""

    tried: tuple[Tried, ...]
    failures: tuple[str, ...]  #: why the engine gave up, one for each wording that was not written


@cache  # one small table for the life of the process
def prompts() -> Mapping[str, str]:
    """Language code -> what a model is asked for another wording with."""
    tables = tomllib.loads(Path(__file__).with_name("rephrasing.toml").read_text(encoding="utf-8"))
    return {language: table["prompt"].strip() for language, table in tables.items()}


def rephrase(order: Order, tried: Sequence[Tried], engine: Engine) -> Iterator[Batch]:
    """Have what is missing written, ``BATCH`` at a time; keep each batch before asking for the next.

    ``tried`` is what was tried before, used or rejected. First attempts are greedy, later ones sampled by own seeds.
    Raises UnknownLanguage, or EngineUnavailable once what had been replied was given back.
    """
    for language in order.languages:
        of_language(prompts(), language, "prompt to rephrase in it")
    known_words, all_tried = vocabulary_of(order.survey), list(tried)
    for number in range(1, order.count + 1):
        for attempt in range(order.attempts):
            attempts = Counter(map(_key, all_tried))
            todo = [key for key in order.open(all_tried) if key[0] == number and attempts[key] == attempt]
            for start in range(0, len(todo), BATCH):
                keys = todo[start : start + BATCH]
                batch, unavailable = _ask(order, keys, attempt, all_tried, engine, known_words)
                all_tried += batch.tried
                yield batch
                if unavailable is not None:
                    raise unavailable


def _ask(
    order: Order,
    keys: Sequence[tuple[int, str, str]],
    attempt: int,
    tried: Sequence[Tried],
    engine: Engine,
    known_words: Vocabulary,
) -> tuple[Batch, EngineUnavailable | None]:
    used = [one.paraphrase for one in tried if not one.rejected]
    asked = []
    for number, language, name in keys:
        question = order.survey.question(name)
        known = [question.text[language], *(p.text for p in used if (p.question, p.language) == (name, language))]
        text = fill(
            prompts()[language],
            QUESTION=question.text[language],
            OPTIONS="\n".join(option_text(question, code, language) for code in question.codes),
            KNOWN="\n".join(known),
        )
        seed = int(substream(order.seed, "rephrase", name, language, number, attempt).integers(2**63))
        decoding = _AGAIN if attempt else _FIRST
        asked.append((known, Request(messages=conversation(text), decoding=decoding, seed=seed)))
    replies, unavailable = ask_together(engine, [request for _, request in asked])
    found: list[Tried] = []
    failures: list[str] = []
    for place, completion in replies:
        number, language, name = keys[place]
        if completion.finish is FinishReason.ERROR:
            failures.append(f"question {name}, {language}, paraphrase {number}: {completion.error}")
            continue
        text, prompt = bare_question(spoken(completion.text)[0]), prompts()[language]
        rejected = _UNFINISHED.get(completion.finish) or fault(
            text, order.survey.question(name), language, vocabulary=known_words, known=asked[place][0]
        )
        written = Paraphrase(
            question=name, number=number, language=language, text=text, model=order.model, prompt=prompt
        )
        found.append(Tried(paraphrase=written, attempt=attempt, rejected=rejected))
    return Batch(tried=tuple(found), failures=tuple(failures)), unavailable


def bare_question(reply: str) -> str:
    """A reply without white space and one pair of quotation marks around it, as it can be kept."""
    text = reply.encode("utf-8", "replace").decode("utf-8").strip()
    if len(text) > 1 and f"{text[0]}{text[-1]}" in _QUOTES:
        text = text[1:-1].strip()
    return text


def _key(one: Tried) -> tuple[int, str, str]:
    return (one.paraphrase.number, one.paraphrase.language, one.paraphrase.question)


def vocabulary_of(survey: Survey) -> Vocabulary:
    """The words of a survey's questions and options."""
    wordings = [each for q in survey.questions for each in (q.text, *(option.label for option in q.options))]
    return {
        language: {word for wording in wordings for word in _words(wording.get(language, ""))}
        for language in survey.languages
    }


def fault(text: str, question: Question, language: str, *, vocabulary: Vocabulary, known: Iterable[str]) -> str:
    """Why a wording cannot stand for a question; empty where nothing speaks against it.

    ``known`` are the wordings that there are already, the question's own among them.
    """
    own = question.text[language]
    if not text:
        return "it is empty"
    if "\n" in text:
        return "it has several lines where the question alone was asked for"
    if sign := control(text):
        return f"it has a control character ({sign}), which no text of a survey may have"
    for marker in (_plain(words(language).answer), _plain(words(language).explanation)):
        if marker in _plain(text):
            return f"it answers ({marker!r}) in place of asking"
    if _bare(text) in {_bare(wording) for wording in known}:
        return "it is a wording that there is already"
    if in_other := _language_fault(text, own, language, vocabulary):
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
    found = _words(text)
    shares = {code: sum(word in known for word in found) / max(1, len(found)) for code, known in vocabulary.items()}
    share = shares.pop(language, 0.0) if found else 1.0
    other = max(shares, key=lambda code: shares[code], default="")
    if other and shares[other] > share:
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
