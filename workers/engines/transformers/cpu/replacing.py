"""Other modules in the place of a model's own, so that no two of its large ones are there twice.

A model that fills more than half of the memory has to go through this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from defsurvey.workers.engines.transformers.core.freeing import give_back

#: After so many bytes of modules given up the system gets its memory back.
_OFTEN = 128 << 20


def replace(model: Any, make: Callable[[Any], Any], size: Callable[[Any], int]) -> int:
    """Put other modules into the place of a model's, and let go of each one before the next is made.

    Args:
        model: its modules are passed from the outside in; of one that is replaced, the new one's are passed.
        make: what takes a module's place; None: it stays.
        size: bytes that a module which is replaced leaves behind.

    Returns:
        How many were replaced.
    """
    replaced, given_up = 0, 0
    for parent in model.modules():  # as they are found: a list of them would keep them all
        for name in [name for name, _ in parent.named_children()]:
            module = getattr(parent, name)
            made = make(module)
            if made is None:
                continue
            setattr(parent, name, made)
            replaced, given_up = replaced + 1, given_up + size(module)
            del module
            if given_up > _OFTEN:
                give_back()
                given_up = 0
    give_back()
    return replaced
