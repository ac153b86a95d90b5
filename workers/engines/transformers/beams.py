"""One request's search: which continuations live on, and when the reply is found.

A transcription of ``generate`` (transformers 5.24: ``_sample`` and ``_beam_search``) for a batch of one with
length_penalty 1 and early_stopping False, step by step instead of as a loop, so that many searches can share one
forward. Deliberately knows nothing of models, keys and values: rows of logits come in, rows to compute come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workers.engines.transformers.request import ResolvedRequest
from workers.engines.transformers.selector import Draws, draw, seeded, warper

#: The score of a beam that is not there; the library's own number, since scores are added to it.
_NEVER = -1.0e9


@dataclass(frozen=True, slots=True)
class Rows:
    """What has to be computed next: one row of logits for each token."""

    parents: tuple[int, ...]  #: for each row, which row of the step before it continues
    tokens: tuple[int, ...]  #: for each row, the token put behind it


class Search(Protocol):
    """A reply in the making."""

    def advance(self, logits: Tensor) -> Rows | None:
        """Choose continuations; None once the reply is found.

        Args:
            logits: one row for each row asked for by the step before, shape (rows, vocabulary); the first time
                one row, for the prompt, which all beams share.
        """
        ...

    def reply(self) -> list[int]:
        """The reply's tokens, the one that ended it included."""
        ...


def start(request: ResolvedRequest, device: torch.device, draws: Draws = Draws.LIBRARY) -> Search:
    """The search that a request asks for."""
    return Chain(request, device, draws) if request.num_beams == 1 else Beams(request, device, draws)


class Chain:
    """One token after the other: greedy, or sampled."""

    def __init__(self, request: ResolvedRequest, device: torch.device, draws: Draws) -> None:
        self._request = request
        self._draws = draws
        self._ends = frozenset(request.ends)
        self._warp = warper(request.sampling, num_beams=1, ends=len(request.ends))
        self._generator = seeded(request.seed, device) if request.sampling else None
        self._tokens: list[int] = []

    def advance(self, logits: Tensor) -> Rows | None:
        """See ``Search``."""
        scores = self._warp(logits.float())
        if self._generator is None:
            token = int(scores[0].argmax())
        else:
            token = int(draw(scores[0], 1, self._generator, self._draws))
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
    """Several beams at once: the likeliest, or sampled ones."""

    def __init__(self, request: ResolvedRequest, device: torch.device, draws: Draws) -> None:
        beams = request.num_beams
        self._request = request
        self._draws = draws
        self._ends = frozenset(request.ends)
        self._warp = warper(request.sampling, num_beams=beams, ends=len(request.ends))
        self._generator = seeded(request.seed, device) if request.sampling else None
        self._candidates = max(2, 1 + len(request.ends)) * beams
        self._length = 0
        # Only the first beam counts at first: all start from the same prompt.
        self._scores = torch.tensor([0.0] + [_NEVER] * (beams - 1), device=device)
        self._running: list[list[int]] = [[] for _ in range(beams)]
        self._finished_scores = torch.full((beams,), _NEVER, device=device)
        self._finished: list[list[int]] = [[] for _ in range(beams)]
        self._is_finished = [False] * beams

    def advance(self, logits: Tensor) -> Rows | None:
        """See ``Search``."""
        beams, vocabulary = self._request.num_beams, logits.shape[-1]
        if len(logits) != beams:
            logits = logits.expand(beams, vocabulary)
        scores = self._warp(torch.log_softmax(logits.float(), dim=-1))
        scores = (scores + self._scores[:, None]).reshape(-1)
        best, indices = self._choose(scores)
        chosen = indices.tolist()  # the one copy from the device to here
        parents = [index // vocabulary for index in chosen]
        tokens = [index % vocabulary for index in chosen]
        last = self._length + 1 >= self._request.max_new_tokens
        hits = [last or token in self._ends for token in tokens]
        sequences = [[*self._running[parent], token] for parent, token in zip(parents, tokens, strict=True)]

        alive = best + _NEVER * torch.tensor(hits, dtype=torch.float32, device=best.device)
        following = torch.topk(alive, beams)[1]
        self._finish(best, hits, sequences)
        self._scores = alive[following]
        kept: list[int] = following.tolist()
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

    def _choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The candidates' accumulated scores, descending, and where they stand among all continuations."""
        if self._generator is None:
            best, indices = torch.topk(scores, self._candidates)
            return best, indices
        indices = draw(scores, self._candidates, self._generator, self._draws)
        best, order = scores[indices].sort(descending=True)
        return best, indices[order]

    def _finish(self, best: Tensor, hits: list[bool], sequences: list[list[int]]) -> None:
        """Take over candidates that ended; only the first ``num_beams`` may, the others are there to go on."""
        beams = self._request.num_beams
        ended = [hit and place < beams for place, hit in enumerate(hits)]
        running = torch.tensor([not end for end in ended], dtype=torch.float32, device=best.device)
        scores = best / (self._length + 1) ** 1.0 + _NEVER * running
        merged = torch.cat((self._finished_scores, scores))
        self._finished_scores, kept = torch.topk(merged, beams)
        indices = kept.tolist()
        all_sequences, all_ended = self._finished + sequences, self._is_finished + ended
        self._finished = [all_sequences[index] for index in indices]
        self._is_finished = [all_ended[index] for index in indices]

    def _can_improve(self) -> bool:
        """Whether the best running beam, ended here, would still beat the worst of the finished ones."""
        if not all(self._is_finished):
            # Against a place that is still free any running beam counts, unless it is one that is not there.
            return bool(self._scores[0] / self._length**1.0 > _NEVER)
        return bool(self._scores[0] / self._length**1.0 > self._finished_scores.min())
