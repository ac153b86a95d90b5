"""Attention of a step over blocks of keys and values, in operations whose shapes depend on no number in a tensor.

There is a kernel of our own, and the same in plain torch, by which the kernel is checked and which takes its place
where there is no Triton. What others maintain does not do it: torch's ``varlen_attn`` reads tables of blocks only with
FlashAttention 3 installed, transformers' continuous batching only with ``flash-attn``; ``flex_attention`` knows no
tables, so that each step would build a mask over all blocks there are, and is compiled anew for each shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from defsurvey.workers.engines.transformers.core import forward

#: What a model's configuration calls this attention.
NAME = "defsurvey_tiles"
#: Tokens in a block: where beams part, the last one is copied.
BLOCK = 16
#: Numbers in a line of ``Tiles`` before those of blocks.
HEADER = 5
#: Rows of a tile, each token counted as often as query heads share a head of keys: at least what a matrix unit takes,
#: of beams and of prompts.
_LEAST, _BEAMS, _MOST = 16, 32, 64
#: Bytes of keys and values that are gathered at once where there is no kernel.
_GATHERED = 1 << 28


@dataclass(frozen=True, slots=True)
class Tiles:
    """Consecutive tokens of one sequence each, which attend to the blocks of that sequence."""

    #: For each tile: its first row among the step's, how many, how many tokens of the sequence come before them; where
    #: they are one each, how many lines from this one on the kernel takes together (0: one before has taken it), and
    #: how many tokens at the beginning of these are in the same blocks; and the numbers of the sequence's blocks,
    #: filled up. int64, shape (tiles, HEADER + blocks).
    lines: Tensor
    tokens: int  #: how many a tile has at most


@dataclass(frozen=True, slots=True)
class Step:
    """What attention reads in a step."""

    layers: Sequence[Tensor]  #: keys and values of each, shape (blocks, BLOCK, 2, heads, width)
    blocks: Tensor  #: where each token's keys and values go: into which block,
    places: Tensor  #: and where in it
    tiles: Tiles
    kernel: bool  #: whether Triton's is used


def tile_tokens(per_head: int) -> int:
    """How many tokens of a prompt make up a tile where so many query heads share a head of keys."""
    return max(1, _MOST // per_head)


def tile_beams(per_head: int) -> int:
    """How many beams the kernel takes together, where so many query heads share a head of keys."""
    return max(1, _BEAMS // per_head)


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
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    blocks: Step | forward.Step | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention as a transformers layer calls it; where the step is none of ours, that of ``forward.attend``."""
    if not isinstance(blocks, Step):
        settings |= {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap, "blocks": blocks}
        return forward.attend(module, query, key, value, attention_mask, **settings)
    layer = blocks.layers[module.layer_idx]
    layer[blocks.blocks, blocks.places] = torch.stack((key[0], value[0])).permute(2, 0, 1, 3)
    by_token = query[0].transpose(0, 1)
    attended = _by_kernel if blocks.kernel else _gathered
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attended(by_token, layer, blocks.tiles, scale, sliding_window, softcap)[None], None


def _by_kernel(
    query: Tensor, layer: Tensor, tiles: Tiles, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """Attention of all tiles.

    Args:
        query: Shape (T, heads, width).
        layer: Shape (blocks, BLOCK, 2, key heads, width).
        tiles: Which of them attend to which blocks.
        scale: Factor on the scores.
        window: How many tokens back a token sees, itself included; None: all.
        softcap: Scores are bent to stay within this; None: they are not.

    Returns:
        Shape of ``query``.
    """
    from defsurvey.workers.engines.transformers.gpu import kernel  # there is no Triton elsewhere

    query = query if query.stride(-1) == 1 else query.contiguous()
    result = torch.empty_like(query, memory_format=torch.contiguous_format)
    heads, width = layer.shape[3:]
    per_head = query.shape[1] // heads
    beams = tiles.tokens == 1
    rows = _power((tile_beams(per_head) if beams else tiles.tokens) * per_head)
    kernel.launch(
        (len(tiles.lines), heads),
        *(query, layer, result, tiles.lines, scale, softcap or 0.0, window or 0),
        *(query.stride(0), query.stride(1), *layer.stride()[:4], result.stride(0), result.stride(1)),
        tiles.lines.stride(0),
        block=BLOCK,
        per_head=per_head,
        width=width,
        numbers=_power(width),
        rows=rows,
        keys_at_once=kernel.KEYS,
        capped=softcap is not None,
        windowed=window is not None,
        beams=beams,
        num_warps=8 if rows >= _MOST else 4,  # more numbers than that find no room in registers
    )
    return result


def _gathered(
    query: Tensor, layer: Tensor, tiles: Tiles, scale: float, window: int | None, softcap: float | None
) -> Tensor:
    """The same in plain torch."""
    heads, width = layer.shape[3:]
    every, longest = len(query), (tiles.lines.shape[1] - HEADER) * BLOCK
    result = query.new_empty(every + 1, heads, query.shape[1] // heads, width)  # the last one for what fills tiles up
    step = max(1, _GATHERED // (longest * layer[0, 0].numel() * layer.itemsize))
    token = torch.arange(tiles.tokens, device=query.device)
    key = torch.arange(longest, device=query.device)
    for lines in torch.split(tiles.lines, step):
        first, count, past = lines[:, :3, None].unbind(1)
        asked = torch.where(token < count, first + token, every)
        # What no token sees may be no number, which would be felt even with a weight of 0.
        held = layer.index_select(0, lines[:, HEADER:].reshape(-1)).view(len(lines), longest, 2, heads, width)
        held = held.masked_fill((key >= past + count)[..., None, None, None], 0.0)
        keys, values = held.permute(2, 0, 3, 1, 4)
        position = (past + token)[:, :, None]
        seen = key <= position
        if window is not None:
            seen &= key > position - window
        queries = query.index_select(0, asked.clamp(max=every - 1).reshape(-1))
        queries = queries.view(len(lines), tiles.tokens, heads, -1, width).permute(0, 2, 3, 1, 4)
        per_head = queries.shape[2]
        queries = queries.reshape(len(lines), heads, per_head * tiles.tokens, width)
        attended = forward.attention(queries, keys, values, seen[:, None].repeat(1, 1, per_head, 1), scale, softcap)
        attended = attended.view(len(lines), heads, per_head, tiles.tokens, width).permute(0, 3, 1, 2, 4)
        result.index_copy_(0, asked.reshape(-1), attended.reshape(-1, heads, per_head, width))
    return result[:every].flatten(1, 2)


def _power(number: int) -> int:
    """The least power of two that is as large, and that a matrix unit takes."""
    return max(_LEAST, 1 << (number - 1).bit_length())
