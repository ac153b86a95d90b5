"""A step in plain torch: the model as the library has it, with an attention of ours over blocks of keys and values.

This is what every other way to compute a step is checked against, and what serves a model where there is no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from defsurvey.workers.engines.transformers.core.memory import OutOfRoom
from defsurvey.workers.engines.transformers.core.placing import place
from defsurvey.workers.engines.transformers.core.runner import Copy, Row

#: What a model's configuration calls this attention.
NAME = "defsurvey_blocks"
#: Tokens in a block.
BLOCK = 32
#: Sequences of like length attend together, so many at most and none twice as long as another.
_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one attention layer keeps for one token."""

    heads: int  #: heads of keys and values, not of queries
    width: int  #: numbers in a key, and in a value


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a model keeps for one token, as seen in its own keys and values."""

    layers: tuple[LayerShape, ...]
    dtype: torch.dtype
    device: torch.device
    quantised: bool = False  #: whether weights are in fewer bits

    @property
    def bytes_per_token(self) -> int:
        """Over all layers."""
        return sum(2 * shape.heads * shape.width for shape in self.layers) * self.dtype.itemsize


class TorchRunner:
    """Computes steps with a model that ``adoption.adopt`` has found fit. See ``Runner``.

    ``pool[layer]`` has shape (tokens, 2, heads, width), keys first.

    Args:
        model: The model.
        layout: What it keeps for one token.
        kv_bytes: How much room its blocks may take.

    Raises:
        OutOfRoom: The device cannot hold them.
    """

    block_size = BLOCK

    def __init__(self, model: Any, layout: Layout, kv_bytes: int) -> None:
        self.name = f"torch {torch.__version__}"
        self.block_bytes = BLOCK * layout.bytes_per_token
        self.blocks = max(1, kv_bytes // self.block_bytes)
        self.device, self.dtype = layout.device, layout.dtype
        self._model = model
        try:
            self.pool = [
                torch.zeros(self.blocks * BLOCK, 2, of.heads, of.width, dtype=layout.dtype, device=layout.device)
                for of in layout.layers
            ]
        except (RuntimeError, MemoryError) as error:  # allocating fails for no other reason
            raise OutOfRoom(" ".join(str(error).split())) from error

    def run(self, rows: Sequence[Row]) -> Tensor:
        """See ``Runner``."""
        tokens = [token for row in rows for token in row.tokens]
        positions = np.concatenate([np.arange(row.past, row.past + len(row.tokens)) for row in rows])
        ends = np.cumsum([len(row.tokens) for row in rows]) - 1
        wanted = ends[[row.logits for row in rows]]
        ids, places, last = place([np.array(tokens, dtype=np.int64), positions, wanted], self.device)
        # The library would build a mask of T x T; a ready-made one of four dimensions is left as it is.
        no_mask = torch.empty((1, 1, 1, 1), device=self.device)
        with torch.inference_mode():
            output = self._model(
                input_ids=ids[None],
                position_ids=places[None],
                attention_mask=no_mask,
                use_cache=False,
                logits_to_keep=last if len(last) else 1,
                blocks=Step(self.pool, rows),
            )
        logits: Tensor = output.logits[0, : len(wanted)]
        return logits

    def copy(self, copies: Sequence[Copy]) -> None:
        """See ``Runner``."""
        if not copies:
            return
        sources = torch.tensor([copy.source for copy in copies], device=self.device)
        targets = torch.tensor([copy.target for copy in copies], device=self.device)
        for layer in self.pool:
            blocks = layer.view(self.blocks, -1)
            blocks.index_copy_(0, targets, blocks.index_select(0, sources))

    def close(self) -> None:
        """See ``Runner``."""
        self.pool, self._model = [], None


@dataclass(frozen=True, slots=True)
class _Together:
    """Rows of as many queries each that attend in one product, filled up to the longest sequence."""

    queries: Tensor  #: where they stand among the step's tokens, shape (rows * queries,)
    keys: Tensor  #: where their sequences' keys are in the pool, shape (rows * keys,)
    seen: Tensor  #: which query sees which key, shape (rows, 1, queries, keys)

    def for_heads(self, per_group: int) -> Tensor:
        """The mask where so many query heads share a head of keys, one after the other."""
        return self.seen.repeat(1, 1, per_group, 1)


@dataclass(slots=True)
class Step:
    """What attention reads in a step."""

    pool: Sequence[Tensor]
    rows: Sequence[Row]
    _written: Tensor | None = None
    _together: dict[int | None, list[_Together]] = field(default_factory=dict)

    def written(self) -> Tensor:
        """Where the key and value of each token go in the pool."""
        if self._written is None:
            slots = [_slots(row)[row.past :] for row in self.rows]
            (self._written,) = place([np.concatenate(slots)], self.pool[0].device)
        return self._written

    def together(self, window: int | None) -> list[_Together]:
        """All rows, those in one product that have one token each and are of like length."""
        if window not in self._together:
            starts = np.cumsum([0, *(len(row.tokens) for row in self.rows)])
            single = sorted(
                (n for n, row in enumerate(self.rows) if len(row.tokens) == 1), key=lambda n: self.rows[n].past
            )
            groups = [[n] for n, row in enumerate(self.rows) if len(row.tokens) > 1]
            for n in single:
                group = groups[-1] if groups else []
                first = self.rows[group[0]] if group else None
                alike = first and len(first.tokens) == 1 and self.rows[n].past <= 2 * first.past + BLOCK
                if alike and len(group) < _TOGETHER:
                    group.append(n)
                else:
                    groups.append([n])
            self._together[window] = [self._laid_out(group, starts, window) for group in groups]
        return self._together[window]

    def _laid_out(self, group: Sequence[int], starts: np.ndarray, window: int | None) -> _Together:
        rows = [self.rows[n] for n in group]
        queries = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in group])
        first = 0 if window is None else max(0, min(row.past for row in rows) - window + 1)
        slots = [_slots(row)[first:] for row in rows]
        longest = max(map(len, slots))
        # What fills up is a key of the sequence's own: another's may be no number, even where it is not seen.
        keys = np.stack([np.pad(each, (0, longest - len(each)), mode="edge") for each in slots])
        key = first + np.arange(longest)
        query = np.stack([np.arange(row.past, row.past + len(row.tokens)) for row in rows])[:, :, None]
        seen = key <= query
        if window is not None:
            seen &= key > query - window
        queries_there, keys_there = place([queries, keys.reshape(-1)], self.pool[0].device)
        return _Together(queries_there, keys_there, torch.from_numpy(seen[:, None]).to(self.pool[0].device))


def _slots(row: Row) -> np.ndarray:
    """Where the keys and values of a row's sequence are in the pool, up to its last token."""
    places = (row.table[:, None].astype(np.int64) * BLOCK + np.arange(BLOCK)).reshape(-1)
    return places[: row.past + len(row.tokens)]


def register() -> None:
    """Make ``NAME`` known to transformers; doing it again changes nothing."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    blocks: Step | None = None,
    observed: Any = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention as a transformers layer calls it: a sequence attends to its own blocks and to nothing else.

    Args:
        module: The layer.
        query: Shape (1, heads, T, width), positions already applied.
        key: Shape (1, key heads, T, width), positions already applied.
        value: Shape (1, key heads, T, width).
        attention_mask: Not looked at where there is a step.
        dropout: Not looked at where there is a step: nobody trains here.
        scaling: Factor on the scores; None: one over the root of the width.
        sliding_window: How many tokens back a token sees, itself included; None: all.
        softcap: Scores are bent to stay within this; None: they are not.
        blocks: The step; None: the library's attention is computed, as in ``generate``.
        observed: Notes what the layer asks for, see ``adoption``; None: nobody wants to know.
        settings: What else a layer passes; only the library's attention looks at it.

    Returns:
        Shape (1, T, heads, width), and no weights.
    """
    if observed is not None:
        wanted = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
        observed.note(module.layer_idx, key, value, settings | wanted)
    if blocks is None:
        if softcap is not None:
            causal = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
            seen = causal.to(query.device) if attention_mask is None else attention_mask
            keys, values = (each.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for each in (key, value))
            output = attention(query, keys, values, seen, scaling or query.shape[-1] ** -0.5, softcap)
            return output.transpose(1, 2), None
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output, None
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    per_group = heads // groups
    scale = scaling if scaling is not None else width**-0.5
    pool = blocks.pool[module.layer_idx]
    pool.index_copy_(0, blocks.written(), torch.stack((key[0], value[0])).permute(2, 0, 1, 3))
    result = query.new_empty(tokens, groups, per_group, width)
    by_token = query[0].view(groups, per_group, tokens, width).permute(2, 0, 1, 3)
    for part in blocks.together(sliding_window):
        rows, _, asked_tokens, length = part.seen.shape
        held = pool.index_select(0, part.keys).view(rows, length, 2, groups, width).permute(2, 0, 3, 1, 4)
        asked = by_token.index_select(0, part.queries).view(rows, asked_tokens, groups, per_group, width)
        asked = asked.permute(0, 2, 3, 1, 4).reshape(rows, groups, per_group * asked_tokens, width)
        attended = attention(asked, held[0], held[1], part.for_heads(per_group), scale, softcap)
        attended = attended.view(rows, groups, per_group, asked_tokens, width).permute(0, 3, 1, 2, 4)
        result.index_copy_(0, part.queries, attended.reshape(-1, groups, per_group, width))
    return result.view(1, tokens, heads, width), None


def attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Attention of like heads, capped or not; shapes (rows, heads, tokens, width), ``seen`` for one head or for all."""
    if softcap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale)
    scores = torch.tanh(query @ key.transpose(-1, -2) * scale / softcap) * softcap
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf).float(), dim=-1)
    return weights.to(value.dtype) @ value
