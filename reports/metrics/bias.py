"""Does the model's commonest answer match people's, and which people is it most typical of? One unit is an item."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from defsurvey.reports.metrics.aggregate import Bools, Floats, Ints, ratio

#: Names of the groups, in the order of every array's group axis.
GENDERS = ("male", "female")
AGES = ("<=29", "30-49", "50+")
#: Most answers for which the probability of a match is worked out exactly: the cost grows with their square.
EXACT = 250
#: Draws where there are more, and their seed.
DRAWN, MATCH_SEED = 20_000, 20250314
#: Shares this near to each other are equal: percentages are printed with two digits.
EQUAL = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Which items match, and how many of as many uniform answers would; arrays of shape (I,)."""

    match: Floats  #: 1 or 0; nan where the cell or the reference is empty
    uniform: Floats  #: probability that as many uniform answers would match; nan where ``match`` is
    share: float  #: of the items with a value, in [0, 1]; nan if there is none
    expected: float  #: mean of ``uniform``
    items: int  #: with a value
    low_n: int  #: of them, resting on too few people


def modes(weights: ArrayLike) -> Bools:
    """Which categories are the commonest, ties included, shape (..., K); none where all are 0 or any is nan."""
    array = np.asarray(weights, dtype=np.float64)
    highest = array.max(axis=-1, keepdims=True)
    return np.asarray((array >= highest - EQUAL) & (highest > 0))


def matching(counts: ArrayLike, shares: ArrayLike, source: ArrayLike, low_n: ArrayLike | None = None) -> Matching:
    """Whether the model's commonest answer is people's commonest one; a tie matches if any mode is shared.

    ``counts``, people's ``shares`` (nan rows have no value) and ``source``, the shares of uniform answers, are (I, K);
    ``low_n`` (I,) marks references that rest on too few people.

    Source: Liu et al. (2025), section 4.2.3 (a tie is not mentioned there, nor uniform answers).

    >>> found = matching([[3, 1], [2, 2], [0, 0]], [[.2, .8], [.6, .4], [.5, .5]], np.full((3, 2), .5))
    >>> found.match.tolist(), found.share
    ([0.0, 1.0, nan], 0.5)
    >>> round(float(found.uniform[1]), 6)   # 4 uniform answers: 5/16 for, 5/16 against, 6/16 tied
    0.6875
    """
    observed, random = np.asarray(counts, dtype=np.float64), np.asarray(source, dtype=np.float64)
    own, theirs, n = modes(observed), modes(shares), observed.sum(axis=-1)
    valid = own.any(axis=-1) & theirs.any(axis=-1)
    match = np.where(valid, (own & theirs).any(axis=-1), np.nan)
    uniform = np.full(len(observed), np.nan)
    for item in np.flatnonzero(valid).tolist():
        uniform[item] = probability_of_match(int(n[item]), random[item], theirs[item])
    return Matching(
        match=match,
        uniform=uniform,
        share=float(match[valid].mean()) if valid.any() else np.nan,
        expected=float(uniform[valid].mean()) if valid.any() else np.nan,
        items=int(valid.sum()),
        low_n=0 if low_n is None else int((np.asarray(low_n, dtype=bool) & valid).sum()),
    )


def probability_of_match(n: int, source: ArrayLike, mode: ArrayLike) -> float:
    """Probability that one of ``mode`` (K,) is among the commonest of n answers, at least 1, from ``source`` (K,).

    Exact up to ``EXACT`` answers: given independent Poisson counts that sum to n, the counts are multinomial; that the
    largest of the matching categories is m and no other exceeds it is a product over categories, for every m at once by
    a Fourier transform. Beyond, the mean of ``DRAWN`` draws with a fixed seed.
    """
    given = np.asarray(source, dtype=np.float64).round(12)
    wanted = np.asarray(mode, dtype=bool) & (given > 0)
    pairs = sorted((float(share), bool(hit)) for share, hit in zip(given, wanted, strict=True) if share > 0)
    return _probability(n, tuple(pairs))


@lru_cache(maxsize=4096)
def _probability(n: int, pairs: tuple[tuple[float, bool], ...]) -> float:
    if n > EXACT:
        shares, hits = np.array([share for share, _ in pairs]), np.array([hit for _, hit in pairs])
        counts = np.random.default_rng(MATCH_SEED).multinomial(n, shares / shares.sum(), size=DRAWN)
        return float((counts[:, hits].max(axis=1, initial=-1) == counts.max(axis=1)).mean())
    count, most = np.arange(n + 1), np.arange(-1, n + 1)[:, None]
    size = 2 * n + 2  # room enough that products of two do not wrap; cut back to n after each
    whole, below = [], []
    for share, hit in pairs:
        rate = n * share
        masses = np.exp(count * np.log(rate) - rate - gammaln(count + 1))
        upto = np.where(count <= most, masses, 0.0)  # row r: counts of at most r - 1
        whole.append(upto[1:])
        below.append(upto[:-1] if hit else upto[1:])

    def together(a: Floats, b: Floats) -> Floats:
        spectrum = np.fft.rfft(a, size, axis=-1) * np.fft.rfft(b, size, axis=-1)
        return np.asarray(np.fft.irfft(spectrum, size, axis=-1)[:, : n + 1], dtype=np.float64)

    total = np.exp(n * np.log(n) - n - gammaln(n + 1))
    matching = reduce(together, whole)[:, n] - reduce(together, below)[:, n]
    return float(np.clip(matching.sum() / total, 0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Which sex and which age the model's commonest answer is most typical of, per item."""

    gender: Floats  #: weights that sum to 1, ties split evenly, shape (I, 2); nan where a group is not known
    age: Floats  #: shape (I, 3)
    lift: Floats  #: P(option | group) / P(option | all), shape (I, 5); nan where it is not known
    low_n: Bools  #: rests on groups of too few people, shape (I,)


def profile(
    counts: ArrayLike,
    shares: ArrayLike,
    groups: ArrayLike,
    sizes: ArrayLike,
    low_n: ArrayLike | None = None,
    *,
    raw_counts: bool = False,
) -> Profile:
    """Whom the model's commonest answer is most typical of: the group with the largest share P(option | group).

    ``raw_counts``: the paper's way, the group with the most people who chose it, which favours whatever group is
    larger. ``groups`` (5, I, K) are the shares of men, women, <=29, 30-49 and 50+, nan where not known, ``sizes`` and
    ``low_n`` (5, I) the people behind each, and whether these are too few.

    Source: Liu et al. (2025), section 4.2.3.

    >>> men, women = [[.7, .3]], [[.5, .5]]
    >>> groups, sizes = np.array([men, women, men, men, men]), np.array([[40], [100], [50], [50], [50]])
    >>> [profile([[9, 1]], [[.6, .4]], groups, sizes, raw_counts=raw).gender.tolist() for raw in (False, True)]
    [[[1.0, 0.0]], [[0.0, 1.0]]]
    """
    own = modes(counts)
    known, given = np.asarray(shares, dtype=np.float64), np.asarray(groups, dtype=np.float64)
    people = np.asarray(sizes, dtype=np.float64)
    weight = own / np.maximum(own.sum(axis=-1, keepdims=True), 1)
    typical = given * people[..., None] if raw_counts else given
    gender, age = (_shares_of_typical(part, own, weight) for part in (typical[:2], typical[2:]))
    # lift is of the modes together, so that a tie has one too
    chosen = np.where(own.any(axis=-1), np.where(own, given, 0.0).sum(axis=-1), np.nan)
    lift = ratio(chosen, np.broadcast_to(np.where(own, known, 0.0).sum(axis=-1), chosen.shape))
    low = np.zeros(people.shape, dtype=bool) if low_n is None else np.asarray(low_n, dtype=bool)
    return Profile(gender=gender, age=age, lift=lift.T, low_n=np.asarray(low.any(axis=0)))


def _shares_of_typical(values: Floats, own: Bools, weight: Floats) -> Floats:
    """Per item, how the mode (each of tied modes alike) falls to the group in which it is the largest, shape (I, G)."""
    highest = values.max(axis=0, keepdims=True)
    top = (values >= highest - EQUAL).astype(np.float64)
    split = top / np.maximum(top.sum(axis=0, keepdims=True), 1)
    found = (split * weight).sum(axis=-1).T
    unknown = np.isnan(np.where(own, values, 0.0)).any(axis=(0, 2)) | ~own.any(axis=-1)
    found[unknown] = np.nan
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileShares:
    """How a set of items falls to the groups; nan where the set has no known item."""

    gender: Floats  #: shape (2,), sums to 1
    age: Floats  #: shape (3,), sums to 1
    gender_items: int  #: items with known sexes
    age_items: int
    items: int  #: in the set
    low_n: int  #: of the known ones, resting on too few people


def profile_shares(found: Profile, among: ArrayLike) -> ProfileShares:
    """Mean profile of the items of a mask, shape (I,)."""
    mask = np.asarray(among, dtype=bool)
    sexes, ages = mask & ~np.isnan(found.gender).any(axis=-1), mask & ~np.isnan(found.age).any(axis=-1)
    return ProfileShares(
        gender=found.gender[sexes].mean(axis=0) if sexes.any() else np.full(2, np.nan),
        age=found.age[ages].mean(axis=0) if ages.any() else np.full(3, np.nan),
        gender_items=int(sexes.sum()),
        age_items=int(ages.sum()),
        items=int(mask.sum()),
        low_n=int((found.low_n & (sexes | ages)).sum()),
    )


def mismatch_tensor(found: Profile, match: Floats, dimension: Ints, dimensions: int) -> Floats:
    """How many mismatching items of each dimension fall to each sex and age, shape (D, 2, 3).

    An item counts 1 in all, split where its profile is; those without a known sex or age, without a value or without a
    dimension (-1) are left out.
    """
    known = ~np.isnan(found.gender).any(axis=-1) & ~np.isnan(found.age).any(axis=-1)
    here = (match == 0) & known & (dimension >= 0)
    cells = found.gender[here][:, :, None] * found.age[here][:, None, :]
    tensor = np.zeros((dimensions, len(GENDERS), len(AGES)))
    np.add.at(tensor, dimension[here], cells)
    return tensor
