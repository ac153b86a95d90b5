"""A completion taken apart: what a model thinks, and what it says."""

from __future__ import annotations

import re

_BEGINNING = re.compile(r"<think(?:ing)?>|\[THINK\]|(?:<\|start\|>assistant)?<\|channel\|>", re.IGNORECASE)
_END = re.compile(r"</think(?:ing)?>|\[/THINK\]|<\|channel\|>final\b[^<\n]{0,80}<\|message\|>", re.IGNORECASE)


def spoken(text: str) -> tuple[str, bool]:
    """What a completion says: what follows the last of its thoughts, up to one that never ends.

    A thought that ends need not have begun, since the prompt may have begun it. A text without marks says all of
    itself.

    Returns:
        What is said, and whether a thought that never ends cuts it off.

    >>> spoken("<think>Is it 1? No.</think>Answer: 2")
    ('Answer: 2', False)
    >>> spoken("<think>It may be 1, but")
    ('', True)
    """
    over = max((end.end() for end in _END.finditer(text)), default=0)
    said = text[over:].lstrip() if over else text
    beginning = _BEGINNING.search(said)
    return (said, False) if beginning is None else (said[: beginning.start()], True)
