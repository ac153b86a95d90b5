"""Which options a section of a completion chooses, by number, by label and by the end of a scale.

Each of these is a witness, and silent where a number may be a quantity or a label is denied or made more or less of.
Where witnesses contradict each other, or name several options where one is allowed, there is a problem and no choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from defsurvey.storage.surveys.survey import Question, QuestionType
from defsurvey.workers.simulation.answer_parser.lexicon import clean, pattern
from defsurvey.workers.simulation.answer_parser.mentions import Kind, Mention, is_weaker, vocabulary

SENTENCE_END = re.compile(r"[!?。\n]|\.(?=\s|$)")
#: Ends what may stand in a line before its item.
BULLET = re.compile(r"[\s\-–—•·(\[{<,;:\"'“]*$")
#: Characters after a choice within which a silent witness is heard.
HEARD = 120
#: Between the items of a list, the choices among which are written as a NUL.
_BETWEEN_ITEMS = re.compile(r"[,;、]|(?<![a-z])and(?![a-z])|和|以及")
_WIDEST_GAP, _LONG_LINE = 40, 2000
_REMARK = re.compile(r" ?(?:\([^()\[\]\n]{0,80}\)|\[[^()\[\]\n]{0,80}\])")
_TIGHT = re.compile(
    r"[\s\"'“”‘:.)\]\-–—=(\[,、]{0,5}(?:(?:即|也就是|that is|meaning|which is|which means|means|is)[\s\"'“”:,]{0,3})?"
)
#: Joins two numbers so directly that who says the one says the other, whatever follows.
_RANGE = re.compile(
    r" (?:or|to|through) (?:maybe |perhaps |possibly |even |option |an? )?| ?(?:或者?|到|至|还是) ?(?:大概|约)?|[-–—~]"
)
_LINE_END = re.compile(r"[ .,;:。!)\]\"'”]*(?:\n|$)")
_CLAUSE_END = re.compile(r"\s*(?:$|[^\w\s])|\s*(?:because|since|as|因为|吧)")
_OWN_CLAUSE = re.compile(r"[;:]|(?<![a-z])(?:i|we|it|is|would|say)(?![a-z])|[我都也]")
_BREAK = re.compile(r"[,;:(]|(?<![a-z])(?:i|we|it)(?![a-z])|[我都也]|[以之]外")
_REASON = re.compile(r"(?<![a-z])(?:because|since)(?![a-z])|因为|由于")
#: Ends a text after which a number is the answer that the words before it led to.
_GIVEN = re.compile(
    r"(?<!\d)[,;:(\[–—-][\s\"'“]*"
    r"(?:(?:so|about|around|roughly|approximately|say|i'd say|maybe|probably|perhaps|at|an?) "
    r"|(?:[给打得]|大?约|大概) ?)*$"
)


class Statement:
    """A section's text with the mentions in it, and what each of them says."""

    def __init__(self, text: str, question: Question, shown: Sequence[int], *, marked: bool) -> None:
        self.vocabulary = vocabulary(question, shown)
        self.several = question.type is QuestionType.MULTIPLE
        self.scale = question.type is QuestionType.SCALE
        self.marked = marked
        self._asked = " ".join(question.text.values()).casefold()
        self.text = self.vocabulary.without_span(self.vocabulary.fold(text))
        self.found = self.vocabulary.mentions(self.text)
        self._leave_out_remarks()
        if any(mention.unreadable for mention in self.found):
            self.found = [m for i, m in enumerate(self.found) if not m.unreadable or self._is_certain(i)]
        if not self.several and not self.scale:
            self._leave_out_lesser()

    def opening(self) -> list[int]:
        """The mentions that the text begins with: one, and those joined to it."""
        first = self.found[0]
        if first.start > 60 or not pattern("preamble").match(self.text[: first.start]):
            return []
        if not self.is_free(0) or self._is_denied_after(first):
            return []
        if first.is_label and not (self.marked or _CLAUSE_END.match(self.text, first.end) or self.is_paired(0)):
            return []  # "Very important to some, ..."
        return [0, *self._following(0)]

    def in_sentences(self) -> list[int]:
        """The mentions by which sentences choose: all, or those of the first such sentence behind an answer marker."""
        stated: list[int] = []
        for start, _, here in self._sentences(0):
            chosen: list[int] = []
            for i in here:
                if self._speaks(i, start) or (chosen and chosen[-1] == i - 1 and self.is_joined(i)):
                    chosen.append(i)
            stated += chosen
            if chosen and self.marked:
                return [*stated, *self._following(chosen[-1])] if self.several and chosen[-1] == here[-1] else stated
        return stated

    def heard(self, start: int, *, labels: bool) -> list[int]:
        """What the witness that is silent so far says from a place on, in the rest of the sentence or in the next."""
        for begin, _, here in self._near(start):
            said = [i for i in here if self.found[i].is_label is labels and self._speaks(i, begin)]
            said = [i for i in said if not labels or self._is_own(self.found[i].start, self.found[i].end, begin)]
            if said:
                return said
        return []

    def leaning(self, start: int) -> int | None:
        """The end of the scale that the answerer's own words from a place on lean to, though they are not its label."""
        for begin, end, _ in self._near(start):
            if self.text[end - 1 : end] == "?" or pattern("hedge").search(self.text, begin, end):
                continue
            for pole in self.vocabulary.poles:
                word = pole.words.search(self.text, begin, end)
                if word is None or not self._is_own(word.start(), word.end(), begin):
                    continue
                clause = pattern("clause").split(self.text[begin : word.start()])[-1]
                denial = pattern("denial").search(clause)
                if denial and pattern("utmost").search(clause, denial.end()):
                    continue  # who is "not completely satisfied" may be near to it
                denied = bool(denial) != (word.lastgroup == "opposite")
                return sum(self.vocabulary.ends) - pole.affirming if denied else pole.affirming
        return None

    def is_free(self, i: int) -> bool:
        """Whether a number is no quantity, and a label is not made more or less of."""
        mention = self.found[i]
        if mention.is_label:
            return self._is_unmodified(mention)
        if mention.kind in (Kind.PLACE, Kind.LINE) or self.is_paired(i):
            return True
        if self._is_range(i + 1):
            return self.is_free(i + 1)
        if mention.labelled:
            return self._fills_line(i)
        after = self.text[mention.end : mention.end + 20]
        if mention.kind is Kind.WORD and not mention.scored:
            return bool(re.match(r"\s*(?:$|[^\w\s-])", after) or pattern("undecided").match(after))
        return bool(pattern("after").match(after))

    def is_paired(self, i: int) -> bool:
        """Whether a label stands right after this number, or a number right after this label."""
        if not 0 <= i < len(self.found) - 1 or self.found[i].is_label == self.found[i + 1].is_label:
            return False
        gap = self._gap(i + 1)
        return len(gap) <= 16 and bool(_TIGHT.fullmatch(gap))

    def is_joined(self, i: int) -> bool:
        """Whether a mention is joined to the one before it as another choice, or as the same in other words."""
        mention, before, gap = self.found[i], self.found[i - 1], self._gap(i)
        if len(gap) > _WIDEST_GAP or ("\n" in gap and not self._ends_line(i)):
            return False
        if self.is_paired(i - 1) and (mention.is_label or re.match(r"[\s\"'“”]*[:(\[,\-–—=]", gap) or not gap.strip()):
            return mention.is_label or self.is_free(i)
        if not before.is_label and not mention.is_label:
            if self._is_range(i) or not gap.strip(" \n"):
                return self._is_range(i) or "\n" in gap
            if mention.labelled and re.fullmatch(r"\. ?", gap):  # "1. 20"
                return self.is_free(i)
        return bool(pattern("connector").match(gap)) and self.is_free(i)

    def unjoined(self, stated: Sequence[int]) -> Mention | None:
        """An option with which a list goes on, though it is not joined to the last choice: it may be chosen as well."""
        # "Independence needed in life, hard work for success"; but not what an argument or a denial names
        last, codes = self.found[stated[-1]], {self.found[i].code for i in stated}
        ending = SENTENCE_END.search(self.text, last.end)
        end = ending.start() if ending else len(self.text)
        for i in range(stated[-1] + 1, len(self.found)):
            mention = self.found[i]
            if mention.code in codes or mention.code not in self.vocabulary.shown or not self.is_free(i):
                continue
            if mention.start >= end:
                if mention.is_label and self.opens_line(mention):
                    return mention
                continue
            between = self.text[last.end : mention.start]
            if pattern("item").search(between) and (not mention.is_label or self._speaks(i, last.end)):
                argued = pattern("argument").search(between) or pattern("negation").search(between)
                after = self.text[mention.end : mention.end + 10]
                if not argued or re.match(r" ?[:–—]| (?:because|since)(?![a-z])|因为", after):
                    return mention
        return None

    def opens_line(self, mention: Mention) -> bool:
        """Whether nothing but a bullet stands before a mention in its line, which is not the first."""
        _, newline, line = self.text[max(0, mention.start - 40) : mention.start].rpartition("\n")
        return bool(newline) and BULLET.match(line) is not None

    def _following(self, first: int) -> Iterator[int]:
        """The mentions that are joined to the one before, or open the next item of its list."""
        last = first
        for i in range(first + 1, len(self.found)):
            if (last == i - 1 and self.is_joined(i)) or (self.several and self._opens_item(i)):
                yield i
                last = i
            elif not self.several:
                return

    def _opens_item(self, i: int) -> bool:
        """Whether a mention opens a line or a sentence of a list of choices, each of which may be explained."""
        mention, after = self.found[i], self.text[self.found[i].end : self.found[i].end + 2]
        before = self.text[max(0, mention.start - 40) : mention.start]
        if self.opens_line(mention):
            bulleted = before.rpartition("\n")[2].strip()
            return bool(not mention.is_label or bulleted or _CLAUSE_END.match(self.text, mention.end))
        if not re.search(r"[.!?;。] ?$", before):
            return False
        alone = bool(re.match(r" ?(?:[.;。!\n]|$)", after)) if mention.is_label else self.is_paired(i)
        return alone or mention.kind is Kind.LINE or bool(re.match(r" ?[:\-–—]", after))

    def _sentences(self, start: int) -> Iterator[tuple[int, int, list[int]]]:
        """Where each sentence from a place on begins and ends, and the mentions in it."""
        i = next((i for i, mention in enumerate(self.found) if mention.start >= start), len(self.found))
        while start <= len(self.text):
            ending = SENTENCE_END.search(self.text, start)
            end, here = ending.end() if ending else len(self.text) + 1, []
            while i < len(self.found) and self.found[i].start < end:
                here.append(i)
                i += 1
            yield start, end, here
            start = end

    def _near(self, start: int) -> Iterator[tuple[int, int, list[int]]]:
        """The rest of a sentence, and up to the next one that has words; no farther than ``HEARD``."""
        for begin, end, here in self._sentences(start):
            stop = min(end, start + HEARD)
            yield begin, stop, [i for i in here if self.found[i].end <= stop]
            if stop < end or (begin > start and re.search(r"\w", self.text[begin:end])):
                return

    def _speaks(self, i: int, start: int) -> bool:
        """Whether a sentence that began at ``start`` chooses by this mention, rather than denies or merely uses it."""
        mention, begin = self.found[i], max(start, self.found[i].start - 200)
        if not self.is_free(i) or self._is_denied_after(mention):
            return False
        before = self.text[begin : mention.start]
        for earlier in self.found[max(0, i - 8) : i]:  # "not very important" denies nothing that follows
            if earlier.start >= begin:
                blank = " " * (earlier.end - earlier.start)
                before = before[: earlier.start - begin] + blank + before[earlier.end - begin :]
        if pattern("negation").search(pattern("clause").split(before)[-1]) or self._is_excluded(mention, before):
            return False
        if mention.is_label:
            long = len(mention.words) > 3 or not mention.words.isascii()
            return long or _CLAUSE_END.match(self.text, mention.end) is not None
        if mention.scored or mention.kind in (Kind.PLACE, Kind.LINE) or pattern("cue").search(before[-24:]):
            return True
        return self._is_given(mention, self.text[begin : mention.start], alone=begin > 0)

    def _is_denied_after(self, mention: Mention) -> bool:
        named = mention.kind in (Kind.LABEL, Kind.LINE)
        return named and pattern("denied after").match(self.text, mention.end) is not None

    def _is_excluded(self, mention: Mention, before: str) -> bool:
        """Whether it is left out ("all except this and that"); a comma may end that ("Never, except once, 2")."""
        rest = pattern("all but").split(before)
        if len(rest) > 1 and mention.kind in (Kind.LABEL, Kind.LINE) and not _OWN_CLAUSE.search(rest[-1]):
            return True
        rest = pattern("excluding").split(before)
        return len(rest) > 1 and (not _BREAK.search(rest[-1]) or pattern("connector").match(rest[-1]) is not None)

    def _is_own(self, start: int, end: int, begin: int) -> bool:
        """Whether words are said of what is asked, as the answerer's own view: not "important to some"."""
        before = self.text[max(begin, start - 100) : start]
        if pattern("others").search(before) or pattern("to others").match(self.text, end):
            return False
        subject = re.search(r"([a-z]+) (?:is|are|was|were)(?: \w+)?(?: an?)? ?$", before)
        return subject is None or subject[1] in self._asked or bool(pattern("pronoun").fullmatch(subject[1]))

    def _is_unmodified(self, mention: Mention) -> bool:
        before, after = self.text[max(0, mention.start - 20) : mention.start], self.text[mention.end : mention.end + 40]
        denied = re.search(r"[不没非未]$", before) or pattern("denied before").search(before)
        if denied or pattern("changed after").match(after):
            return False
        if pattern("degree").match(mention.words):
            return not re.match(r" (?:strongly|somewhat|completely|partly)\b", after)
        return not pattern("degree before").search(before) and not pattern("degree after").match(after)

    def _is_given(self, number: Mention, before: str, *, alone: bool) -> bool:
        """Whether a number ends a sentence as its result ("..., 8", "... (8)"), or is all of it and of its line."""
        if alone and BULLET.match(before):
            return _LINE_END.match(self.text, number.end) is not None
        after = self.text[number.end : number.end + 2]
        ends = _LINE_END.match(self.text, number.end) or re.match(r"[.;)\]](?!\w)", after)
        return bool(ends) and _GIVEN.search(before) is not None

    def _is_range(self, i: int) -> bool:
        """Whether a number is joined to the one before so directly that one of them alone is not what was said."""
        both = self.found[max(0, i - 1) : i + 1]
        if len(both) < 2 or any(mention.kind not in (Kind.NUMBER, Kind.WORD) for mention in both):
            return False
        one, gap = both[0], self._gap(i)
        between = gap == " and " and self.text.endswith("between ", 0, one.start)
        return one.words != self.found[i].words and (between or _RANGE.fullmatch(gap) is not None)

    def _is_certain(self, i: int) -> bool:
        """Whether a label chooses even in a language whose denials are not known."""
        return self.is_paired(i) or (i > 0 and self.is_paired(i - 1)) or self._fills_line(i)

    def _fills_line(self, i: int) -> bool:
        """Whether the line of a mention holds nothing but mentions, what joins or introduces them, and a reason."""
        text, mention = self.text, self.found[i]
        start, end = text.rfind("\n", 0, mention.start) + 1, text.find("\n", mention.end)
        end = len(text) if end < 0 else end
        if end - start > _LONG_LINE:
            return False
        rest, at = "", start
        for other in self.found:
            if start <= other.start and other.end <= end:
                rest, at = rest + text[at : other.start], other.end
        before, rest = text[start : self.found[0].start], _REASON.split(rest + text[at:end])[0]
        if pattern("cue").search(before) or (pattern("preamble").match(before) and "<" not in before):
            rest = rest.removeprefix(before)
        return pattern("connector").match(re.sub(r"[.!。]", " ", rest)) is not None

    def _ends_line(self, i: int) -> bool:
        end = self.found[i + 1 if self.is_paired(i) else i].end
        rest = self.text[end : end + 100]
        return _LINE_END.match(rest) is not None or (self.several and re.match(r" ?[:\-–—(]", rest) is not None)

    def _gap(self, i: int) -> str:
        """What stands between a mention and the one before it; too long a gap is cut."""
        start, end = self.found[i - 1].end, self.found[i].start
        return re.sub(" {2,}", " ", self.text[start : min(end, start + HEARD)])

    def _leave_out_remarks(self) -> None:
        """Make blanks of remarks in brackets after a mention ("1 (better than 3) or 2"), but for a label or number."""
        kept: list[Mention] = []
        text, remark_end = self.text, 0
        for mention in self.found:
            if mention.start < remark_end:
                continue
            kept.append(mention)
            if remark := _REMARK.match(text, mention.end):
                at = bracket = remark.end() - len(remark[0].lstrip())
                for inner in self.found:
                    if at < inner.start < remark.end() and pattern("connector").match(text[at : inner.start]):
                        kept.append(inner)
                        at = inner.end
                remark_end = remark.end() - (at > bracket)
                text = text[:at] + " " * (remark_end - at) + text[remark_end:]
        self.text, self.found = text, kept

    def _leave_out_lesser(self) -> None:
        """Of two labels that are compared, leave out the one that is said to be less."""
        for one, other in pairwise(self.found):
            if one.is_label and other.is_label and other.start - one.end < _WIDEST_GAP + 20:
                compared = f"{self.text[one.end : other.start]}|{self.text[other.end : other.end + 12]}"
                above, below = pattern("above").match(compared), pattern("below").match(compared)
                if above or below:
                    self.found.remove(other if above else one)
                    self.text = self.text[: one.end] + " " * (other.start - one.end) + self.text[other.start :]
                    return


CONTRADICTIONS = ("number and label name different options", "number and sentence are at different ends of the scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one section says. Neither codes nor problem: it says nothing about the options."""

    codes: frozenset[int] = frozenset()
    problem: str = ""
    opening: bool = False  #: whether the section begins with it, so that it needs no marker to be an answer
    final: bool = False  #: whether nothing that may follow the text can change it


NOTHING = Choice()


def choose(text: str, question: Question, shown: Sequence[int], *, marked: bool) -> Choice:
    """The options that a section chooses: behind an answer marker by its first sentence with some, else by all."""
    said = Statement(text, question, shown, marked=marked)
    if not said.found:
        return NOTHING
    opening = said.opening()
    stated = opening or said.in_sentences()
    first, labels = said.found[0], {said.found[i].is_label for i in stated}
    end = said.found[stated[-1]].end if stated else first.end if first.is_label else 0
    silent = not said.several and end and len(labels) < 2 and (opening or marked or said.scale)
    heard = said.heard(end, labels=labels == {False}) if silent else []
    mentions = [said.found[i] for i in (*stated, *heard)]
    if (
        first.kind is Kind.NUMBER
        and first not in mentions
        and BULLET.match(said.text[: first.start])
        and (not stated or (first.code in said.vocabulary.shown and not first.labelled))
    ):
        return Choice(problem=f"it begins with {first.words}, which may be a quantity")
    if not mentions:
        return NOTHING
    counting = _counting(said, mentions) if said.several else ()
    mentions = [mention for mention in mentions if mention not in counting]
    problem = _unoffered(said, mentions)
    if not problem:
        problem = _listed(said, mentions, stated) if said.several else _disagreement(said, mentions, heard, end)
    if problem:
        return Choice(problem=problem)
    numbers = [mention for mention in mentions if not mention.is_label]
    deciding = numbers if numbers and not said.several else mentions
    codes = frozenset(mention.code for mention in deciding if mention.code is not None)
    allowed = question.max_choices if said.several else 1
    if len(codes) > allowed:
        return Choice(problem=f"{len(codes)} options are named where at most {allowed} may be chosen")
    final = bool(opening) and not said.several and len(said.text) - end > HEARD + 30  # a word more than is heard
    return Choice(codes=codes, opening=bool(opening), final=final)


def _unoffered(said: Statement, mentions: Sequence[Mention]) -> str:
    """What is wrong with single mentions: no option, or a number that is the code of one and the label of another."""
    shown = said.vocabulary.shown
    for mention in mentions:
        if mention.code is None or mention.code not in shown:
            return f"{mention.words} is not one of {', '.join(map(str, sorted(shown)))}"
    labelled = {mention.code for mention in mentions if mention.labelled}
    figures = labelled or any(mention.kind is Kind.LINE for mention in mentions)
    for before, mention, after in zip((None, *mentions), mentions, (*mentions[1:], None), strict=False):
        is_number = mention.kind in (Kind.NUMBER, Kind.WORD) and not mention.labelled
        if not figures or not is_number or (after and after.is_label):
            continue
        # "0 (1)" and "2, 20" are clear where 0 is the label of 1 and 20 that of 2; "0, 1" is not where 1 is a label too
        bracketed = before and re.fullmatch(r" ?[(\[] ?", said.text[before.end : mention.start])
        if (labelled and mention.code not in labelled) or (mention.shared and not bracketed and before):
            return f"{mention.words} may be the number of an option or its label"
    return ""


def _disagreement(said: Statement, mentions: Sequence[Mention], heard: Sequence[int], end: int) -> str:
    """What is wrong between the witnesses where one option may be chosen."""
    # The words of an end of a scale agree with every number on its half, since the points between have no words. Those
    # of a sentence contradict it only where it is near the other end; one that names several options contradicts none.
    numbers = {mention.code for mention in mentions if not mention.is_label}
    number = numbers.pop() if len(numbers) == 1 else None
    if number is None:
        return ""
    low, high = said.vocabulary.ends
    off_middle = number - (low + high) / 2
    near_an_end = low <= number <= high and abs(off_middle) > (high - low) / 4

    def agrees(label: int) -> bool:
        if said.scale and low <= min(number, label) and max(number, label) <= high:
            return off_middle * (label - (low + high) / 2) >= 0 or (bool(heard) and not near_an_end)
        return label == number or (bool(heard) and _is_weaker(said, label, number))

    named = [agrees(mention.code or 0) for mention in mentions if mention.is_label]
    if named and not (any(named) if heard else all(named)):
        return CONTRADICTIONS[0]
    leaning = said.leaning(end) if said.vocabulary.poles and near_an_end else None
    return "" if leaning is None or agrees(leaning) else CONTRADICTIONS[1]


def _is_weaker(said: Statement, label: int, number: int) -> bool:
    full = said.vocabulary.full
    return any(is_weaker(words, other) for words in full[label] for other in full[number])


def _listed(said: Statement, mentions: Sequence[Mention], stated: Sequence[int]) -> str:
    """What is wrong with a list of choices."""
    for one, other in pairwise(mentions):
        gap = said.text[one.end : other.start]
        if _is_pair(said, one, other) and one.code != other.code:
            return CONTRADICTIONS[0]
        wide = not one.is_label and not other.is_label and abs((other.code or 0) - (one.code or 0)) > 1
        if wide and re.fullmatch(r" ?(?:[-–—~]|to|through|到|至) ?", gap):
            return f"{said.text[one.start : other.end]} is a range and not a list"
    for words in _unlisted(said.text, mentions):
        return f"it lists {words!r}, which is not offered"
    more = said.unjoined(stated)
    return f"it goes on with {more.words!r}, which may be chosen as well" if more else ""


def _is_pair(said: Statement, one: Mention, other: Mention) -> bool:
    """Whether a label is right after its number, which does not stand in brackets after another label."""
    bracketed = re.search(r"\w ?[(\[] ?$", said.text[max(0, one.start - 4) : one.start])
    beside = re.fullmatch(r" ?[:.)\]\-–—=、]{0,2} ?[\"'“]?", said.text[one.end : other.start])
    return not one.is_label and other.is_label and beside is not None and not bracketed


def _counting(said: Statement, stated: Sequence[Mention]) -> Sequence[Mention]:
    """Numbers that only count what is chosen: 1., 2., 3. before options with other codes."""
    text, numbered = said.text, [(one, other) for one, other in pairwise(stated) if one.kind is Kind.NUMBER]
    bulleted = [pair for pair in numbered if BULLET.match(text[: pair[0].start].rpartition("\n")[2])]
    opening = [one for one, other in bulleted if re.match(r"[.)、] ?$", text[one.end : other.start])]
    paired = [one for one, other in numbered if _is_pair(said, one, other)]
    counts = [found for found in (opening, paired) if [one.code for one in found] == list(range(1, len(found) + 1))]
    return next((found for found in counts if len(found) > 1), ())


def _unlisted(text: str, stated: Sequence[Mention]) -> Iterator[str]:
    """Words that stand in a list of choices like a choice but name no option."""
    for mention in stated:
        text = text[: mention.start] + "\0" * (mention.end - mention.start) + text[mention.end :]
    text = text[: stated[-1].end] + text[stated[-1].end :].partition("\n")[0]
    first = True
    for line in SENTENCE_END.split(re.sub("\0+", "\0", text)):
        if "\0" not in line and not re.match(r" ?[\-–—•·] ?[^\W\d][^,;.:()]{0,39}$", line):
            continue
        for item in _BETWEEN_ITEMS.split(line):
            words = item.strip(" \"'“”()[]-–—•·:")
            explains = "\0" in words or pattern("reason").match(words)
            first = first and "\0" not in words
            if not re.search(r"[^\W\d\0]", words.rpartition("\0")[2]) or pattern("connector").match(words):
                continue
            if explains:
                break
            if not first or (words.count(" ") < 3 and not pattern("opening").match(words)):
                yield clean(words)
