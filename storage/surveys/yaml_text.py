"""YAML that remembers where it was written, and YAML to be written.

Only nodes are composed, nothing is constructed: no tag can run code. Text is taken as it was written, so that ``Yes``
is a label and ``no`` a language, not truth values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import yaml

from defsurvey.storage.surveys.problem import Fault, Problem, nearest, one_of
from defsurvey.storage.surveys.yaml_models import compose
from defsurvey.storage.visible import control

_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A value in a YAML file and the place where it stands."""

    file: str
    field: str
    node: yaml.Node

    @property
    def line(self) -> int:
        """Line on which the value begins, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def named(self, field: str) -> Entry:
        """The same value under a name that tells more."""
        return Entry(file=self.file, field=field, node=self.node)

    def fault(self, expected: str, got: str | None = None) -> Fault:
        """The error that says that this value is not what was expected."""
        found = self._shown() if got is None else got
        return Fault(Problem(file=self.file, line=self.line, field=self.field, expected=expected, got=found))

    def _shown(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
            shown = repr(self.node.value)
            return "nothing" if self._empty else shown if len(shown) <= 80 else f"{shown[:80]}..."
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"

    @property
    def _empty(self) -> bool:
        return bool(self.node.tag == "tag:yaml.org,2002:null") or not self.node.value

    @property
    def is_text(self) -> bool:
        """Whether it is a single word or sentence."""
        return isinstance(self.node, yaml.ScalarNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def entries(self) -> dict[str, Entry]:
        """Key -> entry of a mapping whose keys are free.

        Raises:
            Fault: it is no mapping, or a key stands twice or has a control character.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.fault("a mapping")
        found: dict[str, Entry] = {}
        for key, value in self.node.value:
            place = Entry(file=self.file, field=self.field, node=key)
            if not place.is_text:
                raise place.fault("a word as key")
            name = str(key.value)
            if sign := control(name):
                raise place.fault("a key without control characters", f"{name!r} with {sign}")
            if name in found:
                raise place.fault("every key once", f"{name!r} again, first on line {found[name].line}")
            found[name] = Entry(file=self.file, field=f"{self.field}.{name}" if self.field else name, node=value)
        return found

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Entry]:
        """Key -> entry of a mapping whose keys are fixed.

        Raises:
            Fault: a key is unknown (the nearest is named), stands twice or is missing.
        """
        known = [*required, *optional]
        found = self.entries()
        for key, entry in found.items():
            if key not in known:
                raise entry.fault(f"one of the keys {one_of(known)}", f"{key!r}{nearest(key, known)}")
        for key in required:
            if key not in found:
                raise self.fault(f"a key {key!r}", "none")
        return found

    def items(self) -> list[Entry]:
        """The entries of a list.

        Raises:
            Fault: it is no list.
        """
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.fault("a list")
        return [
            Entry(file=self.file, field=f"{self.field}[{position}]", node=node)
            for position, node in enumerate(self.node.value, start=1)
        ]

    def text(self) -> str:
        """A non-empty text, as it was written, without white space around it.

        Raises:
            Fault: it is empty, or no text, or has a control character, a lone surrogate or one that turns the direction
                of a text round; line breaks and tabs may stand.
        """
        if not self.is_text or self._empty or not str(self.node.value).strip():
            raise self.fault("a text")
        if sign := control(str(self.node.value)):
            raise self.fault("a text without control characters", f"{self._shown()} with {sign}")
        return str(self.node.value).strip()

    def integer(self, expected: str = "a whole number") -> int:
        """A whole number.

        Raises:
            Fault: it is none.
        """
        if not self.is_text or not _INTEGER.fullmatch(str(self.node.value)):
            raise self.fault(expected)
        return int(self.node.value)

    def flag(self) -> bool:
        """``true`` or ``false``.

        Raises:
            Fault: it is neither.
        """
        if not self.is_text or str(self.node.value).lower() not in _TRUTH:
            raise self.fault("true or false")
        return _TRUTH[str(self.node.value).lower()]

    def choice(self, known: Collection[str]) -> str:
        """One of the known words.

        Raises:
            Fault: it is none of them; the nearest is named.
        """
        word = self.text()
        if word not in known:
            raise self.fault(f"one of {one_of(known)}", f"{word!r}{nearest(word, known)}")
        return word

    def wording(self, languages: Sequence[str]) -> dict[str, str]:
        """Language -> text, in every language.

        Raises:
            Fault: a language is missing or not declared.
        """
        found = self.fields((), languages)
        for language in languages:
            if language not in found:
                raise self.fault(f"a text in every language ({', '.join(languages)})", f"none in {language!r}")
        return {language: found[language].text() for language in languages}


def parse_yaml(file: str, text: str) -> Entry:
    """The one document of a YAML file; raises Fault where it does not parse (line and column are named) or is empty."""
    return Entry(file=file, field="", node=compose(file, text))
