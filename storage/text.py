"""Invisible characters, made visible."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

#: Invisible, and seen where they are all the same.
_KEPT = "\n\t"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: They join letters or keep them apart, which is spelling in Persian and in scripts of India, and nothing in Latin.
_JOINERS = "\u200c\u200d"
#: Controls but for line breaks and tabs, lone surrogates, and what turns the direction of a text round.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def name_character(character: str) -> str:
    """How an invisible character is written: by its number, such as ``U+202E``."""
    return f"U+{ord(character):04X}"


def characters(text: str) -> Iterator[tuple[str, bool]]:
    """Each character of a text, and whether it is hidden: controls, formats, surrogates and what is not assigned.

    Line breaks and tabs are not, nor is a joiner where it is spelling: between letters of another script than Latin.

    >>> [hidden for _, hidden in characters("a" + chr(0x200C) + chr(10))]
    [False, True, False]
    """
    plain = text.replace("\r\n", "\n")
    for place, character in enumerate(plain):
        concealed = character not in _KEPT and unicodedata.category(character) in _HIDDEN
        yield character, concealed and not (character in _JOINERS and _spells(plain, place))


def _spells(text: str, place: int) -> bool:
    """Whether letters, or marks on them, of a script in which joiners mean something stand on both its sides."""
    sides = text[place - 1 : place], text[place + 1 : place + 2]
    letters = (side for side in sides if side and unicodedata.category(side)[0] in "LM")
    return sum(not unicodedata.name(letter, "").startswith("LATIN ") for letter in letters) == 2


def visible(text: str) -> str:
    """The text with every control, format, surrogate and unassigned character written out.

    >>> visible("a" + chr(0) + chr(0x202E) + "b")
    'a⟨U+0000⟩⟨U+202E⟩b'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨{name_character(sign)}⟩" if hidden else sign for sign, hidden in characters(text))


def in_one_line(text: str, most: int = 400) -> str:
    """The same as one line of at most so many characters, as an error tells it.

    >>> in_one_line("a" + chr(10) + "b"), in_one_line("abc", 2)
    ('a⟨U+000A⟩b', 'ab...')
    """
    line = visible(text).replace("\n", "⟨U+000A⟩").replace("\t", "⟨U+0009⟩")
    return line if len(line) <= most else f"{line[:most]}..."


def control(text: str) -> str:
    """The first character, by its number, that no text of a survey may hold; empty where there is none."""
    found = _CONTROL.search(text)
    return name_character(found[0]) if found else ""


#: Stands where a NUL was.
NUL_SIGN = "␀"


def storable(text: str) -> str:
    """Text as both databases can keep it: PostgreSQL has no NUL, and neither has lone surrogates."""
    return text.replace("\x00", NUL_SIGN).encode("utf-8", "replace").decode("utf-8")
