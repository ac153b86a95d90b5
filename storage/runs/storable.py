"""Text as every database can keep it.

Completions are made so where they come in, so that what is remembered of them is what the ledger holds.
"""

from __future__ import annotations

#: Stands where a NUL was.
NUL_SIGN = "␀"


def storable(text: str) -> str:
    """Text as both databases can keep it: PostgreSQL has no NUL, and neither has lone surrogates."""
    return text.replace("\x00", NUL_SIGN).encode("utf-8", "replace").decode("utf-8")
