"""Where a text mentions a question's options: by code, by label or by place.

Knows how numbers and labels are written. Deliberately does not decide what is chosen:
a mention may stand in a sentence that denies it. That is ``workers.simulation.choices``.
All texts here are cleaned and folded (``workers.simulation.lexicon``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import islice

from storage.survey import Question, QuestionType
from workers.simulation.figures import Figures, figure, figures, is_part, plain, written_apart
from workers.simulation.labels import key, known_labels, patterns, unreadable_labels
from workers.simulation.lexicon import fold, lexicon

#: An answer is given long before so many options are mentioned; what follows is not read.
MOST_MENTIONS = 200
#: Begins a text before which two numbers are a choice between them.
UNDECIDED = "maybe|perhaps|possibly|probably|roughly|approximately|range|depending|or so|ish|之[间間]|左右|上下"

#: Follows a whole number that is none: "7 and a half", "7½", "七分半".
_HALF = r" (?:and )?\d+⁄| and (?:a |one )?half|分?半"

_Labels = tuple[tuple[int, tuple[tuple[str, str], ...]], ...]


class Kind(Enum):
    """How an option is mentioned."""

    LINE = "line"  #: a number with the label behind it, as the prompt shows it, where the label is a number as well
    NUMBER = "number"
    WORD = "word"  #: a number in words
    LABEL = "label"
    PLACE = "place"  #: "the second option"
    RANGE = "range"  #: two numbers of which one is meant ("6 or 7", "六到七"), where only one option may be chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A stretch of a text that may name an option."""

    kind: Kind
    start: int
    end: int
    code: int | None  #: None: what no code can be: 7.5, 8 out of 100, a range, a place whose code is another
    words: str  #: as written
    scored: bool = False  #: given out of the highest point ("8 out of 10", "8分")
    labelled: bool = False  #: a number that is the label of an option and the code of none
    shared: bool = False  #: a number that is the code of an option and the label of another
    unreadable: bool = False  #: a label in a language whose denials are not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """How one question's options are written."""

    pattern: re.Pattern[str]
    labels: Mapping[str, int]  #: words of a label, or of an unambiguous short form -> code
    unreadable: frozenset[str]  #: those of them that are in no language whose denials are known
    figures: Figures  #: labels that are numbers
    span: re.Pattern[str] | None  #: the whole range of an ordered question ("from 1 to 10")
    score: re.Pattern[str]  #: what makes a number before it a point of the scale
    fraction: re.Pattern[str] | None  #: what makes it one of another scale
    shown: tuple[int, ...]

    def fold(self, text: str) -> str:
        """A cleaned text as its mentions are looked for."""
        return fold(written_apart(text) if self.figures.lines or self.figures.labels else text)

    def mentions(self, text: str) -> list[Mention]:
        """The first mentions in a folded text, in order; the range of a scale is none."""
        if self.span is not None:
            text = self.span.sub(lambda found: found[0] if self._is_label(found) else " " * len(found[0]), text)
        return [self._mention(match, text) for match in islice(self.pattern.finditer(text), MOST_MENTIONS)]

    def _is_label(self, span: re.Match[str]) -> bool:
        """Whether what looks like the range of the options is one option's label ("1-4" of 4 options)."""
        match = self.pattern.match(span.string, span.start())
        if match is None or match.lastgroup not in ("label", "figure"):
            return False
        return not re.search(r"\w", span.string[match.end() : span.end()].partition("(")[0])

    def _mention(self, match: re.Match[str], text: str) -> Mention:
        words, start, end = match[0], match.start(), match.end()
        if match.lastgroup == "label":
            label = key(words)
            return Mention(
                kind=Kind.LABEL,
                start=start,
                end=end,
                code=self.labels[label],
                words=words,
                unreadable=label in self.unreadable,
            )
        if match.lastgroup == "figure":
            code = self.figures.codes.get(figure(words))
            return Mention(kind=Kind.LABEL, start=start, end=end, code=code, words=words)
        if match.lastgroup == "line":
            return Mention(kind=Kind.LINE, start=start, end=end, code=int(re.split(r"\D", words)[0]), words=words)
        if match.lastgroup == "place":
            return Mention(kind=Kind.PLACE, start=start, end=end, code=self._at_place(words), words=words)
        kind = Kind(match.lastgroup)
        number = _number(kind, words, text[max(0, start - 2) : start])
        code = int(number) if number and len(number) < 10 and "." not in number else None
        labelled = self.figures.numbers.get(number)
        scored = self.score.match(text, end)
        if scored is None and self.fraction is not None and self.fraction.match(text, end):
            code = labelled = None
        if labelled is not None and is_part(text, start, end):
            labelled = None
        return Mention(
            kind=kind,
            start=start,
            end=scored.end() if scored else end,
            code=code if labelled is None else labelled,
            words=words,
            scored=scored is not None,
            labelled=labelled is not None,
            shared=number in self.figures.shared,
        )

    def _at_place(self, words: str) -> int | None:
        """An ordinal counts the options shown; it is clear only where that place has the same code."""
        found = re.match(r"第?(\d+|[a-z]+|[^\W\d]{1,2}?(?=[项項个個种種选選]))", words)
        word = found[1] if found else ""
        place = int(word) if word.isdecimal() else lexicon().ordinals.get(word) or _numeral(word)
        return place if place and 0 < place <= len(self.shown) and self.shown[place - 1] == place else None


def vocabulary(question: Question, shown: Sequence[int]) -> Vocabulary:
    """How the options of a question, shown in this order, are written."""
    labels = tuple((code, tuple(question.option(code).label.items())) for code in shown)
    return _vocabulary(labels, question.type)


@lru_cache(maxsize=1024)  # a survey's questions, some with their options in several orders
def _vocabulary(labels: _Labels, kind: QuestionType) -> Vocabulary:
    shown = tuple(code for code, _ in labels)
    known = known_labels(labels)
    several = kind is QuestionType.MULTIPLE
    numbers = figures([(code, [label for _, label in wordings]) for code, wordings in labels], several=several)
    low, high = min(shown), max(shown)
    scale = kind is QuestionType.SCALE
    total = rf"(?:{high}|ten)(?!\d|\.\d|[a-z])" if high == 10 else rf"{high}(?!\d|\.\d|[a-z])"
    return Vocabulary(
        pattern=_pattern(shown, patterns(labels, known), numbers, several=several),
        labels=known,
        unreadable=unreadable_labels(labels),
        figures=numbers,
        span=_span(low, high, scale=scale) if kind.ordered else None,
        score=re.compile(
            rf"\s?(?:out of|of{'|/' if scale else ''}|分?[,(\s]?[满滿]分)\s?{total}\s?分?|\s?(?:分|points?(?![a-z]))"
        ),
        fraction=re.compile(r"\s?(?:out of|/)\s?\d") if scale else None,
        shown=shown,
    )


def _pattern(shown: Sequence[int], labels: str, numbers: Figures, *, several: bool) -> re.Pattern[str]:
    words = lexicon()
    spelt = "|".join(w for w, value in words.numerals.items() if w.isascii() and (value or 0 in shown))
    characters = "".join(word for word in words.numerals if not word.isascii())
    nth = rf"(?<![a-z0-9])(?:{'|'.join(words.ordinals)}|\d{{1,2}}(?:st|nd|rd|th)) (?:option|choice|answer)(?![a-z])"
    kinds_zh = "[项項]|[个個]?[选選][项項]|[个個][选選][择擇]|[个個]答案|[种種](?:[选選][项項]|答案)"
    nth_zh = rf"第(?:[{characters}]{{1,2}}|\d{{1,2}})(?:{kinds_zh})"
    word_zh = rf"(?<![{characters}百千万萬第])[{characters}]{{1,2}}(?=\W|$|[分号號])(?!{_HALF})"
    grouped = rf"(?:{_listed(shown, numbers)}|\d+(?:,\d{{3}})*(?:\.\d+)?)"
    parts = [
        rf"(?P<place>{nth}|{nth_zh})",
        rf"(?P<line>{numbers.lines})" if numbers.lines else "",
        rf"(?P<label>{labels})" if labels else "",
        rf"(?P<figure>{numbers.labels})" if numbers.labels else "",
        "" if several else rf"(?P<range>{_range(spelt, characters, labels)})",
        rf"(?P<number>(?<![a-z\d⁄])(?<!\d\.)-?{grouped}(?!\.?\d|[a-z%⁄]|{_HALF}))",
        rf"(?P<word>(?<![a-z\d])(?:{spelt})(?![a-z\d-]|{_HALF})|{word_zh})",
    ]
    return re.compile("|".join(filter(None, parts)))


def _listed(shown: Sequence[int], numbers: Figures) -> str:
    """The first of several numbers of options with nothing but commas between them, which group no digits.

    Only where a clause ends behind them, and where all of them together are no number of an option themselves.
    """
    known = {*map(str, shown), *numbers.numbers}
    if not any(re.fullmatch(r"\d{3}", number) for number in known):
        return "(?!)"
    one = "|".join(map(re.escape, sorted(known)))
    whole = "|".join(f"{int(number):,}" for number in sorted(known) if number.isdecimal() and len(number) > 3)
    none = rf"(?!(?:{whole})(?![\d,]))" if whole else ""
    return rf"{none}(?=(?:{one})(?:,(?:{one}))+(?!,?\d|\.\d)(?:{lexicon().after.pattern}))\d+"


def _range(spelt: str, characters: str, labels: str) -> str:
    """Two numbers joined so directly that one of them alone is not what was said; digits, whatever follows.

    A dash may also stand between a number and its explanation: it joins digits alone ("2-One needs to be careful"),
    and with blanks around it only before words that say so ("3 - 4 people here think so"). A label that begins with
    a number is none ("2-1 child", "2 or One needs to be careful").
    """
    number = rf"(?!{labels})" if labels else ""
    digits = r"\d+(?:\.\d+)?(?!\.?\d)"
    word = rf"(?:{spelt})(?![a-z])"
    character = rf"[{characters}]{{1,2}}(?=\W|$|[分号號吧]|{UNDECIDED})"
    other = rf"{number}(?!(?P=low)(?!\d)){digits}"  # "1 - 1" is one number
    either = r" (?:or|to|through) (?:maybe |perhaps |possibly |even |option |an? )?"
    either_zh = r" ?(?:或者?|到|至|[还還]是) ?(?:[选選][项項]?|大概|[约約])?"
    joined = rf"(?:{either}|{either_zh})(?:{other}|{number}(?:{word}|{character}))|[-–—~]{other}"
    undecided = rf" [-–—~] {other}(?= ?分?(?:{UNDECIDED}))| ?[和与與、,] ?{digits} ?分? ?之[间間]"
    return "|".join(
        (
            rf"(?<![a-z\d])(?<!\d\.)(?P<low>{digits}) ?分?(?:{joined}|{undecided})",
            rf"(?<=between ){digits} and {digits}",
            rf"(?<![a-z\d-]){word}{either}{number}(?:{digits}|{word})",
            rf"(?<![{characters}百千万萬第])[{characters}]{{1,2}}分?(?:{either_zh}|[-–—~]){number}{character}",
        )
    )


def _span(low: int, high: int, *, scale: bool) -> re.Pattern[str]:
    """What tells the range of the options and chooses none: "from 1 to 10", "一到十", "out of 10, ..."."""
    note = r"\s?(?:分|\([^()\n]{0,60}\))?\s?"
    joint = r"(?:to|through|and|[-–—~]|到|至)"
    lows = [first for first in {low, max(low, 1)} if high - first > 1]  # from 1 as well where there is a 0
    ends = [pair for first in lows for pair in ((first, high), (high, first))]
    ranges = [rf"(?<![\d.]){a}{note}{joint}\s?{b}(?!\d|\.\d){note}" for a, b in ends]
    # In words by a word alone: behind a dash a label may begin ("4-一点也不幸福").
    ranges += [rf"{_in_words(a)}{note}(?:to|through|and|到|至)\s?{_in_words(b)}{note}" for a, b in ends]
    if scale:
        ranges.append(
            rf"(?<!\d)(?<!\d )out of\s?{high}(?!\d|\.\d)|[满滿]分(?:是|[为為])?\s?{high}\s?分?|(?<!\d){high}\s?分制"
        )
    return re.compile("|".join(ranges) or r"(?!)")


def _in_words(number: int) -> str:
    """A number in words of either language, and no part of a longer one; matches nothing where it has none."""
    numerals = lexicon().numerals
    digits = "".join(word for word in numerals if not word.isascii()) + "百千万萬"
    forms = [
        rf"(?<![a-z]){word}(?![a-z])" if word.isascii() else rf"(?<![第{digits}]){word}(?![{digits}])"
        for word, value in numerals.items()
        if value == number
    ]
    return f"(?:{'|'.join(forms) or '(?!)'})"


def _number(kind: Kind, words: str, before: str) -> str:
    """The number of a mention as ``plain`` writes it; empty where it has none of its own."""
    if kind is Kind.WORD:
        value = _numeral(words)
        return "" if value is None else str(value)
    if kind is not Kind.NUMBER:
        return ""
    dash = words.startswith("-") and re.search(r"[\w)] ?$", before)  # no sign
    return plain(words[1:] if dash else words)


def _numeral(word: str) -> int | None:
    numerals = lexicon().numerals
    if word in numerals:
        return numerals[word]
    if len(word) == 2 and word[0] == "十" and word[1] in numerals:
        return 10 + numerals[word[1]]
    return None
