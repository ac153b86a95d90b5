"""From a forward's logits to what every search does next: computed in groups that are chosen alike, copied once.

Deliberately knows nothing of beams' histories (see ``beams``): a search is given its candidates and says what is to be
computed next.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from workers.engines.transformers.beams import Choosing, Rows, Search
from workers.engines.transformers.selector import draw, warper


def select(searches: Sequence[Search], logits: Tensor, counts: Sequence[int]) -> list[Rows | RuntimeError | None]:
    """Let every search go on.

    Args:
        searches: who goes on.
        logits: shape (rows, vocabulary); those of each search follow those of the one before.
        counts: how many rows each search has: one for its prompt, later one for each beam.

    Returns:
        For each search the rows to compute next, None where its reply is found, or an error where its logits are no
        numbers.
    """
    starts = [0, *accumulate(counts)]
    alike: dict[tuple[Choosing, int], list[int]] = defaultdict(list)
    for place, (search, count) in enumerate(zip(searches, counts, strict=True)):
        alike[search.choosing, count].append(place)
    candidates = []
    for (choosing, count), members in alike.items():
        rows = torch.tensor([starts[place] + row for place in members for row in range(count)], device=logits.device)
        part = logits.index_select(0, rows).float().view(len(members), count, -1)
        candidates.append(_choose(part, choosing, [searches[place] for place in members]))
    following: list[Rows | RuntimeError | None] = [None] * len(searches)
    for members, (best, chosen) in zip(alike.values(), _on_the_host(candidates), strict=True):
        for place, scores, indices in zip(members, best.tolist(), chosen.tolist(), strict=True):
            if any(math.isnan(score) or score == math.inf for score in scores):
                following[place] = RuntimeError("the model computes logits that are no numbers")
            else:
                following[place] = searches[place].take(scores, indices, logits.shape[-1])
    return following


def _choose(logits: Tensor, choosing: Choosing, searches: Sequence[Search]) -> tuple[Tensor, Tensor]:
    """Scores of the candidates and where they stand among all continuations, each of shape (searches, candidates)."""
    count, rows, vocabulary = logits.shape
    warp = warper(choosing.sampling, num_beams=choosing.num_beams, ends=choosing.ends)
    streams = [search.stream for search in searches if search.stream is not None]
    if choosing.num_beams == 1:
        scores = warp(logits[:, 0])
        indices = draw(scores, 1, streams) if streams else scores.argmax(dim=-1, keepdim=True)
        return scores.gather(1, indices), indices
    likely = warp(torch.log_softmax(logits, dim=-1).view(count * rows, vocabulary)).view(count, rows, vocabulary)
    before = torch.tensor([search.scores for search in searches], device=logits.device)
    scores = (likely.expand(count, choosing.num_beams, vocabulary) + before[:, :, None]).reshape(count, -1)
    if not streams:
        best, indices = torch.topk(scores, choosing.candidates)
        return best, indices
    indices = draw(scores, choosing.candidates, streams)
    best, order = scores.gather(1, indices).sort(descending=True)
    return best, indices.gather(1, order)


def _on_the_host(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Scores and indices of all groups, copied from the device at once."""
    if not pairs or pairs[0][0].device.type == "cpu":
        return list(pairs)
    return unpacked(packed(pairs).cpu(), [best.shape for best, _ in pairs])


def packed(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores (float32) and indices (below 2**31) of like shape, one pair after the other, in one int32 tensor."""
    return torch.cat(
        [word.reshape(-1) for best, chosen in pairs for word in (best.view(torch.int32), chosen.to(torch.int32))]
    )


def unpacked(words: Tensor, shapes: Sequence[torch.Size]) -> list[tuple[Tensor, Tensor]]:
    """The pairs that were ``packed``, by their shapes."""
    parts = iter(torch.split(words, [shape.numel() for shape in shapes for _ in range(2)]))
    return [(next(parts).view(torch.float32).view(shape), next(parts).view(shape)) for shape in shapes]
