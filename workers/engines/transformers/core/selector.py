"""From scores to chosen continuations, as transformers' ``generate`` chooses them.

Pure functions of scores and a generator.

There are three ways to draw, by one law. ``Draws.LIBRARY`` makes the very draws that ``generate`` makes, one random
number for each token of the vocabulary and each beam; it is what a float32 model gets on a CPU.

``Draws.CUMULATIVE`` takes one random number for each token drawn; it is for the short number formats on a CPU, whose
rounding makes token for token agreement impossible anyway, and where the random numbers alone would take a fifth of
the time.

``Draws.HASHED`` is for GPUs: the random numbers are a hash of seed, step and token, so that all requests are drawn for
in one operation, nothing is copied to find out what was drawn, and a reply does not depend on who else is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from defsurvey.workers.engines.transformers.core.request import Sampling
from defsurvey.workers.engines.transformers.cpu.drawing import drawn

Warp = Callable[[Tensor], Tensor]

#: How many numbers are drawn at once where several different tokens are wanted.
_AT_ONCE = 32
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


class Stream:
    """Where one request's randomness comes from.

    Args:
        seed: in [0, 2**63).
        draws: how random numbers become tokens.
    """

    def __init__(self, seed: int, draws: Draws) -> None:
        self.draws = draws
        self.generator = seeded(seed)
        self._seed, self._steps = seed, 0

    def key(self) -> int:
        """A number in [-2**63, 2**63) for the next step of ``Draws.HASHED``; another one each time."""
        self._steps += 1
        return _signed(_mixed(_mixed(self._seed) + self._steps * _GOLDEN))


def warper(sampling: Sampling | None, *, num_beams: int, ends: int) -> Warp:
    """What ``generate`` does to scores before it draws: temperature, then top_k, then top_p.

    Args:
        sampling: the settings; None leaves scores alone.
        num_beams: number of beams; with several, enough tokens are kept to go on where an end is among them.
        ends: number of tokens that end a reply.

    Returns:
        A function from scores to scores, both of shape (rows, vocabulary).
    """
    if sampling is None:
        return _unbent
    # ``generate`` keeps one token more than there are ends, and two where there is no end.
    keep = 1 if num_beams == 1 else max(2, ends + 1)
    steps: list[Callable[[Tensor, Tensor], Tensor]] = []
    if sampling.temperature != 1.0:
        steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k, min_tokens_to_keep=keep))
    if sampling.top_p < 1.0:
        steps.append(TopPLogitsWarper(sampling.top_p, min_tokens_to_keep=keep))
    return _chained(steps) if steps else _unbent


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
    if streams[0].draws is Draws.LIBRARY:
        return torch.stack([_multinomial(row, count, stream) for row, stream in zip(scores, streams, strict=True)])
    return _cumulative(scores.contiguous(), count, streams)


def _multinomial(scores: Tensor, count: int, stream: Stream) -> Tensor:
    probabilities = torch.softmax(scores, dim=-1)
    if not torch.isfinite(probabilities[0]):  # then none is
        return _no_number(scores).expand(count)
    return torch.multinomial(probabilities[None], count, generator=stream.generator)[0]


def _cumulative(scores: Tensor, count: int, streams: Sequence[Stream]) -> Tensor:
    tries = _AT_ONCE if count > 1 else 1
    numbers = torch.stack([torch.rand(tries, generator=of.generator, dtype=torch.float64) for of in streams])
    highest = scores.amax(dim=-1)
    # Passing over what was drawn before is drawing without replacement.
    found = torch.from_numpy(drawn(scores.numpy(), highest.numpy(), numbers.numpy(), count))
    for row in (~torch.isfinite(highest) | (found[:, -1] < 0)).nonzero().flatten().tolist():
        if math.isfinite(float(highest[row])):
            found[row] = _completed(scores[row], found[row].tolist(), streams[row])
        else:
            found[row] = _no_number(scores[row])
    return found


def _completed(scores: Tensor, drawn_before: Sequence[int], stream: Stream) -> Tensor:
    """Further draws where one or few indices were met again and again; -1 stands for one that is missing."""
    probabilities = torch.softmax(scores, dim=-1)
    left = probabilities.double()
    found = dict.fromkeys(index for index in drawn_before if index >= 0)
    for _ in drawn_before:
        left[list(found)] = 0.0  # nearly all the rest is too unlikely to be met by chance
        edges = left.cumsum(0)
        numbers = torch.rand(_AT_ONCE, generator=stream.generator, dtype=left.dtype)
        places = torch.searchsorted(edges, numbers * edges[-1], right=True).clamp_(max=len(edges) - 1)
        found.update(dict.fromkeys(places.tolist()))
        if len(found) >= len(drawn_before):
            return torch.tensor(list(found)[: len(drawn_before)])
    return torch.multinomial(probabilities[None], len(drawn_before), generator=stream.generator)[0]


def _no_number(scores: Tensor) -> Tensor:
    """Index of a score that is none, or infinite."""
    return (torch.isnan(scores) | (scores == torch.inf)).int().argmax()


def _hashed(scores: Tensor, count: int, keys: Tensor) -> Tensor:
    """The largest of log-probability plus Gumbel noise: they come in the order and by the law of drawing.

    Source: Gumbel (1954); Yellott (1977) for several; the noise is Steele, Lea and Flood's (2014) mixing function of
    a counter.
    """
    mixed = keys[:, None] + torch.arange(1, scores.shape[-1] + 1, device=scores.device) * _signed(_GOLDEN)
    for shift, factor in _MIXING:
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    mixed ^= _shifted(mixed, _LAST_SHIFT)
    uniform = (_shifted(mixed, 11).double() + 0.5) * 2.0**-53
    return torch.topk(scores.double() - torch.log(-torch.log(uniform)), count)[1]


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


def seeded(seed: int) -> torch.Generator:
    """A generator of its own for one request: it draws what ``torch.manual_seed(seed)`` would let ``generate`` draw."""
    return torch.Generator().manual_seed(seed)


def _unbent(scores: Tensor) -> Tensor:
    return scores


def _chained(steps: Sequence[Callable[[Tensor, Tensor], Tensor]]) -> Warp:
    # None of the three looks at the tokens before.
    nothing = torch.empty(0, dtype=torch.long)

    def warp(scores: Tensor) -> Tensor:
        for step in steps:
            scores = step(nothing, scores)
        return scores

    return warp
