"""Where a text mentions a question's options: by code, by label, by place, or as the end of a scale.

A mention may stand in a sentence that denies it; what speaks for an option is in ``choice``. All texts here are cleaned
and folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, lru_cache
from itertools import islice

from defsurvey.storage.surveys.survey import Question, QuestionType
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
    return "|".join(map(_label_pattern, sorted(known, key=lambda label: (-len(label), label))))


def _label_pattern(label: str) -> str:
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
    """A label's part before a comma, bracket or "and", without a first word such as "one", or turned round."""
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


#: An answer is given long before so many options are mentioned; what follows is not read.
MOST_MENTIONS = 200

#: Follows a whole number that is none: "7 and a half", "7½", "七分半".
_HALF = r" (?:and )?\d+⁄| and (?:a |one )?half|分?半"
#: Between a code and its label that is a number, and after the number where it is none.
_LINE = re.compile(r" ?[:=(\[] ?[\"'“(\[]{0,2}|(?P<counts> ?[)\]] ?[\"'“]?|\. [\"'“(\[]{0,2})")
_COUNTS = re.compile(r" ?[:=)\]]|\. ?\w")
#: Follows a number that is part of another: "10 out of 20", "8/10".
_PART = re.compile(r"\s?(?:out of|/)\s?\d")
#: One word for what a number that is a label counts, and what is none: "20 minutes", "20 plus".
_UNIT = re.compile(
    r" ?(?:(?!(?:plus|minus|ago|old|maximum|minimum|max|percent|hundred|thousand|million|billion|dozen)(?![a-z]))[a-z]+"
    r"|(?:(?![多几余来百千万亿半成倍以前后内外上下之太不没少的了我是就也到至或和与者])[\u4e00-\u9fff]){1,3})(?![a-z])"
)
#: A comma as Chinese writes it; it groups no digits.
_LISTED = re.compile(r"(?<=\d)，(?=[\d０-９])")


class Kind(Enum):
    """How an option is mentioned."""

    LINE = "line"  #: a number with the label after it, as the prompt shows it, where the label is a number as well
    NUMBER = "number"
    WORD = "word"  #: a number in words
    LABEL = "label"
    PLACE = "place"  #: "the second option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A stretch of a text that may name an option."""

    kind: Kind
    start: int
    end: int
    code: int | None  #: None: what no code can be, such as 7.5, 8 out of 100, a place whose code is another
    words: str  #: as written
    scored: bool = False  #: given out of the highest point ("8 out of 10", "8分")
    labelled: bool = False  #: a number that is the label of an option and the code of none
    shared: bool = False  #: a number that is the code of an option and the label of another
    unreadable: bool = False  #: a label in a language whose denials are not known

    @property
    def is_label(self) -> bool:
        """Whether it speaks by words of a label."""
        return self.kind is Kind.LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """How one question's options are written."""

    pattern: re.Pattern[str]
    labels: Mapping[str, int]  #: words of a label, or of an unambiguous short form -> code
    full: Mapping[int, Sequence[str]]  #: code -> its labels, as ``key`` writes them
    unreadable: frozenset[str]  #: those labels that are in no language whose denials are known
    figures: Figures  #: labels that are numbers
    span: re.Pattern[str] | None  #: the whole range of an ordered question ("from 1 to 10")
    score: re.Pattern[str]  #: what makes a number before it a point of the scale
    fraction: re.Pattern[str] | None  #: what makes it one of another scale
    shown: tuple[int, ...]
    ends: tuple[int, int]  #: of a scale, the first and the last code that is no residual one; else 0
    poles: Sequence[Poles]

    def fold(self, text: str) -> str:
        """A cleaned text as its mentions are looked for."""
        return fold(_LISTED.sub("， ", text) if self.figures.own or self.figures.codes else text)

    def without_span(self, text: str) -> str:
        """A folded text with blanks for the range of a scale, which is no mention."""
        if self.span is None:
            return text
        return self.span.sub(lambda found: found[0] if self._is_label(found) else " " * len(found[0]), text)

    def mentions(self, text: str) -> list[Mention]:
        """The first mentions in a folded text, in order."""
        found: list[Mention] = []
        for mention in (self._mention(match, text) for match in islice(self.pattern.finditer(text), MOST_MENTIONS)):
            if found and self._is_line(found[-1], mention, text):
                found[-1] = replace(
                    found[-1], kind=Kind.LINE, end=mention.end, words=text[found[-1].start : mention.end]
                )
            else:
                found.append(mention)
        return found

    def _is_line(self, code: Mention, label: Mention, text: str) -> bool:
        """Whether two numbers are an option as the prompt shows it ("2: 1"), and none of them numbers a list."""
        if code.kind is not Kind.NUMBER or label.kind is not Kind.NUMBER or code.code is None or code.labelled:
            return False
        between = _LINE.fullmatch(text[code.end : label.start])
        counts = between is not None and between["counts"] and _COUNTS.match(text, label.end)
        return between is not None and not counts and (code.code, plain(label.words)) in self.figures.own

    def _is_label(self, span: re.Match[str]) -> bool:
        """Whether what looks like the range of the options is one option's label ("1-4" of 4 options)."""
        match = self.pattern.match(span.string, span.start())
        if match is None or match.lastgroup not in ("label", "figure"):
            return False
        return not re.search(r"\w", span.string[match.end() : span.end()].partition("(")[0])

    def _mention(self, match: re.Match[str], text: str) -> Mention:
        words, start, end, kind = match[0], match.start(), match.end(), match.lastgroup
        if kind in ("number", "word"):
            return self._number(Kind(kind), words, start, text)
        code, unreadable = self._at_place(words) if kind == "place" else None, False
        if kind == "label":
            label = key(words)
            code, unreadable = self.labels[label], label in self.unreadable
        elif kind == "figure":
            kind, code = "label", self.figures.codes.get(figure(words))
        return Mention(kind=Kind(kind), start=start, end=end, code=code, words=words, unreadable=unreadable)

    def _number(self, kind: Kind, words: str, start: int, text: str) -> Mention:
        end = start + len(words)
        if kind is Kind.WORD:
            value = numeral(words)
            number = "" if value is None else str(value)
        else:
            dash = words.startswith("-") and re.search(r"[\w)] ?$", text[max(0, start - 2) : start])  # no sign
            number = plain(words[1:] if dash else words)
        code = int(number) if number and len(number) < 10 and "." not in number else None
        labelled = self.figures.numbers.get(number)
        scored = self.score.match(text, end)
        if scored is None and self.fraction is not None and self.fraction.match(text, end):
            code = labelled = None
        if _PART.match(text, end):
            labelled = None
        end = scored.end() if scored else end
        unit = _UNIT.match(text, end) if labelled is not None else None
        if unit and not pattern("after").match(text, end) and not pattern("degree after").match(text, end):
            end = unit.end()
        return Mention(
            kind=kind,
            start=start,
            end=end,
            code=code if labelled is None else labelled,
            words=words,
            scored=scored is not None,
            labelled=labelled is not None,
            shared=number in self.figures.shared,
        )

    def _at_place(self, words: str) -> int | None:
        """An ordinal counts the options shown; it is clear only where that place has the same code."""
        found = re.match(r"第?(\d+|[a-z]+|[^\W\d]{1,2}?(?=[项个种选]))", words)
        word = found[1] if found else ""
        place = int(word) if word.isdecimal() else lookup("ordinal").get(word) or numeral(word)
        return place if place and 0 < place <= len(self.shown) and self.shown[place - 1] == place else None


def vocabulary(question: Question, shown: Sequence[int]) -> Vocabulary:
    """How the options of a question, shown in this order, are written."""
    labels = tuple((code, tuple(question.option(code).label.items())) for code in shown)
    scale = question.type is QuestionType.SCALE
    inner = [option.code for option in question.options if not option.residual] if scale else [0]
    return _vocabulary(labels, question.type, min(inner), max(inner))


def unread_labels(question: Question) -> Iterator[str]:
    """The labels of a question that are no mention of their own option, but for those that are digits alone."""
    words = vocabulary(question, question.codes)
    for option in question.options:
        for label in option.label.values():
            if not label.isdecimal() and all(m.code != option.code for m in words.mentions(words.fold(clean(label)))):
                yield label


@lru_cache(maxsize=1024)  # a survey's questions, some with their options in several orders
def _vocabulary(
    labels: tuple[tuple[int, tuple[tuple[str, str], ...]], ...], kind: QuestionType, low: int, high: int
) -> Vocabulary:
    shown = tuple(code for code, _ in labels)
    known = known_labels(labels)
    scale = kind is QuestionType.SCALE
    numbers = figures(labels)
    total = rf"(?:{max(shown)}{'|ten' if max(shown) == 10 else ''})(?!\d|\.\d|[a-z])"
    return Vocabulary(
        pattern=_pattern(shown, patterns(known), numbers),
        labels=known,
        full={code: [key(label) for _, label in wordings] for code, wordings in labels},
        unreadable=unreadable_labels(labels),
        figures=numbers,
        span=_span(min(shown), max(shown), scale=scale) if kind.ordered else None,
        score=re.compile(
            rf"\s?(?:out of|of{'|/' if scale else ''}|分?[,(\s]?满分)\s?{total}\s?分?|\s?(?:分|points?(?![a-z]))"
        ),
        fraction=_PART if scale else None,
        shown=shown,
        ends=(low, high),
        poles=poles(labels, low, high) if scale else (),
    )


def _pattern(shown: Sequence[int], labels: str, numbers: Figures) -> re.Pattern[str]:
    numerals = lookup("numeral")
    spelt = "|".join(w for w, value in numerals.items() if w.isascii() and (value or 0 in shown))
    characters = "".join(word for word in numerals if not word.isascii())
    ordinals = "|".join(lookup("ordinal"))
    nth = rf"(?<![a-z0-9])(?:{ordinals}|\d{{1,2}}(?:st|nd|rd|th)) (?:option|choice|answer)(?![a-z])"
    kinds_zh = "项|个?选项|个选择|个答案|种(?:选项|答案)"
    nth_zh = rf"第(?:[{characters}]{{1,2}}|\d{{1,2}})(?:{kinds_zh})"
    # a comma groups three digits, or stands between codes of three
    known = {*map(str, shown), *numbers.numbers}
    grouped = r"\d+(?:,\d{3})*"
    if any(re.fullmatch(r"\d{3}", number) for number in known):
        grouped = "|".join([*(f"{int(n):,}" for n in known if n.isdecimal() and len(n) > 3), r"\d+"])
    ends_zh = rf"\W|$|[分号吧]|(?:或者?|到|至|还是)[{characters}\d]|[左上之]"
    word_zh = rf"(?<![{characters}百千万第])[{characters}]{{1,2}}(?={ends_zh})(?!{_HALF})"
    parts = [
        rf"(?P<place>{nth}|{nth_zh})",
        rf"(?P<label>{labels})" if labels else "",
        rf"(?P<figure>{numbers.pattern})" if numbers.pattern else "",
        rf"(?P<number>(?<![a-z\d⁄])(?<!\d\.)-?(?:{grouped})(?:\.\d+)?(?!\.?\d|[a-z%⁄]|{_HALF}))",
        rf"(?P<word>(?<![a-z\d])(?:{spelt})(?![a-z\d-]|{_HALF})|{word_zh})",
    ]
    return re.compile("|".join(filter(None, parts)))


def _span(low: int, high: int, *, scale: bool) -> re.Pattern[str]:
    """What gives the range of the options and chooses none: "from 1 to 10", "一到十", "out of 10, ..."."""
    note = r"\s?(?:分|\([^()\n]{0,60}\))?\s?"
    # after a dash a label may begin with a numeral ("4-一点也不幸福")
    joint = r"(?:to|through|and|到|至|[-–—~](?=\s?\d))\s?"
    lows = [first for first in {low, max(low, 1)} if high - first > 1]  # from 1 as well where there is a 0
    ends = [pair for first in lows for pair in ((first, high), (high, first))]
    ranges = [f"{_written(a)}{note}{joint}{_written(b)}{note}" for a, b in ends]
    if scale:
        ranges.append(rf"(?<!\d)(?<!\d )out of\s?{high}(?!\d|\.\d)|满分(?:是|为)?\s?{high}\s?分?|(?<!\d){high}\s?分制")
    return re.compile("|".join(ranges) or r"(?!)")


def _written(number: int) -> str:
    """A number in digits, or in words of either language, and no part of a longer one."""
    numerals = lookup("numeral")
    others = "".join(word for word in numerals if not word.isascii()) + "百千万a-z"
    forms = "|".join([str(number), *(word for word, value in numerals.items() if value == number)])
    return rf"(?<![\d第{others}])(?<!\d\.)(?:{forms})(?!\d|\.\d|[{others}])"


def numeral(word: str) -> int | None:
    """The number that a word is, up to nineteen in Chinese."""
    numerals: Mapping[str, int] = lookup("numeral")
    units = numerals.get(word[1:]) if word[0] == "十" else None
    return numerals.get(word, None if units is None else 10 + units)
