"""Labels that are numbers: "0", "65+", "1-2", "10%".

Knows how they are told from option codes. A bare number that is an option's code is that code, since
the prompt puts it before the label; one that is a label and no code is the label; a code and its label, as the
prompt shows them, are one mention. Labels that hold a word are none of these: see ``workers.simulation.mentions``.
Whether such a number is chosen or counts something is in ``workers.simulation.quantities``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from workers.simulation.lexicon import clean, fold

#: A number, and how it may be grouped.
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
#: Marks around a label that tell nothing.
_AROUND = " .,:;()[]'\"“”"
_SIGN = re.compile(r" ?([^\w\s]) ?")
_DASH = "[-–—~]"
#: Between a code and its label: "2: 1", "2 (1)".
_BETWEEN = r" ?[:=(\[] ?[\"'“(\[]{0,2}"
#: Marks that number a list as well: behind the label of "2) 1" they do not come again ("1) 2) 3)", "1. 2: 18").
_BRACKET, _NO_BRACKET = r" ?[)\]] ?[\"'“]?", r"(?! ?[:=)\]])"
_STOP, _NO_STOP = r"\. [\"'“(\[]{0,2}", r"(?! ?[:=)\].])"
#: A number goes on, or is one of two. A comma groups three digits; any other is one of a list.
_LONGER = rf"(?!\d|\.\d|,\d{{3}}(?!\d)|[a-z%+])(?! ?(?:{_DASH}|/) ?\d)"
#: Behind a line shown: another number that may be a label as well, unless it begins a line itself or counts something.
_LINKED = r"(?:because|since|as|and|or|to|through)(?![a-z])|因[为為]|[或和与與到至吧都]"
_COUNTS = rf" ?(?!{_LINKED})[^\W\d]"
_OTHERS = (
    r"(?! (?:or|to|through)(?![a-z])"
    rf"| ?(?:[,、和与與或到至]|[还還]是|and)+ ?\d+(?! ?[:=)\](\[]|\d|\. \d|{_COUNTS}))"
)
#: A comma as Chinese writes it; it groups no digits.
_LISTED = re.compile(r"(?<=\d)，(?=[\d０-９])")
#: A number that is part of another: "10 out of 20", "8/10".
_PART, _WHOLE = re.compile(r"\s?(?:out of|/)\s?\d"), re.compile(r"(?:out of|\d ?/)\s?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the labels of one question that are numbers are written; patterns are empty where there are none."""

    lines: str  #: an option as the prompt shows it, its label a number: "2: 1"
    labels: str  #: labels that no code looks like: "65+", "1-2"
    codes: Mapping[str, int]  #: such a label, as ``figure`` writes it -> code
    numbers: Mapping[str, int]  #: a number that is a label and no code, as ``plain`` writes it -> code
    shared: frozenset[str]  #: numbers that are one option's code and another's label


def figures(labels: Iterable[tuple[int, Sequence[str]]], *, several: bool) -> Figures:
    """How those labels are written that are numbers.

    Args:
        labels: code and label in every language, of each option shown.
        several: whether more than one may be chosen, so that numbers behind a line may be further codes.
    """
    lines: list[str] = []
    codes: dict[str, set[int]] = {}
    numbers: dict[str, set[int]] = {}
    shown = set()
    for code, wordings in labels:
        shown.add(str(code))
        for label in filter(is_figure, wordings):
            number = fold(clean(label)).strip(_AROUND)
            if not _NUMBER.fullmatch(number):
                codes.setdefault(figure(label), set()).add(code)
            elif plain(number) != str(code):
                numbers.setdefault(plain(number), set()).add(code)
                lines.append(_line(code, number, several=several))
    return Figures(
        lines="|".join(dict.fromkeys(lines)),
        labels="|".join(_pattern(label) for label in sorted(codes, key=lambda label: (-len(label), label))),
        codes=_unambiguous(codes),
        numbers={number: code for number, code in _unambiguous(numbers).items() if number not in shown},
        shared=frozenset(shown & numbers.keys()),
    )


def is_figure(label: str) -> bool:
    """Whether a label has digits and no other word."""
    return "".join(re.findall(r"\w+", fold(clean(label)))).isdecimal()


def figure(text: str) -> str:
    """A label of digits and signs, its signs written in one way; ``text`` is cleaned and folded or not."""
    return _SIGN.sub(lambda found: re.sub(_DASH, "-", found[1]), fold(clean(text)))


def plain(number: str) -> str:
    """A number without its grouping, and without decimals that tell nothing: ``1,000.50`` is ``1000.5``."""
    whole, _, decimals = number.replace(",", "").partition(".")
    return f"{whole}.{decimals.rstrip('0')}".rstrip(".")


def written_apart(text: str) -> str:
    """A cleaned text in which no comma as Chinese writes it can be taken for one that groups digits, once folded."""
    return _LISTED.sub("， ", text)


def is_part(text: str, start: int, end: int) -> bool:
    """Whether the number there is one of two that are said of each other."""
    return bool(_PART.match(text, end) or _WHOLE.search(text[max(0, start - 8) : start]))


def _unambiguous(owners: Mapping[str, set[int]]) -> dict[str, int]:
    return {words: min(codes) for words, codes in owners.items() if len(codes) == 1}


def _line(code: int, number: str, *, several: bool) -> str:
    written = re.escape(number).replace(",", ",?")
    stop = _NO_STOP if several else ""
    between = rf"(?:{_BETWEEN}{written}|{_BRACKET}{written}{_NO_BRACKET}|{_STOP}{written}{stop})"
    return rf"(?<![a-z\d]){_begins(str(code))}{code}{between}{_LONGER}{'' if several else _OTHERS}"


def _pattern(label: str) -> str:
    parts = [part for part in re.split(r"([^\w\s])", label) if part]
    pattern = " ?".join(_DASH if part == "-" else re.escape(part) for part in parts)
    before = rf"(?<![a-z\d/])(?<!{_DASH}){_begins(label)}" if label[0].isdecimal() else ""
    return before + pattern + (_LONGER if label[-1].isdecimal() else r"(?! ?\d)")


def _begins(digits: str) -> str:
    """Where a number begins; one that begins with three digits may be a group of a longer one."""
    return r"(?<!\d[.,])" if re.match(r"\d{3}(?!\d)", digits) else r"(?<!\d\.)"
