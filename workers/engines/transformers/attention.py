"""Attention for packed requests, registered with transformers under a name of its own.

Each request attends to its own buffer and nothing else. Where a forward carries no description of a packed batch,
as in ``generate``, the library's own scaled dot-product attention is computed.

Products are computed in the model's number format, the softmax in float32, as the library's eager attention does; over
a pool (see ``gathered``) it is the library's scaled dot-product attention.
Deliberately knows nothing of schedules or searches.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from workers.engines.transformers.batch import Batch, Packed, Segment
from workers.engines.transformers.gathered import attend_gathered, gather
from workers.engines.transformers.pool import Pool

#: What a model's configuration calls this attention.
NAME = "defsurvey_packed"


def register() -> None:
    """Make ``NAME`` known to transformers; doing it again changes nothing."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


class Lanes:
    """Threads that compute attention side by side, each by itself: the work of one request is too small to be split."""

    def __init__(self, threads: int) -> None:
        self.count = max(1, threads)
        self._pool: ThreadPoolExecutor | None = None
        if self.count > 1:
            one_thread = partial(torch.set_num_threads, 1)
            self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="attention", initializer=one_thread)

    def run(self, compute: Any, shares: list[list[Segment]]) -> None:
        """Compute every share."""
        if self._pool is None or len(shares) < 2:
            for share in shares:
                compute(share)
            return
        for _ in self._pool.map(torch.inference_mode()(compute), shares):
            pass

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def forward(model: Any, batch: Batch, lanes: Lanes) -> Tensor:
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
            lanes=lanes,
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
    lanes: Lanes | None = None,
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
        lanes: threads to compute it.
        observed: notes what the layer asks for, see ``support``; None: nobody wants to know.
        settings: what else a layer passes; only the library's attention looks at it.

    Returns:
        Shape (1, T, heads, width), and no weights.
    """
    if observed is not None:
        observed.note(module.layer_idx, key, value, settings)
    if packed is None or lanes is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output, None
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    result = query.new_empty(tokens, groups, heads // groups, width)
    result[packed.rows :].zero_()  # what fills up has no keys, but the layers behind want numbers
    scale = scaling if scaling is not None else width**-0.5
    queries, keys_values = query.view(groups, heads // groups, tokens, width), torch.stack((key[0], value[0]))
    if isinstance(packed.store, Pool):
        gathering = gather(packed, sliding_window, query.dtype)
        attend_gathered(packed.store.layers[module.layer_idx], queries, keys_values, scale, result, gathering)
    else:
        compute = partial(_attend_share, module.layer_idx, queries, keys_values, scale, result)
        lanes.run(compute, packed.shares(sliding_window))
    return result.view(1, tokens, heads, -1), None


def _attend_share(
    layer: int, query: Tensor, keys_values: Tensor, scaling: float, result: Tensor, share: list[Segment]
) -> None:
    """Segments one after the other: store their keys and values, then attend block by block."""
    groups, per_group, _, width = query.shape
    for segment in share:
        buffer, end = segment.kv.buffers[layer], segment.at + segment.rows.stop - segment.rows.start
        buffer[:, :, segment.at : end] = keys_values[:, :, segment.rows]
        for block in segment.blocks:
            count, padded = block.rows.stop - block.rows.start, block.padded
            rows = query[:, :, block.rows]
            if padded > count:
                rows = torch.nn.functional.pad(rows, (0, 0, 0, padded - count))
            keys, values = buffer[:, :, block.keys].unbind()
            # The query heads that share a key head are rows of one product: no key is ever repeated.
            products = torch.bmm(rows.reshape(groups, per_group * padded, width), keys.transpose(1, 2))
            # In float32, since the mask is.
            scores = torch.add(block.mask, products.view(groups, per_group, padded, -1), alpha=scaling)
            weights = torch.softmax(scores, dim=-1).to(values.dtype).view(groups, per_group * padded, -1)
            attended = torch.bmm(weights, values).view(groups, per_group, padded, width)
            result[block.rows] = attended[:, :, :count].permute(2, 0, 1, 3)
