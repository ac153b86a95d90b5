"""What a study would run, said before it runs: counts, tokens, cost, time, and what could be found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from defsurvey.jobs.settings import BadSetting, Settings
from defsurvey.jobs.study.study import Study
from defsurvey.jobs.system import duration
from defsurvey.storage.runs.judgement import LEAST, MOST_REPEATED, REPEATED
from defsurvey.storage.runs.run import Cell, Reply
from defsurvey.workers.engines.machine import AUTO, expected
from defsurvey.workers.engines.structured import longest
from defsurvey.workers.judging.prompt import INSTRUCTIONS, MAX_TOKENS, calibration_set
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.draws import PRESETS
from defsurvey.workers.simulation.methods import METHODS, method_of
from defsurvey.workers.simulation.prompts import closed_reply, prompt_text, request_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from defsurvey.storage.runs.pilot import TokensSeen

#: Tokens per character, fewest and most. English: 0.2 in survey wvs7 by SmolLM2's vocabulary. Chinese: 0.6 by a
#: vocabulary that knows it, 1.8 by SmolLM2's, which spells it in bytes. Other languages: anything between.
TOKENS_PER_CHARACTER: Mapping[str, tuple[float, float]] = {"en": (0.18, 0.3), "zh": (0.55, 2.0)}
ANY_LANGUAGE = (0.18, 2.0)
TEMPLATE_TOKENS = (3, 45)  #: what a chat template puts around a prompt
TURN_TOKENS = (4, 14)  #: and around each remembered question and answer
#: Characters of an answer as memory keeps it: a bare choice; a choice and a long first sentence.
REMEMBERED_CHARACTERS: Mapping[str, tuple[int, int]] = {"en": (10, 220), "zh": (4, 80)}
SHORTEST_COMPLETION = 3  #: the shortest completion that can be read; the longest is ``max_new_tokens``
SHORTEST_CHOICE = 1  #: the shortest where it can name options alone

#: Means seen in an earlier run are taken to hold within a third. Of all pilots of 4 that can be drawn from runs of 9
#: and 20 participants, the tokens per answer of 90% to 100% did.
WITHIN = 1 / 3
ASSUMED_VALIDITY = 0.9  #: share of valid answers where no run has shown one

#: Tokens of a judge's prompt around the rubric, fewest and most: question, options, a short or a long answer.
AROUND_ANSWER = (120, 1200)
SHORTEST_VERDICTS = 150  #: fewest tokens of a judge's reply: six verdicts with a few words each
_STATES = 3  #: states of answers that are sampled apart: answered, refused, unparsable


class Spread(NamedTuple):
    """A figure that can only be given as a range."""

    low: float
    high: float

    def in_words(self, word: Callable[[float], str] = "{:,}".format) -> str:
        """Both ends as they are worded, or one of them where they read alike."""
        low, high = map(word, self)
        return low if low == high else f"{low} to {high}"


def _total(spreads: Sequence[Spread]) -> Spread:
    return Spread(low=sum(spread.low for spread in spreads), high=sum(spread.high for spread in spreads))


def _within_a_third(low: float, high: float | None = None) -> Spread:
    return Spread(low=round(low * (1 - WITHIN)), high=round((low if high is None else high) * (1 + WITHIN)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What earlier runs, a pilot above all, showed of a study's models and judge."""

    paces: Mapping[str, float] = field(default_factory=dict)  #: model -> answers per second
    validities: Mapping[str, float] = field(default_factory=dict)  #: model -> share of valid answers
    tokens: Mapping[tuple[str, str, str], TokensSeen] = field(default_factory=dict)  #: by model, condition, language
    judge: tuple[float, float] | None = None  #: tokens that a call of the judge read and wrote on average


def read_earlier(settings: Settings, study: Study) -> Earlier:
    """What the database holds of earlier runs; nothing where there is none yet, it is away, or has another schema."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    from defsurvey.storage.database import BadDatabaseUrl, Database
    from defsurvey.storage.runs import judgements
    from defsurvey.storage.runs.pilot import paces, tokens_seen, validities
    from defsurvey.storage.schema import HEAD, current_revision

    try:
        with Database(settings.database_url, synchronous=settings.synchronous) as database:
            if database.file is not None and not database.file.exists():
                return Earlier()  # and none is made
            with database.read() as connection:
                if current_revision(connection) != HEAD:
                    return Earlier()
            survey, run = study.survey.id, study.name
            return Earlier(
                paces=paces(database, study.models),
                validities=validities(database, study.models, run=run),
                tokens=tokens_seen(database, study.models, survey=survey, questions=study.questions, run=run),
                judge=judgements.tokens_seen(database, run, study.judge.key) if study.judge else None,
            )
    except BadDatabaseUrl as error:
        raise BadSetting(f"environment variable DEFSURVEY_DATABASE_URL: {error.told}") from None
    except DatabaseError as error:
        if type(error) not in (OperationalError, DatabaseError):
            raise  # a defect of ours, not of the place
        return Earlier()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study would run."""

    study: Study
    prompt_tokens: Spread  #: read by language models; scripted respondents read none
    completion_tokens: Spread  #: written by language models
    tokens_seen: Mapping[str, int]  #: run -> its answers by which tokens are estimated
    tokens_guessed: bool  #: whether tokens of some cell are estimated by rules of thumb
    seconds: Spread | None  #: None until a rate is known
    cost: Spread | None  #: US dollars of answers and judging; None where no model has a price
    judge_calls: Spread | None  #: those of its calibration counted; None where the study names no judge
    detectable: Mapping[str, float]  #: culture -> smallest difference of two models found in 4 of 5 runs at best, nats
    noise_floor: Mapping[str, float]  #: culture -> smoothed KL that as many honest people would score, in nats
    notes: tuple[str, ...]  #: what is allowed but likely not meant
    device: str  #: in words, where models of this machine would run; empty where there are none


def plan(study: Study, *, cards: Mapping[str, ModelCard], earlier: Earlier | None = None) -> Plan:
    """Count what a study would run; the paces of earlier runs tell the time, one model after the other."""
    earlier = earlier or Earlier()
    cells = study.cells()
    reading = [cell for cell in cells if cards[cell.model].capabilities.reads_prompts]
    seen = {key: earlier.tokens.get(key) for key in dict.fromkeys(map(_key, reading))}
    tokens = [_tokens(study, cell, seen[_key(cell)]) for cell in reading]
    judge_calls, judge_cost = _judging(study, cards, earlier.judge)
    costs = [_cost(cards[cell.model], *both) for cell, both in zip(reading, tokens, strict=True)]
    priced = [cost for cost in (*costs, judge_cost) if cost is not None]
    answers_seen: Counter[str] = Counter()
    for each in filter(None, seen.values()):
        answers_seen[each.run] += each.answers
    detectable, noise_floor = _resolution(study)
    return Plan(
        study=study,
        prompt_tokens=_total([read for read, _ in tokens]),
        completion_tokens=_total([written for _, written in tokens]),
        tokens_seen=answers_seen,
        tokens_guessed=None in seen.values(),
        seconds=_seconds(study, earlier.paces),
        cost=_total(priced) if priced else None,
        judge_calls=judge_calls,
        detectable=detectable,
        noise_floor=noise_floor,
        notes=(
            *_deviating(study),
            *_unlisted_languages(cells, cards),
            *_unranked(study, cells, earlier.validities),
        ),
        device=expected(AUTO) if any(cards[model].capabilities.on_device for model in study.asked) else "",
    )


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.model, cell.condition.name, cell.language


def _tokens(study: Study, cell: Cell, seen: TokensSeen | None) -> tuple[Spread, Spread]:
    """Tokens that all participants of a cell read and write: as seen before, else by rules of thumb."""
    count, limit = study.completions(cell), study.protocol.max_new_tokens
    shortest, most = count * min(SHORTEST_COMPLETION, limit), count * limit
    if study.protocol.reply is Reply.CHOICE and method_of(cell.condition).shortened:
        asked = map(study.survey.question, study.questions)
        replies = [longest(closed_reply(question, question.codes, cell.language)) for question in asked]
        shortest, most = count * SHORTEST_CHOICE, cell.participants * sum(replies)
    if seen is None:
        return _prompt_tokens(study, cell), Spread(low=shortest, high=most)
    low, high = _within_a_third(study.answers(cell) * seen.completion)
    return _within_a_third(study.answers(cell) * seen.prompt), Spread(min(low, most), min(high, most))


def _prompt_tokens(study: Study, cell: Cell) -> Spread:
    """Tokens that all participants of a cell read, their growing memory included."""
    culture = study.survey.culture(cell.culture)
    region = culture.regions[0].code if cell.condition.prompt and culture.regions else None
    questions = [study.survey.question(name) for name in study.questions]
    prompts = [
        len(prompt_text(question, order, culture, region, cell.language))
        for question in questions
        for order in method_of(cell.condition).option_orders(question, question.codes)
    ]
    request = fmean(len(request_text(question, question.codes, cell.language)) for question in questions)
    # how many answers a participant is shown on average over all its questions, every answer valid
    capacities = range(PRESETS[study.protocol.preset].max_capacity + 1) if cell.condition.memory else (0,)
    entries = sum(fmean(min(item, capacity) for capacity in capacities) for item in range(len(questions)))
    low, high = TOKENS_PER_CHARACTER.get(cell.language, ANY_LANGUAGE)
    fewest = sum(prompts) * low + len(prompts) * TEMPLATE_TOKENS[0]  # nothing remembered: no answer could be read
    entry = (request + REMEMBERED_CHARACTERS.get(cell.language, REMEMBERED_CHARACTERS["en"])[1]) * high
    most = sum(prompts) * high + len(prompts) * TEMPLATE_TOKENS[1] + entries * (entry + 2 * TURN_TOKENS[1])
    # Of steps after the first, the prompt holds what was said before it, which is at most what may be generated.
    times = study.completions(cell) / len(questions) or cell.participants
    said = max(0, study.completions(cell) - cell.participants * len(questions)) * study.protocol.max_new_tokens
    return Spread(low=round(fewest * times), high=round(most * times) + 2 * said)


def _cost(card: ModelCard, read: Spread, written: Spread) -> Spread | None:
    """US dollars that tokens cost; None where nothing is known of prices."""
    low, high = card.cost(read.low, written.low), card.cost(read.high, written.high)
    return None if low is None or high is None else Spread(low=low, high=high)


def _seconds(study: Study, paces: Mapping[str, float]) -> Spread | None:
    """Seconds of models that are asked one after the other; None where the pace of one is not known."""
    answered = [cell for cell in study.cells() if cell.condition.slots]  # where options are weighed are no answers
    if not answered or not all(cell.model in paces for cell in answered):
        return None
    return _within_a_third(sum(study.answers(cell) / paces[cell.model] for cell in answered))


def _judging(
    study: Study, cards: Mapping[str, ModelCard], seen: tuple[float, float] | None
) -> tuple[Spread | None, Spread | None]:
    """Calls of the judge and their cost: at the least all answers end alike, at the most every state has its 30."""
    if study.judge is None:
        return None, None
    judged = len(study.models) * len(study.cultures)  # one condition and language of each
    each = study.participants * len(study.questions)
    fewest = max(ceil(study.judge.sample * each), LEAST)
    samples = [judged * min(each, sample) for sample in (fewest, fewest + (_STATES - 1) * LEAST)]
    calibration = len(calibration_set(study.judge.rubric))
    low, high = (n + min(MOST_REPEATED, ceil(REPEATED * n)) + calibration for n in samples)
    if seen is not None:
        read, written = (_within_a_third(low * tokens, high * tokens) for tokens in seen)
    else:
        rubric = [round(each * len(INSTRUCTIONS[study.judge.rubric])) for each in TOKENS_PER_CHARACTER["en"]]
        read = Spread(low=low * (rubric[0] + AROUND_ANSWER[0]), high=high * (rubric[1] + AROUND_ANSWER[1]))
        written = Spread(low=low * SHORTEST_VERDICTS, high=high * MAX_TOKENS)
    return Spread(low=low, high=high), _cost(cards[study.judge.model], read, written)


def _resolution(study: Study) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Culture -> the smallest difference that could be found, where models are compared at all; and noise floors."""
    from defsurvey.reports.analysis import expected_mean
    from defsurvey.reports.cells import COMPARABLE, item_table, reference_table
    from defsurvey.reports.metrics.detectable import detectable_difference

    items = item_table(study.survey, study.questions)
    detectable, floors = {}, {}
    for culture in study.cultures:
        people = reference_table(study.survey, items, culture)
        floors[culture] = expected_mean(people.shares, items, people, study.participants)
        if study.participants >= COMPARABLE:
            given = {"n": study.participants, "answers": COMPARABLE, "seed": study.protocol.seed}
            detectable[culture] = detectable_difference(people.shares, people.n, items.offered, items.grouping, **given)
    return detectable, floors


def _deviating(study: Study) -> Iterable[str]:
    """What a study of bare choices is without."""
    if study.protocol.reply is not Reply.CHOICE:
        return
    without = "so that diversity D, cv and ff are not given and no judge can be asked"
    yield f"reply: choice is not the paper's: no answer is explained, {without}; every reply is valid"
    if whole := [one.name for one in study.conditions if one.slots and not METHODS[one.method].shortened]:
        yield f"the steps of {' and '.join(whole)} are written freely all the same, since later steps read them"


def _unlisted_languages(cells: Iterable[Cell], cards: Mapping[str, ModelCard]) -> Iterable[str]:
    for model, language in dict.fromkeys((cell.model, cell.language) for cell in cells):
        known = cards[model].languages
        if known and language not in known:
            yield f"{model} is asked in {language}, but its card lists only {', '.join(known)}"


def _unranked(study: Study, cells: Iterable[Cell], validities: Mapping[str, float]) -> Iterable[str]:
    """Models of which so few answers are planned that they would probably have no place, and how many it takes."""
    from defsurvey.reports.cells import COMPARABLE, item_table
    from defsurvey.reports.metrics.detectable import enough_participants, ranked

    interviews = [cell for cell in cells if cell.condition.slots == 1]
    cultures = Counter(cell.culture for cell in interviews)
    if not cultures or max(cultures.values()) < 2:
        return  # nothing to compare
    items = item_table(study.survey, study.questions)
    questions = len(set(items.question[items.grouping.headline].tolist()))
    bare = study.protocol.reply is Reply.CHOICE
    for model in dict.fromkeys(cell.model for cell in interviews):
        valid = 1.0 if bare else validities.get(model, ASSUMED_VALIDITY)
        if ranked(study.participants, valid, questions, answers=COMPARABLE) >= 0.5:
            continue
        least = enough_participants(valid, questions, answers=COMPARABLE)
        known = "were valid in an earlier run" if model in validities else "are valid, which is assumed"
        known = "are valid, as all are" if bare else known
        remedy = f"plan {least} participants" if least else "no number of participants changes that"
        takes = f"that takes {COMPARABLE} valid answers to half of the questions"
        yield f"{model} would probably not be ranked: {takes}, and {valid:.0%} of its answers {known}; {remedy}"


def to_json(plan: Plan) -> dict[str, object]:
    """The plan for a program to read."""
    study = plan.study
    return {
        "name": study.name,
        "survey": study.survey.id,
        "cells": [{**c.names, "participants": c.participants, "answers": study.answers(c)} for c in study.cells()],
        "participants": study.participants,
        "questions": list(study.questions),
        "left_out": list(study.left_out),
        "planned": study.answers(),
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": plan.completion_tokens,
        "tokens_seen": dict(plan.tokens_seen),
        "seconds": plan.seconds,
        "cost": plan.cost and [round(dollars, 4) for dollars in plan.cost],
        "judging": study.judge and {"model": study.judge.model, "calls": plan.judge_calls},
        "smallest_difference": dict(plan.detectable),
        "noise_floor": dict(plan.noise_floor),
        "notes": list(plan.notes),
        "device": plan.device,
    }


def render(plan: Plan) -> RenderableType:
    """The plan for a person to read."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    numbers = [Column(name, justify="right") for name in ("participants", "answers")]
    cells = Table("model", "culture", "condition", "language", *numbers)
    for cell in plan.study.cells():
        counts = (f"{cell.participants:,}", f"{plan.study.answers(cell):,}")
        cells.add_row(*map(Text, (*cell.names.values(), *counts)))
    facts = Table.grid(Column(style="bold", no_wrap=True), "", padding=(0, 2))
    for label, fact in _facts(plan):
        facts.add_row(Text(label), Text(fact))
    return Group(Text(f"{plan.study.name}: what would run", style="bold"), cells, Padding(facts, (1, 0, 0, 0)))


def _facts(plan: Plan) -> Iterable[tuple[str, str]]:
    study, answers = plan.study, plan.study.answers()
    yield "planned answers", f"{answers:,}"
    yield f"questions ({len(study.questions)})", f"{study.survey.id}: {', '.join(study.questions)}"
    if study.left_out:
        reason = "not known for every culture, so asked in none"
        yield f"left out ({len(study.left_out)})", f"{', '.join(study.left_out)}: {reason}"
    if plan.completion_tokens.high:
        yield "prompt tokens", f"{plan.prompt_tokens.in_words()} ({_basis(plan, 'rule of thumb')})"
        bare = study.protocol.reply is Reply.CHOICE
        most = _basis(plan, "at most the longest list of options each" if bare else "at most max_new_tokens each")
        yield "completion tokens", f"{plan.completion_tokens.in_words()} ({most})"
    if study.judge and plan.judge_calls:
        calls = plan.judge_calls.in_words()
        yield "judging", f"{calls} calls by {study.judge.model}, those of its calibration counted"
    if plan.cost is not None:
        which = "models with prices on their cards, judge included; in batches, judging is half of that"
        yield "cost", f"{plan.cost.in_words('{:,.2f}'.format)} US dollars ({which})"
    time = "unknown until a pilot has run: defsurvey run STUDY --pilot 4"
    if plan.seconds is not None:
        how = "as fast as these models answered in their newest runs here, one model after the other"
        time = f"{plan.seconds.in_words(duration)} ({how})"
    yield "time", time if answers else "unknown: no answers are planned, by whose pace it could be told"
    if plan.device:
        yield "device", f"{plan.device}; another: --device of run"
    for culture, floor in plan.noise_floor.items():
        yield f"noise floor, {culture}", f"{floor:.3f} nats: what {study.participants:,} honest people would score"
    if not plan.detectable:
        yield "smallest difference", "none: models are compared from 10 participants on"
    for culture, least in plan.detectable.items():
        found = f"{least:.3f} nats between two models, found in 4 of 5 such runs at best"
        yield f"smallest difference, {culture}", found
    for note in plan.notes:
        yield "note", note


def _basis(plan: Plan, otherwise: str) -> str:
    """What an estimate of tokens rests on."""
    if not plan.tokens_seen:
        return otherwise
    seen = " and ".join(f"{answers:,} answers of run {run}" for run, answers in plan.tokens_seen.items())
    rest = f"; conditions and languages not seen: {otherwise}" if plan.tokens_guessed else ""
    return f"as seen in {seen}, within a third{rest}"
