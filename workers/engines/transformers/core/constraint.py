"""Which tokens may follow where a reply can name options and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from defsurvey.workers.engines.base import ClosedReply

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A closed reply in tokens.

    >>> first, later = {"1": (5,), "10": (5, 4)}, {"1": (9, 5), "10": (9, 5, 4)}
    >>> one_or_two = Constraint(first=first, later=later, most=2, ends=(0,))
    >>> [sorted(one_or_two.allowed(tokens)) for tokens in [(), (5,), (5, 9, 5), (5, 9, 5, 4)]]
    [[5], [0, 4, 9], [4], [0]]
    >>> one_or_two.enough((5, 9, 5, 4)), one_or_two.named((5, 9, 5, 4))
    (True, ('1', '10'))
    """

    first: Mapping[str, Tokens]  #: the tokens of each option at the beginning of a reply
    later: Mapping[str, Tokens]  #: and of each behind a separator, which is among them
    most: int  #: how many options a reply may name
    ends: Tokens  #: the tokens that end a reply

    def allowed(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that may follow these; an end where they are no such reply, as beams without hope are."""
        following = dict.fromkeys(self._following(tuple(tokens), ()))
        return list(following or self.ends)

    def enough(self, tokens: Sequence[int]) -> bool:
        """Whether nothing may follow but an end."""
        return set(self.allowed(tokens)) <= set(self.ends)

    def named(self, tokens: Sequence[int]) -> tuple[str, ...] | None:
        """The options that a reply names, whose tokens may have an end; None where it was cut short."""
        whole = tuple(takewhile(lambda token: token not in self.ends, tokens))
        return next(self._readings(whole, ()), None)

    def _following(self, tokens: Tokens, named: tuple[str, ...]) -> Iterator[int]:
        if named and not tokens:
            yield from self.ends
        for option, piece in self._next(named):
            if tokens[: len(piece)] == piece:
                yield from self._following(tokens[len(piece) :], (*named, option))
            elif piece[: len(tokens)] == tokens:
                yield piece[len(tokens)]

    def _readings(self, tokens: Tokens, named: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if named and not tokens:
            yield named
        for option, piece in self._next(named) if tokens else ():
            if tokens[: len(piece)] == piece:
                yield from self._readings(tokens[len(piece) :], (*named, option))

    def _next(self, named: tuple[str, ...]) -> list[tuple[str, Tokens]]:
        """Options that may come behind those named, and their tokens there."""
        if len(named) == self.most:
            return []
        return [
            (option, piece) for option, piece in (self.later if named else self.first).items() if option not in named
        ]


def constrain(
    encode: Callable[[str], Sequence[int]], begun: str, closed: ClosedReply, ends: Tokens
) -> tuple[Tokens, Constraint]:
    """A prompt's tokens, and what may follow them.

    Args:
        encode: From a text to the tokens that a model reads.
        begun: The prompt up to the place where the reply names options.
        closed: What it can name.
        ends: The tokens that end a reply.

    Raises:
        ValueError: the tokenizer writes an option in different ways behind different others.
    """
    # Taken from whole texts: a tokenizer may join the blank before an option to it.
    texts = {option: tuple(encode(begun + option)) for option in closed.options}
    columns = zip(*texts.values(), strict=False)
    shared = tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
    prompt = shared if len(texts) > 1 else tuple(encode(begun))
    first = {option: tokens[len(prompt) :] for option, tokens in texts.items()}
    later: dict[str, Tokens] = {}
    for option in closed.options if closed.most > 1 else ():
        pieces = {_behind(encode, before, closed.separator + option) for before in closed.options if before != option}
        if len(pieces) > 1 or () in pieces:
            raise ValueError(f"the tokenizer writes {option!r} behind {closed.separator!r} in several ways")
        later[option] = pieces.pop()
    return prompt, Constraint(first=first, later=later, most=closed.most, ends=ends)


def _behind(encode: Callable[[str], Sequence[int]], before: str, text: str) -> Tokens:
    """The tokens of a text behind another; none where the tokenizer joins the two."""
    start, both = tuple(encode(before)), tuple(encode(before + text))
    return both[len(start) :] if both[: len(start)] == start else ()
