"""What a study would cost, before it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from defsurvey.jobs.study.study import Study
from defsurvey.storage.runs.judgement import LEAST, MOST_REPEATED, REPEATED
from defsurvey.workers.judging.calibration import calibration_set
from defsurvey.workers.judging.prompt import MAX_TOKENS
from defsurvey.workers.judging.rubric import INSTRUCTIONS
from defsurvey.workers.models import Api, ModelCard

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
