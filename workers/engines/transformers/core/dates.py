"""One date for every prompt, whenever it is rendered."""

from __future__ import annotations

from datetime import date

#: What templates are told instead of today's date: the one that those of Llama 3.1 and 3.2 fall back on themselves.
DATE = date(2024, 7, 26)
_ASKED = "strftime_now"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def asks_for_date(chat_template: str) -> bool:
    """Whether a chat template may ask for today's date."""
    return _ASKED in chat_template


def dated(chat_template: str, day: date) -> str:
    """The chat template with a function of its own in place of the library's, which knows one day, at midnight.

    A function can be given in no other way: what is handed to the library beside a template it turns into plain text.
    It stands on a line of its own, since blanks that begin a line mean something; the library drops the line's end.
    """
    written = "".join(f".replace('%{directive}', '{text}')" for directive, text in _directives(day).items())
    return f"{{%- macro {_ASKED}(format) -%}}{{{{ format{written} }}}}{{%- endmacro %}}\n{chat_template}"


def _directives(day: date) -> dict[str, str]:
    """What ``strftime`` makes of each directive, in English whatever the machine's locale."""
    name, month = _DAYS[day.weekday()], _MONTHS[day.month - 1]
    figures = {directive: day.strftime(f"%{directive}") for directive in "YymdjHIMSUWwuVGfFT"}
    bare = {f"-{directive}": str(int(figures[directive])) for directive in "mdjHIMS"}
    words = {"A": name, "a": name[:3], "B": month, "b": month[:3], "h": month[:3], "p": "AM", "e": f"{day.day:2}"}
    return {**figures, **bare, **words, "%": "%"}
