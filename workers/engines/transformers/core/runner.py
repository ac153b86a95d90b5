"""What computes a step: the interface behind which plain torch, OpenVINO and a GPU's replayed program stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Row(NamedTuple):
    """Consecutive tokens of one sequence that are computed in a step: a piece of a prompt, or a beam's next token."""

    tokens: Sequence[int]  #: at least one
    past: int  #: how many tokens of the sequence come before them; their keys and values are in its blocks
    #: numbers of the blocks of the sequence, from its first token to the last of ``tokens``; int32
    table: np.ndarray
    logits: bool  #: whether the logits behind the last token are wanted


class Copy(NamedTuple):
    """The first tokens of a block that another one gets as well."""

    source: int
    target: int
    tokens: int


class Runner(Protocol):
    """A model and its blocks of keys and values.

    Block ``b`` holds ``block_size`` tokens of one sequence, in all layers. A step first writes the keys and values of
    all its rows and then attends, so that a row may have in its table a block that another row of the step fills.

    One that chooses tokens in a way of its own has a method ``select``, which does what ``selection.select`` does.
    """

    name: str  #: for descriptions: ``torch 2.13.0``, ``OpenVINO 2026.4.1``
    device: torch.device  #: where logits are
    dtype: torch.dtype  #: in which it computes
    block_size: int  #: tokens
    block_bytes: int
    blocks: int  #: how many there are

    def run(self, rows: Sequence[Row]) -> Tensor:
        """Compute a step.

        Returns:
            Logits of the rows that want them, in their order; shape (wanted, vocabulary). They may be overwritten by
            the next step.

        Raises:
            MemoryError, RuntimeError: there was too little memory, or the device failed, see ``memory.out_of_memory``.
        """
        ...

    def copy(self, copies: Sequence[Copy]) -> None:
        """Copy tokens of blocks to the same places of others, or whole blocks; no block is a target twice."""
        ...

    def close(self) -> None:
        """Give the memory back."""
        ...
