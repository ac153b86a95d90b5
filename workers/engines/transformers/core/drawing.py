"""From scores to drawn tokens, as transformers' ``generate`` draws them. Pure functions of scores and a generator.

There are three ways to draw, by one law. ``Draws.LIBRARY`` makes the very draws that ``generate`` makes, one random
number for each token of the vocabulary and each beam; it is what a float32 model gets on a CPU.

``Draws.CUMULATIVE`` takes one random number for each token drawn; it is for the short number formats on a CPU, whose
rounding makes token for token agreement impossible anyway, and where the random numbers alone would take a fifth of
the time.

``Draws.HASHED`` is for GPUs: the random numbers are a hash of seed, step and token, so that all requests are drawn for
in one operation, nothing is copied to find out what was drawn, and a reply does not depend on who else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from defsurvey.workers.engines.transformers.core.request import Sampling

Warp = Callable[[Tensor], Tensor]

#: How many numbers are drawn at once where several different tokens are wanted.
_AT_ONCE = 32
#: Weights are summed up in groups of so many, so that a drawn token is looked for among few.
_GROUP = 512
#: How many random numbers are hashed at once, which bounds the memory that it takes.
_MOST_HASHED = 1 << 24

#: SplitMix64: by how much its counter grows, and how it mixes.
_GOLDEN = 0x9E3779B97F4A7C15
_MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_WORD = (1 << 64) - 1


class Draws(StrEnum):
    """How random numbers become tokens; the law is the same."""

    LIBRARY = "library"
    CUMULATIVE = "cumulative"
    HASHED = "hashed"


def draws_for(device: torch.device, dtype: torch.dtype) -> Draws:
    """How tokens are drawn for a model's device and number format.

    Only in float32 do a batch and a single request agree closely enough for the same draws to give the same tokens, so
    only there are they made the library's costly way.
    """
    if device.type != "cpu":
        return Draws.HASHED
    return Draws.LIBRARY if dtype is torch.float32 else Draws.CUMULATIVE


class Stream:
    """Where one request's randomness comes from.

    Args:
        seed: in [0, 2**63).
        draws: how random numbers become tokens.
    """

    def __init__(self, seed: int, draws: Draws) -> None:
        self.draws = draws
        self.generator = torch.Generator().manual_seed(seed)  # draws what ``generate`` does after the same seeding
        self._mixed, self._steps = _mixed(seed), 0

    def key(self) -> int:
        """A number in [-2**63, 2**63) for the next step of ``Draws.HASHED``; another one each time."""
        self._steps += 1
        return _signed(_mixed(self._mixed + self._steps * _GOLDEN))


def warper(sampling: Sampling | None, *, num_beams: int, ends: int) -> Warp:
    """What ``generate`` does to scores before it draws: temperature, then top_k, then top_p.

    Args:
        sampling: the settings; None leaves scores alone.
        num_beams: number of beams; with several, enough tokens are kept to go on where an end is among them.
        ends: number of tokens that end a reply.

    Returns:
        A function from scores to scores, both of shape (rows, vocabulary).
    """
    steps: list[Callable[[Tensor, Tensor], Tensor]] = []
    if sampling is not None:
        # ``generate`` keeps one token more than there are ends, and two where there is no end.
        keep = 1 if num_beams == 1 else max(2, ends + 1)
        if sampling.temperature != 1.0:
            steps.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            steps.append(TopKLogitsWarper(sampling.top_k, min_tokens_to_keep=keep))
        if sampling.top_p < 1.0:
            steps.append(TopPLogitsWarper(sampling.top_p, min_tokens_to_keep=keep))
    no_tokens = torch.empty(0, dtype=torch.long)  # none of the three looks at the tokens before

    def warp(scores: Tensor) -> Tensor:
        for step in steps:
            scores = step(no_tokens, scores)
        return scores

    return warp


def keys_of(streams: Sequence[Stream]) -> np.ndarray:
    """The keys of ``Draws.HASHED`` for one step, shape (streams,); none where it is not what they draw by."""
    hashed = [stream.key() for stream in streams if stream.draws is Draws.HASHED]
    return np.array(hashed, dtype=np.int64)


def draw(scores: Tensor, count: int, streams: Sequence[Stream], keys: Tensor | None = None) -> Tensor:
    """Indices drawn without replacement with probabilities ``softmax(scores)``, for each row by itself.

    A row that is no distribution, since a score is no number or infinite, gives the index of such a score.

    Args:
        scores: log-probabilities up to a constant, shape (rows, n).
        count: how many different indices are drawn in each row.
        streams: one for each row; all draw the same way.
        keys: what ``keys_of`` gave for them, where the scores are; None: it is asked.

    Returns:
        Shape (rows, count), each row in the order drawn.
    """
    if streams[0].draws is Draws.HASHED:
        keys = torch.from_numpy(keys_of(streams)).to(scores.device) if keys is None else keys
        step = max(1, _MOST_HASHED // scores.shape[-1])
        return torch.cat([_hashed(scores[i : i + step], count, keys[i : i + step]) for i in range(0, len(keys), step)])
    weights = torch.softmax(scores, dim=-1)
    are_numbers = torch.isfinite(weights[:, :1])  # if one of a row is none, then all are none
    if not are_numbers.all():
        weights.masked_fill_(~are_numbers, 1.0)
    if streams[0].draws is Draws.LIBRARY:
        drawn = _raced(weights, count, streams)
    else:
        drawn = torch.stack([_cumulative(row, count, stream) for row, stream in zip(weights, streams, strict=True)])
    return drawn if are_numbers.all() else torch.where(are_numbers, drawn, _no_number(scores))


def _raced(weights: Tensor, count: int, streams: Sequence[Stream]) -> Tensor:
    """What ``torch.multinomial`` draws: the largest weights, each divided by an exponential random number.

    It makes these one by one, from uniform ones, which takes most of its time; here all logarithms are taken at once.
    """
    length = weights.shape[-1]
    uniform = [torch.rand(length, dtype=torch.float64, generator=stream.generator) for stream in streams]
    ratios = weights / torch.stack(uniform).neg_().log1p_().neg_().float()
    return ratios.argmax(-1, keepdim=True) if count == 1 else torch.topk(ratios, count)[1]


def _cumulative(weights: Tensor, count: int, stream: Stream) -> Tensor:
    """Draws by inverting the sum of weights; who was drawn before is passed over, which is without replacement."""
    tries = _AT_ONCE if count > 1 else 1
    found: dict[int, None] = {}
    left = weights
    while len(found) < count:
        numbers = torch.rand(tries, generator=stream.generator, dtype=torch.float64)
        found.update(dict.fromkeys(_inverted(left, numbers).tolist()))
        left = weights.index_fill(0, torch.tensor(list(found)), 0.0)
        if len(found) < count and int(left.count_nonzero()) < count - len(found):  # the library then takes any
            return torch.multinomial(weights[None], count, generator=stream.generator)[0]
    return torch.tensor(list(found)[:count])


def _inverted(weights: Tensor, numbers: Tensor) -> Tensor:
    """Where the running sum of weights (n,) passes each number's share of the whole; both sums in double precision."""
    groups = torch.nn.functional.pad(weights, (0, -len(weights) % _GROUP)).view(-1, _GROUP)
    sums = groups.sum(-1).double()
    edges = sums.cumsum(0)
    aims = numbers * edges[-1]
    group = torch.searchsorted(edges, aims, right=True)
    inside = groups[group].double().cumsum(1)
    aims = torch.minimum(aims - edges[group] + sums[group], inside[:, -1] * (1 - 2.0**-40))
    return group * _GROUP + torch.searchsorted(inside, aims[:, None], right=True)[:, 0]


def _no_number(scores: Tensor) -> Tensor:
    """Index of a score that is none, or infinite, in each row; shape (rows, 1)."""
    return (torch.isnan(scores) | (scores == torch.inf)).int().argmax(-1, keepdim=True)


def _hashed(scores: Tensor, count: int, keys: Tensor) -> Tensor:
    """The largest of log-probability plus Gumbel noise: they come in the order and by the law of drawing.

    Source: Gumbel (1954); Yellott (1977) for several.
    """
    return torch.topk(scores.double() + noise(keys, scores.shape[-1]), count)[1]


def noise(keys: Tensor, count: int, skipped: Tensor | int = 0) -> Tensor:
    """Gumbel noise from a hash of keys and of consecutive numbers; float64, shape (keys, count).

    The hash is Steele, Lea and Flood's (2014) mixing function of a counter.

    Args:
        keys: See ``Stream.key``, shape (keys,).
        count: Of how many numbers.
        skipped: How many numbers come before them, for each key.
    """
    first = keys + skipped * _signed(_GOLDEN)
    mixed = first[:, None] + torch.arange(1, count + 1, device=keys.device) * _signed(_GOLDEN)
    for shift, factor in _MIXING:
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    mixed ^= _shifted(mixed, _LAST_SHIFT)
    uniform = (_shifted(mixed, 11).double() + 0.5) * 2.0**-53
    return -torch.log(-torch.log(uniform))


def _shifted(numbers: Tensor, places: int) -> Tensor:
    """Shifted to the right, zeros moving in: the library's own shift repeats the sign."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)


def _mixed(number: int) -> int:
    """What ``_hashed`` does, for one number, in [0, 2**64)."""
    number &= _WORD
    for shift, factor in _MIXING:
        number = (number ^ (number >> shift)) * factor & _WORD
    return number ^ (number >> _LAST_SHIFT)


def _signed(number: int) -> int:
    """The same 64 bits as the library reads them."""
    return number - (1 << 64) if number >> 63 else number
