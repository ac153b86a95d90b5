"""What the cells of an official World Values Survey file stand for: codes, labels and regions.

Labels are those of the codebook (``data/wvs7_labels.csv``); one that ends in ``...`` is matched by how it begins. Files
have others, with a code or in other words: these are matched loosely, and each such match is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache

from defsurvey.storage.surveys.importers.files import DATA, read_header, read_rows
from defsurvey.storage.surveys.survey import Question, QuestionType

#: What a cell can be other than a code of 0 or more.
MISSING, UNREADABLE = -1, -2
LARGEST = 13  #: largest code that is counted; larger ones are no answer to any question here
#: Question -> where it is stored, best first: the column, and its codes as the question's.
STORED: Mapping[str, tuple[tuple[str, Mapping[int, int]], ...]] = {
    name: ((name, {1: 1, 2: 1, 3: 2, 4: 3, 5: 3}), (f"{name}_3", {1: 1, 2: 3, 3: 2})) for name in ("Q33", "Q34", "Q35")
}
CHOSEN = 1  #: in the two lists each option is a column of its own, in which this code says that it was chosen
_NUMBER = re.compile(r"([+-]?[0-9]{1,9})(?:[.,]0+)?")
_BLANK = frozenset({"", ".", "na", "nan", "n/a"})
_MISSING = re.compile(
    r"(dont know|no (second )?answer|not (asked|applicable|delivered)|item not included|(other )?missing|inap|"
    r"inapplicable|inappropriate response|refused)( |$)"
)
_FILLERS = frozenset({"a", "an", "the", "and", "or", "nor", "of", "to"})
#: Words that say nothing about which end of a scale is meant.
_LOOSE_FILLERS = _FILLERS | {"be", "is", "are", "it", "made", "should", "in", "for", "my", "your", "our"}
_NEGATIONS = frozenset({"no", "not", "none", "never", "dont", "doesnt", "cannot", "without"})
#: A label is near another from this ratio of ``difflib`` on; every other option has to be less near by the margin.
_NEAR, _MARGIN = 0.9, 0.1
_LEADING_CODE = re.compile(r"\(?(-?\d{1,2})(?:\s*[.:)=–-]\s*|\s+)(?=[^\W\d_])(.+)")
_TRAILING_CODE = re.compile(r"(.*\S)\s*[{(\[]\s*(-?\d{1,2})\s*[})\]]")
#: Some files label missing answers by the range of their codes: ``Don't -9:-2``.
_MISSING_CODES = re.compile(r".*\s-\d\s*:\s*-\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a cell was read as."""

    code: int  #: 0 or more, or MISSING or UNREADABLE
    label: str = ""  #: the known label that the cell was matched with, where it is not written like that
    doubt: str = ""  #: why the cell cannot be read, as an error puts it after the cell


def columns_of(question: Question) -> tuple[str, ...]:
    """Columns in which answers to a question may be stored; for a list, one for each option."""
    if question.type is QuestionType.MULTIPLE:
        return tuple(f"Q{code}" for code in question.codes)
    return tuple(column for column, _ in STORED.get(question.id, ((question.id, {}),)))


def read_cell(column: str, cell: str) -> Reading:
    """What a cell stands for.

    A label is compared without a code that it begins or ends with, and on a scale by likeness if it is not known. One
    that is like both ends, or has another code than its words, cannot be read.
    """
    text = cell.strip()
    if number := _NUMBER.fullmatch(text):
        return Reading(code=max(int(number[1]), MISSING))
    if text.casefold() in _BLANK:
        return Reading(code=MISSING)
    whole, beginnings = _labels(column)
    code = whole.get(_bag(_words(text)))
    if code is not None:
        return Reading(code=code)
    stated: set[int] = set()  # codes that the label begins or ends with
    rest = text
    if leading := _LEADING_CODE.fullmatch(rest):
        stated, rest = stated | {int(leading[1])}, leading[2]
    if trailing := _TRAILING_CODE.fullmatch(rest):
        stated, rest = stated | {int(trailing[2])}, trailing[1]
    words = _words(rest)
    code = whole.get(_bag(words))
    if code is None:
        code = next((code for begin, code in beginnings.items() if words[: len(begin)] == begin), None)
    if code is None and is_missing(rest):
        return Reading(code=MISSING)
    if code is None and (min(stated, default=0) < 0 or _MISSING_CODES.fullmatch(text)):
        return Reading(code=MISSING, label="missing")
    if code is not None and not stated:
        return Reading(code=code)
    near = [(code, 1.0)] if code is not None else _near(column, words)
    if not near:
        return Reading(code=UNREADABLE)
    (code, likeness), *others = near
    label = _known_label(column, code)
    for other, its in others:
        if likeness - its < _MARGIN:
            doubt = f", which is near {code} {label!r} and {other} {_known_label(column, other)!r}"
            return Reading(code=UNREADABLE, doubt=doubt)
    if stated - {code}:
        numbers = " and ".join(map(str, sorted(stated)))
        return Reading(code=UNREADABLE, doubt=f", whose number is {numbers} and whose words are {code} {label!r}")
    return Reading(code=code, label=label)


def _near(column: str, words: tuple[str, ...]) -> list[tuple[int, float]]:
    """The ends of a scale from 1 to 10 by likeness; empty where none is near, or says no where the text says yes."""
    labels = _known_labels().get(column, ())
    codes = {code for code, _ in labels}
    if 10 not in codes or codes & set(range(2, 10)):
        return []
    found: dict[int, tuple[float, bool]] = {}
    text = _telling(words)
    for code, label in labels:
        known = _telling(_words(label))
        compared = text[: len(known)] if label.endswith("...") else text
        likeness = SequenceMatcher(None, known, compared, autojunk=False).ratio()
        same_sense = _NEGATIONS.isdisjoint(words) == _NEGATIONS.isdisjoint(_words(label))
        found[code] = max(found.get(code, (0.0, False)), (likeness, same_sense))
    order = sorted(found.items(), key=lambda end: end[1], reverse=True)
    nearest, same_sense = order[0][1]
    return [(code, likeness) for code, (likeness, _) in order] if nearest >= _NEAR and same_sense else []


def _telling(words: tuple[str, ...]) -> str:
    return " ".join(word for word in words if word not in _LOOSE_FILLERS)


def is_missing(text: str) -> bool:
    """Whether a text begins with words for what is no answer; a longer word that begins like one of them is another."""
    return _MISSING.match(" ".join(_words(text))) is not None


def _words(text: str) -> tuple[str, ...]:
    plain = re.sub(r"['’´`]", "", text.casefold())
    return tuple(re.findall(r"[^\W_]+", plain))


def _bag(words: tuple[str, ...]) -> tuple[str, ...]:
    """Files write "Agree strongly" and "Strongly agree" for one answer: the order of words tells nothing."""
    return tuple(sorted(word for word in words if word not in _FILLERS)) or words


@cache
def _known_labels() -> Mapping[str, list[tuple[int, str]]]:
    """Column -> its labels, each with its code, in the order of the table."""
    found: dict[str, list[tuple[int, str]]] = {}
    for _, (columns, code, label) in read_rows(read_header(DATA / "wvs7_labels.csv")):
        for column in columns.split():
            found.setdefault(column, []).append((int(code), label))
    return found


@cache
def _labels(column: str) -> tuple[Mapping[tuple[str, ...], int], Mapping[tuple[str, ...], int]]:
    """Codes of whole labels by their words in any order, and of those that are matched by how they begin."""
    known = _known_labels().get(column, ())
    whole = {_bag(_words(label)): code for code, label in known if not label.endswith("...")}
    return whole, {_words(label): code for code, label in known if label.endswith("...")}


def labels_of(column: str) -> list[str]:
    """The labels known for a column, as an error lists what it expected."""
    return [label for _, label in _known_labels().get(column, ())]


def _known_label(column: str, code: int) -> str:
    return next(label for known, label in _known_labels()[column] if known == code)


@cache
def _regions() -> Mapping[str, tuple[str, str, str]]:
    """A region's number and its code -> its code and its names in English and Chinese."""
    rows = [cells for _, cells in read_rows(read_header(DATA / "wvs7_regions.csv"))]
    return {key: (code, english, chinese) for numeric, code, english, chinese in rows for key in (numeric, code)}


def read_region(cell: str, *, country: str) -> tuple[str, Mapping[str, str]] | None:
    """The ISO code of a region and its names by language, or None where it is missing.

    A cell is ``840003``, ``US-AZ``, ``US-AZ Arizona`` or a name; a number that is not known makes a code and name.
    """
    text = " ".join(cell.split())
    if number := _NUMBER.fullmatch(text):
        key = str(int(number[1]))
        if int(key) < 0:
            return None
        code = f"{country.upper()}-{int(key) % 1000:03d}"
        code, english, chinese = _regions().get(key, (code, code, ""))
    elif written := re.fullmatch(r"(?:[A-Z]{2}: )?([A-Z]{2}[-.][A-Z0-9]{1,4})(?: (.+))?", text):
        key = written[1].replace(".", "-")
        code, english, chinese = key, *_regions().get(key, ("", written[2] or key, ""))[1:]
    elif text.casefold() in _BLANK or is_missing(text):
        return None
    else:
        code, english, chinese = text, text, ""
    return code, {"en": english or code, "zh": chinese or english or code}
