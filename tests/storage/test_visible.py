"""Characters that nobody sees are written out, but for those that are how a word is spelt."""

from __future__ import annotations

import pytest

from defsurvey.storage.text import visible

ZWNJ, ZWJ = "\u200c", "\u200d"


@pytest.mark.parametrize(
    "text",
    [
        f"می{ZWNJ}خواهم",
        f"क्{ZWJ}ष",
        f"क्{ZWNJ}ष",
        f"അവന്{ZWJ} വന്നു",
        f"ශ්{ZWJ}රී ලංකා",
    ],
    ids=["Persian", "half form", "explicit virama", "chillu at the end of a word", "Sinhala"],
)
def test_a_joiner_is_spelling_in_persian_and_indian_scripts(text: str) -> None:
    """Words are shown as they are written; a number in the middle of one would make it unreadable."""
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"mo{ZWNJ}del", "mo⟨U+200C⟩del"),
        (f"{ZWJ}می", "⟨U+200D⟩می"),
        (f"می{ZWNJ}", "می⟨U+200C⟩"),
        (f"می{ZWNJ}{ZWNJ}خ", "می⟨U+200C⟩⟨U+200C⟩خ"),
        (f"1{ZWNJ}2", "1⟨U+200C⟩2"),
        ("می\u200bخ", "می⟨U+200B⟩خ"),
    ],
    ids=["Latin", "at the beginning", "at the end", "twice", "numbers", "no joiner"],
)
def test_elsewhere_a_joiner_hides_something(text: str, shown: str) -> None:
    """Two names that look alike are told apart."""
    assert visible(text) == shown
