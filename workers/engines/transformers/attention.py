"""Attention for packed requests, registered with transformers under a name of its own.

Each request attends to its own buffer and nothing else. Where a forward carries no description of a packed batch,
as in ``generate``, the library's own scaled dot-product attention is computed.

Products are computed in the model's number format, sums within them and within the softmax in float32; over a pool
(see ``gathered``) it is the library's scaled dot-product attention.
Deliberately knows nothing of schedules or searches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from workers.engines.transformers.batch import Batch, Packed, Segment
from workers.engines.transformers.gathered import attend_gathered, gather
from workers.engines.transformers.pool import Pool
from workers.engines.transformers.stacked import attend_stacks, stacks

#: What a model's configuration calls this attention.
NAME = "defsurvey_packed"


def register() -> None:
    """Make ``NAME`` known to transformers; doing it again changes nothing."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def forward(model: Any, batch: Batch) -> Tensor:
    """Logits of the rows that a batch wants, shape (rows, vocabulary); keys and values go into the buffers."""
    # The library would build a mask of T x T; a ready-made one of four dimensions is left as it is.
    no_mask = torch.empty((1, 1, 1, 1), device=batch.ids.device)
    with torch.inference_mode():
        output = model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=no_mask,
            use_cache=False,
            logits_to_keep=batch.wanted,
            packed=batch.packed,
        )
    logits: Tensor = output.logits[0, : sum(batch.counts)]
    return logits


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed: Packed | None = None,
    observed: Any = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention as a transformers layer calls it.

    Args:
        module: the layer.
        query: shape (1, heads, T, width), positions already applied.
        key: shape (1, key heads, T, width), positions already applied.
        value: shape (1, key heads, T, width).
        attention_mask: not looked at where there is a description.
        dropout: not looked at where there is a description: nobody trains here.
        scaling: factor on the scores; None: one over the root of the width.
        sliding_window: how many tokens back a token sees, itself included; None: all.
        packed: the description of the batch; None: the library's attention is computed.
        observed: notes what the layer asks for, see ``support``; None: nobody wants to know.
        settings: what else a layer passes; only the library's attention looks at it.

    Returns:
        Shape (1, T, heads, width), and no weights.
    """
    if observed is not None:
        observed.note(module.layer_idx, key, value, settings)
    if packed is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output, None
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    scale = scaling if scaling is not None else width**-0.5
    queries, keys_values = query.view(groups, heads // groups, tokens, width), torch.stack((key[0], value[0]))
    if isinstance(packed.store, Pool):
        result = query.new_empty(tokens, groups, heads // groups, width)
        result[packed.rows :].zero_()  # what fills up has no keys, but the layers behind want numbers
        gathering = gather(packed, sliding_window, query.dtype)
        attend_gathered(packed.store.layers[module.layer_idx], queries, keys_values, scale, result, gathering)
        return result.view(1, tokens, heads, width), None
    # The query heads that share a key head are rows of one product, next to each other: no key is ever repeated.
    rows = queries.transpose(1, 2).reshape(groups, -1, width)
    attended = torch.empty_like(rows)
    attended[:, packed.rows * (heads // groups) :].zero_()
    if (trees := stacks(packed, sliding_window, heads // groups, query.dtype)) is not None:
        attend_stacks(trees, module.layer_idx, rows, keys_values, scale, attended)
    for segment in packed.segments(sliding_window):
        _attend_segment(segment, module.layer_idx, rows, keys_values, scale, attended)
    return attended.view(groups, tokens, -1, width).transpose(0, 1).reshape(1, tokens, heads, width), None


def _attend_segment(
    segment: Segment, layer: int, queries: Tensor, keys_values: Tensor, scaling: float, result: Tensor
) -> None:
    """Store one request's keys and values, then attend block by block.

    Args:
        segment: which rows, and whose buffers.
        layer: which of the buffers.
        queries: shape (groups, T * per group, width).
        keys_values: of this forward, shape (2, groups, T, width).
        scaling: factor on the scores.
        result: shape of ``queries``; rows of others are left alone.
    """
    per_group = queries.shape[1] // keys_values.shape[2]
    buffer, count = segment.kv.buffers[layer], segment.rows.stop - segment.rows.start
    buffer.narrow(2, segment.at, count).copy_(keys_values.narrow(2, segment.rows.start, count))
    for block in segment.blocks:
        first, count = block.rows.start * per_group, (block.rows.stop - block.rows.start) * per_group
        keys, values = buffer.narrow(2, block.keys.start, block.keys.stop - block.keys.start).unbind()
        rows = _filled_up(queries, first, block.padded * per_group)
        products = torch.bmm(rows, keys.transpose(1, 2))
        scores = torch.add(block.mask_for(per_group, queries.dtype), products, alpha=scaling)
        weights = torch.softmax(scores, dim=-1)  # whatever the number format, its sums are in float32
        place = result.narrow(1, first, count)
        if rows.shape[1] == count:
            torch.bmm(weights, values, out=place)
        else:
            place.copy_(torch.bmm(weights, values).narrow(1, 0, count))


def _filled_up(queries: Tensor, first: int, count: int) -> Tensor:
    """So many rows of queries, whosever the last ones are."""
    missing = first + count - queries.shape[1]
    if missing <= 0:
        return queries.narrow(1, first, count)
    return torch.nn.functional.pad(queries[:, first:], (0, 0, 0, missing))
