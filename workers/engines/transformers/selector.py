"""From scores to chosen continuations, as transformers' ``generate`` chooses them.

Pure functions of scores and a generator. Knows the order in which temperature, top_k and top_p apply and how tokens
are drawn. Deliberately knows nothing of beams' histories (see ``beams``) or of models.

There are two ways to draw. ``Draws.LIBRARY`` makes the very draws that ``generate`` makes, one random number for each
token of the vocabulary and each beam; it is what a float32 model gets. ``Draws.CUMULATIVE`` follows the same law with
one random number for each token drawn; it is for the short number formats, whose rounding makes token for token
agreement impossible anyway, and where the random numbers alone would take a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
from torch import Tensor
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from workers.engines.transformers.request import Sampling

Warp = Callable[[Tensor], Tensor]

#: How many numbers are drawn at once where several different tokens are wanted.
_AT_ONCE = 32


class Draws(StrEnum):
    """How random numbers become tokens; the law is the same."""

    LIBRARY = "library"
    CUMULATIVE = "cumulative"


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


def draw(scores: Tensor, count: int, generator: torch.Generator, draws: Draws) -> Tensor:
    """Indices drawn without replacement with probabilities ``softmax(scores)``.

    Args:
        scores: log-probabilities up to a constant, shape (n,).
        count: how many different indices are drawn.
        generator: where randomness comes from, on the device of the scores.
        draws: how it is turned into indices.

    Returns:
        Shape (count,), in the order drawn.
    """
    probabilities = torch.softmax(scores, dim=-1)
    if draws is Draws.LIBRARY:
        return torch.multinomial(probabilities[None], count, generator=generator)[0]
    # In double precision: a sum over 250,000 single-precision terms would round rare tokens away.
    left = probabilities.double()
    drawn: dict[int, None] = {}
    for _ in range(count):
        edges = left.cumsum(0)
        numbers = torch.rand(_AT_ONCE if count > 1 else 1, generator=generator, device=scores.device, dtype=left.dtype)
        found = torch.searchsorted(edges, numbers * edges[-1], right=True).clamp_(max=len(edges) - 1)
        # Passing over what was drawn before is drawing without replacement.
        drawn.update(dict.fromkeys(found.tolist()))
        if len(drawn) >= count:
            return torch.tensor(list(drawn)[:count], device=scores.device)
        left[list(drawn)] = 0.0  # nearly all the rest is too unlikely to be met by chance
    return torch.multinomial(probabilities[None], count, generator=generator)[0]


def seeded(seed: int, device: torch.device) -> torch.Generator:
    """A generator of its own for one request: it draws what ``torch.manual_seed(seed)`` would let ``generate`` draw."""
    return torch.Generator(device).manual_seed(seed)


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
