"""How figures are written: one place, so that every table and sentence writes them alike."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf, isnan

#: Written where there is no figure.
NONE = "–"
#: Cells of a caution, or cultures of a heading, named one by one; beyond it they are counted.
NAMED = 4


def nats(value: float) -> str:
    """A divergence to two digits; small ones get a digit more, so that two floors can be told apart.

    >>> nats(1.234), nats(.0123), nats(float("inf")), nats(float("nan"))
    ('1.23', '0.012', '∞', '–')
    """
    return fixed(value, 2 if abs(value) >= 0.1 else 3)


def fixed(value: float, digits: int = 3) -> str:
    """A figure in a column: always the same number of digits; what rounds to 0 has no sign.

    >>> fixed(.5), fixed(.05, 2), fixed(-.45, 2), fixed(-.0001, 2), fixed(float("inf")), fixed(float("nan"))
    ('0.500', '0.05', '−0.45', '0.00', '∞', '–')
    """
    if isnan(value):
        return NONE
    if isinf(value):
        return "∞"
    return f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A difference; what rounds to 0 has no sign.

    >>> signed(.5), signed(-.25), signed(-.004, 2), signed(float("nan"))
    ('+0.500', '−0.250', '0.00', '–')
    """
    text = fixed(value, digits)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number of things, in the singular where it is one: "1 question", "1,280 answers"."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def percent(share: float) -> str:
    """A share to a tenth of a per cent; 0% and 100% are exact.

    >>> percent(.5), percent(.0004), percent(.9996), percent(0), percent(-.0004), percent(-1), percent(float("nan"))
    ('50.0%', '<0.1%', '>99.9%', '0%', '>−0.1%', '−100%', '–')
    """
    if isnan(share):
        return NONE
    if share < 0:
        turned = percent(-share)
        return {"<0.1%": ">−0.1%", ">99.9%": "<−99.9%"}.get(turned, f"−{turned}")
    hundredths = share * 100
    if hundredths in (0, 100):
        return f"{hundredths:.0f}%"
    if hundredths < 0.05:
        return "<0.1%"
    return ">99.9%" if hundredths >= 99.95 else f"{hundredths:.1f}%"


def chance(p: float) -> str:
    """A p-value, three digits."""
    if isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def listed(words: Sequence[str]) -> str:
    """Words in a row: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
