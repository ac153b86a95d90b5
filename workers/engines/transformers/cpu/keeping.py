"""What numba has compiled, kept for the next process until any module changes that loops are made of.

numba by itself looks at the file in which a loop is written. What is inlined there, and what writes instructions, comes
from the modules beside it, and a change in one of these would go unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature


def kept(loop: Callable[[Any], None], signature: Any, options: dict[str, Any]) -> Any:
    """A loop, compiled, or found as it was kept; where there is no folder to keep it in, compiled."""
    made = _Loop(loop, normalize_signature(signature), locals={}, options=options)
    with suppress(RuntimeError):  # no folder for what is kept
        made.enable_caching()
    made.compile()
    return made


@cache
def sources(folder: Path = Path(__file__).parent) -> bytes:
    """A digest of those of a folder's modules that have to do with compiling, whatever they are called."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        text = file.read_bytes()
        if b"numba" in text or b"llvmlite" in text:
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(text).digest())
    return digest.digest()


class _Kept(CompileResultCacheImpl):  # type: ignore[misc]
    """Entries with another stamp count for nothing, and are written over."""

    def __init__(self, loop: Callable[[Any], None]) -> None:
        super().__init__(loop)
        own = self._locator.get_source_stamp
        self._locator.get_source_stamp = lambda: (own(), sources())


class _Cache(FunctionCache):  # type: ignore[misc]
    _impl_class = _Kept


class _Loop(CFunc):
    _pyfunc: Callable[[Any], None]

    def enable_caching(self) -> None:
        """See ``CFunc``."""
        self._cache = _Cache(self._pyfunc)
