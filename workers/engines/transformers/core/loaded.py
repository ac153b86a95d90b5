"""A model that is ready to generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from defsurvey.storage.runs.run import EngineDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model ready to generate, in evaluation mode."""

    model: Any  #: a transformers causal language model, its own generation defaults removed; None: it is not in memory
    tokenizer: Any  #: its tokenizer
    window: int  #: the most tokens that prompt and reply may have together
    ends: tuple[int, ...]  #: ids of the tokens that end a reply
    padding: int  #: id of the token that fills up
    dropped: str  #: generation defaults that were published with the model and are not applied
    description: EngineDescription

    def facts(self) -> dict[str, Any]:
        """All that JSON can hold of it, for ``recalled``."""
        return {name: getattr(self, name) for name in ("window", "ends", "padding", "dropped", "description")}
