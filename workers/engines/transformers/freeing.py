"""How freed memory gets back to the system. Deliberately knows nothing of what was in it."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give freed memory back to the system: glibc keeps what lies between pieces that are in use, until it is told."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
