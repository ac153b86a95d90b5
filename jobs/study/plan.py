"""What a study would run, told before it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING

from defsurvey.jobs.study.earlier import Earlier
from defsurvey.jobs.study.study import PlannedCell, Study
from defsurvey.storage.runs.judgement import LEAST, MOST_REPEATED, REPEATED
from defsurvey.storage.surveys.survey import Culture, Question
from defsurvey.workers.engines.device import AUTO, expected
from defsurvey.workers.judging.calibration import calibration_set
from defsurvey.workers.judging.prompt import MAX_TOKENS
from defsurvey.workers.judging.rubric import INSTRUCTIONS
from defsurvey.workers.models import Api, ModelCard

if TYPE_CHECKING:
    from rich.console import RenderableType

    from defsurvey.storage.runs.paces import TokensSeen

#: Tokens per character, fewest and most. English: 0.2 in survey wvs7 by SmolLM2's vocabulary. Chinese: 0.6 by a
#: vocabulary that knows it, 1.8 by SmolLM2's, which spells it in bytes. Other languages: anything between.
TOKENS_PER_CHARACTER: Mapping[str, tuple[float, float]] = {"en": (0.18, 0.3), "zh": (0.55, 2.0)}
ANY_LANGUAGE = (0.18, 2.0)

#: What a chat template puts around a prompt, and around each remembered question and answer.
TEMPLATE_TOKENS = (3, 45)
TURN_TOKENS = (4, 14)

#: Characters of an answer as memory keeps it: a bare choice; a choice and a long first sentence.
REMEMBERED_CHARACTERS: Mapping[str, tuple[int, int]] = {"en": (10, 220), "zh": (4, 80)}

#: The shortest completion that can be read; the longest is ``max_new_tokens``.
SHORTEST_COMPLETION = 3

#: Share of valid answers where no run has shown one.
ASSUMED_VALIDITY = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure that can only be given as a range."""

    low: int
    high: int

    def __str__(self) -> str:
        return between(f"{self.low:,}", f"{self.high:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study would run."""

    name: str
    survey: str  #: id of the survey
    cells: tuple[PlannedCell, ...]
    participants: int  #: in each cell but those of panels, which have one
    questions: tuple[str, ...]
    left_out: tuple[str, ...]  #: meant, but without a reference distribution in every culture
    answers: int  #: planned over all cells
    prompt_tokens: Spread  #: read by language models; scripted respondents read none
    completion_tokens: Spread  #: written by language models
    tokens_seen: Mapping[str, int]  #: run -> its answers by which tokens are estimated
    tokens_guessed: bool  #: whether tokens of some cell are estimated by rules of thumb
    seconds: Spread | None  #: None until a rate is known
    cost: Dollars | None  #: of answers and judging; None where no model has a price
    judging: PlannedJudging | None  #: None where the study names no judge
    detectable: Mapping[str, float]  #: culture -> smallest difference of two models found in 4 of 5 runs at best, nats
    noise_floor: Mapping[str, float]  #: culture -> smoothed KL that as many honest people would score, in nats
    notes: tuple[str, ...]  #: what is allowed but likely not meant
    device: str  #: in words, where models of this machine would run; empty where there are none


def plan(study: Study, *, cards: Mapping[str, ModelCard], earlier: Earlier | None = None) -> Plan:
    """Count what a study would run.

    Args:
        study: the study.
        cards: model name -> card, for every model of the study.
        earlier: what is known of earlier runs; the paces of all models tell the time, one after the other.

    Raises:
        ValueError: a pace is not above 0.
    """
    earlier = earlier or Earlier()
    cells = study.cells()
    rate = _rate(cells, earlier.paces)
    reading = [cell for cell in cells if cards[cell.model].engine != "scripted"]
    seen = {_key(cell): earlier.tokens.get(_key(cell)) for cell in reading}
    tokens = [(cards[cell.model].api, *_tokens(study, cell, seen[_key(cell)])) for cell in reading]
    answers = study.planned_answers()
    judging = planned_judging(study, None if study.judge is None else cards[study.judge.model], seen=earlier.judge)
    asked = [*study.models, *([study.judge.model] if study.judge else ())]
    return Plan(
        name=study.name,
        survey=study.survey.id,
        cells=cells,
        participants=study.participants,
        questions=study.questions,
        left_out=study.left_out,
        answers=answers,
        prompt_tokens=_sum(read for _, read, _ in tokens),
        completion_tokens=_sum(written for _, _, written in tokens),
        tokens_seen=_answers_seen(seen.values()),
        tokens_guessed=None in seen.values(),
        seconds=None if rate is None else _within_a_third(answers / rate),
        cost=total(
            [
                *(cost(api, _bounds(read), _bounds(written)) for api, read, written in tokens),
                None if judging is None else judging.cost,
            ]
        ),
        judging=judging,
        detectable=_detectable(study),
        noise_floor=_noise_floor(study),
        notes=(*_notes(cells, cards), *_unranked(study, cells, earlier.validities)),
        device=expected(AUTO) if any(cards[model].needs_device for model in asked) else "",
    )


def _key(cell: PlannedCell) -> tuple[str, str, str]:
    return cell.model, cell.condition.name, cell.language


def _answers_seen(seen: Iterable[TokensSeen | None]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for each in seen:
        if each is not None:
            counts[each.run] += each.answers
    return counts


def _tokens(study: Study, cell: PlannedCell, seen: TokensSeen | None) -> tuple[Spread, Spread]:
    """Tokens that all participants of a cell read and write: as seen before, else by rules of thumb."""
    longest = _written(study, cell)
    if seen is None:
        return _prompt_tokens(study, cell), longest
    read, written = _within_a_third(cell.answers * seen.prompt), _within_a_third(cell.answers * seen.completion)
    return read, Spread(low=min(written.low, longest.high), high=min(written.high, longest.high))


def _within_a_third(exact: float) -> Spread:
    return Spread(low=round(exact * (1 - SPREAD)), high=round(exact * (1 + SPREAD)))


def _written(study: Study, cell: PlannedCell) -> Spread:
    """Tokens that all participants of a cell write."""
    longest = study.protocol.max_new_tokens
    return Spread(low=cell.completions * min(SHORTEST_COMPLETION, longest), high=cell.completions * longest)


def _bounds(spread: Spread) -> tuple[int, int]:
    return spread.low, spread.high


def _sum(spreads: Iterable[Spread]) -> Spread:
    every = list(spreads)
    return Spread(low=sum(spread.low for spread in every), high=sum(spread.high for spread in every))


def _rate(cells: Iterable[PlannedCell], paces: Mapping[str, float]) -> float | None:
    """Answers per second of models that are asked one after the other; None where the pace of one is not known.

    Cells in which options are weighed have no answers, and a study of nothing else has no pace.
    """
    wanted = [cell for cell in cells if cell.answers]
    if not wanted or any(cell.model not in paces for cell in wanted):
        return None
    for cell in wanted:
        if paces[cell.model] <= 0:
            raise ValueError(f"pace of {cell.model}: expected answers per second above 0, got {paces[cell.model]}")
    return sum(cell.answers for cell in wanted) / sum(cell.answers / paces[cell.model] for cell in wanted)


def _prompt_tokens(study: Study, cell: PlannedCell) -> Spread:
    """Tokens that all participants of a cell read, their growing memory included."""
    from defsurvey.workers.simulation.prompts import prompt_text, request_text

    culture = study.survey.culture(cell.culture)
    place = culture.regions[0].code if cell.condition.prompt and culture.regions else None
    questions = [study.survey.question(name) for name in study.questions]
    if cell.condition.slots == 0:
        return _weighed_tokens(cell, culture, questions)
    prompts = sum(len(prompt_text(question, question.codes, culture, place, cell.language)) for question in questions)
    request = fmean(len(request_text(question, question.codes, cell.language)) for question in questions)
    entries = _remembered(study, cell)
    bounds = []
    for bound in (0, 1):
        per_character = TOKENS_PER_CHARACTER.get(cell.language, ANY_LANGUAGE)[bound]
        entry = request + REMEMBERED_CHARACTERS.get(cell.language, REMEMBERED_CHARACTERS["en"])[bound]
        # At the least nothing was remembered: no answer could be read.
        remembered = entries * (entry * per_character + 2 * TURN_TOKENS[bound]) if bound else 0.0
        bounds.append(prompts * per_character + len(questions) * TEMPLATE_TOKENS[bound] + remembered)
    # Of steps after the first, the prompt holds what was said before it, which is at most what may be generated.
    times = cell.completions / len(study.questions)
    said = max(0, cell.completions - cell.participants * len(study.questions)) * study.protocol.max_new_tokens
    return Spread(low=round(bounds[0] * times), high=round(bounds[1] * times) + 2 * said)


def _weighed_tokens(cell: PlannedCell, culture: Culture, questions: Sequence[Question]) -> Spread:
    """Tokens that are read where options are weighed: every question in each of its orders, once for the cell."""
    from defsurvey.workers.simulation.methods import method_of
    from defsurvey.workers.simulation.prompts import prompt_text

    prompts = [
        len(prompt_text(question, order, culture, None, cell.language))
        for question in questions
        for order in method_of(cell.condition).option_orders(question, question.codes)
    ]
    low, high = (
        round(sum(prompts) * per_character + len(prompts) * template)
        for per_character, template in zip(
            TOKENS_PER_CHARACTER.get(cell.language, ANY_LANGUAGE), TEMPLATE_TOKENS, strict=True
        )
    )
    return Spread(low=low, high=high)


def _remembered(study: Study, cell: PlannedCell) -> float:
    """How many remembered answers a participant is shown on average over all its questions, every answer valid."""
    from defsurvey.workers.simulation.draws import PRESETS

    if not cell.condition.memory:
        return 0.0
    capacities = range(PRESETS[study.protocol.preset].max_capacity + 1)
    return sum(fmean(min(item, capacity) for capacity in capacities) for item in range(len(study.questions)))


def _noise_floor(study: Study) -> Mapping[str, float]:
    from defsurvey.reports.cells.items import item_table, reference_table
    from defsurvey.reports.cells.respondents import control

    items = item_table(study.survey, study.questions)
    floors = {}
    for culture in study.cultures:
        people = reference_table(study.survey, items, culture)
        floors[culture] = control(culture, people.shares, items, people, study.participants).mean
    return floors


def _detectable(study: Study) -> Mapping[str, float]:
    from defsurvey.reports.cells.comparing import COMPARABLE
    from defsurvey.reports.cells.items import item_table, reference_table
    from defsurvey.reports.metrics.detectable import detectable_difference

    if study.participants < COMPARABLE:
        return {}  # nobody is compared
    items = item_table(study.survey, study.questions)
    found = {}
    for culture in study.cultures:
        people = reference_table(study.survey, items, culture)
        found[culture] = detectable_difference(
            people.shares,
            people.n,
            items.offered,
            items.grouping,
            n=study.participants,
            answers=COMPARABLE,
            seed=study.protocol.seed,
        )
    return found


def _notes(cells: Iterable[PlannedCell], cards: Mapping[str, ModelCard]) -> tuple[str, ...]:
    found = []
    for model, language in dict.fromkeys((cell.model, cell.language) for cell in cells):
        known = cards[model].languages
        if known and language not in known:
            found.append(f"{model} is asked in {language}, but its card lists only {', '.join(known)}")
    return tuple(found)


def _unranked(study: Study, cells: Iterable[PlannedCell], validities: Mapping[str, float]) -> Iterable[str]:
    """Models of which so few answers are planned that they would probably have no place, and how many it takes."""
    from defsurvey.reports.cells.comparing import COMPARABLE
    from defsurvey.reports.cells.items import item_table
    from defsurvey.reports.metrics.detectable import enough_participants, ranked

    interviews = [cell for cell in cells if cell.condition.slots == 1]
    cultures = Counter(cell.culture for cell in interviews)
    if not cultures or max(cultures.values()) < 2:
        return  # nothing to compare
    items = item_table(study.survey, study.questions)
    questions = len(set(items.question[items.grouping.headline].tolist()))
    for model in dict.fromkeys(cell.model for cell in interviews):
        valid = validities.get(model, ASSUMED_VALIDITY)
        if ranked(study.participants, valid, questions, answers=COMPARABLE) >= 0.5:
            continue
        least = enough_participants(valid, questions, answers=COMPARABLE)
        known = "were valid in an earlier run" if model in validities else "are valid, which is assumed"
        remedy = f"plan {least} participants" if least else "no number of participants changes that"
        yield (
            f"{model} would probably not be ranked: that takes {COMPARABLE} valid answers to half of the questions, "
            f"and {valid:.0%} of its answers {known}; {remedy}"
        )


#: Tokens of a judge's prompt beside the rubric, fewest and most: question, options, a short or a long answer.
AROUND_ANSWER = (120, 1200)
#: Tokens of a character of English text, fewest and most, as in ``jobs.study.plan``.
PER_CHARACTER = (0.18, 0.3)
#: Means seen in an earlier run are taken to hold within a third. Of all pilots of 4 that can be drawn from runs of 9
#: and 20 participants, the tokens per answer of 90% to 100% did.
SPREAD = 1 / 3
#: Fewest tokens of a judge's reply: six verdicts with a few words each.
SHORTEST_VERDICTS = 150
#: States of answers that are sampled apart: answered, refused, unparsable.
_STATES = 3


def between(low: str, high: str) -> str:
    """A range in words; one figure where both ends read alike."""
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dollars:
    """An amount of US dollars that can only be given as a range."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{between(f'{self.low:,.2f}', f'{self.high:,.2f}')} US dollars"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJudging:
    """What a judge would be asked."""

    model: str
    low: int  #: calls, those of the calibration set counted
    high: int
    cost: Dollars | None  #: None: its card has no prices


def cost(api: Api | None, read: tuple[int, int], written: tuple[int, int]) -> Dollars | None:
    """What tokens cost, each given as fewest and most; None where nothing is known of prices."""
    bounds = [None if api is None else api.cost(read[bound], written[bound]) for bound in (0, 1)]
    low, high = bounds
    return None if low is None or high is None else Dollars(low=low, high=high)


def total(parts: Iterable[Dollars | None]) -> Dollars | None:
    """The sum of what is known; None where nothing is."""
    known = [part for part in parts if part is not None]
    return Dollars(low=sum(part.low for part in known), high=sum(part.high for part in known)) if known else None


def planned_judging(
    study: Study, card: ModelCard | None, *, seen: tuple[float, float] | None = None
) -> PlannedJudging | None:
    """What the study's judge would be asked; None where it names none.

    How answers will end is not known: at the least all end alike, at the most every state has its 30.

    Args:
        study: the study.
        card: of the judge.
        seen: tokens that a call of this judge read and wrote on average in an earlier run.
    """
    if study.judge is None or card is None:
        return None
    judged = len(study.models) * len(study.cultures)  # one condition and language of each
    each = study.participants * len(study.questions)
    share = ceil(study.judge.sample * each)
    fewest = judged * min(each, max(share, LEAST))
    most = judged * min(each, max(share, LEAST) + (_STATES - 1) * LEAST)
    calls = [
        n + min(MOST_REPEATED, ceil(REPEATED * n)) + len(calibration_set(study.judge.rubric)) for n in (fewest, most)
    ]
    rubric = len(INSTRUCTIONS[study.judge.rubric])
    read = [n * (round(PER_CHARACTER[b] * rubric) + AROUND_ANSWER[b]) for b, n in enumerate(calls)]
    written = [calls[0] * SHORTEST_VERDICTS, calls[1] * MAX_TOKENS]
    if seen is not None:
        bounds = tuple(zip(calls, (1 - SPREAD, 1 + SPREAD), strict=True))
        read, written = ([round(n * each * factor) for n, factor in bounds] for each in seen)
    return PlannedJudging(
        model=card.name, low=calls[0], high=calls[1], cost=cost(card.api, (read[0], read[1]), (written[0], written[1]))
    )


def to_json(plan: Plan) -> dict[str, object]:
    """The plan for a program to read."""
    return {
        "name": plan.name,
        "survey": plan.survey,
        "cells": [
            {
                "model": cell.model,
                "culture": cell.culture,
                "condition": cell.condition.name,
                "language": cell.language,
                "participants": cell.participants,
                "answers": cell.answers,
            }
            for cell in plan.cells
        ],
        "participants": plan.participants,
        "questions": list(plan.questions),
        "left_out": list(plan.left_out),
        "planned": plan.answers,
        "prompt_tokens": [plan.prompt_tokens.low, plan.prompt_tokens.high],
        "completion_tokens": [plan.completion_tokens.low, plan.completion_tokens.high],
        "tokens_seen": dict(plan.tokens_seen),
        "seconds": None if plan.seconds is None else [plan.seconds.low, plan.seconds.high],
        "cost": None if plan.cost is None else [round(plan.cost.low, 4), round(plan.cost.high, 4)],
        "judging": None
        if plan.judging is None
        else {"model": plan.judging.model, "calls": [plan.judging.low, plan.judging.high]},
        "smallest_difference": dict(plan.detectable),
        "noise_floor": dict(plan.noise_floor),
        "notes": list(plan.notes),
        "device": plan.device,
    }


def render(plan: Plan) -> RenderableType:
    """The plan for a person to read."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    cells = Table("model", "culture", "condition", "language", title_justify="left")
    cells.add_column("participants", justify="right")
    cells.add_column("answers", justify="right")
    for cell in plan.cells:
        counts = (f"{cell.participants:,}", f"{cell.answers:,}")
        row = (cell.model, cell.culture, cell.condition.name, cell.language, *counts)
        cells.add_row(*(Text(text) for text in row))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for label, fact in _facts(plan):
        facts.add_row(Text(label), Text(fact))
    return Group(Text(f"{plan.name}: what would run", style="bold"), cells, Padding(facts, (1, 0, 0, 0)))


def _facts(plan: Plan) -> Iterable[tuple[str, str]]:
    yield "planned answers", f"{plan.answers:,}"
    yield f"questions ({len(plan.questions)})", f"{plan.survey}: {', '.join(plan.questions)}"
    if plan.left_out:
        reason = "not known for every culture, so asked in none"
        yield f"left out ({len(plan.left_out)})", f"{', '.join(plan.left_out)}: {reason}"
    if plan.completion_tokens.high:
        yield "prompt tokens", f"{plan.prompt_tokens} ({_basis(plan, 'rule of thumb')})"
        yield "completion tokens", f"{plan.completion_tokens} ({_basis(plan, 'at most max_new_tokens each')})"
    if plan.judging is not None:
        calls = f"{between(f'{plan.judging.low:,}', f'{plan.judging.high:,}')} calls"
        yield "judging", f"{calls} by {plan.judging.model}, those of its calibration counted"
    if plan.cost is not None:
        yield (
            "cost",
            f"{plan.cost} (models with prices on their cards, judge included; in batches, judging is half of that)",
        )
    pilot = "unknown until a pilot has run: defsurvey run STUDY --pilot 4"
    if not plan.answers:
        pilot = "unknown: no answers are planned, by whose pace it could be told"
    known = "as fast as these models answered in their newest runs here, one model after the other"
    yield "time", pilot if plan.seconds is None else f"{_time(plan.seconds)} ({known})"
    if plan.device:
        yield "device", f"{plan.device}; another: --device of run"
    for culture, floor in plan.noise_floor.items():
        yield f"noise floor, {culture}", f"{floor:.3f} nats: what {plan.participants:,} honest people would score"
    if not plan.detectable:
        yield "smallest difference", "none: models are compared from 10 participants on"
    for culture, least in plan.detectable.items():
        told = f"{least:.3f} nats between two models, found in 4 of 5 such runs at best"
        yield f"smallest difference, {culture}", told
    for note in plan.notes:
        yield "note", note


def _basis(plan: Plan, otherwise: str) -> str:
    """What an estimate of tokens rests on."""
    if not plan.tokens_seen:
        return otherwise
    seen = " and ".join(f"{answers:,} answers of run {run}" for run, answers in plan.tokens_seen.items())
    rest = f"; conditions and languages not seen: {otherwise}" if plan.tokens_guessed else ""
    return f"as seen in {seen}, within a third{rest}"


def _time(seconds: Spread) -> str:
    return between(_clock(seconds.low), _clock(seconds.high))


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
