"""From a forward's logits to what every search does next: computed in groups that are chosen alike, copied once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.drawing import Stream, draw, keys_of, warper
from defsurvey.workers.engines.transformers.core.placing import place
from defsurvey.workers.engines.transformers.core.search import Choosing, Following, Search

#: So many scores are looked at at once, which bounds the memory that sorting and drawing take.
_MOST_CHOSEN = 1 << 25
#: Scores whose largest one is looked at before them.
_GROUP = 64


def select(searches: Sequence[Search], logits: Tensor, counts: Sequence[int]) -> list[Following | Exception | None]:
    """Let every search go on.

    Args:
        searches: who goes on.
        logits: shape (rows, vocabulary); those of each search follow those of the one before.
        counts: how many rows each search has: one for its prompt, later one for each beam.

    Returns:
        For each search the rows to compute next, None where its reply is found, or an error: its logits are no
        numbers, or what it asks whether it has enough fails. The others go on.
    """
    starts = [0, *accumulate(counts)]
    alike: dict[tuple[Choosing, int], list[int]] = defaultdict(list)
    for member, (search, count) in enumerate(zip(searches, counts, strict=True)):
        alike[search.choosing, count].append(member)
    groups = [
        _Group(choosing, count, members[first : first + step])
        for (choosing, count), members in alike.items()
        for step in [max(1, _MOST_CHOSEN // (choosing.num_beams * logits.shape[-1]))]
        for first in range(0, len(members), step)
    ]
    rows = place([group.rows(starts) for group in groups], logits.device)
    scores = place([group.scores(searches) for group in groups], logits.device)
    streams = [[one for member in group.members if (one := searches[member].stream)] for group in groups]
    keys = place([keys_of(theirs) for theirs in streams], logits.device)
    candidates = []
    for group, at, before, theirs, of_theirs in zip(groups, rows, scores, streams, keys, strict=True):
        part = group.part(logits, starts, at).float().view(len(group.members), group.count, -1)
        if group.choosing.weighs:
            candidates.append(_weigh(part, group.allowed(searches)))
            continue
        hidden = _hidden(part, group.allowed(searches)) if group.choosing.constrained else None
        candidates.append(_choose(part, group.choosing, before, theirs, of_theirs, hidden))
    following: list[Following | Exception | None] = [None] * len(searches)
    for group, (best, chosen) in zip(groups, _on_the_host(candidates), strict=True):
        parents, tokens = np.divmod(chosen.numpy(), logits.shape[-1])
        for member, *candidate in zip(group.members, best.tolist(), parents.tolist(), tokens.tolist(), strict=True):
            following[member] = taken(searches[member], *candidate)
    return following


def _are_scores(reached: list[float]) -> bool:
    """Whether there is anything to choose by; scores that a temperature near 0 divides may all be infinitely small."""
    return sum(reached) < math.inf and max(reached) > -math.inf  # NaN, which a sum hands on, is below neither


def taken(search: Search, best: list[float], parents: list[int], tokens: list[int]) -> Following | Exception | None:
    """What a search does with its candidates, see ``Search.take``; an error where these are none, or it fails."""
    if not _are_scores(best):
        return RuntimeError("the model computes logits that are no numbers")
    try:
        return search.take(best, parents, tokens)
    except Exception as error:  # noqa: BLE001 -- who asks has a say in it; its defect belongs to its request
        return error


@dataclass(frozen=True, slots=True)
class _Group:
    """Searches that choose alike."""

    choosing: Choosing
    count: int  # rows of each
    members: Sequence[int]

    def rows(self, starts: Sequence[int]) -> np.ndarray:
        """Which rows of the logits are theirs."""
        return np.array([starts[member] + row for member in self.members for row in range(self.count)])

    def part(self, logits: Tensor, starts: Sequence[int], at: Tensor) -> Tensor:
        """These rows; where they follow each other nothing is copied."""
        first, last = self.members[0], self.members[-1]
        if last - first + 1 == len(self.members):
            return logits[starts[first] : starts[last] + self.count]
        return logits.index_select(0, at)

    def scores(self, searches: Sequence[Search]) -> np.ndarray:
        """What each beam has reached, shape (members, beams)."""
        return np.array([searches[member].scores for member in self.members], dtype=np.float32)

    def allowed(self, searches: Sequence[Search]) -> list[list[Sequence[int]]]:
        """Of each member and each of its rows the tokens that may follow."""
        return [searches[member].allowed() for member in self.members]


def _choose(
    logits: Tensor,
    choosing: Choosing,
    before: Tensor,
    streams: Sequence[Stream],
    keys: Tensor,
    hidden: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Scores of the candidates and where they stand among all continuations, each of shape (searches, candidates).

    Args:
        logits: shape (searches, rows, vocabulary), in float32.
        choosing: how candidates are chosen.
        before: what each beam has reached, shape (searches, beams).
        streams: where randomness comes from; none without sampling.
        keys: of the streams, see ``draw``.
        hidden: added to the scores before anything else is done with them, as ``generate`` has it: 0 for tokens that
            may follow, else minus infinity; shape of ``logits``. None: all may.
    """
    count, rows, vocabulary = logits.shape
    warp = warper(choosing.sampling, num_beams=choosing.num_beams, ends=choosing.ends)
    if choosing.num_beams == 1:
        scores = warp(logits[:, 0] if hidden is None else logits[:, 0] + hidden[:, 0])
        indices = draw(scores, 1, streams, keys) if streams else scores.argmax(dim=-1, keepdim=True)
        return scores.gather(1, indices), indices
    likely = torch.log_softmax(logits, dim=-1)
    likely = likely if hidden is None else likely + hidden
    likely = warp(likely.view(count * rows, vocabulary)).view(count, rows, vocabulary)
    if rows == choosing.num_beams:
        scores = likely.add_(before[:, :, None]).view(count, -1)  # in place: it is large
    else:
        scores = (likely.expand(count, choosing.num_beams, vocabulary) + before[:, :, None]).view(count, -1)
    if not streams:
        return largest(scores, choosing.candidates)
    indices = draw(scores, choosing.candidates, streams, keys)
    best, order = scores.gather(1, indices).sort(descending=True)
    return best, indices.gather(1, order)


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest scores of each row, descending, and where they are; of many only those are sorted that may be it.

    A group whose own largest score is not among the ``count`` largest of groups has none of the largest.
    """
    rows, length = scores.shape
    if length % _GROUP or length < 64 * _GROUP:
        best, indices = torch.topk(scores, count)
        return best, indices
    grouped = scores.view(rows, -1, _GROUP)
    groups = torch.topk(grouped.amax(-1), count)[1].sort()[0]  # in order, as equal scores are then
    best, indices = torch.topk(grouped.gather(1, groups[..., None].expand(-1, -1, _GROUP)).view(rows, -1), count)
    return best, groups.gather(1, indices // _GROUP) * _GROUP + indices % _GROUP


def _hidden(logits: Tensor, allowed: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """Minus infinity but for the tokens that may follow; shape of the logits."""
    hidden = torch.full_like(logits, -math.inf)
    for member, rows in enumerate(allowed):
        for row, tokens in enumerate(rows):
            hidden[member, row, list(tokens)] = 0.0
    return hidden


def _weigh(logits: Tensor, asked: Sequence[Sequence[Sequence[int]]]) -> tuple[Tensor, Tensor]:
    """Probabilities of the tokens that each search asks for, its rows' one after the other, filled up with zeros."""
    probabilities = torch.softmax(logits, dim=-1)
    flat = [[(row, token) for row, tokens in enumerate(rows) for token in tokens] for rows in asked]
    best = torch.zeros(len(flat), max(map(len, flat)))
    for member, pairs in enumerate(flat):
        rows, tokens = zip(*pairs, strict=True)
        best[member, : len(pairs)] = probabilities[member, list(rows), list(tokens)]
    return best.to(logits.device), torch.zeros(best.shape, dtype=torch.long, device=logits.device)


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
