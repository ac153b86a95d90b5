"""From logits to what every search does next, for all of them in the same operations, however each one chooses.

``core.selection`` groups searches that choose alike, which takes a few dozen operations a group; on a GPU starting them
would take longer than a step. Here every beam is a row with settings of its own: candidates are first found in each
row, then among those of a search, filled up to the widest. The choices are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from defsurvey.workers.engines.transformers.core.drawing import noise
from defsurvey.workers.engines.transformers.core.placing import place
from defsurvey.workers.engines.transformers.core.request import Sampling
from defsurvey.workers.engines.transformers.core.search import Following, Search
from defsurvey.workers.engines.transformers.core.selection import taken

#: So many scores are looked at, and so many random numbers made, at once: it bounds the memory that it takes.
_MOST_SCORES, _MOST_RANDOM = 1 << 26, 1 << 24


def select(searches: Sequence[Search], logits: Tensor, counts: Sequence[int]) -> list[Following | Exception | None]:
    """Let every search go on; see ``core.selection.select``. Who samples draws by ``Draws.HASHED``."""
    vocabulary = logits.shape[-1]
    starts = [0, *accumulate(counts)]
    if len(searches) > 1 and starts[-1] * vocabulary > _MOST_SCORES:
        half = len(searches) // 2
        return [
            *select(searches[:half], logits[: starts[half]], counts[:half]),
            *select(searches[half:], logits[starts[half] :], counts[half:]),
        ]
    weighing = [n for n, search in enumerate(searches) if search.choosing.weighs]
    choosing = [n for n, search in enumerate(searches) if not search.choosing.weighs]
    choosing.sort(key=lambda n: searches[n].stream is not None)
    words = []
    if choosing:
        chosen = _choose([searches[n] for n in choosing], logits, [(starts[n], counts[n]) for n in choosing])
        words += [chosen[0].view(torch.int32), chosen[1].to(torch.int32)]
    if weighing:
        asked = [searches[n].allowed() for n in weighing]
        words.append(_weigh(asked, logits, [starts[n] for n in weighing]).view(torch.int32))
    read = torch.cat([word.reshape(-1) for word in words]).cpu().numpy()

    following: list[Following | Exception | None] = [None] * len(searches)
    if choosing:
        size = chosen[0].numel()
        best = read[:size].view(np.float32).reshape(len(choosing), -1).tolist()
        indices = read[size : 2 * size].reshape(len(choosing), -1).tolist()
        read = read[2 * size :]
        for n, reached, found in zip(choosing, best, indices, strict=True):
            wanted = searches[n].choosing.candidates
            following[n] = taken(searches[n], reached[:wanted], found[:wanted], vocabulary)
    if weighing:
        probabilities = iter(read.view(np.float32).tolist())
        for n, rows in zip(weighing, asked, strict=True):
            theirs = [next(probabilities) for tokens in rows for _ in tokens]
            following[n] = taken(searches[n], theirs, [], vocabulary)
    return following


@dataclass(frozen=True, slots=True)
class _Rows:
    """A row for each beam that there is or could be, on the device; those that are drawn for come last."""

    source: Tensor  #: which row of the logits is its own
    beam: Tensor  #: its number
    beams: Tensor  #: whether there are several
    before: Tensor  #: what its beam has reached
    keys: Tensor  #: where randomness comes from, for the last rows
    settings: Tensor  #: of these rows: temperature, top_k, 1 - top_p, and how many tokens are kept, each one a row
    slots: Tensor  #: which rows each search has, filled up with any row; shape (searches, widest)
    real: Tensor  #: what does not fill up there; the same shape
    wanted: Tensor  #: how many candidates each search wants, shape (searches, 1)
    drawn: int  #: how many rows are drawn for
    warped: bool  #: whether any of these leaves tokens out
    candidates: int  #: the most that a search wants


def _laid_out(searches: Sequence[Search], spans: Sequence[tuple[int, int]], device: torch.device) -> _Rows:
    """Everything that is said of the rows and of the searches, brought to the device in one copy."""
    source: list[int] = []
    before: list[float] = []
    keys: list[int] = []
    settings: list[tuple[float, float, float, float]] = []
    for search, (start, count) in zip(searches, spans, strict=True):
        beams = search.choosing.num_beams
        source += range(start, start + count) if count == beams else [start] * beams  # all begin with the same row
        before += search.scores
        if search.stream is not None:
            keys += [search.stream.key()] * beams
            settings += [_settings(search)] * beams
    widths = np.array([search.choosing.num_beams for search in searches])
    wanted = np.array([[search.choosing.candidates] for search in searches])
    firsts = np.cumsum(widths) - widths
    place_of = np.arange(widths.max())
    real = place_of < widths[:, None]
    slots = np.where(real, firsts[:, None] + place_of, 0)
    beam = np.arange(len(source)) - np.repeat(firsts, widths)
    numbers = np.array(before, dtype=np.float64)
    given = np.array(settings, dtype=np.float64).reshape(-1, 4).T
    whole = [np.array(source), beam, np.repeat(widths > 1, widths).astype(np.int64), np.array(keys, dtype=np.int64)]
    placed = place(
        [
            *whole,
            slots,
            real.astype(np.int64),
            wanted,
            numbers.view(np.int64),
            np.ascontiguousarray(given).view(np.int64),
        ],
        device,
    )
    *_, numbers_there, given_there = placed
    return _Rows(
        source=placed[0],
        beam=placed[1],
        beams=placed[2] != 0,
        keys=placed[3],
        slots=placed[4],
        real=placed[5] != 0,
        wanted=placed[6],
        before=numbers_there.view(torch.float64).float().view(-1, 1),
        settings=given_there.view(torch.float64).float()[:, :, None],
        drawn=len(keys),
        warped=any(top_k or below for _, top_k, below, _ in settings),
        candidates=int(wanted.max()),
    )


def _settings(search: Search) -> tuple[float, float, float, float]:
    sampling = search.choosing.sampling or Sampling()
    # As ``generate`` has it: one token more than there are ends, and two where there is none.
    kept = 1 if search.choosing.num_beams == 1 else max(2, search.choosing.ends + 1)
    top_k = max(sampling.top_k, kept) if sampling.top_k else 0
    return sampling.temperature, top_k, 1 - sampling.top_p, kept


def _choose(searches: Sequence[Search], logits: Tensor, spans: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Scores of candidates and where they stand among a search's continuations; shape (searches, candidates).

    Args:
        searches: Who chooses; those who sample come last.
        logits: Shape (rows, vocabulary).
        spans: Where the rows of each search begin, and how many there are: one for its prompt, or one for each beam.
    """
    rows = _laid_out(searches, spans, logits.device)
    vocabulary = logits.shape[-1]
    scores = logits.index_select(0, rows.source).float()
    if any(search.choosing.num_beams > 1 for search in searches):
        scores = torch.where(rows.beams[:, None], torch.log_softmax(scores, dim=-1), scores)
    if any(search.choosing.constrained for search in searches):
        _hide(scores, searches, spans)
    if rows.drawn:
        _warp(scores[-rows.drawn :], rows)
    scores += rows.before
    ranks = scores
    if rows.drawn:
        ranks = scores.double()
        step = max(1, _MOST_RANDOM // vocabulary)
        for at in range(0, rows.drawn, step):
            part = slice(len(ranks) - rows.drawn + at, len(ranks) - rows.drawn + min(at + step, rows.drawn))
            ranks[part] += noise(rows.keys[at : at + step], vocabulary, rows.beam[part] * vocabulary)
    ranked, tokens = torch.topk(ranks, min(rows.candidates, vocabulary))
    among = rows.slots.view(-1)
    shape = len(searches), -1
    ranked = ranked.index_select(0, among).view(*rows.slots.shape, -1).masked_fill(~rows.real[:, :, None], -math.inf)
    best, places = torch.topk(ranked.view(shape), min(rows.candidates, ranked[0].numel()))
    indices = (tokens + rows.beam[:, None] * vocabulary).index_select(0, among).view(shape).gather(1, places)
    if rows.drawn:  # they were found by chance, and are told by score
        best = scores.gather(1, tokens).index_select(0, among).view(shape).gather(1, places)
        unwanted = torch.arange(best.shape[1], device=best.device) >= rows.wanted
        best, order = best.masked_fill(unwanted, -math.inf).sort(dim=-1, descending=True, stable=True)
        indices = indices.gather(1, order)
    return best, indices


def _warp(scores: Tensor, rows: _Rows) -> None:
    """What ``generate`` does to scores before it draws, in place: temperature, top_k, top_p; see ``drawing.warper``."""
    temperature, top_k, below, kept = rows.settings
    scores /= temperature
    if not rows.warped:
        return
    vocabulary = scores.shape[-1]
    ordered, tokens = scores.sort(dim=-1)
    least = ordered.gather(1, (vocabulary - top_k.long()).clamp(min=0, max=vocabulary - 1))
    cut = (ordered < least) & (top_k > 0)
    ordered = ordered.masked_fill(cut, -math.inf)
    unlikely = (torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= below) & (below > 0)
    unlikely &= torch.arange(vocabulary, device=scores.device) < vocabulary - kept
    cut |= unlikely
    scores.masked_fill_(cut.scatter(1, tokens, cut), -math.inf)


def _hide(scores: Tensor, searches: Sequence[Search], spans: Sequence[tuple[int, int]]) -> None:
    """Minus infinity, in place, for what may not follow."""
    hidden: list[int] = []
    shown: list[int] = []
    row = 0
    for search, (_, count) in zip(searches, spans, strict=True):
        beams = search.choosing.num_beams
        if search.choosing.constrained:
            allowed = search.allowed()
            for beam in range(beams):
                shown += [len(hidden) * scores.shape[-1] + token for token in allowed[beam if count == beams else 0]]
                hidden.append(row + beam)
        row += beams
    hidden_there, shown_there = place([np.array(hidden), np.array(shown)], scores.device)
    mask = scores.new_full((len(hidden), scores.shape[-1]), -math.inf)
    mask.view(-1).index_fill_(0, shown_there, 0.0)
    scores.index_add_(0, hidden_there, mask)


def _weigh(asked: Sequence[Sequence[Sequence[int]]], logits: Tensor, starts: Sequence[int]) -> Tensor:
    """Probabilities of the tokens that searches ask for behind each of their rows, one after the other."""
    rows = [start + row for start, of in zip(starts, asked, strict=True) for row in range(len(of))]
    every = [tokens for of in asked for tokens in of]
    flat = [row * logits.shape[-1] + token for row, tokens in enumerate(every) for token in tokens]
    rows_there, flat_there = place([np.array(rows), np.array(flat)], logits.device)
    return torch.softmax(logits.index_select(0, rows_there).float(), dim=-1).view(-1).index_select(0, flat_there)
