"""Prompts that were answered, kept for the next one that begins alike.

An interview asks one question after the other with what was said before in front: consecutive prompts share their
beginning, whose keys and values need not be computed again. The longest common prefix of tokens decides, whoever asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from defsurvey.workers.engines.transformers.core.kv import KV, OutOfRoom

#: A shorter common beginning is computed as fast as it is copied.
_LEAST = 16


class PrefixIndex:
    """The prompts kept, oldest first, and their buffers."""

    def __init__(self) -> None:
        self._kept: deque[tuple[np.ndarray, KV]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """What the buffers kept take."""
        return sum(kv.bytes for _, kv in self._kept)

    def keep(self, prompt: Sequence[int], kv: KV) -> None:
        """Keep a prompt's buffer, if there is room; its tree is forgotten."""
        try:
            kv.cut(len(prompt))
        except OutOfRoom:
            kv.close()
        else:
            self._kept.append((np.array(prompt), kv))

    def copy_into(self, kv: KV, prompt: Sequence[int]) -> int:
        """Fill an empty buffer with the longest beginning that is kept; returns its length, 0 where there is none.

        The last token of the prompt is never taken over: its logits are wanted, so it has to be computed.
        """
        tokens = np.array(prompt)[:-1]
        lengths = [_common(tokens, kept) for kept, _ in self._kept]
        length = max(lengths, default=0)
        if length < _LEAST:
            return 0
        kv.copy_prefix(self._kept[lengths.index(length)][1], length)
        return length

    def drop_oldest(self) -> bool:
        """Forget the prompt kept longest; False where none is kept."""
        if not self._kept:
            return False
        self._kept.popleft()[1].close()
        return True

    def clear(self) -> None:
        """Forget everything."""
        while self.drop_oldest():
            pass


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """Length of the common beginning."""
    length = min(len(one), len(other))
    differing = np.flatnonzero(one[:length] != other[:length])
    return int(differing[0]) if len(differing) else length
