"""Where a text mentions a question's options: by code, by label or by place.

Knows how numbers and labels are written. Deliberately does not decide what is chosen:
a mention may stand in a sentence that denies it. That is ``workers.simulation.choices``.
All texts here are cleaned and folded (``workers.simulation.lexicon``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import islice

from storage.survey import Question, QuestionType
from workers.simulation.figures import Figures, figure, figures, is_figure, is_part, plain, written_apart
from workers.simulation.lexicon import clean, fold, lexicon, whole_word

#: An answer is given long before so many options are mentioned; what follows is not read.
MOST_MENTIONS = 200
#: Begins a text before which two numbers are a choice between them.
UNDECIDED = "maybe|perhaps|possibly|probably|roughly|approximately|range|depending|or so|ish|之间|左右|上下"

_Labels = tuple[tuple[int, tuple[str, ...]], ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """How one question's options are written."""

    pattern: re.Pattern[str]
    labels: Mapping[str, int]  #: words of a label, or of an unambiguous short form -> code
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
            return Mention(kind=Kind.LABEL, start=start, end=end, code=self.labels[_key(words)], words=words)
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
        found = re.match(r"第?(\d+|[a-z]+|[^\W\d]{1,2}?(?=项|个|种|选))", words)
        word = found[1] if found else ""
        place = int(word) if word.isdecimal() else lexicon().ordinals.get(word) or _numeral(word)
        return place if place and 0 < place <= len(self.shown) and self.shown[place - 1] == place else None


def vocabulary(question: Question, shown: Sequence[int]) -> Vocabulary:
    """How the options of a question, shown in this order, are written."""
    labels = tuple((code, tuple(question.option(code).label.values())) for code in shown)
    return _vocabulary(labels, question.type)


@lru_cache(maxsize=1024)  # a survey's questions, some with their options in several orders
def _vocabulary(labels: _Labels, kind: QuestionType) -> Vocabulary:
    shown = tuple(code for code, _ in labels)
    known = _known_labels(labels)
    several = kind is QuestionType.MULTIPLE
    numbers = figures(labels, several=several)
    low, high = min(shown), max(shown)
    scale = kind is QuestionType.SCALE
    total = rf"(?:{high}|ten)(?!\d|\.\d|[a-z])" if high == 10 else rf"{high}(?!\d|\.\d|[a-z])"
    return Vocabulary(
        pattern=_pattern(known, numbers, several=several),
        labels=known,
        figures=numbers,
        span=_span(low, high, scale=scale) if kind.ordered else None,
        score=re.compile(
            rf"\s?(?:out of|of{'|/' if scale else ''}|分?[,(\s]?满分)\s?{total}\s?分?|\s?(?:分|points?(?![a-z]))"
        ),
        fraction=re.compile(r"\s?(?:out of|/)\s?\d") if scale else None,
        shown=shown,
    )


def _pattern(known: Mapping[str, int], numbers: Figures, *, several: bool) -> re.Pattern[str]:
    words = lexicon()
    spelt = "|".join(word for word in words.numerals if word.isascii())
    characters = "".join(word for word in words.numerals if not word.isascii())
    labels = "|".join(_label_pattern(label) for label in sorted(known, key=lambda label: (-len(label), label)))
    nth = rf"(?<![a-z0-9])(?:{'|'.join(words.ordinals)}|\d{{1,2}}(?:st|nd|rd|th)) (?:option|choice|answer)(?![a-z])"
    nth_zh = rf"第(?:[{characters}]{{1,2}}|\d{{1,2}})(?:项|个?选项|个选择|个答案|种选项|种答案)"
    word_zh = rf"(?<![{characters}百千万第])[{characters}]{{1,2}}(?=\W|$|[分号])"
    parts = [
        rf"(?P<place>{nth}|{nth_zh})",
        rf"(?P<line>{numbers.lines})" if numbers.lines else "",
        rf"(?P<label>{labels})" if labels else "",
        rf"(?P<figure>{numbers.labels})" if numbers.labels else "",
        "" if several else rf"(?P<range>{_range(spelt, characters, labels)})",
        r"(?P<number>(?<![a-z\d])(?<!\d\.)-?\d+(?:,\d{3})*(?:\.\d+)?(?!\.?\d|[a-z%]))",
        rf"(?P<word>(?<![a-z\d])(?:{spelt})(?![a-z\d-])|{word_zh})",
    ]
    return re.compile("|".join(filter(None, parts)))


def _range(spelt: str, characters: str, labels: str) -> str:
    """Two numbers joined so directly that one of them alone is not what was said; digits, whatever follows.

    A dash may also stand between a number and its explanation: it joins digits alone ("2-One needs to be careful"),
    and with blanks around it only before words that say so ("3 - 4 people here think so"). A label that begins with
    a number is none ("2-1 child", "2 or One needs to be careful").
    """
    number = rf"(?!{labels})" if labels else ""
    digits = r"\d+(?:\.\d+)?(?!\.?\d)"
    word = rf"(?:{spelt})(?![a-z])"
    character = rf"[{characters}]{{1,2}}(?=\W|$|[分号吧]|{UNDECIDED})"
    other = rf"{number}(?!(?P=low)(?!\d)){digits}"  # "1 - 1" is one number
    either = r" (?:or|to|through) (?:maybe |perhaps |possibly |even |option |an? )?"
    either_zh = r" ?(?:或者?|到|至|还是) ?(?:选项?|大概|约)?"
    joined = rf"(?:{either}|{either_zh})(?:{other}|{number}(?:{word}|{character}))|[-–—~]{other}"
    undecided = rf" [-–—~] {other}(?= ?分?(?:{UNDECIDED}))| ?[和与、,] ?{digits} ?分? ?之间"
    return "|".join(
        (
            rf"(?<![a-z\d])(?<!\d\.)(?P<low>{digits}) ?分?(?:{joined}|{undecided})",
            rf"(?<=between ){digits} and {digits}",
            rf"(?<![a-z\d-]){word}{either}{number}(?:{digits}|{word})",
            rf"(?<![{characters}百千万第])[{characters}]{{1,2}}分?(?:{either_zh}|[-–—~]){number}{character}",
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
        ranges.append(rf"(?<!\d)(?<!\d )out of\s?{high}(?!\d|\.\d)|满分(?:是|为)?\s?{high}\s?分?|(?<!\d){high}\s?分制")
    return re.compile("|".join(ranges) or r"(?!)")


def _in_words(number: int) -> str:
    """A number in words of either language, and no part of a longer one; matches nothing where it has none."""
    numerals = lexicon().numerals
    digits = "".join(word for word in numerals if not word.isascii()) + "百千万"
    forms = [
        rf"(?<![a-z]){word}(?![a-z])" if word.isascii() else rf"(?<![第{digits}]){word}(?![{digits}])"
        for word, value in numerals.items()
        if value == number
    ]
    return f"(?:{'|'.join(forms) or '(?!)'})"


def _known_labels(labels: _Labels) -> dict[str, int]:
    full = {(_key(label), code) for code, wordings in labels for label in wordings}
    owners: dict[str, set[int]] = {}
    for key, code in full:
        if key and not key.replace(" ", "").isdecimal():  # those are figures
            owners.setdefault(key, set()).add(code)
    short: dict[str, set[int]] = {}
    for code, wordings in labels:
        for key in _short_forms(wordings):
            if not any(owner != code and _within(key, other) for other, owner in full):
                short.setdefault(key, set()).add(code)
    for key, codes in short.items():
        owners.setdefault(key, codes)
    return {key: min(codes) for key, codes in owners.items() if len(codes) == 1}


def _short_forms(wordings: Iterable[str]) -> Iterable[str]:
    """Other ways to write a label: its part before a comma, bracket or "and"; "strongly agree" for "agree strongly"."""
    for label in wordings:
        if is_figure(label):
            continue
        folded = fold(clean(label))
        yield from lexicon().synonyms.get(folded, ())
        before_comma = re.split(r"[,;(/、:]", folded)[0]
        for head in map(_key, (before_comma, before_comma.split(" and ")[0])):
            if len(head) > (3 if head.isascii() else 1) and head not in lexicon().degrees:
                yield head
        pair = _key(label).split(" ")
        if len(pair) == 2 and lexicon().degrees & set(pair):
            yield f"{pair[1]} {pair[0]}"


def _within(key: str, other: str) -> bool:
    """Whether a label's words stand in another's; Chinese has no blanks between them."""
    return f" {key} " in f" {other} " if key.isascii() else key in other


def _label_pattern(label: str) -> str:
    pattern = r"\W{1,4}".join(re.escape(word) for word in label.split(" "))
    if len(label) == 1 and not label.isascii():  # "是", "否": words of their own only
        return rf"(?<![\u4e00-\u9fff]){pattern}(?![\u4e00-\u9fff])"
    return whole_word(pattern, label)


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", fold(clean(text))))


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
