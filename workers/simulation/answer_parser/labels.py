"""How the labels of a question's options are written: whole, in short, as numbers, and as the ends of a scale.

All texts here are cleaned and folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from defsurvey.workers.simulation.answer_parser.lexicon import (
    all_marks,
    clean,
    degrees,
    fold,
    is_latin,
    is_readable,
    is_spaced,
    languages,
    lookup,
    pattern,
    whole_word,
)

#: Code and label, with the language of each wording, of every option shown.
Labels = Sequence[tuple[int, Sequence[tuple[str, str]]]]

#: Degrees that say something else after their word than before it, or stand there for another reason.
_BEFORE_ALONE = frozenset({"too", "so", "more", "most", "less", "least"})


def known_labels(labels: Labels) -> dict[str, int]:
    """Words of a label, or of a short form that no other label has, as ``key`` writes them -> code."""
    full = {(key(label), code) for code, wordings in labels for _, label in wordings}
    owners: dict[str, set[int]] = {}
    for words, code in full:
        if words and not words.replace(" ", "").isdecimal():  # a label of digits is a figure
            owners.setdefault(words, set()).add(code)
    short: dict[str, set[int]] = {}
    for code, wordings in labels:
        for words in _short_forms(label for _, label in wordings):
            if not any(owner != code and _within(words, other) for other, owner in full):
                short.setdefault(words, set()).add(code)
    for words, codes in short.items():
        owners.setdefault(words, codes)
    return {words: min(codes) for words, codes in owners.items() if len(codes) == 1}


def unreadable_labels(labels: Labels) -> frozenset[str]:
    """Those of the known labels that are in no language whose denials are known."""
    readable = [(code, [entry for entry in wordings if is_readable(*entry)]) for code, wordings in labels]
    return frozenset(known_labels(labels).keys() - known_labels(readable).keys())


def patterns(known: Iterable[str]) -> str:
    """The known labels as a text may write them, the longest first, with any marks between their words."""
    return "|".join(map(_pattern, sorted(known, key=lambda label: (-len(label), label))))


def _pattern(label: str) -> str:
    words = label.split(" ")
    # a degree may begin another sentence or label: "Agree. Strongly held views ...", "agree/strongly agree"
    ends = r"\n.!?。/" if len(words) == 2 and degrees() & set(words) else ""
    written = rf"[^\w{'' if is_latin(label) else all_marks()}{ends}]{{1,4}}".join(map(re.escape, words))
    if len(label) == 1 and not is_spaced(label):  # "是", "否": only where no other character stands beside it
        return rf"(?<![\u4e00-\u9fff]){written}(?![\u4e00-\u9fff])"
    return whole_word(written, label) + (rf"(?! \w*{words[0]})" if ends and words[1] in degrees() else "")


@lru_cache(maxsize=4096)  # the labels of a survey, as replies write them
def key(text: str) -> str:
    """The words of a text, without what stands between them."""
    return " ".join(_words().findall(fold(clean(text))))


@cache
def _words() -> re.Pattern[str]:
    return re.compile(rf"[\w{all_marks()}]+")


def _short_forms(wordings: Iterable[str]) -> Iterator[str]:
    """Other ways to write a label.

    They are its part before a comma, bracket or "and"; the label without a first word such as "one" or "it"; and
    "strongly agree" for "agree strongly".
    """
    for label in wordings:
        if is_figure(label):
            continue
        folded = fold(clean(label))
        yield from lookup("synonym").get(folded, ())
        before_comma = re.split(r"[,;(/、:]", folded)[0]
        for head in (*map(key, (before_comma, before_comma.split(" and ")[0])), *_without_first_word(key(label))):
            if len(head) > (3 if head.isascii() else 1) and head not in degrees():
                yield head
        pair = key(label).split(" ")
        if len(pair) == 2 and (degrees() - _BEFORE_ALONE) & set(pair):
            yield f"{pair[1]} {pair[0]}"


def _without_first_word(words: str) -> Iterator[str]:
    rest = pattern("leading").sub("", words, count=1)
    if rest != words:
        yield rest
        verb, blank, object_ = rest.partition(" ")
        if blank and verb.endswith("s"):  # "One needs to ..." is "Need to ..." as well
            yield f"{verb[:-1]} {object_}"


def _within(words: str, other: str) -> bool:
    """Whether a label's words stand in another's; Chinese has no blanks between them."""
    return f" {words} " in f" {other} " if words.isascii() else words in other


def is_weaker(words: str, other: str) -> bool:
    """Whether a label is another one without its degree: "agree" of "strongly agree"."""
    rest = other.removesuffix(words).strip() if other.endswith(words) else other.removeprefix(words).strip()
    return rest in degrees() and not pattern("denial").search(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poles:
    """The word that both ends of a scale share, of which one end denies what the other affirms."""

    words: re.Pattern[str]
    affirming: int  #: code of the end that affirms it


def poles(labels: Labels, low: int, high: int) -> tuple[Poles, ...]:
    """Of each language in which the ends are a word and its denial: "never justifiable", "always justifiable"."""
    found = []
    ends = {code: dict(wordings) for code, wordings in labels if code in (low, high)}
    for language in ends[low].keys() & ends[high].keys() & languages():
        one, other = (fold(clean(ends[code][language])) for code in (low, high))
        shared = next(one[i:] for i in range(len(one) + 1) if other.endswith(one[i:]))
        denied = [bool(pattern("denial").search(end.removesuffix(shared))) for end in (one, other)]
        word = re.search(r"[^\W\d]+", shared)
        if word and denied[0] != denied[1] and len(word[0]) > (3 if word[0].isascii() else 1):
            stem = rf"(?<![a-z])(?P<opposite>dis|un|ir|in)?{word[0][:6]}(?![a-z]*ion(?![a-z]))[a-z]*"
            words = re.compile(stem if word[0].isascii() else re.escape(word[0]))
            found.append(Poles(words=words, affirming=high if denied[0] else low))
    return tuple(found)


# Labels that are numbers: "0", "65+", "1-2", "10%".

_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
_AROUND = " .,:;()[]'\"“”"  # marks around a label that say nothing
_SIGN = re.compile(r" ?([^\w\s]) ?")
_DASH = "[-–—~]"
#: A number goes on, or is one of two. A comma groups three digits; any other is one of a list.
_LONGER = rf"(?!\d|\.\d|,\d{{3}}(?!\d)|[a-z%+])(?! ?(?:{_DASH}|/) ?\d)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the labels of one question that are numbers are written."""

    pattern: str  #: labels that no code looks like: "65+", "1-2"; empty where there are none
    codes: Mapping[str, int]  #: such a label, as ``figure`` writes it -> code
    numbers: Mapping[str, int]  #: a number that is a label and no code, as ``plain`` writes it -> code
    own: frozenset[tuple[int, str]]  #: code and label of the options whose label is another number
    shared: frozenset[str]  #: numbers that are one option's code and another's label


def figures(labels: Labels) -> Figures:
    """How those labels are written that are numbers."""
    codes: dict[str, set[int]] = {}
    numbers: dict[str, set[int]] = {}
    shown = {str(code) for code, _ in labels}
    for code, label in ((code, label) for code, wordings in labels for _, label in wordings if is_figure(label)):
        number = fold(clean(label)).strip(_AROUND)
        if not _NUMBER.fullmatch(number):
            codes.setdefault(figure(label), set()).add(code)
        elif plain(number) != str(code):
            numbers.setdefault(plain(number), set()).add(code)
    return Figures(
        pattern="|".join(map(_figure_pattern, sorted(codes, key=lambda label: (-len(label), label)))),
        codes={words: min(owners) for words, owners in codes.items() if len(owners) == 1},
        numbers={n: min(owners) for n, owners in numbers.items() if len(owners) == 1 and n not in shown},
        own=frozenset((code, number) for number, owners in numbers.items() for code in owners),
        shared=frozenset(shown & numbers.keys()),
    )


def is_figure(label: str) -> bool:
    """Whether a label has digits and no other word."""
    return "".join(re.findall(r"\w+", fold(clean(label)))).isdecimal()


def figure(text: str) -> str:
    """A label of digits and signs, its signs written in one way."""
    return _SIGN.sub(lambda found: re.sub(_DASH, "-", found[1]), fold(clean(text)))


def plain(number: str) -> str:
    """A number without its grouping, and without decimals that say nothing: ``1,000.50`` is ``1000.5``."""
    whole, _, decimals = number.replace(",", "").partition(".")
    return f"{whole}.{decimals.rstrip('0')}".rstrip(".")


def _figure_pattern(label: str) -> str:
    parts = [part for part in re.split(r"([^\w\s])", label) if part]
    written = " ?".join(_DASH if part == "-" else re.escape(part) for part in parts)
    # one that begins with three digits may be a group of a longer number
    begins = r"(?<!\d[.,])" if re.match(r"\d{3}(?!\d)", label) else r"(?<!\d\.)"
    before = rf"(?<![a-z\d/])(?<!{_DASH}){begins}" if label[0].isdecimal() else ""
    return before + written + (_LONGER if label[-1].isdecimal() else r"(?! ?\d)")
