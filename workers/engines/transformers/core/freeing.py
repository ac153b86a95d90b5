"""How freed memory gets back to the system, and what of it does not."""

from __future__ import annotations

import ctypes

#: glibc's numbers for ``mallopt``, and what they are set to: bytes beyond which a piece of memory is taken from the
#: system and given back by itself, and bytes of free memory at the end of a heap that are given back.
_MMAP_THRESHOLD, _PIECE = -3, 32 << 20
_TRIM_THRESHOLD, _FREE = -1, 256 << 20


def give_back() -> None:
    """Give freed memory back to the system: glibc keeps what lies between pieces that are in use, until it is told."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def hold_on() -> None:
    """Let freed memory stay with the process, up to ``give_back``.

    What a forward frees is what the next one wants: glibc would give it back to the system and get it again page by
    page, for every piece of more than 128 kB, which takes as long as a tenth of a forward.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(_MMAP_THRESHOLD, _PIECE)
        setting(_TRIM_THRESHOLD, _FREE)
