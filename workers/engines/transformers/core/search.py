"""One request's search: which continuations live on, and when the reply is found.

``Chain`` and ``Beams`` are a transcription of ``generate`` (transformers 5.24: ``_sample`` and ``_beam_search``) for a
batch of one with length_penalty 1 and early_stopping False, step by step instead of as a loop, so that many searches
can share a step. ``Weighing`` asks how probable given texts are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import gt
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.drawing import Draws, Stream
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling

#: The score of a beam that is not there; the library's own number, since scores are added to it.
_NEVER = -1.0e9


@dataclass(frozen=True, slots=True)
class Following:
    """What has to be computed next: one row of logits for each token."""

    parents: tuple[int, ...]  #: for each row, which row of the step before it continues
    tokens: tuple[int, ...]  #: for each row, the token put behind it


@dataclass(frozen=True)
class Choosing:
    """How candidates are chosen; what is chosen alike is computed together, see ``selection``."""

    num_beams: int
    sampling: Sampling | None
    ends: int  #: number of tokens that end a reply
    candidates: int  #: how many continuations are wanted
    constrained: bool = False  #: whether only some tokens may follow
    weighs: bool = False  #: whether probabilities of given tokens are wanted, and nothing is chosen

    @cached_property
    def order(self) -> tuple[float, ...]:
        """Brings what is chosen alike together."""
        sampling = self.sampling
        drawn = (sampling.temperature, sampling.top_k, sampling.top_p) if sampling else ()
        return (self.num_beams, self.candidates, self.constrained, self.weighs, *drawn)


class Search(Protocol):
    """A reply in the making."""

    choosing: Choosing
    most_rows: int  #: rows of a step, at most
    scores: list[float]  #: of each beam so far
    stream: Stream | None  #: where randomness comes from; None without sampling
    probabilities: Sequence[float]  #: of the texts that were weighed; else none

    def take(self, best: list[float], parents: list[int], tokens: list[int], /) -> Following | None:
        """Go on with the candidates; None once the reply is found.

        Args:
            best: Scores of the candidates; with beams accumulated ones, descending.
            parents: Which row each continues.
            tokens: By which token.
        """
        ...

    def allowed(self) -> list[Sequence[int]]:
        """Of each row the tokens that may follow it, or are weighed; asked only where there are such."""
        ...

    def reply(self) -> list[int]:
        """The reply's tokens, the one that ended it included."""
        ...


def start(request: ResolvedRequest, draws: Draws = Draws.LIBRARY) -> Search:
    """The search that a request asks for."""
    if request.choices:
        return Weighing(request.choices)
    return Chain(request, draws) if request.num_beams == 1 else Beams(request, draws)


class Chain:
    """One token after the other: greedy, or sampled."""

    most_rows = 1
    probabilities: Sequence[float] = ()

    def __init__(self, request: ResolvedRequest, draws: Draws) -> None:
        self.choosing = Choosing(1, request.sampling, len(request.ends), 1, constrained=request.allowed is not None)
        self.stream = Stream(request.seed, draws) if request.sampling else None
        self.scores = [0.0]
        self._request = request
        self._ends = frozenset(request.ends)
        self._tokens: list[int] = []

    def take(self, _best: list[float], _parents: list[int], tokens: list[int]) -> Following | None:
        """See ``Search``."""
        (token,) = tokens
        self._tokens.append(token)
        if token in self._ends or len(self._tokens) == self._request.max_new_tokens:
            return None
        if self._request.enough is not None and self._request.enough(self._tokens):
            return None
        return Following((0,), (token,))

    def allowed(self) -> list[Sequence[int]]:
        """See ``Search``."""
        assert self._request.allowed is not None
        return [self._request.allowed(self._tokens)]

    def reply(self) -> list[int]:
        """See ``Search``."""
        return self._tokens


class Beams:
    """Several beams at once: the likeliest, or sampled ones. All of it is on the host, in float32 as in the library."""

    probabilities: Sequence[float] = ()

    def __init__(self, request: ResolvedRequest, draws: Draws) -> None:
        beams = request.num_beams
        candidates = max(2, 1 + len(request.ends)) * beams
        self.choosing = Choosing(
            beams, request.sampling, len(request.ends), candidates, constrained=request.allowed is not None
        )
        self.most_rows = beams
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

    def take(self, best: list[float], parents: list[int], tokens: list[int]) -> Following | None:
        """See ``Search``."""
        beams = self._request.num_beams
        last = self._length + 1 >= self._request.max_new_tokens
        hits = [] if not last and self._ends.isdisjoint(tokens) else [last or token in self._ends for token in tokens]

        # Mostly nobody ends, and the first of the candidates, who come in order, go on; which of equals does, the
        # library's own operations tell.
        if hits or not all(map(gt, best, best[1 : beams + 1])):
            hits = hits or [False] * len(tokens)
            kept = self._weigh(torch.tensor(best), hits, parents, tokens)
            parents, tokens = [parents[index] for index in kept], [tokens[index] for index in kept]
        else:
            parents, tokens, self.scores = parents[:beams], tokens[:beams], best[:beams]
        self._running = [[*self._running[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        self._length += 1
        if (hits and all(hits)) or not self._can_improve():
            return None
        # The first time all beams continue the same row.
        return Following((0,) * beams if self._length == 1 else tuple(parents), tuple(tokens))

    def allowed(self) -> list[Sequence[int]]:
        """See ``Search``."""
        assert self._request.allowed is not None
        return [self._request.allowed(tokens) for tokens in (self._running if self._length else self._running[:1])]

    def reply(self) -> list[int]:
        """See ``Search``."""
        return self._finished[0]

    def _weigh(self, reached: Tensor, hits: list[bool], parents: list[int], tokens: list[int]) -> list[int]:
        """Which candidates go on, where some end or are equal, as the library has it."""
        alive = reached + _NEVER * torch.tensor(hits, dtype=torch.float32)
        following = torch.topk(alive, self._request.num_beams)[1]
        if any(hits):
            sequences = [[*self._running[parent], token] for parent, token in zip(parents, tokens, strict=True)]
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
        if not all(self._is_finished):  # against a free place any beam counts, unless it is one that is not there
            return self.scores[0] / self._length > _NEVER
        best = np.float32(self.scores[0]) / np.float32(self._length)
        return bool(best > np.float32(self._finished_scores.min().item()))


@dataclass(slots=True)
class _Branch:
    """Texts that begin alike, and how probable that beginning is."""

    probability: float
    rests: dict[int, Sequence[int]] = field(default_factory=dict)  #: by a text's place, its tokens from here on


class Weighing:
    """How probable it is that a reply begins with each of some texts, and with no other of them.

    Texts that begin with the same tokens branch where they first differ; a text that ends where others go on has what
    these leave over. The rows of a step are the branches that are as long.
    """

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self.choosing = Choosing(1, None, 0, 1, weighs=True)
        self.stream: Stream | None = None
        self.scores = [0.0]
        self.most_rows = len(texts)
        self.probabilities: Sequence[float] = ()
        self._found = [0.0] * len(texts)
        self._branches = [_Branch(1.0, dict(enumerate(texts)))]

    def take(self, best: list[float], _parents: list[int], _tokens: list[int]) -> Following | None:
        """See ``Search``; ``best`` has the probability of each token that was ``allowed``, one row after the other."""
        probabilities = iter(best)
        parents, tokens, deeper = [], [], []
        for row, branch in enumerate(self._branches):
            left = 1.0
            for token, inside in _by_first_token(branch).items():
                share = next(probabilities)
                left -= share
                if len(inside) == 1:
                    (place,) = inside
                    self._found[place] = branch.probability * share
                else:
                    parents.append(row)
                    tokens.append(token)
                    deeper.append(_Branch(branch.probability * share, inside))
            for place, rest in branch.rests.items():
                if not rest:
                    self._found[place] = branch.probability * max(0.0, left)
        self._branches, self.probabilities = deeper, self._found
        return Following(tuple(parents), tuple(tokens)) if deeper else None

    def allowed(self) -> list[Sequence[int]]:
        """See ``Search``."""
        return [list(_by_first_token(branch)) for branch in self._branches]

    def reply(self) -> list[int]:
        """Nothing: no token is generated."""
        return []


def _by_first_token(branch: _Branch) -> dict[int, dict[int, Sequence[int]]]:
    """Texts of a branch by the token that follows, and what of each comes behind it."""
    found: dict[int, dict[int, Sequence[int]]] = {}
    for place, rest in branch.rests.items():
        if rest:
            found.setdefault(rest[0], {})[place] = rest[1:]
    return found
