"""Addresses are shown without passwords, however they were written."""

from __future__ import annotations

import pytest

from defsurvey.storage.address import MISREAD, in_words, shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:hunter2@there:5432/db", "postgresql://me:***@there:5432/db"),
        ("postgresql://me@[::1]:5432/db?sslmode=require", "postgresql://me@[::1]:5432/db?sslmode=require"),
        ("postgresql://me@a:1,b:2/db", "postgresql://me@a:1,b:2/db"),
        ("postgresql:///db?host=/var/run", "postgresql:///db?host=/var/run"),
        ("postgresql://me@there/db?password=hunter2", "postgresql://me@there/db?***"),
        ("postgresql://me@there/db?a=b&p%61ssword=hunter&2=", "postgresql://me@there/db?***"),
        ("redis://:hun:ter2@there/0", "redis://:***@there/0"),
        ("redis+socket:///home/a%20b/x.sock", "redis+socket:///home/a%20b/x.sock"),
        ("sqlite:////home/what%3F%40.db", "sqlite:////home/what?@.db"),
    ],
)
def test_a_url_that_cannot_be_misread_is_shown_but_for_its_password(url: str, expected: str) -> None:
    """And so is what went wrong with it."""
    assert shown(url) == expected
    assert in_words(url, "no\nsuch\x1b host") == "no such⟨U+001B⟩ host"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:hun/ter2@there:1/db", "postgresql://***@there:1/db"),
        ("postgresql://me:hunter2@there:port/db", "postgresql://***@there:port/db"),
        ("postgresql://me:hun@ter2@there/db", "postgresql://***"),
        ("postgresql://there:1/db?password=hun@ter2", "postgresql://***"),
        ("postgresql://me@there:1/db?password=hun@ter2", "postgresql://***"),
        ("redis://:hunt#er2@there:1/0", "redis://***@there:1/0"),
        ("redis://:1234?hunter2@there:1/0", "redis://***"),
        ("redis://:hun[ter]2@there/0", "redis://***@there/0"),
        ("redis://:hünter2@there/0", "redis://***@there/0"),
        ("redis://there:hunter2", "redis://***"),
        ("redis://there://hunter2", "***"),
        ("me:hunter2@there/db", "***"),
        ("nonsense", "nonsense"),
    ],
)
def test_of_one_that_can_be_misread_no_piece_of_the_password_is_shown(url: str, expected: str) -> None:
    """Its reader may have taken one for a host or a port, and would say so."""
    assert shown(url) == expected
    assert in_words(url, "port hunter2 is no number") == MISREAD
