"""Whether the values of a noun are of the types that it declares.

A dataclass takes whatever it is given; what comes from elsewhere is held against its annotations here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from defsurvey.storage.visible import control


def mistyped(noun: Any) -> str:
    """The first field of a dataclass whose value is of another type than it says, as a path; empty if there is none.

    A text with a control character is none, which is named behind its path, and neither is a number that is not finite.
    Nouns within are gone through.
    """
    return _mistyped(noun, type(noun), "")


def _mistyped(value: Any, hint: Any, path: str) -> str:
    if is_dataclass(hint):
        if type(value) is not hint:
            return path
        found = (
            _mistyped(getattr(value, name), kind, f"{path}.{name}" if path else name)
            for name, kind in _hints(type(value)).items()
        )
        return next(filter(None, found), "")
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        if type(value) is not tuple:
            return path
        each = (_mistyped(one, inner[0], f"{path}[{place}]") for place, one in enumerate(value, start=1))
        return next(filter(None, each), "")
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return path
        parts = [(key, inner[0]) for key in value] + [(one, inner[1]) for one in value.values()]
        return next(filter(None, (_mistyped(one, kind, path) for one, kind in parts)), "")
    if origin in (Union, UnionType):
        told = [_mistyped(value, kind, path) for kind in inner]
        return "" if "" in told else max(told, key=len)
    if hint is str and type(value) is str and (sign := control(value)):
        return f"{path} (a control character, {sign})"
    return "" if _of_type(value, hint) else path


def _of_type(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


@cache
def _hints(noun: type) -> dict[str, Any]:
    hints = get_type_hints(noun)
    return {field.name: hints[field.name] for field in fields(noun)}


def plain_fits(noun: type) -> Callable[[Any], bool]:
    """A test of whether a JSON object can become a noun of plain values: its keys, and the type of each value.

    Keys whose field has a default may be missing, since older runs lack them. Made once, for it is asked of every row.
    """
    hints = _hints(noun)
    required = {field.name for field in fields(noun) if field.default is MISSING}
    tests = {name: _plain_test(hint) for name, hint in hints.items()}

    def fits(body: Any) -> bool:
        if type(body) is not dict or not required <= body.keys() <= tests.keys():
            return False
        return all(tests[name](value) for name, value in body.items())

    return fits


def _plain_test(hint: Any) -> Callable[[Any], bool]:
    kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    if kinds <= {str, int, float, bool, NoneType}:
        allowed = frozenset(kinds | ({int} if float in kinds else set()))
        return lambda value: type(value) in allowed
    (kind,) = kinds
    assert issubclass(kind, StrEnum)
    words = frozenset(member.value for member in kind)
    return lambda value: type(value) is str and value in words
