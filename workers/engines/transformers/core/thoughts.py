"""Thoughts that a prompt begins, and the marks around thoughts that a tokenizer would leave out of a reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

_BEGUN = re.compile(r"(?:<think(?:ing)?>|\[THINK\])\s*$", re.IGNORECASE)
#: Marks that some tokenizers count among their special tokens, which no reply has otherwise.
_MARKS = ("<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "<|message|>")


def thought_begun(prompt: str) -> str:
    """The mark at the end of a rendered prompt that begins a thought, for the model to go on with; else nothing."""
    begun = _BEGUN.search(prompt)
    return begun[0] if begun else ""


def special_marks(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokenizer's special tokens that stand around thoughts."""
    special = set(tokenizer.all_special_tokens)
    return frozenset(tokenizer.convert_tokens_to_ids([mark for mark in _MARKS if mark in special]))


def decode_reply(tokenizer: Any, tokens: Sequence[int], marks: frozenset[int]) -> str:
    """The text of a reply: without special tokens, but for the marks around thoughts."""
    if marks.isdisjoint(tokens):
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text
    parts = groupby(tokens, key=marks.__contains__)
    return "".join(tokenizer.decode(list(part), skip_special_tokens=not marked) for marked, part in parts)
