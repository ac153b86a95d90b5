"""How the labels of a question's options are written: whole, in short, and with their degree behind them.

Knows labels that hold a word; those that are numbers are in ``workers.simulation.figures``. Deliberately knows no
text in which they stand: that is ``workers.simulation.mentions``. All texts here are cleaned and folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from workers.simulation.figures import is_figure
from workers.simulation.lexicon import (
    all_marks,
    clean,
    fold,
    is_latin,
    is_readable,
    is_spaced,
    lexicon,
    marks,
    whole_word,
)

#: Code and label, with the language of each wording, of every option shown.
Labels = Sequence[tuple[int, Sequence[tuple[str, str]]]]

#: Degrees that say something else behind their word than before it, or stand there for another reason.
_BEFORE_ALONE = frozenset({"too", "so", "more", "most", "less", "least"})
_CLAUSE_END = r"(?= ?(?:$|[\n.,;:!?)\]]))"


def known_labels(labels: Labels) -> dict[str, int]:
    """Words of a label, or of a short form that no other label has, as ``key`` writes them -> code."""
    full = {(key(label), code) for code, wordings in labels for _, label in wordings}
    owners: dict[str, set[int]] = {}
    for words, code in full:
        if words and not words.replace(" ", "").isdecimal():  # those are figures
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


def patterns(labels: Labels, known: Iterable[str]) -> str:
    """The known labels as a text may write them, the longest first: whatever stands between their words."""
    written = {key(label): fold(clean(label)) for _, wordings in labels for _, label in wordings}
    longest_first = sorted(known, key=lambda label: (-len(label), label))
    return "|".join(_pattern(label, longest_first, written.get(label, label)) for label in longest_first)


def _pattern(label: str, known: Iterable[str], written: str) -> str:
    words = label.split(" ")
    if len(words) == 2 and words[1] in _degrees_behind():
        return whole_word(f"(?:{re.escape(written)}|{_degree_behind(words[0], words[1], known)})", label)
    ends = r"\n.!?。！？/" if len(words) == 2 and words[0] in _degrees_behind() else ""
    pattern = rf"[^\w{'' if is_latin(label) else marks(label)}{ends}]{{1,4}}".join(re.escape(word) for word in words)
    if len(label) == 1 and not is_spaced(label):  # "是", "否": words of their own only
        return rf"(?<![\u4e00-\u9fff]){pattern}(?![\u4e00-\u9fff])"
    return whole_word(pattern, label)


def key(text: str) -> str:
    """The words of a text, whatever stands between them."""
    return " ".join(_words().findall(fold(clean(text))))


@cache
def _words() -> re.Pattern[str]:
    return re.compile(rf"[\w{all_marks()}]+")


@cache
def _degrees_behind() -> frozenset[str]:
    return lexicon().degrees - _BEFORE_ALONE


def _degree_behind(word: str, degree: str, known: Iterable[str]) -> str:
    """A word with its degree behind it: "agree strongly", and "agree, strongly" where that ends the clause.

    Otherwise another sentence may begin there ("Agree. Strongly held ..."), or another label ("agree - strongly
    agree").
    """
    others = "|".join(re.escape(label) for label in known if label.startswith(f"{degree} "))
    another = f"(?!{others})" if others else ""
    return rf"{re.escape(word)}(?:(?:[ -]| ?\(){another}{degree}|[ ,.:;|…–—-]{{1,5}}{degree}{_CLAUSE_END})"


def _short_forms(wordings: Iterable[str]) -> Iterable[str]:
    """Other ways to write a label: its part before a comma, bracket or "and"; "strongly agree" for "agree strongly"."""
    for label in wordings:
        if is_figure(label):
            continue
        folded = fold(clean(label))
        yield from lexicon().synonyms.get(folded, ())
        before_comma = re.split(r"[,;(/、:]", folded)[0]
        for head in map(key, (before_comma, before_comma.split(" and ")[0])):
            if len(head) > (3 if head.isascii() else 1) and head not in lexicon().degrees:
                yield head
        pair = key(label).split(" ")
        if len(pair) == 2 and _degrees_behind() & set(pair):
            yield f"{pair[1]} {pair[0]}"


def _within(words: str, other: str) -> bool:
    """Whether a label's words stand in another's; Chinese has no blanks between them."""
    return f" {words} " in f" {other} " if words.isascii() else words in other
