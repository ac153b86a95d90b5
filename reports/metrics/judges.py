"""How often answers fail on the six dimensions that a judge looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from defsurvey.reports.metrics.aggregate import Floats
from defsurvey.reports.metrics.quality import Rate, wilson_rate
from defsurvey.storage.runs.judgement import DIMENSIONS, Verdict
from defsurvey.storage.runs.run import Reply

NAMES = {
    "qc": "question capture",
    "rp": "role-play",
    "iu": "instruction understanding",
    "cv": "conflict between choice and explanation",
    "ir": "irrelevant expression",
    "ff": "false facts",
}
#: Codes of ``Verdicts.verdict``: the position in this tuple.
VERDICTS = tuple(Verdict)
PASS, FAIL, UNSURE = (VERDICTS.index(each) for each in (Verdict.PASS, Verdict.FAIL, Verdict.UNSURE))
#: Dimensions of a judge that are about the explanation: conflict with the choice, and false facts.
ON_EXPLANATIONS = ("cv", "ff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """What one judge said: one row per answer and dimension; arrays of shape (n,)."""

    judge: str  #: name and version
    cell: NDArray[np.int32]  #: position in ``Run.cells``
    answer: NDArray[np.int64]  #: row of ``AnswerArrays``: verdicts on one answer share it
    dimension: NDArray[np.int8]  #: position in ``DIMENSIONS``
    verdict: NDArray[np.int8]  #: position in ``VERDICTS``
    weight: Floats  #: answers of its stratum that each judged answer stands for; all 1 if sampling was even


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A judge beside another who judged the same answers."""

    other: str  #: a person; empty: the judge itself, asked again
    dimension: str  #: a code of ``DIMENSIONS``; empty: all of them together
    agreement: Agreement  #: of pass, fail and unsure
    stricter: McNemar  #: who fails answers more often; the judge first


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeNotes:
    """What is to be said of judges beside their verdicts."""

    audits: Mapping[str, tuple[Audit, ...]] = field(default_factory=dict)  #: name and version of a judge -> its audits
    silent: tuple[str, ...] = ()  #: of judges that judged nothing, or not all that was asked for: why
    partial: frozenset[str] = frozenset()  #: names and versions of those that judged a part


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRates:
    """Failure rates of one cell by one judge, one per dimension of ``DIMENSIONS``."""

    fail: tuple[Rate, ...]  #: among pass and fail, strata weighted; the interval rests on the effective number
    answers: int  #: judged, those with unsure verdicts only included
    any_fail: Rate  #: answers with at least one failure, among those with a clear verdict on any dimension


def judgeable(verdicts: Verdicts, reply: Reply) -> Verdicts:
    """Verdicts without those on explanations, where replies were cut off."""
    if reply is Reply.FULL:
        return verdicts
    kept = ~np.isin(verdicts.dimension, [DIMENSIONS.index(code) for code in ON_EXPLANATIONS])
    columns = [field.name for field in fields(Verdicts) if field.name != "judge"]
    return replace(verdicts, **{name: getattr(verdicts, name)[kept] for name in columns})


def cell_rates(verdicts: Verdicts, cell: int) -> CellRates:
    """Rates of one cell with Wilson intervals: sum(w fail) / sum(w), at n_eff = sum(w)^2 / sum(w^2).

    Source: Liu et al. (2025), section 4.2.4; Wilson (1927); Kish (1965) for the effective number.

    >>> made = Verdicts(judge="j 1", cell=np.zeros(4, np.int32), answer=np.arange(4), dimension=np.zeros(4, np.int8),
    ...     verdict=np.array([0, 1, 0, 2], np.int8), weight=np.ones(4))
    >>> found = cell_rates(made, 0)
    >>> round(found.fail[0].share, 4), found.fail[0].n, found.fail[1].reason
    (0.3333, 3, 'nothing was judged')
    """
    here = verdicts.cell == cell
    dimension, verdict, weight = verdicts.dimension[here], verdicts.verdict[here], verdicts.weight[here]
    answer, clear = verdicts.answer[here], verdict != UNSURE
    asked = [clear & (dimension == place) for place in range(len(DIMENSIONS))]
    judged, first, inverse = np.unique(answer[clear], return_index=True, return_inverse=True)
    failed = np.bincount(inverse[verdict[clear] == FAIL], minlength=len(judged)) > 0
    return CellRates(
        fail=tuple(_rate(verdict[of] == FAIL, weight[of]) for of in asked),
        answers=len(np.unique(answer)),
        any_fail=_rate(failed, weight[clear][first]),
    )


def _rate(hit: NDArray[np.bool_], weight: Floats) -> Rate:
    if hit.size == 0:
        return Rate(reason="nothing was judged")
    share, effective = float((weight * hit).sum() / weight.sum()), float(weight.sum() ** 2 / (weight**2).sum())
    return wilson_rate(share, effective, count=int(hit.sum()), n=int(hit.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of two judges on n answers; nan where ``reason`` says why."""

    n: int = 0
    observed: float = np.nan  #: share of equal labels, in [0, 1]
    kappa: float = np.nan  #: Cohen's, at most 1; 0: as by chance
    ac1: float = np.nan  #: Gwet's, at most 1
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Is one of two judges stricter? Only the answers that they judge differently count."""

    first_only: int  #: labelled by the first judge alone
    second_only: int
    exact_p: float  #: binomial, two-sided, in (0, 1]


def agreement(first: ArrayLike, second: ArrayLike, labels: int) -> Agreement:
    """Agreement beyond chance of two judges, who give labels 0..labels-1, each of shape (n,).

    Source: Cohen (1960); Gwet (2008): chance agreement is sum p (1 - p) / (labels - 1), p the mean share of a label.

    >>> found = agreement([1, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1], 2)
    >>> round(found.observed, 4), round(found.kappa, 4), round(found.ac1, 4)
    (0.6667, 0.25, 0.4)
    """
    one, two = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    if one.size == 0:
        return Agreement(reason="no answer was labelled by both")
    observed = float((one == two).mean())
    shares = np.stack([np.bincount(each, minlength=labels) / one.size for each in (one, two)])
    chance, mean = float(shares[0] @ shares[1]), shares.mean(axis=0)
    unlike = float((mean * (1 - mean)).sum() / (labels - 1))
    alike = chance >= 1.0
    return Agreement(
        n=int(one.size),
        observed=observed,
        kappa=np.nan if alike else (observed - chance) / (1 - chance),
        ac1=(observed - unlike) / (1 - unlike),
        reason="both judges gave one and the same label throughout: kappa has no value" if alike else "",
    )


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's test of two judges' yes/no labels (n,) on the same answers, by the exact binomial p.

    Source: McNemar (1947).

    >>> found = mcnemar([1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5)
    >>> found.first_only, found.second_only, round(found.exact_p, 4)
    (8, 2, 0.1094)
    """
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    mine, theirs = int((one & ~two).sum()), int((~one & two).sum())
    p = min(1.0, 2 * float(bdtr(min(mine, theirs), mine + theirs, 0.5))) if mine + theirs else 1.0
    return McNemar(first_only=mine, second_only=theirs, exact_p=p)
