"""What the cells of an official World Values Survey file stand for.

Knows numeric codes, the text labels of the "CsvTxt" files, what counts as missing, the three
questions that are stored in two ways, and the codes of regions. Deliberately knows nothing of
files or weights. Labels are facts of the codebook (``data/wvs7_labels.csv``); one that ends in
``...`` is matched by how it begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from storage.importers.cultures import DATA
from storage.importers.delimited import read_header, read_rows
from storage.survey import Question, QuestionType, Region

#: What a cell can be other than a code of 0 or more.
MISSING, UNREADABLE = -1, -2
#: Largest code that is counted; larger ones are no answer to any question here.
LARGEST = 13
SEX, AGE_GROUP, AGE = "Q260", "X003R2", "Q262"
#: Question -> where it is stored, best first: the column, and its codes as the question's.
STORED: Mapping[str, tuple[tuple[str, Mapping[int, int]], ...]] = {
    name: ((name, {1: 1, 2: 1, 3: 2, 4: 3, 5: 3}), (f"{name}_3", {1: 1, 2: 3, 3: 2})) for name in ("Q33", "Q34", "Q35")
}
#: In the two lists each option is a column of its own, in which this code says that it was chosen.
CHOSEN = 1
_NUMBER = re.compile(r"([+-]?[0-9]{1,9})(?:[.,]0+)?")
_BLANK = frozenset({"", ".", "na", "nan", "n/a"})
_MISSING = tuple(
    tuple(begin.split())
    for begin in (
        "dont know",
        "no answer",
        "no second answer",
        "not asked",
        "not applicable",
        "not delivered",
        "item not included",
        "missing",
        "other missing",
        "inap",
        "inapplicable",
        "inappropriate response",
        "refused",
    )
)
_FILLERS = frozenset({"a", "an", "the", "and", "or", "nor", "of", "to"})


def columns_of(question: Question) -> tuple[str, ...]:
    """Columns in which answers to a question may be stored; for a list, one for each option."""
    if question.type is QuestionType.MULTIPLE:
        return tuple(f"Q{code}" for code in question.codes)
    return tuple(column for column, _ in STORED.get(question.id, ((question.id, {}),)))


def read_code(column: str, cell: str) -> int:
    """The code that a cell stands for, 0 or more, or MISSING or UNREADABLE."""
    text = cell.strip()
    number = _NUMBER.fullmatch(text)
    if number:
        return max(int(number[1]), MISSING)
    if text.casefold() in _BLANK:
        return MISSING
    words = _words(text)
    code = _label(column, words)
    if code is not None:
        return code
    return MISSING if _is_missing(words) else UNREADABLE


def is_missing(text: str) -> bool:
    """Whether a text is one of the labels for what is no answer, as surveys of these kinds write them."""
    return _is_missing(_words(text))


def _is_missing(words: tuple[str, ...]) -> bool:
    """Whether they begin with words for what is missing; a longer word that begins like one of them is another."""
    return any(words[: len(begin)] == begin for begin in _MISSING)


def _label(column: str, words: tuple[str, ...]) -> int | None:
    whole, beginnings = _labels().get(column, ({}, ()))
    code = whole.get(_bag(words))
    if code is not None:
        return code
    return next((code for begin, code in beginnings if words[: len(begin)] == begin), None)


def _words(text: str) -> tuple[str, ...]:
    plain = re.sub(r"['’´`]", "", text.casefold())
    return tuple(re.findall(r"[^\W_]+", plain))


def _bag(words: tuple[str, ...]) -> tuple[str, ...]:
    """Files write "Agree strongly" and "Strongly agree" for one answer: the order of words tells nothing."""
    return tuple(sorted(word for word in words if word not in _FILLERS)) or words


_Labels = tuple[Mapping[tuple[str, ...], int], tuple[tuple[tuple[str, ...], int], ...]]


@cache
def _labels() -> Mapping[str, _Labels]:
    header = read_header(DATA / "wvs7_labels.csv")
    whole: dict[str, dict[tuple[str, ...], int]] = {}
    beginnings: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    for _, (columns, code, label) in read_rows(header):
        for column in columns.split():
            words = _words(label)
            if label.endswith("..."):
                beginnings.setdefault(column, []).append((words, int(code)))
            else:
                whole.setdefault(column, {})[_bag(words)] = int(code)
    return {
        column: (whole.get(column, {}), tuple(beginnings.get(column, ())))
        for column in whole.keys() | beginnings.keys()
    }


def labels_of(column: str) -> list[str]:
    """The labels known for a column, as an error lists what it expected."""
    header = read_header(DATA / "wvs7_labels.csv")
    return [label for _, (columns, _, label) in read_rows(header) if column in columns.split()]


@cache
def _regions() -> Mapping[str, tuple[str, str, str]]:
    header = read_header(DATA / "wvs7_regions.csv")
    found: dict[str, tuple[str, str, str]] = {}
    for _, (numeric, code, english, chinese) in read_rows(header):
        found[numeric] = found[code] = (code, english, chinese)
    return found


def read_region(cell: str, *, country: str) -> tuple[str, Mapping[str, str]] | None:
    """The ISO code of a region and its names by language, or None where it is missing.

    Args:
        cell: as in N_REGION_ISO: ``840003``, ``US-AZ`` or ``US-AZ Arizona``. A number that the
            codebook does not have makes a code of its own, which is its name as well.
        country: code of the country, for such a number.
    """
    text = " ".join(cell.split())
    number = _NUMBER.fullmatch(text)
    if number:
        key = str(int(number[1]))
        if int(key) < 0:
            return None
        code, english, chinese = _regions().get(key, (f"{country.upper()}-{int(key) % 1000:03d}", "", ""))
        return code, {"en": english or code, "zh": chinese or english or code}
    written = re.fullmatch(r"(?:[A-Z]{2}: )?([A-Z]{2}[-.][A-Z0-9]{1,4})(?: (.+))?", text)
    if not written:
        words = _words(text)
        if text.casefold() in _BLANK or _is_missing(words):
            return None
        return text, {"en": text, "zh": text}
    code = written[1].replace(".", "-")
    _, english, chinese = _regions().get(code, (code, written[2] or code, ""))
    return code, {"en": english, "zh": chinese or english}


def to_region(code: str, names: Mapping[str, str], share: float) -> Region:
    """A survey's region."""
    return Region(code=code, name=dict(names), share=share)
