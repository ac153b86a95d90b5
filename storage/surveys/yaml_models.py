"""YAML files read into pydantic models, with errors that name file, line and key.

No value is constructed by YAML: no tag can run code, and a scalar is the text as it was written, so that ``Yes`` is a
label and ``no`` a language. What a text means is for the model to say, by the types below.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from defsurvey.storage.surveys.problem import Fault, Problem, nearest, one_of, shown
from defsurvey.storage.visible import control

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
        "mistakes",
        [InitErrorDetails(type=mistake(expected, got), loc=at, input=None) for at, expected, got in found],
    )


def _text(value: object) -> str:
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


Text = Annotated[str, BeforeValidator(_text)]  #: not empty, without control characters and white space around it
Whole = Annotated[int, _like(r"[+-]?[0-9]{1,20}", "a whole number")]
Number = Annotated[float, _like(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", "a number")]
Flag = Annotated[bool, _like(r"(?i:true|yes|false|no)", "true or false")]


def choose(word: str, known: Collection[str]) -> str:
    """The word, which is one of those known; for a validator, whose error names the nearest."""
    if word not in known:
        raise mistake(f"one of {one_of(known)}", f"{word!r}{nearest(word, known)}")
    return word


class YamlModel(BaseModel):
    """A mapping of a YAML file: its keys are the fields (by alias), and no others."""

    model_config = ConfigDict(frozen=True, validate_by_alias=True, validate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _knows_its_keys(cls, body: object) -> object:
        if not isinstance(body, dict):
            raise mistake("a mapping")
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [key for key in body if key not in known]
        if unknown:
            expected = f"one of the keys {one_of(known)}"
            raise mistakes(*(((key,), expected, f"{key!r}{nearest(key, known)}") for key in unknown))
        return body


#: How pydantic's kinds of error are told, where its own words are not those of a person who writes YAML.
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


def read_yaml_model(file: str, text: str, model: type[M], *, context: object = None) -> M:
    """The model that the one document of a YAML file fills.

    Args:
        file: its name, as errors tell it.
        text: what is in it.
        model: of its top level, whose mappings are best ``YamlModel``.
        context: given to the model's validators.

    Raises:
        Fault: it does not parse, or values are not as the model asks for; it carries all of these in their order.
    """
    root = compose(file, text)
    problems: list[Problem] = []
    try:
        body = _plain(file, root, {}, problems)
    except RecursionError:
        raise Fault(Problem(file=file, expected="YAML", got="too many levels of nesting")) from None
    try:
        found = model.model_validate(body, context=context)
    except ValidationError as error:
        problems += [_problem(file, root, details) for details in error.errors(include_url=False)]
    if problems:
        raise Fault(*sorted(problems, key=lambda problem: problem.line or 0))
    return found


def _plain(file: str, node: yaml.Node, made: dict[int, Any], problems: list[Problem]) -> Any:
    """A node as texts, lists and dicts; what several aliases name is made once."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else node.value
    if id(node) in made:
        return made[id(node)]
    if isinstance(node, yaml.SequenceNode):
        items = made[id(node)] = []
        items.extend(_plain(file, item, made, problems) for item in node.value)
        return items
    body = made[id(node)] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = key.value, key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problem = ("a word as key", _written_as(key))
        elif sign := control(name):
            problem = ("a key without control characters", f"{name!r} with {sign}")
        elif name in lines:
            problem = ("every key once", f"{name!r} again, first on line {lines[name]}")
        else:
            lines[name] = line
            body[name] = _plain(file, value, made, problems)
            continue
        problems.append(Problem(file=file, line=line, expected=problem[0], got=problem[1]))
    return body


def _written_as(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if node.tag == _NULL else shown(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _problem(file: str, root: yaml.Node, details: Any) -> Problem:
    kind, context = str(details["type"]), details.get("ctx", {})
    node, field = _find(root, details["loc"])
    line = node.start_mark.line + 1
    if kind == "missing":
        return Problem(file=file, line=line, field=field, expected=f"a key {details['loc'][-1]!r}", got="none")
    got = context.get("got") or _written_as(node)
    if kind == "mistake":
        return Problem(file=file, line=line, field=field, expected=context["expected"], got=got)
    told = _EXPECTED.get(kind) or _EXPECTED.get(kind.partition("_")[0]) or details["msg"]
    expected = told.format(**context).removeprefix("Input should be ").removeprefix("Value error, ")
    if kind in ("enum", "literal_error"):
        got += nearest(str(node.value), re.findall(r"'([^']*)'", context["expected"]))
        expected = f"one of {context['expected']}"
    return Problem(file=file, line=line, field=field, expected=expected, got=got)


def _find(node: yaml.Node, place: Sequence[str | int]) -> tuple[yaml.Node, str]:
    """The value at a place, or the last above it, and its name; what pydantic puts in between is passed over."""
    field = ""
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
}


def _remedy(problem: str) -> str:
    """What a person can do about a parser's complaint."""
    for sign, remedy in _REMEDIES.items():
        if sign in problem:
            return remedy
    return (
        "see that this line and the one before are indented like their neighbours, and that brackets and quotes close"
    )


def compose(file: str, text: str) -> yaml.Node:
    """The nodes of a YAML file's one document; raises Fault where it does not parse or is empty."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        got = f"{problem}; {_remedy(problem)}"
        raise Fault(Problem(file=file, line=line, column=column, expected="YAML", got=got)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Fault(Problem(file=file, line=line, expected="YAML", got="a control character")) from None
    except RecursionError:
        raise Fault(Problem(file=file, expected="YAML", got="too many levels of nesting")) from None
    if node is None:
        raise Fault(Problem(file=file, line=1, expected="a mapping", got="an empty file"))
    return node
