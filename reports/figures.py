"""How figures are written: one place, so that every table and sentence writes them alike."""

from __future__ import annotations

from math import isinf, isnan

#: Written where there is no figure.
NONE = "–"


def nats(value: float, digits: int = 2) -> str:
    """A divergence; small ones get a digit more, so that two floors can be told apart.

    >>> nats(1.234), nats(.0123), nats(float("inf")), nats(float("nan"))
    ('1.23', '0.012', '∞', '–')
    """
    if isnan(value):
        return NONE
    if isinf(value):
        return "∞"
    return f"{value:.{digits if abs(value) >= 0.1 or digits > 2 else digits + 1}f}"


def fixed(value: float, digits: int = 3) -> str:
    """A figure in a column: always the same number of digits.

    >>> fixed(.5), fixed(float("nan"))
    ('0.500', '–')
    """
    return nats(value, digits)


def signed(value: float) -> str:
    """A difference.

    >>> signed(.5), signed(-.25), signed(float("nan"))
    ('+0.500', '−0.250', '–')
    """
    return NONE if isnan(value) else f"{value:+.3f}".replace("-", "−")


def counted(count: int, noun: str) -> str:
    """A number of things, in the singular where it is one.

    >>> counted(1, "question"), counted(1280, "answer")
    ('1 question', '1,280 answers')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """A share to a tenth of a per cent; 0% and 100% are exact.

    >>> percent(.5), percent(.0004), percent(.9996), percent(0), percent(float("nan"))
    ('50.0%', '<0.1%', '>99.9%', '0%', '–')
    """
    if isnan(share):
        return NONE
    hundredths = share * 100
    if hundredths in (0, 100):
        return f"{hundredths:.0f}%"
    if hundredths < 0.05:
        return "<0.1%"
    return ">99.9%" if hundredths >= 99.95 else f"{hundredths:.1f}%"
