"""One request's search: which continuations live on, and when the reply is found.

A transcription of ``generate`` (transformers 5.24: ``_sample`` and ``_beam_search``) for a batch of one with
length_penalty 1 and early_stopping False, step by step instead of as a loop, so that many searches can share one
forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.selector import Draws, Stream

#: The score of a beam that is not there; the library's own number, since scores are added to it.
_NEVER = -1.0e9


@dataclass(frozen=True, slots=True)
class Rows:
    """What has to be computed next: one row of logits for each token."""

    parents: tuple[int, ...]  #: for each row, which row of the step before it continues
    tokens: tuple[int, ...]  #: for each row, the token put behind it


@dataclass(frozen=True, slots=True)
class Choosing:
    """How candidates are chosen; what is chosen alike is computed together, see ``selection``."""

    num_beams: int
    sampling: Sampling | None
    ends: int  #: number of tokens that end a reply
    candidates: int  #: how many continuations are wanted


class Search(Protocol):
    """A reply in the making."""

    choosing: Choosing
    stream: Stream | None  #: where randomness comes from; None without sampling
    scores: list[float]  #: of each beam so far

    def take(self, best: list[float], chosen: list[int], vocabulary: int, /) -> Rows | None:
        """Go on with the candidates; None once the reply is found.

        Args:
            best: scores of the candidates; with beams accumulated ones, descending.
            chosen: where they stand among all continuations: beam * vocabulary + token.
            vocabulary: number of tokens there are.
        """
        ...

    def reply(self) -> list[int]:
        """The reply's tokens, the one that ended it included."""
        ...


def start(request: ResolvedRequest, draws: Draws = Draws.LIBRARY) -> Search:
    """The search that a request asks for."""
    return Chain(request, draws) if request.num_beams == 1 else Beams(request, draws)


class Chain:
    """One token after the other: greedy, or sampled."""

    def __init__(self, request: ResolvedRequest, draws: Draws) -> None:
        self.choosing = Choosing(1, request.sampling, len(request.ends), 1)
        self.stream = Stream(request.seed, draws) if request.sampling else None
        self.scores = [0.0]
        self._request = request
        self._ends = frozenset(request.ends)
        self._tokens: list[int] = []

    def take(self, _best: list[float], chosen: list[int], _vocabulary: int) -> Rows | None:
        """See ``Search``."""
        (token,) = chosen
        self._tokens.append(token)
        if token in self._ends or len(self._tokens) == self._request.max_new_tokens:
            return None
        if self._request.enough is not None and self._request.enough(self._tokens):
            return None
        return Rows((0,), (token,))

    def reply(self) -> list[int]:
        """See ``Search``."""
        return self._tokens


class Beams:
    """Several beams at once: the likeliest, or sampled ones. All of it is on the host, in float32 as in the library."""

    def __init__(self, request: ResolvedRequest, draws: Draws) -> None:
        beams = request.num_beams
        candidates = max(2, 1 + len(request.ends)) * beams
        self.choosing = Choosing(beams, request.sampling, len(request.ends), candidates)
        self.stream = Stream(request.seed, draws) if request.sampling else None
        # Only the first beam counts at first: all start from the same prompt.
        self.scores = [0.0] + [_NEVER] * (beams - 1)
        self._request = request
        self._ends = frozenset(request.ends)
        self._length = 0
        self._running: list[list[int]] = [[] for _ in range(beams)]
        self._finished_scores = torch.full((beams,), _NEVER)
        self._finished: list[list[int]] = [[] for _ in range(beams)]
        self._is_finished = [False] * beams

    def take(self, best: list[float], chosen: list[int], vocabulary: int) -> Rows | None:
        """See ``Search``."""
        beams = self._request.num_beams
        parents = [index // vocabulary for index in chosen]
        tokens = [index % vocabulary for index in chosen]
        last = self._length + 1 >= self._request.max_new_tokens
        hits = [last or token in self._ends for token in tokens]
        sequences = [[*self._running[parent], token] for parent, token in zip(parents, tokens, strict=True)]

        # Mostly nobody ends, and the first of the candidates, who come in order, go on; which of equals does, the
        # library's own operations tell.
        if any(hits) or not all(higher > lower for higher, lower in pairwise(best[: beams + 1])):
            kept = self._weigh(torch.tensor(best), hits, sequences)
        else:
            kept = list(range(beams))
            self.scores = best[:beams]
        self._running = [sequences[index] for index in kept]
        self._length += 1
        if all(hits) or not self._can_improve():
            return None
        # The first time all beams continue the same row.
        continued = (0,) * beams if self._length == 1 else tuple(parents[index] for index in kept)
        return Rows(continued, tuple(tokens[index] for index in kept))

    def reply(self) -> list[int]:
        """See ``Search``."""
        return self._finished[0]

    def _weigh(self, reached: Tensor, hits: list[bool], sequences: list[list[int]]) -> list[int]:
        """Which candidates go on, where some end or are equal, as the library has it."""
        alive = reached + _NEVER * torch.tensor(hits, dtype=torch.float32)
        following = torch.topk(alive, self._request.num_beams)[1]
        self._finish(reached, hits, sequences)
        self.scores = alive[following].tolist()
        kept: list[int] = following.tolist()
        return kept

    def _finish(self, best: Tensor, hits: list[bool], sequences: list[list[int]]) -> None:
        """Take over candidates that ended; only the first ``num_beams`` may, the others are there to go on."""
        beams = self._request.num_beams
        ended = [hit and place < beams for place, hit in enumerate(hits)]
        running = torch.tensor([not end for end in ended], dtype=torch.float32)
        scores = best / (self._length + 1) ** 1.0 + _NEVER * running
        merged = torch.cat((self._finished_scores, scores))
        self._finished_scores, kept = torch.topk(merged, beams)
        indices = kept.tolist()
        all_sequences, all_ended = self._finished + sequences, self._is_finished + ended
        self._finished = [all_sequences[index] for index in indices]
        self._is_finished = [all_ended[index] for index in indices]

    def _can_improve(self) -> bool:
        """Whether the best running beam, ended here, would still beat the worst of the finished ones."""
        best = np.float32(self.scores[0]) / np.float32(self._length)
        # Against a place that is still free any running beam counts, unless it is one that is not there.
        worst = self._finished_scores.min().item() if all(self._is_finished) else _NEVER
        return bool(best > np.float32(worst))
