"""From logits to what every search does next, for all of them in one program, however each one chooses.

``core.selection`` groups searches that choose alike, which takes a few dozen operations a group; on a GPU starting them
would take longer than a step. Here every beam is a row with settings of its own: candidates are first found in each
row, then among those of a search, filled up to the widest. The choices are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.drawing import Draws, noise
from defsurvey.workers.engines.transformers.core.placing import place
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest, Sampling
from defsurvey.workers.engines.transformers.core.search import Following, Search, start
from defsurvey.workers.engines.transformers.core.selection import select as core_select
from defsurvey.workers.engines.transformers.core.selection import taken
from defsurvey.workers.engines.transformers.gpu.graphs import Graphs, Program, rung

#: So many scores are looked at, and so many random numbers made, at once: it bounds the memory that it takes.
_MOST_SCORES, _MOST_RANDOM = 1 << 26, 1 << 24
#: What is said of a row: which of the logits is its own, where its continuations begin among those of its search, the
#: key of its randomness, whether it has one, whether it is one of several beams, top_k, how many tokens sampling keeps;
_WHOLE = 7
#: as bits of double precision, what its beam has reached, temperature, 1 - top_p;
_FRACTIONS = 3
#: and of the search of the same number: how many candidates it wants, then its rows, -1 for those that it has not.
_HEADER = _WHOLE + _FRACTIONS + 1
_NO_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a program depends on."""

    rows: int
    widest: int  #: rows of a search, at most
    candidates: int  #: of a search, at most
    drawn: bool  #: whether somebody draws,
    warped: bool  #: and leaves tokens out before
    constrained: bool  #: whether somewhere only some tokens may follow


class Selector:
    """Chooses from logits that are always in the same memory.

    Args:
        logits: That memory, shape (rows, vocabulary).
        graphs: Where programs belong.
    """

    def __init__(self, logits: Tensor, graphs: Graphs) -> None:
        self.graphs = graphs
        self._logits = logits
        self._programs: dict[_Shape, tuple[Program, Tensor, Tensor]] = {}
        self._lines: _Lines | None = None  # of the last step
        self._widest = self._candidates = 1  # of all searches so far: there are fewer programs so

    def select(
        self, searches: Sequence[Search], logits: Tensor, counts: Sequence[int]
    ) -> list[Following | Exception | None]:
        """Let every search go on; see ``core.selection.select``. Who samples draws by ``Draws.HASHED``."""
        vocabulary = logits.shape[-1]
        starts = [0, *accumulate(counts)]
        if len(logits) > len(self._logits):
            return core_select(searches, logits, counts)
        if logits.data_ptr() != self._logits.data_ptr():  # some of them are from elsewhere
            self._logits[: len(logits)].copy_(logits)
        weighing = [n for n, search in enumerate(searches) if search.choosing.weighs]
        asked = [searches[n].allowed() for n in weighing]
        parts = list(_parts(searches, max(1, _MOST_SCORES // vocabulary)))
        words = [self._choose([searches[n] for n in of], [(starts[n], counts[n]) for n in of]) for of in parts]
        words += [_weigh(asked, logits, [starts[n] for n in weighing])] if weighing else []
        read = torch.split(torch.cat([word.reshape(-1) for word in words]).cpu(), [word.numel() for word in words])

        following: list[Following | Exception | None] = [None] * len(searches)
        for of, found in zip(parts, read, strict=False):
            best, indices = found.view(len(of), 2, -1).unbind(1)
            parents, tokens = np.divmod(indices.numpy(), vocabulary)
            each = zip(of, best.view(torch.float32).tolist(), parents.tolist(), tokens.tolist(), strict=True)
            for n, *candidates in each:
                wanted = searches[n].choosing.candidates
                following[n] = taken(searches[n], *(one[:wanted] for one in candidates))
        probabilities = iter(read[-1].view(torch.float32).tolist() if weighing else ())
        for n, rows in zip(weighing, asked, strict=True):
            theirs = [next(probabilities) for tokens in rows for _ in tokens]
            following[n] = taken(searches[n], theirs, [], [])
        return following

    def _choose(self, searches: Sequence[Search], spans: Sequence[tuple[int, int]]) -> Tensor:
        """Scores of each search's candidates, as bits, and where they stand; int32, shape (searches, 2, candidates)."""
        vocabulary = self._logits.shape[-1]
        if self._lines is None or self._lines.searches != searches:
            self._lines = _Lines.of(searches, vocabulary)
        inputs = self._lines.now(spans)
        samplings = [search.choosing.sampling for search in searches if search.choosing.sampling]
        hidden = _hidden(searches, spans, vocabulary)
        self._widest = max(self._widest, _power(max(search.choosing.num_beams for search in searches)))
        self._candidates = max(self._candidates, _power(max(search.choosing.candidates for search in searches)))
        shape = _Shape(
            rows=rung(len(inputs)),
            widest=self._widest,
            candidates=self._candidates,
            drawn=bool(samplings),
            warped=any(one.top_k or one.top_p < 1 for one in samplings),
            constrained=bool(len(hidden[0])),
        )
        program, masks, result = self._program(shape)
        lines = program.empty.copy()
        lines[: len(inputs), : inputs.shape[1]] = inputs
        if shape.constrained:
            rows, shown = place(hidden, masks.device)
            masks.zero_().index_fill_(0, rows, -math.inf).view(-1).index_fill_(0, shown, 0.0)
        program.run(lines)
        return result[: len(searches)].clone()

    def _program(self, shape: _Shape) -> tuple[Program, Tensor, Tensor]:
        """What chooses, where it reads what may not follow, and where its result is."""
        if shape not in self._programs:
            vocabulary, device = self._logits.shape[-1], self._logits.device
            empty = np.full((shape.rows, _HEADER + shape.widest), -1)
            empty[:, :_HEADER] = 0
            empty[:, _WHOLE + 1] = np.float64(1).view(np.int64)  # a temperature, by which is divided
            masks = torch.zeros(shape.rows if shape.constrained else 0, vocabulary, device=device)
            found = min(shape.candidates, shape.widest * min(shape.candidates, vocabulary))
            result = torch.zeros(shape.rows, 2, found, dtype=torch.int32, device=device)
            work = partial(choose, self._logits, masks, result, shape)
            self._programs[shape] = Program(self.graphs, work, empty), masks, result
        return self._programs[shape]


def misjudges(selector: Selector, like: Tensor) -> str:
    """How choices differ from those of core, on logits of which no two are alike; empty: they do not.

    Args:
        selector: What chooses.
        like: Logits of the model's vocabulary, number format and device.
    """
    numbers = torch.Generator().manual_seed(0)
    settings = [(beams, sampling) for beams in (1, 3) for sampling in (None, Sampling(), Sampling(top_p=0.9, top_k=7))]
    both = [
        [start(ResolvedRequest(prompt=(0,), num_beams=beams, sampling=of), Draws.HASHED) for beams, of in settings]
        for _ in range(2)
    ]
    counts = [1] * len(settings)
    for _ in range(3):  # the last time what was captured before is replayed
        logits = torch.full((sum(counts), like.shape[-1]), -1e4)
        for row in logits:
            tokens = torch.randperm(len(row), generator=numbers)[:32]
            row[tokens] = torch.randperm(64, generator=numbers)[: len(tokens)] / 16  # exact in every number format
        there = logits.to(like.device, like.dtype)
        found, expected = selector.select(both[0], there, counts), core_select(both[1], there, counts)
        for one, other in zip(found, expected, strict=True):
            if one != other:
                return f"a search goes on with {one} instead of {other}"
        counts = [search.choosing.num_beams for search in both[0]]
    return ""


def _parts(searches: Sequence[Search], most: int) -> Iterator[list[int]]:
    """The numbers of those that choose, of about so many rows at once."""
    part: list[int] = []
    rows = 0
    for n, search in enumerate(searches):
        if search.choosing.weighs:
            continue
        rows += search.choosing.num_beams
        if part and rows > most:
            yield part
            part, rows = [], search.choosing.num_beams
        part.append(n)
    if part:
        yield part


def _power(number: int) -> int:
    """The least power of two that is as large."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True, slots=True)
class _Lines:
    """What the program reads of rows and searches, as far as it stays the same from step to step."""

    searches: Sequence[Search]
    beams: np.ndarray  #: how many each search has
    beam: np.ndarray  #: of each row, which beam of its search it is
    inputs: np.ndarray

    @classmethod
    def of(cls, searches: Sequence[Search], vocabulary: int) -> _Lines:
        """Those of searches, one after the other."""
        whole: list[tuple[int, ...]] = []
        fractions: list[tuple[float, float]] = []
        for search in searches:
            choosing, sampling = search.choosing, search.choosing.sampling or _NO_SAMPLING
            beams = choosing.num_beams
            # As ``generate`` has it: one token more than there are ends, and two where there is none.
            kept = 1 if beams == 1 else max(2, choosing.ends + 1)
            top_k = max(sampling.top_k, kept) if sampling.top_k else 0
            whole.append((beams, choosing.candidates, search.stream is not None, beams > 1, top_k, kept))
            fractions.append((sampling.temperature, 1 - sampling.top_p))
        beams_of, wanted, *settings = np.array(whole).T
        firsts = np.cumsum(beams_of) - beams_of
        rows, numbers = int(beams_of.sum()), np.arange(beams_of.max())
        beam = np.arange(rows) - np.repeat(firsts, beams_of)
        inputs = np.zeros((rows, _HEADER + len(numbers)), dtype=np.int64)
        inputs[:, 1] = beam * vocabulary
        inputs[:, 3:_WHOLE] = np.repeat(np.stack(settings, axis=1), beams_of, axis=0)
        inputs.view(np.float64)[:, _WHOLE + 1 : _WHOLE + _FRACTIONS] = np.repeat(fractions, beams_of, axis=0)
        inputs[: len(searches), _HEADER - 1] = wanted
        inputs[:, _HEADER:] = -1
        inputs[: len(searches), _HEADER:] = np.where(numbers < beams_of[:, None], firsts[:, None] + numbers, -1)
        return cls(searches, beams_of, beam, inputs)

    def now(self, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """All of it, where the logits of each search begin, and how many rows it has, are given."""
        starts, counts = np.array(spans).T
        keys = [search.stream.key() if search.stream else 0 for search in self.searches]
        inputs = self.inputs.copy()
        own = counts == self.beams  # at first all continue the same row
        inputs[:, 0] = np.repeat(starts, self.beams) + self.beam * np.repeat(own, self.beams)
        inputs[:, 2] = np.repeat(np.array(keys, dtype=np.int64), self.beams)
        inputs.view(np.float64)[:, _WHOLE] = [score for search in self.searches for score in search.scores]
        return inputs


def choose(logits: Tensor, masks: Tensor, result: Tensor, shape: _Shape, inputs: Tensor) -> None:
    """Find candidates: the work that is captured.

    Args:
        logits: Shape (any, vocabulary).
        masks: What is added to scores where only some tokens may follow, shape (rows, vocabulary).
        result: Where candidates are written, see ``Selector``.
        shape: What there is to do.
        inputs: Of each row and search, see above.
    """
    vocabulary = logits.shape[-1]
    source, first, key, drawn, several, top_k, kept = inputs[:, :_WHOLE, None].unbind(1)
    before, temperature, below = inputs[:, _WHOLE : _WHOLE + _FRACTIONS, None].view(torch.float64).float().unbind(1)
    wanted, slots = inputs[:, _HEADER - 1 : _HEADER], inputs[:, _HEADER:]
    scores = logits.index_select(0, source[:, 0]).float()
    if shape.widest > 1:
        scores = torch.where(several != 0, torch.log_softmax(scores, dim=-1), scores)
    if shape.constrained:
        scores += masks
    if shape.drawn:
        _warp(scores, temperature, top_k, below, kept, shape.warped)
    scores += before
    ranks = scores
    if shape.drawn:
        ranks = scores.double()
        step = max(1, _MOST_RANDOM // vocabulary)
        for at in range(0, shape.rows, step):
            part = slice(at, at + step)
            ranks[part] += noise(key[part, 0], vocabulary, first[part, 0]).masked_fill_(drawn[part] == 0, 0.0)
    among, grid = slots.clamp(min=0).reshape(-1), (shape.rows, -1)
    ranked, tokens = torch.topk(ranks, min(shape.candidates, vocabulary))
    # Of equals the library takes the first one where there are no beams, and any one where there are.
    tokens = torch.where(several != 0, tokens, ranks.argmax(dim=-1, keepdim=True))
    ranked = ranked.index_select(0, among).view(*slots.shape, -1).masked_fill((slots < 0)[:, :, None], -math.inf)
    best, places = torch.topk(ranked.view(grid), result.shape[2])
    indices = (tokens + first).index_select(0, among).view(grid).gather(1, places)
    if shape.drawn:  # they were found by chance, and are sorted by score
        best = scores.gather(1, tokens).index_select(0, among).view(grid).gather(1, places)
        unwanted = torch.arange(best.shape[1], device=best.device) >= wanted
        best, order = best.masked_fill(unwanted, -math.inf).sort(dim=-1, descending=True, stable=True)
        indices = indices.gather(1, order)
    result.copy_(torch.stack((best.float().view(torch.int32), indices.int()), dim=1))


def _warp(scores: Tensor, temperature: Tensor, top_k: Tensor, below: Tensor, kept: Tensor, warped: bool) -> None:
    """What ``generate`` does to scores before it draws, in place: temperature, top_k, top_p; see ``drawing.warper``."""
    scores /= temperature
    if not warped:
        return
    vocabulary = scores.shape[-1]
    ordered, tokens = scores.sort(dim=-1)
    least = ordered.gather(1, (vocabulary - top_k).clamp(min=0, max=vocabulary - 1))
    cut = (ordered < least) & (top_k > 0)
    ordered = ordered.masked_fill(cut, -math.inf)
    unlikely = (torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= below) & (below > 0)
    unlikely &= torch.arange(vocabulary, device=scores.device) < vocabulary - kept
    cut |= unlikely
    scores.masked_fill_(cut.scatter(1, tokens, cut), -math.inf)


def _hidden(searches: Sequence[Search], spans: Sequence[tuple[int, int]], vocabulary: int) -> list[np.ndarray]:
    """Rows after which only some tokens may follow, and these tokens, as places among all rows' tokens."""
    rows: list[int] = []
    shown: list[int] = []
    row = 0
    for search, (_, count) in zip(searches, spans, strict=True):
        beams = search.choosing.num_beams
        if search.choosing.constrained:
            allowed = search.allowed()
            for beam in range(beams):
                shown += [(row + beam) * vocabulary + token for token in allowed[beam if count == beams else 0]]
            rows += range(row, row + beams)
        row += beams
    return [np.array(rows, dtype=np.int64), np.array(shown, dtype=np.int64)]


def _weigh(asked: Sequence[Sequence[Sequence[int]]], logits: Tensor, starts: Sequence[int]) -> Tensor:
    """Probabilities of the tokens that searches ask for behind each of their rows, one after the other, as bits."""
    rows = [start + row for start, of in zip(starts, asked, strict=True) for row in range(len(of))]
    every = [tokens for of in asked for tokens in of]
    flat = [row * logits.shape[-1] + token for row, tokens in enumerate(every) for token in tokens]
    rows_there, flat_there = place([np.array(rows), np.array(flat)], logits.device)
    likely = torch.softmax(logits.index_select(0, rows_there).float(), dim=-1)
    return likely.view(-1).index_select(0, flat_there).view(torch.int32)
