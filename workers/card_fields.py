"""One table of a model file, read field by field."""

from __future__ import annotations

import math
import re
from urllib.parse import urlsplit

from defsurvey.storage.errors import BadInput
from defsurvey.storage.surveys.problem import nearest


class ModelError(BadInput, ValueError):
    """A model card is not what the format asks for; the message says file, model, field, expected and got."""


class Fields:
    """One table of a model file, read field by field, so that what remains unread is known to be a mistake."""

    def __init__(self, table: object, *, where: str) -> None:
        if not isinstance(table, dict):
            raise ModelError(f"{where}: expected a table of fields, got {table!r}")
        self._table: dict[str, object] = table
        self._read: list[str] = []
        self._where = where
        self.given = frozenset(self._table)

    def wrong(self, field: str, expected: str, got: str, near: str = "") -> ModelError:
        """The error for a field whose value is not what was expected."""
        return ModelError(f"{self._where}: field {field}: expected {expected}, got {got}{near}")

    def finish(self) -> None:
        """Refuse fields that no card has."""
        for field in self._table:
            if field not in self._read:
                known = ", ".join(self._read)
                raise ModelError(
                    f"{self._where}: there is no field {field!r}{nearest(field, self._read)}; known: {known}"
                )

    def _take(self, field: str, default: object) -> object:
        if field not in self._read:
            self._read.append(field)
        return self._table.get(field, default)

    def table(self, field: str) -> Fields:
        """A table within the table."""
        return Fields(self._take(field, None), where=f"{self._where}: field {field}")

    def text(self, field: str, default: str | None = None, *, pattern: str = ".*", form: str = "text") -> str:
        """A text that is not blank; without a default it must be there. ``form`` says what ``pattern`` asks for."""
        value = self._take(field, default)
        if value is None:
            raise self.wrong(field, form, "nothing")
        if field in self._table and not (isinstance(value, str) and value.strip() and re.fullmatch(pattern, value)):
            raise self.wrong(field, form, repr(value))
        return str(value)

    def url(self, field: str) -> str | None:
        """An address of a server without a password, or None where nothing is said."""
        form = "an http or https URL without a password"
        url = self.text(field, "", pattern=r"https?://[^\s/@?#]+[^\s@?#]*", form=form)
        try:
            parts = urlsplit(url)
            if url and (not parts.hostname or parts.port == 0):
                raise ValueError(url)
        except ValueError:  # of brackets without an end, and of ports that are no numbers
            raise self.wrong(field, form, url) from None
        return url or None

    def one_of(self, field: str, allowed: tuple[str, ...], default: str) -> str:
        """One of the texts allowed."""
        value = self._take(field, default)
        if field in self._table and value not in allowed:
            near = nearest(value, allowed) if isinstance(value, str) else ""
            raise self.wrong(field, f"one of {', '.join(allowed)}", repr(value), near)
        return str(value)

    def truth(self, field: str) -> bool:
        """True or false; false where nothing is said."""
        value = self._take(field, False)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false", repr(value))
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._take(field, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(field, 'a list of texts such as ["en", "zh"]', repr(value))
        return tuple(value)

    def some_of(self, field: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        """A list of any of the texts allowed."""
        value = self._take(field, [])
        if not isinstance(value, list) or not all(item in allowed for item in value):
            raise self.wrong(field, f"a list of any of {', '.join(allowed)}", repr(value))
        return tuple(value)

    def amount(self, field: str, of: str, default: float = 0.0) -> float:
        """A finite number, 0 or more; ``of`` names its unit."""
        value = self._take(field, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self.wrong(field, f"a finite number of {of}, 0 or more", repr(value))
        return float(value)

    def count(self, field: str, default: int, most: int) -> int:
        """A whole number from 1 to ``most``."""
        value = self._take(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.wrong(field, f"a whole number from 1 to {most}", repr(value))
        return value

    def verbatim(self, field: str, reserved: tuple[str, ...]) -> dict[str, object]:
        """A table that is passed on as it is; none of its keys may be ``reserved``."""
        value = self._take(field, {})
        if not isinstance(value, dict):
            raise self.wrong(field, "a table of fields", repr(value))
        for key in value:
            if key in reserved:
                raise self.wrong(field, f"none of {', '.join(reserved)}, which are set for each request", repr(key))
        return dict(value)
