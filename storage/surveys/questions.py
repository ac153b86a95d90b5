"""The questions of a survey folder: ``questions.yaml``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from defsurvey.storage.surveys.problem import Problems
from defsurvey.storage.surveys.survey import Option, Question, QuestionType, Value
from defsurvey.storage.surveys.yaml_text import Entry

#: Bases of a question's dimension, strongest first; see ``storage.surveys.survey.Value``.
BASES = ("A", "A2", "A3", "B")
#: Choices are kept as bits of a signed 64-bit number (``storage.runs.results``).
MOST_OPTIONS = 63
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read_name(entry: Entry) -> str:
    """An id: letters, digits, ``_``, ``.`` and ``-``; raises Fault."""
    name = entry.text()
    if not _NAME.fullmatch(name):
        raise entry.fault("a name of letters, digits, '_', '.' and '-'")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionReader:
    """Reads questions against what the survey declares."""

    languages: Sequence[str]
    dimensions: Collection[str]
    problems: Problems

    def read(self, root: Entry) -> tuple[tuple[Question, ...], tuple[str, ...]]:
        """The questions that are well formed, in order, and the ids of all (well formed or not).

        Problems go to ``problems``. Raises Fault where the file has no list of questions.
        """
        keys = root.fields(("questions",), ("answers",))
        scales: dict[str, tuple[Option, ...] | None] = {}
        for name, entry in (keys["answers"].entries() if "answers" in keys else {}).items():
            scales[name] = None  # known by name, though it may turn out to be at fault
            with self.problems.gathered():
                scales[name] = self._written_options(entry, listed=False)
        items = keys["questions"].items()
        if not items:
            raise keys["questions"].fault("at least one question", "an empty list")
        questions: list[Question] = []
        seen: dict[str, int] = {}
        for item in items:
            with self.problems.gathered():
                if (question := self._question(item, scales, seen)) is not None:
                    questions.append(question)
        return tuple(questions), tuple(seen)

    def _question(
        self, item: Entry, scales: Mapping[str, tuple[Option, ...] | None], seen: dict[str, int]
    ) -> Question | None:
        keys = item.entries()
        if "id" not in keys:
            raise item.fault("a key 'id'", "none")
        name = read_name(keys["id"])
        if name in seen:
            raise keys["id"].named(f"{name}.id").fault("an id of its own", f"{name!r}, first on line {seen[name]}")
        seen[name] = keys["id"].line
        item = item.named(name)
        keys = item.fields(("id", "type", "topic", "text", "options"), ("max_choices", "value"))
        kind = QuestionType(keys["type"].choice([kind.value for kind in QuestionType]))
        multiple = kind is QuestionType.MULTIPLE
        options = self._options(keys["options"], scales, listed=multiple)
        if options is None:
            return None
        if kind is QuestionType.SCALE:
            _check_order(keys["options"], options)
        if "value" in keys and multiple:
            raise keys["value"].fault("the value of a multiple question at its options", "it at the question")
        return Question(
            id=name,
            type=kind,
            topic=keys["topic"].text(),
            text=keys["text"].wording(self.languages),
            options=options,
            max_choices=self._max_choices(item, keys.get("max_choices"), len(options), multiple=multiple),
            value=self._value(keys["value"]) if "value" in keys else None,
        )

    def _max_choices(self, item: Entry, entry: Entry | None, options: int, *, multiple: bool) -> int:
        if not multiple:
            if entry is not None:
                raise entry.fault("max_choices only for a multiple question")
            return 1
        expected = f"a whole number from 2 to {options}, the number of options"
        if entry is None:
            raise item.named(f"{item.field}.max_choices").fault(expected, "none")
        most = entry.integer(expected)
        if not 2 <= most <= options:
            raise entry.fault(expected)
        return most

    def _options(
        self, entry: Entry, scales: Mapping[str, tuple[Option, ...] | None], *, listed: bool
    ) -> tuple[Option, ...] | None:
        """None: the scale that is named is at fault itself, which was told already."""
        return scales[entry.choice(scales)] if entry.is_text else self._written_options(entry, listed=listed)

    def _written_options(self, entry: Entry, *, listed: bool) -> tuple[Option, ...]:
        if not entry.is_list:
            return self._scale(entry)
        options: list[Option] = []
        with self.problems.all_or_none():
            for item in entry.items():
                with self.problems.gathered():
                    options.append(self._option(item, options, listed=listed))
        if sum(not option.residual for option in options) < 2:
            raise entry.fault("at least two options that are not residual", f"{len(options)} option(s) in all")
        return _few(entry, options)

    def _scale(self, entry: Entry) -> tuple[Option, ...]:
        """A scale written compactly: its ends with their labels, and residual options beside it."""
        keys = entry.fields(("from", "to", "low", "high"), ("residual",))
        first, last = (keys[end].integer("a whole number, 0 or more") for end in ("from", "to"))
        if first < 0 or not first < last < first + MOST_OPTIONS:
            raise entry.fault(f"a scale of at most {MOST_OPTIONS} points from 0 or more upwards", f"{first} to {last}")
        labels = {code: dict.fromkeys(self.languages, str(code)) for code in range(first, last + 1)}
        labels[first] = keys["low"].wording(self.languages)
        labels[last] = keys["high"].wording(self.languages)
        options = [Option(code=code, label=label) for code, label in labels.items()]
        for item in keys["residual"].items() if "residual" in keys else ():
            option = self._option(item, options, listed=False)
            options.append(Option(code=option.code, label=option.label, residual=True))
        return _few(entry, options)

    def _option(self, item: Entry, earlier: Sequence[Option], *, listed: bool) -> Option:
        keys = item.fields(("code", "label"), ("residual", "value"))
        code = keys["code"].integer("a whole number, 0 or more")
        if code < 0:
            raise keys["code"].fault("a whole number, 0 or more")
        if any(code == option.code for option in earlier):
            raise keys["code"].fault("a code of its own", f"{code} again")
        label = keys["label"].wording(self.languages)
        for option in earlier:
            for language, words in label.items():
                if option.label[language].casefold() == words.casefold():
                    got = f"{words!r}, the label of option {option.code} as well"
                    raise keys["label"].fault(f"a label of its own in {language!r}", got)
        if "value" in keys and not listed:
            raise keys["value"].fault("a value at options only in a multiple question that lists them itself")
        return Option(
            code=code,
            label=label,
            residual=keys["residual"].flag() if "residual" in keys else False,
            value=self._value(keys["value"]) if "value" in keys else None,
        )

    def _value(self, entry: Entry) -> Value:
        keys = entry.fields(("dimension", "direction"), ("basis", "core"))
        dimension = keys["dimension"].choice(self.dimensions)
        direction = keys["direction"].integer("1 or -1")
        if direction not in (1, -1):
            raise keys["direction"].fault("1 or -1")
        return Value(
            dimension=dimension,
            direction=direction,
            basis=keys["basis"].choice(BASES) if "basis" in keys else "B",
            core=keys["core"].flag() if "core" in keys else False,
        )


def _few(entry: Entry, options: Sequence[Option]) -> tuple[Option, ...]:
    if len(options) > MOST_OPTIONS:
        raise entry.fault(f"at most {MOST_OPTIONS} options", str(len(options)))
    return tuple(options)


def _check_order(entry: Entry, options: Sequence[Option]) -> None:
    """Distances between the points of a scale, and how a prompt shows it, follow their order; raises Fault."""
    points = [option.code for option in options if not option.residual]
    if points not in (sorted(points), sorted(points, reverse=True)):
        raise entry.fault("the points of a scale in the order of their codes, up or down", ", ".join(map(str, points)))
