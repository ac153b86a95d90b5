"""The words by which completions are read, as compiled patterns.

Knows ``reading.toml`` and how words of languages with and without spaces between them
are found in a text. Deliberately knows nothing of questions: that is
``workers.simulation.mentions``.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from storage.storable import NUL_SIGN

#: Characters that only decorate: Markdown, zero-width and directional marks.
_DECORATION = dict.fromkeys(map(ord, "*`#_\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), ord(NUL_SIGN)), " ")
#: Brackets around an answer, as their usual counterparts.
_BRACKETS = str.maketrans("【】「」『』《》〈〉’‘", "()()()()()''")
_DROPPED = {**_CONTROL, **_DECORATION, 9: " ", 13: "\n"}
#: Letters of scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, kana, Chinese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
#: Letters that are neither Latin nor Chinese.
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u036f\u1e00-\u1eff\u2e80-\u3040\u3100-\u312f\u3190-\ua4cf\uf900-\U0003ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """Patterns over cleaned, folded text (see ``clean`` and ``fold``), all languages together."""

    marker: re.Pattern[str]  #: groups ``answer``, ``explanation``, ``turn``: what opens a section
    cue: re.Pattern[str]  #: ends a text after which a number is a choice
    preamble: re.Pattern[str]  #: a whole text that may stand before a choice
    connector: re.Pattern[str]  #: a whole text that joins two choices
    after: re.Pattern[str]  #: begins a text before which a number is a choice, not a quantity
    degree_before: re.Pattern[str]  #: ends a text: the label that follows is modified
    degree_start: re.Pattern[str]  #: begins a label that has a degree of its own
    degree_after: re.Pattern[str]  #: begins a text: the label before it is modified
    negation: re.Pattern[str]
    clause: re.Pattern[str]  #: separates clauses
    reason: re.Pattern[str]  #: begins a text that explains rather than lists
    opening: re.Pattern[str]  #: begins a text that opens a sentence rather than lists
    numerals: Mapping[str, int]
    ordinals: Mapping[str, int]
    synonyms: Mapping[str, Sequence[str]]  #: a whole label -> other words for it
    degrees: frozenset[str]
    denied_after: re.Pattern[str]  #: begins a text: the label before it is denied
    refusal: re.Pattern[str]
    declining: re.Pattern[str]  #: refuses where it is given as the answer, and may be said of much else
    failure: re.Pattern[str]  #: begins a message about a failed request
    denied_before: re.Pattern[str]  #: ends a text: the label that follows is denied, or only almost true
    changed_after: re.Pattern[str]  #: begins a text: the label before it is part of other words
    excluding: re.Pattern[str]  #: what a clause names behind this is left out, and what is joined to it
    all_but: re.Pattern[str]  #: whatever a sentence names behind this is left out
    languages: frozenset[str]  #: whose denials are known


def clean(text: str) -> str:
    """The text without control characters and Markdown, its white space collapsed; case and width stay."""
    plain = re.sub(r"[ \u00a0\u3000]+", " ", text.replace("\r\n", "\n").translate(_DROPPED))
    return re.sub(r" ?\n ?", "\n", plain).strip()


def fold(text: str) -> str:
    """The text in one width, one case, and one kind of brackets and apostrophes, for comparison."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_BRACKETS)


@cache  # one small set of patterns for the life of the process
def lexicon() -> Lexicon:
    """The patterns of ``reading.toml``."""
    tables = tomllib.loads(Path(__file__).with_name("reading.toml").read_text(encoding="utf-8"))
    failure = tables.pop("failure")

    def merged(key: str) -> str:
        return _alternatives(word for table in tables.values() for word in table[key])

    def ordered(key: str) -> list[str]:
        return [fold(word) for table in tables.values() for word in table[key]]

    def any_of(key: str) -> str:
        return "|".join(f"(?:{pattern})" for table in tables.values() for pattern in table[key])

    punctuation = r"""[\s,;/&+\-–—~•·"'“”()\[\]<>{}=:、。.]"""
    return Lexicon(
        marker=re.compile(
            rf"(?P<answer>{merged('answer')}[\"'”’)\]』】]{{0,3}} ?(?:is|是|为)? ?[:：=]|{merged('answer_is')}"
            rf"|^{merged('answer')} ?[-–]? ?(?=[\d(]))"
            rf"|(?P<explanation>{merged('explanation')}[\"'”’)\]』】]{{0,3}} ?[:：])"
            rf"|^(?P<turn>[<\[(|]{{0,3}}{merged('turn')}[>\])|]{{0,3}} ?\d{{0,3}} ?[:：])",
            re.IGNORECASE | re.MULTILINE,
        ),
        cue=re.compile(rf"{merged('cue')}[\s\"'“:(\[]{{0,3}}$"),
        preamble=re.compile(rf"(?:{punctuation}|{merged('preamble')})*+$"),
        connector=re.compile(rf"(?:[\s,;/&+\-–—~•·\"'“”()\[\]:、]|{merged('connector')})*+$"),
        # what ends its line counts nothing: "3", and an explanation below it
        after=re.compile(rf" ?\n|\s*(?:$|(?!%|-[a-z]|'s|\.\d)[^\w\s]|{merged('after')})"),
        degree_before=re.compile(rf"{merged('degree')} ?$|[不没沒非未]$"),
        degree_start=re.compile(merged("degree")),
        degree_after=re.compile(rf" ?(?:{_alternatives(w for w in ordered('degree') if w.isascii())})"),
        negation=re.compile(merged("negation")),
        clause=re.compile(rf"[.!?;,:\n。！？；，、：()]|{merged('clause')}"),
        opening=re.compile(merged("opening")),
        reason=re.compile(rf"\s*(?:$|{merged('reason')})"),
        numerals={word: value for table in tables.values() for word, value in table["numeral"].items()},
        ordinals={word: value for table in tables.values() for word, value in table["ordinal"].items()},
        synonyms={word: others for table in tables.values() for word, others in table["synonym"].items()},
        degrees=frozenset(ordered("degree")),
        denied_after=re.compile(any_of("denied_after")),
        refusal=re.compile(any_of("refusal")),
        declining=re.compile(any_of("declining")),
        failure=re.compile(r"\W{0,3}(?:" + "|".join(f"(?:{pattern})" for pattern in failure) + ")"),
        denied_before=re.compile(rf"(?:{any_of('denied_before')})$"),
        changed_after=re.compile(any_of("changed_after")),
        excluding=re.compile(merged("excluding")),
        all_but=re.compile(merged("all_but")),
        languages=frozenset(tables),
    )


def _alternatives(words: Iterable[str]) -> str:
    """A group that matches any of the words, the longest first; words in Latin letters as whole words."""
    longest_first = sorted({fold(word) for word in words}, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(whole_word(re.escape(word), word) for word in longest_first)})"


def whole_word(pattern: str, word: str) -> str:
    """The pattern, not to be found inside a longer word where ``word`` is in letters that need spaces."""
    letter = "[a-z0-9\u00c0-\u024f]" if is_latin(word) else rf"[^\W_{_UNSPACED}]"
    mark = "" if is_latin(word) else f"[{marks(word)}]"
    before = f"(?<!{letter})" + (f"(?<!{mark})" if mark else "") if is_spaced(word[0]) else ""
    after = f"(?!{letter})" + (f"(?!{mark})" if mark else "") if is_spaced(word[-1]) else ""
    return f"{before}{pattern}{after}"


def is_latin(word: str) -> bool:
    """Whether a word has Latin letters alone; the words of most surveys do, and their patterns are simpler."""
    return all(letter < "\u0250" for letter in word)


def is_spaced(letter: str) -> bool:
    """Whether a character belongs to words with blanks between them; a vowel sign does as well as its letter."""
    return letter.isalnum() if letter < "\u0250" else _spaced().match(letter) is not None


@cache
def _spaced() -> re.Pattern[str]:
    return re.compile(rf"[^\W_{_UNSPACED}]|[{all_marks()}]")


def marks(word: str) -> str:
    """Those signs that the script of a word has: all of them in each pattern would take it long to be compiled."""
    blocks = frozenset({0x300 >> 7, *(ord(letter) >> 7 for letter in word)})
    return _marks_of(blocks)


@cache
def _marks_of(blocks: frozenset[int]) -> str:
    return "".join(sign for sign in all_marks() if ord(sign) >> 7 in blocks)


@cache
def all_marks() -> str:
    """Signs that are written upon or beside a letter, such as the vowels of Hindi, for a class of a pattern.

    For ``re`` they are no part of a word, so that words that differ in them alone would be one.
    """
    return "".join(chr(code) for code in range(0x300, 0xAC00) if unicodedata.category(chr(code)) in ("Mn", "Mc"))


def is_readable(language: str, label: str) -> bool:
    """Whether denials are known of the language that a label is in: by its name, and by the label's letters."""
    return language.split("-")[0] in lexicon().languages and _FOREIGN.search(fold(label)) is None
