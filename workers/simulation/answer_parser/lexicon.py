"""The words by which completions are read, as compiled patterns over cleaned and folded text.

They stand in ``lexicon.toml``, one table per language, and are read in all languages at once.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from defsurvey.storage.text import NUL_SIGN

#: Characters that only decorate: Markdown, zero-width and directional marks.
_DECORATION = dict.fromkeys(map(ord, "*`#_\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), ord(NUL_SIGN)), " ")
_DROPPED = {**_CONTROL, **_DECORATION, 9: " ", 13: "\n"}
#: Brackets around an answer and apostrophes as their usual counterparts, traditional characters as simplified ones.
_ONE_FORM = str.maketrans(
    "【】「」『』《》〈〉’‘個備僅價兩參問場實對幾從應戶擇擬斷於會極機歷沒無為當發稱約絕給經編總腦與虛號見覺觀討訪評該認語說調談請論較辦這進過達選還釋開難電項頗題願體麼點後萬億滿餘來內種讓間夠嗎們況處現",
    "()()()()()''个备仅价两参问场实对几从应户择拟断于会极机历没无为当发称约绝给经编总脑与虚号见觉观讨访评该认语说调谈请论较办这进过达选还释开难电项颇题愿体么点后万亿满余来内种让间够吗们况处现",
)
#: Letters of scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, kana, Chinese.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"
#: Letters that are neither Latin nor Chinese.
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u036f\u1e00-\u1eff\u2e80-\u3040\u3100-\u312f\u3190-\ua4cf\uf900-\U0003ffff]")

_MARKS = r"[\s,;/&+\-–—~•·\"'“”()\[\]:、]"
#: What stands around the words of a list in its pattern, the words being ``@``: the list, and the pattern.
_SHAPES = {
    "after": ("after", r" ?\n|\s*(?:$|(?!%|-[a-z]|'s|\.\d)[^\w\s]|@)"),
    "argument": ("argument", r"@|[(\[][^)\]]*$"),
    "clause": ("clause", r"[.!?;,:\n。、()]|@"),
    "connector": ("connector", rf"(?:{_MARKS}|@)*+$"),
    "cue": ("cue", r"@[\s\"'“:(\[]{0,3}$"),
    "degree after": ("degree", " ?@"),
    "degree before": ("degree", "@ ?$|[不没非未]$"),
    "denied before": ("denied before", "(?:@)$"),
    "failure": ("failure", r"\W{0,3}(?:@)"),
    "item": ("item", r"(?:[,;、/+&]|@)[\s\"'“]*$"),
    "leading": ("leading", "^@ ?"),
    "preamble": ("preamble", rf"(?:{_MARKS}|[<>{{}}=。.]|@)*+$"),
    "reason": ("reason", r"\s*(?:$|@)"),
    "undecided": ("undecided", " ?分? ?@"),
}


def clean(text: str) -> str:
    """The text without control characters and Markdown, its white space collapsed; case and width stay."""
    plain = re.sub(r"[ \u00a0\u3000]+", " ", text.replace("\r\n", "\n").translate(_DROPPED))
    return re.sub(r" ?\n ?", "\n", plain).strip()


def fold(text: str) -> str:
    """The text in one width, one case, and one kind of brackets, apostrophes and Chinese characters."""
    return in_one_form(unicodedata.normalize("NFKC", text).casefold())


def in_one_form(text: str) -> str:
    """The text with each character in the form that the lexicon has, every one in its place."""
    return text if text.isascii() else text.translate(_ONE_FORM)


@cache  # one small set of patterns for the life of the process
def pattern(name: str) -> re.Pattern[str]:
    """The pattern of a list of words of all languages, or of a list of regular expressions, or made of one."""
    source, shape = _SHAPES.get(name, (name, "@"))
    return re.compile(shape.replace("@", _merged(source)))


@cache
def marker() -> re.Pattern[str]:
    """What opens a section, in cleaned text: the groups are ``answer``, ``explanation`` and ``turn``."""
    closing = r"[\"'”’)\]』】]{0,3} ?"
    return re.compile(
        rf"(?P<answer>(?<!可以){_merged('answer')}{closing}(?:is|是|为)? ?[:：=]|{_merged('answer is')}"
        rf"|^{_merged('answer')} ?[-–]? ?(?=[\d(]))"
        rf"|(?P<explanation>{_merged('explanation')}{closing}[:：])"
        rf"|^(?P<turn>[<\[(|]{{0,3}}{_merged('turn')}[>\])|]{{0,3}} ?\d{{0,3}} ?[:：])",
        re.IGNORECASE | re.MULTILINE,
    )


@cache
def lookup(name: str) -> Mapping[str, Any]:
    """A table of words of all languages with what they stand for: ``numeral``, ``ordinal``, ``synonym``."""
    return {word: value for table in _tables().values() for word, value in table["words"][name].items()}


@cache
def degrees() -> frozenset[str]:
    """The words that make more or less of what they stand with."""
    return frozenset(fold(word) for table in _tables().values() for word in table["words"]["degree"])


@cache
def languages() -> frozenset[str]:
    """The languages of which it is known what denies an option."""
    return frozenset(_tables())


@cache
def _tables() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))


def _merged(name: str) -> str:
    tables = _tables().values()
    if any(name in table["expressions"] for table in tables):
        return "|".join(f"(?:{found})" for table in tables for found in table["expressions"].get(name, ()))
    return _alternatives(word for table in tables for word in table["words"].get(name, ()))


def _alternatives(words: Iterable[str]) -> str:
    """A group that matches any of the words, the longest first; words in Latin letters as whole words."""
    longest_first = sorted({fold(word) for word in words}, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(whole_word(re.escape(word), word) for word in longest_first)})"


def whole_word(expression: str, word: str) -> str:
    """The expression, not to be found inside a longer word where ``word`` is in letters that need spaces."""
    letter = "[a-z0-9\u00c0-\u024f]" if is_latin(word) else rf"[^\W_{_UNSPACED}]"
    mark = "" if is_latin(word) else f"[{all_marks()}]"
    before = f"(?<!{letter})" + (f"(?<!{mark})" if mark else "") if is_spaced(word[0]) else ""
    after = f"(?!{letter})" + (f"(?!{mark})" if mark else "") if is_spaced(word[-1]) else ""
    return f"{before}{expression}{after}"


def is_latin(word: str) -> bool:
    """Whether a word has Latin letters alone; the words of most surveys do, and their patterns are simpler."""
    return all(letter < "\u0250" for letter in word)


def is_spaced(letter: str) -> bool:
    """Whether a character belongs to words with blanks between them; a vowel sign does as well as its letter."""
    return letter.isalnum() if letter < "\u0250" else _spaced().match(letter) is not None


@cache
def _spaced() -> re.Pattern[str]:
    return re.compile(rf"[^\W_{_UNSPACED}]|[{all_marks()}]")


@cache
def all_marks() -> str:
    """Signs upon or beside a letter, such as the vowels of Hindi, which for ``re`` are no part of a word."""
    signs = [code for code in range(0x300, 0xAC00) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    starts = [code for code, before in zip(signs, (0, *signs), strict=False) if code != before + 1]
    ends = [code for code, after in zip(signs, (*signs[1:], 0), strict=True) if after != code + 1]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(starts, ends, strict=True))


def is_readable(language: str, label: str) -> bool:
    """Whether denials are known of the language that a label is in: by its name, and by the label's letters."""
    return language.split("-")[0] in languages() and _FOREIGN.search(fold(label)) is None
