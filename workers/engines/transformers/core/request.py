"""A request with everything resolved: the tokens to continue, and how each next token is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a distribution over the next token is bent before a token is drawn from it."""

    temperature: float = 1.0  #: above 0
    top_k: int = 0  #: only so many of the likeliest tokens; 0: all
    top_p: float = 1.0  #: only the likeliest tokens that together have this probability, in (0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRequest:
    """Tokens to be continued. Equal requests have equal replies."""

    prompt: tuple[int, ...]  #: token ids, at least one
    num_beams: int = 1
    sampling: Sampling | None = None  #: None: the likeliest token, or the likeliest beams
    max_new_tokens: int = 512
    ends: tuple[int, ...] = ()  #: ids of the tokens that end a reply
    seed: int = 0  #: in [0, 2**63); read only where there is sampling
    #: whether the tokens so far will do; asked after each token, and only where there are no beams
    enough: Callable[[Sequence[int]], bool] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("prompt: expected at least one token, got none")
