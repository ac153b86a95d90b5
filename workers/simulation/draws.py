"""A participant's draws: region, decoding, memory capacity, option order, seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from defsurvey.storage.runs.run import Condition, Draws, DrawsPer, Preset, Protocol, QuestionOrder
from defsurvey.storage.surveys.survey import Culture, Question, QuestionType


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRules:
    """Where the paper, whose rules are the defaults, and its published code differ in what they draw."""

    max_beams: int = 5  #: num_beams is uniform in 1..max_beams
    sampling_drawn: bool = True  #: do_sample is a coin toss; else always true
    max_capacity: int = 15  #: memory capacity is uniform in 0..max_capacity
    region_by_share: bool = True  #: a region is drawn by its share of respondents; else all listed ones alike
    with_replacement: bool = False  #: memory above capacity is drawn with replacement
    options_shuffled: bool = False  #: listed options are shuffled where the condition does not say
    undrawn_beams: int = 1  #: num_beams where a condition switches the drawn decoding off; nothing is sampled then
    top_k: int = 0  #: of sampling, where a study does not say; 0: no limit


PRESETS = {
    Preset.PAPER: PresetRules(),
    Preset.CODE: PresetRules(
        max_beams=4,
        sampling_drawn=False,
        max_capacity=14,
        region_by_share=False,
        with_replacement=True,
        options_shuffled=True,
        undrawn_beams=5,
        top_k=50,
    ),
}


def substream(seed: int, *names: str | int) -> Generator:
    """The generator that belongs to a study's seed, 0 or more, and a sequence of names (``"region", "us", 3``).

    Each name is hashed with its kind and length, so that no two sequences of names share a stream.
    """
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    digest = hashlib.sha256()
    for name in names:
        word = str(name).encode()
        digest.update(b"%c%d:" % (b"i" if isinstance(name, int) else b"s", len(word)) + word)
    key = np.frombuffer(digest.digest(), dtype="<u4").tolist()
    return Generator(PCG64(SeedSequence(entropy=seed, spawn_key=key)))


def draw_axes(
    protocol: Protocol,
    condition: Condition,
    culture: Culture,
    index: int,
    question: str | None = None,
    *,
    paraphrases: int = 0,
) -> Draws:
    """Draw a participant's place on the three axes of DEF (paper, section 4.3, Algorithm 1), and its wording.

    Every axis is drawn first and switched off afterwards where the condition says so, so that an ablation leaves the
    other axes as they were.
    ``index`` is the participant's number within its cell; ``question``, an id, matters only where draws are made per
    question. A wording is drawn from the question's own and ``paraphrases``, the most that the survey has of any.
    """
    rules = PRESETS[protocol.preset]
    key: tuple[str | int, ...] = (index,)
    if protocol.draws is DrawsPer.QUESTION and question is not None:
        key = (index, question)
    decoding = substream(protocol.seed, "decoding", *key)
    num_beams = int(decoding.integers(1, rules.max_beams, endpoint=True))
    do_sample = bool(decoding.integers(2)) if rules.sampling_drawn else True
    capacity = int(substream(protocol.seed, "capacity", *key).integers(0, rules.max_capacity, endpoint=True))
    region = _draw_region(culture, rules, substream(protocol.seed, "region", culture.code, *key))
    wording = substream(protocol.seed, "paraphrase", *key).integers(0, paraphrases, endpoint=True)
    num_beams = num_beams if condition.config else rules.undrawn_beams
    do_sample = do_sample and condition.config if protocol.do_sample is None else protocol.do_sample
    return Draws(
        region=region if condition.prompt else None,
        num_beams=num_beams,
        do_sample=do_sample,
        memory_capacity=capacity if condition.memory else 0,
        paraphrase=int(wording) if condition.paraphrase else 0,
    )


def _draw_region(culture: Culture, rules: PresetRules, rng: Generator) -> str | None:
    if not culture.regions:
        return None
    if not rules.region_by_share:
        listed = [region.code for region in culture.regions if region.uniform]
        return listed[int(rng.integers(len(listed)))]
    point = rng.random() * math.fsum(region.share for region in culture.regions)
    for region in culture.regions:
        point -= region.share
        if point < 0:
            return region.code
    # Rounding can leave the point on the upper edge: the last region that has a share.
    return next(region.code for region in reversed(culture.regions) if region.share > 0)


def question_order(protocol: Protocol, index: int, questions: Sequence[str]) -> tuple[str, ...]:
    """The order in which participant ``index`` meets the questions (ids in survey order)."""
    if protocol.question_order is QuestionOrder.FIXED:
        return tuple(questions)
    order = substream(protocol.seed, "question order", index).permutation(len(questions))
    return tuple(questions[position] for position in order)


def options_shown(protocol: Protocol, condition: Condition, question: Question, index: int) -> tuple[int, ...]:
    """Option codes in the order in which participant ``index`` is shown them.

    ``condition.option_order`` true: nominal and multiple-choice options are permuted, ordinal ones and scales run
    forward or backward, residual options stay last. False: the survey's order. None: as the preset says; ``code``
    shuffles every listed option whatever its kind, and leaves scales, which list none, as they are.
    """
    by_preset = condition.option_order is None
    shuffled = by_preset and PRESETS[protocol.preset].options_shuffled and question.type is not QuestionType.SCALE
    if not condition.option_order and not shuffled:
        return question.codes
    rng = substream(protocol.seed, "option order", index, question.id)
    if shuffled:
        return tuple(rng.permutation(question.codes).tolist())
    substantive = [option.code for option in question.options if not option.residual]
    residual = [option.code for option in question.options if option.residual]
    if not question.type.ordered:
        substantive = rng.permutation(substantive).tolist()
    elif rng.integers(2):
        substantive.reverse()
    return (*substantive, *residual)


def completion_seed(protocol: Protocol, index: int, question: str, attempt: int = 0) -> int:
    """The seed of one completion, in [0, 2**63): the same for every model, culture and condition."""
    return int(substream(protocol.seed, "completion", index, question, attempt).integers(2**63))
