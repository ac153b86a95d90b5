"""A request with everything resolved: the tokens to continue, and how each next token is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from defsurvey.storage.runs.run import Decoding, UsedDecoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a distribution over the next token is changed before a token is drawn from it."""

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
    #: the tokens that may follow those so far, at least one; None: any
    allowed: Callable[[Sequence[int]], Sequence[int]] | None = field(default=None, compare=False)
    #: where there are any: not a reply is wanted, but how probable each of these is as its beginning
    choices: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("prompt: expected at least one token, got none")


#: Each setting of ``generate`` at the value at which it does nothing; zero switches top_k off. Of these a request sets
#: top_k alone.
SWITCHED_OFF = {
    "top_k": 0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "early_stopping": False,
    "num_return_sequences": 1,
}


def resolve_decoding(decoding: Decoding) -> UsedDecoding:
    """What will really be done: without sampling, temperature, top_p and top_k do nothing, which is 1, 1 and 0.

    Raises:
        ValueError: a value is out of range.
    """
    limits = {
        "num_beams": (decoding.num_beams >= 1, "at least 1"),
        "temperature": (decoding.temperature > 0 or not decoding.do_sample, "above 0"),
        "top_p": (0 < decoding.top_p <= 1, "above 0 and at most 1"),
        "top_k": (decoding.top_k >= 0, "at least 0"),
        "max_new_tokens": (decoding.max_new_tokens >= 1, "at least 1"),
    }
    for name, (right, expected) in limits.items():
        if not right:
            raise ValueError(f"decoding: {name}: expected {expected}, got {getattr(decoding, name)}")
    return UsedDecoding(
        num_beams=decoding.num_beams,
        do_sample=decoding.do_sample,
        temperature=decoding.temperature if decoding.do_sample else 1.0,
        top_p=decoding.top_p if decoding.do_sample else 1.0,
        top_k=decoding.top_k if decoding.do_sample else 0,
        max_new_tokens=decoding.max_new_tokens,
    )
