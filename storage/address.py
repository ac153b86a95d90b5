"""Addresses of databases and brokers as they may be shown: without a password, wherever in them it stands."""

from __future__ import annotations

import re
from typing import Literal, get_args
from urllib.parse import unquote

from defsurvey.storage.text import visible

#: A sign that parts nothing of a URL, and that every reader leaves where it stands.
_SIGN = r"(?:(?![/?#@:\[\]])[!-~])"
_SERVER = r"(?:\[[0-9a-f:.]+\]|[\w.-]*)(?::[0-9]+)?"
#: A URL of which everybody makes the same parts: none of the signs that part them is within another part.
_PLAIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>{_SIGN}*)(?P<password>:(?:{_SIGN}|:)*)?@)?"
    rf"(?P<server>{_SERVER}(?:,{_SERVER})*(?:/[^\s?#@]*)?)(?:\?(?P<query>[^\s?#@]*))?",
    re.ASCII | re.IGNORECASE,
)
#: What is told in place of an error's own words, which may hold a piece of a password that was taken for a host.
MISREAD = (
    "what went wrong is not told, for it may show a password: in one, write / as %2F, ? as %3F, # as %23, @ as %40"
)


def shown(url: str, *, user: bool = True) -> str:
    """A URL without its password, or ``user``; of one that can be misread only what cannot be a piece of it.

    >>> shown("postgresql://me:secret@there:5432/db?sslmode=require&password=secret")
    'postgresql://me:***@there:5432/db?***'
    >>> shown("redis://:sec/ret@there:6379/0"), shown("redis://:sec@ret@there:6379/0")
    ('redis://***@there:6379/0', 'redis://***')
    """
    if url.startswith("sqlite"):
        return unquote(url)
    parts = _PLAIN.fullmatch(url)
    if parts is None:
        return _behind_password(url)
    secret = "pass" in unquote(parts["query"] or "").lower()
    query = "" if parts["query"] is None else "?***" if secret else f"?{parts['query']}"
    who = "" if parts["user"] is None or not user else f"{parts['user']}{':***' if parts['password'] else ''}@"
    return f"{parts['scheme']}://{who}{parts['server']}{query}"


def _behind_password(url: str) -> str:
    """What stands behind the one sign that ends a password, unless it may be in one behind the path."""
    if re.fullmatch(r"[\w./-]*", url):
        return url  # a mere word
    scheme, _, rest = url.rpartition("://") if url.count("://") == 1 else ("", "", "")
    whole = re.fullmatch(r"[^@?]*@([^@?\s]*)", rest)
    return f"{scheme}://***" + (f"@{whole[1]}" if whole else "") if scheme.replace("+", "").isalnum() else "***"


def in_words(url: str, error: object) -> str:
    """What went wrong with a URL, in one line; where the URL can be misread, what to do about that instead."""
    plain = url.startswith("sqlite") or _PLAIN.fullmatch(url)
    return visible(" ".join(str(error).split())) if plain else MISREAD


#: Values of SQLite's ``synchronous`` that may be set.
Synchronous = Literal["full", "normal", "off"]
SYNCHRONOUS: tuple[str, ...] = get_args(Synchronous)
