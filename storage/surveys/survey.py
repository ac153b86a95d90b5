"""What a survey is: questions, options, reference distributions, cultures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from defsurvey.storage.surveys.problem import UnknownName

Wording = Mapping[str, str]  #: language code (``en``, ``zh``) -> wording in that language


class QuestionType(StrEnum):
    """How a question is answered."""

    SINGLE = "single"  #: one of several options without an order (nominal)
    ORDINAL = "ordinal"  #: one of several labelled options in order
    SCALE = "scale"  #: a point on a numeric scale whose ends are labelled
    MULTIPLE = "multiple"  #: several options, at most ``max_choices``

    @property
    def ordered(self) -> bool:
        """Whether distances between option codes mean something."""
        return self in (QuestionType.ORDINAL, QuestionType.SCALE)


class Group(StrEnum):
    """The part of a population that a reference distribution describes."""

    ALL = "all"
    MALE = "male"
    FEMALE = "female"
    AGE_LE29 = "age_le29"
    AGE_30_49 = "age_30_49"
    AGE_50PLUS = "age_50plus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """The value dimension that a question, or one option of a list, speaks to."""

    dimension: str  #: code of the dimension, e.g. ``EVI``
    direction: int  #: +1 if a higher code (for a listed option: choosing it) means more of it, else -1
    basis: str  #: A published index item, A2 documented correlate, A3 Inglehart-Welzel item, B judgement
    core: bool = False  #: whether it belongs to the survey's balanced subset


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One answer that a question offers."""

    code: int
    label: Wording  #: for the inner points of a scale the label is the number itself
    residual: bool = False  #: "other", "none of these": always shown last
    value: Value | None = None  #: only for options of a multiple-choice question


@dataclass(frozen=True, kw_only=True)  # without slots, so that the codes can be kept: a reply asks for them 30 times
class Question:
    """One question as it is asked."""

    id: str
    type: QuestionType
    topic: str  #: section of the questionnaire, in English
    text: Wording
    options: tuple[Option, ...]  #: in the survey's own order
    max_choices: int = 1  #: more than 1 only for ``multiple``
    value: Value | None = None  #: None for a multiple-choice question: there the options carry it

    @cached_property
    def codes(self) -> tuple[int, ...]:
        """Option codes in the survey's own order."""
        return tuple(option.code for option in self.options)

    @property
    def core(self) -> bool:
        """Whether the question, or any of its options, belongs to the balanced subset."""
        values = [self.value, *(option.value for option in self.options)]
        return any(value is not None and value.core for value in values)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Codes of the value dimensions that the question or its options speak to, sorted."""
        values = [self.value, *(option.value for option in self.options)]
        return tuple(sorted({value.dimension for value in values if value is not None}))

    def option(self, code: int) -> Option:
        """The option with that code; raises UnknownName."""
        if code in self.codes:
            return self.options[self.codes.index(code)]
        raise UnknownName(f"question {self.id}: option {code} is not one of {', '.join(map(str, self.codes))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDistribution:
    """What people of a culture answered to a question."""

    question: str
    culture: str
    group: Group
    shares: Mapping[int, float]  #: option code -> share in [0, 1]; they sum to 1 unless the question is ``multiple``
    n: int  #: respondents with a valid answer
    low_n: bool = False  #: too few respondents for anything but a demonstration
    source: str = ""
    n_eff: float | None = None  #: as many unweighted respondents would tell as much; None: unweighted, or not known

    @property
    def effective_n(self) -> float:
        """How many respondents the shares count as: fewer than were asked where these are weighted unequally."""
        return float(self.n) if self.n_eff is None else self.n_eff


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A place within a culture and its share of the respondents."""

    code: str  #: ISO 3166-2, e.g. ``US-OH``
    name: Wording
    share: float  #: in [0, 1]; the shares of a culture sum to 1
    uniform: bool = True  #: whether it can be drawn where regions are drawn whatever their share


@dataclass(frozen=True, slots=True, kw_only=True)
class Culture:
    """A population whose answers are known."""

    code: str  #: e.g. ``us``
    name: Wording  #: e.g. ``{"en": "United States", "zh": "美国"}``
    language: str  #: the native language: in which its people were interviewed
    regions: tuple[Region, ...] = ()
    spoken: str = ""  #: the native language where the survey has no wording in it, so that ``language`` stands in
    in_sentence: str = ""  #: its English name within a sentence, where that takes an article: "the United States"

    def region(self, code: str) -> Region:
        """The region with that code; raises UnknownName."""
        for region in self.regions:
            if region.code == code:
                return region
        raise UnknownName(f"culture {self.code}: there is no region {code}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paraphrase:
    """Another wording of a question in one language; the options stay as they are."""

    question: str
    number: int  #: 1 or more; a participant that draws it is asked every question in its paraphrase of that number
    language: str
    text: str
    model: str  #: who wrote it: the name of a model, or of a person
    prompt: str = ""  #: what the model was asked with; empty for a person


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Questions, cultures and what their people answered."""

    id: str
    title: str
    version: str
    citation: str
    terms: str
    languages: tuple[str, ...]
    dimensions: Mapping[str, Wording]  #: code -> name; display order
    questions: tuple[Question, ...]
    cultures: tuple[Culture, ...]
    references: tuple[ReferenceDistribution, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)  #: question left out by experts -> their reason
    paraphrases: tuple[Paraphrase, ...] = ()
    fingerprint: str = field(default="", compare=False)  #: SHA-256 of the content; set when it is loaded

    @cached_property
    def _questions(self) -> Mapping[str, Question]:
        return {question.id: question for question in self.questions}

    @cached_property
    def _cultures(self) -> Mapping[str, Culture]:
        return {culture.code: culture for culture in self.cultures}

    @cached_property
    def _references(self) -> Mapping[tuple[str, str, Group], ReferenceDistribution]:
        return {(r.question, r.culture, r.group): r for r in self.references}

    def question(self, id: str) -> Question:
        """The question with that id; raises UnknownName."""
        if id in self._questions:
            return self._questions[id]
        why = f"; it was excluded: {self.excluded[id]}" if id in self.excluded else ""
        raise UnknownName(f"survey {self.id}: there is no question {id}{why}")

    @cached_property
    def _worded(self) -> Mapping[tuple[str, int], Question]:
        texts: dict[tuple[str, int], dict[str, str]] = {}
        for paraphrase in self.paraphrases:
            texts.setdefault((paraphrase.question, paraphrase.number), {})[paraphrase.language] = paraphrase.text
        asked = {key: self.question(key[0]) for key in texts}
        return {key: replace(asked[key], text={**asked[key].text, **text}) for key, text in texts.items()}

    @property
    def most_paraphrases(self) -> int:
        """The highest number of a paraphrase; 0 where there is none."""
        return max((paraphrase.number for paraphrase in self.paraphrases), default=0)

    def worded(self, id: str, number: int) -> Question:
        """The question in its paraphrase of that number, or in its own words where it has none; raises UnknownName."""
        return self._worded.get((id, number)) or self.question(id)

    def culture(self, code: str) -> Culture:
        """The culture with that code; raises UnknownName."""
        if code in self._cultures:
            return self._cultures[code]
        raise UnknownName(f"survey {self.id}: there is no culture {code}")

    def reference(self, question: str, culture: str, group: Group = Group.ALL) -> ReferenceDistribution | None:
        """What that group of that culture answered, or None where it was not asked or is not known."""
        return self._references.get((question, culture, group))
