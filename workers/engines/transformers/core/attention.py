"""Attention for packed requests, registered with transformers under a name of its own.

Each request attends to its own buffer and nothing else. Where a forward carries no description of a packed batch,
as in ``generate``, the library's own scaled dot-product attention is computed.

On a CPU requests attend to their own buffers (see ``buffered``), elsewhere to a pool: by a kernel that reads it (see
``paged``), or to what is gathered from it where that cannot be used (see ``gathered``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from defsurvey.workers.engines.transformers.core.batch import Batch, Packed
from defsurvey.workers.engines.transformers.core.kv import LayerShape
from defsurvey.workers.engines.transformers.cpu.buffered import attend_buffered
from defsurvey.workers.engines.transformers.gpu import paged
from defsurvey.workers.engines.transformers.gpu.gathered import attend_gathered, gather
from defsurvey.workers.engines.transformers.gpu.pool import Pool

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
        observed.note(module.layer_idx, key, value, settings | {"scaling": scaling, "sliding_window": sliding_window})
    if packed is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
        return output, None
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    scale = scaling if scaling is not None else width**-0.5
    if not isinstance(packed.store, Pool):
        result = attend_buffered(packed, module.layer_idx, query[0], key[0], value[0], scale, sliding_window)
        return result[None], None
    queries, keys_values = query.view(groups, heads // groups, tokens, width), torch.stack((key[0], value[0]))
    result = query.new_empty(tokens, groups, heads // groups, width)
    result[packed.rows :].zero_()  # what fills up has no keys, but the layers behind want numbers
    pool = packed.store.layers[module.layer_idx]
    if paged.usable(query.device, query.dtype, LayerShape(groups, width), heads // groups):
        tiles = paged.paging(packed, sliding_window, heads // groups)
        paged.attend_paged(pool, queries, keys_values, scale, result, tiles)
    else:
        attend_gathered(pool, queries, keys_values, scale, result, gather(packed, sliding_window, query.dtype))
    return result.view(1, tokens, heads, width), None
