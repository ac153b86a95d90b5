"""A study: the experimental design of a run, and what it asks of its models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from itertools import combinations, product
from operator import attrgetter
from urllib.parse import urlsplit

from defsurvey.storage.errors import BadInput
from defsurvey.storage.runs.judgement import Judge
from defsurvey.storage.runs.run import DEF, MOST_PARTICIPANTS, NAME, NAME_RULE, Cell, Condition, Preset, Protocol, Reply
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.models import IN_WORDS_ONLY, ModelCard
from defsurvey.workers.simulation.draws import PRESETS
from defsurvey.workers.simulation.methods import METHODS

NATIVE = "native"  #: the language of each culture's own people, as a study asks for it
DEFAULT_SAMPLE = 0.01  #: share of the answers that a judge sees where nobody says
#: What a design does not say of a condition or a protocol where it is this, so that older designs stay the same.
_UNSAID = {"method": DEF, "paraphrase": False, "reply": Reply.FULL, "top_k": 0, "do_sample": None}

#: Conditions that a study file names without describing them.
BUILT_IN_CONDITIONS: Mapping[str, Condition] = {
    condition.name: condition for method in METHODS.values() for condition in method.conditions()
}


class StudyError(BadInput, ValueError):
    """A study cannot be run as it is written; the message says where, what was expected and what was found."""


def languages_of(survey: Survey, culture: str, asked: Iterable[str]) -> tuple[str, ...]:
    """Language codes that ``asked`` (native or codes) comes to in a culture, each once."""
    native = survey.culture(culture).language
    return tuple(dict.fromkeys(native if language == NATIVE else language for language in asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to ask, of whom, under which conditions."""

    name: str
    survey: Survey
    questions: tuple[str, ...]  #: question ids in survey order
    cultures: tuple[str, ...]
    languages: tuple[str, ...]  #: as asked for: ``native`` or language codes
    models: tuple[str, ...]
    conditions: tuple[Condition, ...]
    participants: int  #: in each cell, at least 1
    protocol: Protocol
    text: str  #: the study file's text
    judge: Judge | None = None
    budget: float | None = None  #: US dollars that models and judge may cost
    left_out: tuple[str, ...] = ()  #: questions of core, all or a sample that are not known for every culture

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise StudyError(f"name: expected {NAME_RULE}, got {self.name!r}")
        if not 1 <= self.participants <= MOST_PARTICIPANTS:
            limit = "at least 1" if self.participants < 1 else f"at most {MOST_PARTICIPANTS}"
            raise StudyError(f"participants: expected a whole number of {limit}, got {self.participants}")

    @property
    def asked(self) -> tuple[str, ...]:
        """Every model that the study names once, its judge last."""
        judge = () if self.judge is None else (self.judge.model,)
        return tuple(dict.fromkeys((*self.models, *judge)))

    def cells(self) -> tuple[Cell, ...]:
        """The cells of a run of the study, which have no ids yet: by model, then culture, condition and language."""
        people = {one: 1 if METHODS[one.method].whole_cell else self.participants for one in self.conditions}
        return tuple(
            Cell(id=0, model=model, culture=culture, condition=one, language=language, participants=people[one])
            for model in self.models
            for culture in self.cultures
            for one in self.conditions
            for language in languages_of(self.survey, culture, self.languages)
        )

    def answers(self, *cells: Cell) -> int:
        """How many answers cells hold, or the whole run, when they are complete."""
        return sum(cell.participants * len(self.questions) * cell.condition.slots for cell in cells or self.cells())

    def completions(self, cell: Cell) -> int:
        """How many completions the answers of a cell take."""
        return cell.participants * len(self.questions) * METHODS[cell.condition.method].completions

    def pilot(self, participants: int) -> Study:
        """This study with its first participants only; never with more than it has."""
        return replace(self, participants=min(participants, self.participants))

    def design(self) -> dict[str, object]:
        """All that two runs must share to be one design: not models, participants, or the order of names."""
        return {
            "survey": {"id": self.survey.id, "fingerprint": self.survey.fingerprint},
            "questions": list(self.questions),
            "languages": {c: sorted(languages_of(self.survey, c, self.languages)) for c in sorted(self.cultures)},
            "conditions": {one.name: _said(one) for one in sorted(self.conditions, key=attrgetter("name"))},
            "protocol": _said(self.protocol),
        }

    def fingerprint(self) -> str:
        """SHA-256 of the design, in hexadecimal: equal for two studies exactly when their designs are."""
        body = json.dumps(self.design(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()


def _said(noun: Condition | Protocol) -> dict[str, object]:
    said = (pair for pair in asdict(noun).items() if pair not in _UNSAID.items())
    return {name: value for name, value in said if name not in ("name", "slots")}


def check_conditions(
    conditions: Collection[Condition], models: Collection[str], cards: Mapping[str, ModelCard], protocol: Protocol
) -> None:
    """Refuse what a model cannot: give probabilities, be held to options, or vary a decoding of which it takes none."""
    scripted = f"scripted respondents other than {' and '.join(IN_WORDS_ONLY)}"
    for condition, name in product(conditions, models):
        if protocol.reply is Reply.CHOICE and METHODS[condition.method].shortened and not cards[name].closes_replies:
            expected = f"models that can be held to options (servers: field structured of the card; {scripted})"
            said = 'structured = "none"' if cards[name].hosted else f"respondent {cards[name].respondent}"
            raise StudyError(f"reply: choice: expected {expected}, got {name!r}, whose card says {said}")
        if condition.slots == 0 and not cards[name].gives_probabilities:
            expected = f"models that give probabilities (engine transformers, or {scripted})"
            got = f"{name!r}, served by engine {cards[name].engine}"
            raise StudyError(f"condition {condition.name}: expected {expected}, got {got}")
    drawn = {"beams"} if protocol.do_sample is not None else {"temperature", "beams"}
    by = "beams" if protocol.do_sample is not None else "a temperature or beams"
    for (first, second), name in product(combinations(conditions, 2), models):
        alone = first.config != second.config and len({_prompts(one, protocol.preset) for one in (first, second)}) == 1
        # Drawn beams or sampling reach a model that is not hosted; a server's switch for sampling is the temperature.
        if alone and cards[name].hosted and drawn.isdisjoint(cards[name].takes):
            ablated, other = (first, second) if second.config else (second, first)
            expected = f"models that take {by}, by which it differs from {other.name}"
            got = f"{name!r}, which would be asked the same in both"
            raise StudyError(f"condition {ablated.name}: expected {expected}, got {got}")


def _prompts(condition: Condition, preset: Preset) -> tuple[object, ...]:
    """All of a condition that comes into its prompts."""
    order = condition.option_order
    if order is None and not PRESETS[preset].options_shuffled:
        order = False
    return condition.method, condition.prompt, condition.memory, order, condition.paraphrase


#: How names end that only a machine's own network knows.
_OF_THE_NETWORK = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def is_billed(card: ModelCard) -> bool:
    """Whether a model may cost money: its server is a provider's, or anybody's beyond this machine and its network."""
    if card.base_url is None:
        return card.hosted
    host = (urlsplit(card.base_url).hostname or "").rstrip(".")
    try:
        return ip_address(host).is_global
    except ValueError:  # a name; containers have some without a domain
        return "." in host and not host.endswith(_OF_THE_NETWORK)


def unpriced_of(models: Iterable[str], cards: Mapping[str, ModelCard]) -> str | None:
    """The first model that is billed and whose card has no prices."""
    return next((model for model in models if is_billed(cards[model]) and cards[model].prices is None), None)


def check_prices(budget: float | None, models: Iterable[str], cards: Mapping[str, ModelCard]) -> None:
    """Raise StudyError where there is a budget that one of the models could not be held to."""
    if budget is not None and (unpriced := unpriced_of(models, cards)):
        raise StudyError(f"budget: expected models with prices on their cards: {unpriced} has none, got {budget:g}")
