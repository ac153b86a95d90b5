"""YAML files read into pydantic models, with errors that name file, line and key.

No value is constructed by YAML: no tag can run code, and a scalar is the text as it was written, so that ``Yes`` is a
label and ``no`` a language. What a text means is for the model to say, by the types below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from defsurvey.storage.surveys.problem import Fault, Problem, fault, nearest, one_of, shown
from defsurvey.storage.text import control

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_NULL = "tag:yaml.org,2002:null"
Place = tuple[str | int, ...]  #: keys and positions (from 0) that lead from the top of a file to a value
M = TypeVar("M", bound=BaseModel)


def mistake(expected: str, got: str | None = None) -> PydanticCustomError:
    """What a validator raises about its own value; ``got`` is left out where it is the value as it was written."""
    return PydanticCustomError("mistake", "{expected}", {"expected": expected, "got": got})


def mistakes(*found: tuple[Place, str, str | None]) -> ValidationError:
    """What a validator raises about values below its own: where each stands, what was expected, what was got."""
    return ValidationError.from_exception_data(
        "mistakes", [InitErrorDetails(type=mistake(expected, got), loc=at, input=None) for at, expected, got in found]
    )


def check_text(value: object) -> str:
    """The text without white space around it; for a validator: it is not empty and has no control characters."""
    if not isinstance(value, str) or not value.strip():
        raise mistake("a text")
    if sign := control(value):
        raise mistake("a text without control characters", f"{shown(value)} with {sign}")
    return value.strip()


def _like(pattern: str, expected: str) -> BeforeValidator:
    """Takes what is written like this only; numbers of Python, as a default has them, pass."""

    def check(value: object) -> object:
        if isinstance(value, (str, list, dict)) and not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise mistake(expected)
        return value

    return BeforeValidator(check)


Text = Annotated[str, BeforeValidator(check_text)]  #: not empty, without control characters and white space around it
#: Behind a number's bounds, ``Annotated[int, Field(ge=1), WHOLE]``: a JSON Schema says them then.
WHOLE = _like(r"[+-]?[0-9]{1,20}", "a whole number")
NUMBER = _like(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", "a number")
Whole = Annotated[int, WHOLE]
Number = Annotated[float, NUMBER]
Flag = Annotated[bool, _like(r"(?i:true|yes|false|no)", "true or false")]


def must(holds: Callable[[Any], object], expected: str) -> AfterValidator:
    """Takes only values of which something holds."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise mistake(expected, shown(str(value)))
        return value

    return AfterValidator(check)


def choose(word: str, known: Collection[str], what: str = "") -> str:
    """The word, which is one of those known; for a validator, whose error names the nearest."""
    if word not in known:
        expected = f"{what}: one of {one_of(known)}" if what else f"one of {one_of(known)}"
        raise mistake(expected, f"{word!r}{nearest(word, known)}")
    return word


class YamlModel(BaseModel):
    """A mapping of a YAML file: its keys are the fields (by alias), and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_alias=True, validate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _knows_its_keys(cls, body: object) -> object:
        if not isinstance(body, dict):
            raise mistake("a mapping")
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if unknown := [key for key in body if key not in known]:
            expected = f"one of the keys {one_of(known)}"
            raise mistakes(*(((key,), expected, f"{key!r}{nearest(key, known)}") for key in unknown))
        return body


def made_by(model: type[BaseModel], noun: Callable[..., object]) -> BeforeValidator:
    """Makes a noun of the fields of a model that checks what was written."""
    return BeforeValidator(lambda body, info: noun(**dict(model.model_validate(body, context=info.context))))


#: How pydantic's kinds of error are told, by the kind or how it begins, where its own words are not for a person.
_EXPECTED = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "finite": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a mapping",
    "string": "a text",
    "tuple": "a list",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}


def explain(details: ErrorDetails, written: str) -> tuple[str, str]:
    """What was expected and what was got, by an error of pydantic about a value that is written like this."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        return f"a key {details['loc'][-1]!r}", "none"
    if kind == "mistake":
        return context["expected"], context["got"] or written
    if kind in ("enum", "literal_error"):
        known = re.findall(r"'([^']*)'", context["expected"])
        return f"one of {one_of(known)}", f"{written}{nearest(str(details['input']), known)}"
    told = _EXPECTED.get(kind) or _EXPECTED.get(kind.partition("_")[0])
    bounds = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in context.items()}
    return told.format(**bounds) if told else details["msg"], written


class YamlFile:
    """The one document of a YAML file: its values as they were written, and models of parts of it."""

    def __init__(self, file: str, text: str) -> None:
        """Raises Fault where the text does not parse, is empty, or keys stand twice or are none."""
        self.file = file
        problems: list[Problem] = []
        try:
            self._root = _compose(file, text)
            self.body = _plain(file, self._root, "", {}, problems)
        except RecursionError:
            raise fault(file, "YAML", "too many levels of nesting") from None
        if problems:
            raise Fault(*problems)

    def read(self, model: type[M], *, at: Place = (), called: str = "", context: object = None) -> M:
        """The model that a part of the file fills, named by its place or as it is ``called``; raises Fault."""
        body = self.body
        for step in at:
            body = body[step]
        problems: list[Problem] = []
        try:
            return model.model_validate(body, context=context)
        except ValidationError as error:
            part, field = _find(self._root, at)
            for details in error.errors(include_url=False):
                node, name = _find(part, details["loc"], called or field)
                expected, got = explain(details, _written_as(node))
                problems.append(Problem(file=self.file, line=_line(node), field=name, expected=expected, got=got))
        raise Fault(*sorted(problems, key=lambda problem: problem.line or 0))

    def fault(self, at: Place, expected: str, got: str | None = None) -> Fault:
        """The error that says that the value at a place is not what was expected."""
        node, field = _find(self._root, at)
        return fault(self.file, expected, got or _written_as(node), line=_line(node), field=field)

    def line(self, at: Place) -> int:
        """The line on which the value at a place begins, counted from 1."""
        return _line(_find(self._root, at)[0])


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _plain(file: str, node: yaml.Node, field: str, made: dict[int, Any], problems: list[Problem]) -> Any:
    """A node as texts, lists and dicts; what several aliases name is made once."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else node.value
    if id(node) in made:
        return made[id(node)]
    if isinstance(node, yaml.SequenceNode):
        items = made[id(node)] = []
        items.extend(_plain(file, item, f"{field}[{n}]", made, problems) for n, item in enumerate(node.value, start=1))
        return items
    body = made[id(node)] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = key.value
        if not isinstance(key, yaml.ScalarNode):
            expected, got = "a word as key", _written_as(key)
        elif sign := control(name):
            expected, got = "a key without control characters", f"{name!r} with {sign}"
        elif name in lines:
            expected, got = "every key once", f"{name!r} again, first on line {lines[name]}"
        else:
            lines[name] = _line(key)
            body[name] = _plain(file, value, f"{field}.{name}" if field else name, made, problems)
            continue
        problems.append(Problem(file=file, line=_line(key), field=field, expected=expected, got=got))
    return body


def _written_as(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if node.tag == _NULL else shown(node.value)
    kind = "list" if isinstance(node, yaml.SequenceNode) else "mapping"
    return f"a {kind}" if node.value else f"an empty {kind}"


def _find(node: yaml.Node, place: Sequence[str | int], field: str = "") -> tuple[yaml.Node, str]:
    """The value at a place, or the last above it, and its name; what pydantic puts in between is passed over."""
    for step in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node, field = node.value[step], f"{field}[{step + 1}]"
        elif isinstance(node, yaml.MappingNode):
            below = next((value for key, value in node.value if key.value == step), None)
            if below is not None:
                node, field = below, f"{field}.{step}" if field else str(step)
    return node, field


def dump_yaml(body: Mapping[str, object]) -> str:
    """Plain values as a YAML file, in their order."""
    return str(yaml.dump(body, Dumper=_DUMPER, allow_unicode=True, sort_keys=False, width=120))


#: What to do about what the parser says, of which the first that fits holds.
_REMEDIES = {
    "mapping values are not allowed": "put a text that holds ': ' into quotes, and every key on its own line",
    "\\t": "indent by spaces, not by tabs",
    "tab character": "indent by spaces, not by tabs",
    "quoted scalar": "close the quotes",
    "flow sequence": "close the bracket ] and put commas between its parts",
    "flow mapping": "close the brace } and put commas between its parts",
    "cannot start any token": "put a text that begins with this character into quotes",
    "alias": "put a text that begins with * or & into quotes",
    "": "see that this line and the one before are indented like their neighbours, and that brackets and quotes close",
}


def _compose(file: str, text: str) -> yaml.Node:
    """The nodes of a YAML file's one document; raises Fault where it does not parse or is empty."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        remedy = next(remedy for sign, remedy in _REMEDIES.items() if sign in problem)
        raise fault(file, "YAML", f"{problem}; {remedy}", line=line, column=column) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fault(file, "YAML", "a control character", line=line) from None
    if node is None:
        raise fault(file, "a mapping", "an empty file", line=1)
    return node
