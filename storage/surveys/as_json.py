"""A survey as JSON and back, without loss: how it is kept beside a run. The nouns' fields are the keys.

Whatever has an order is a list, since a database may sort the keys of an object.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.survey import Survey

FORM = 1  #: version of the form; another form gets another number
_SURVEY = TypeAdapter(Survey)
#: Written only where they are not this, since most surveys do not have them: so their fingerprints stay.
_RARE = {"excluded": {}, "paraphrases": (), "uniform": True, "spoken": "", "in_sentence": "", "n_eff": None}
_PAIRS = ("excluded", "shares")  #: mappings whose keys have an order


def survey_to_json(survey: Survey) -> dict[str, Any]:
    """The survey as values that ``json.dumps`` takes; ``survey_from_json`` is its inverse."""
    body = {"form": FORM, **_plain(survey)}
    return body | {"dimensions": [{"code": code, "name": dict(name)} for code, name in survey.dimensions.items()]}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {
            field.name: [list(pair) for pair in item.items()] if field.name in _PAIRS else _plain(item)
            for field in fields(value)
            if (item := getattr(value, field.name)) != _RARE.get(field.name, ...)
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value.value if isinstance(value, Enum) else value


def written(noun: Any) -> Any:
    """A noun's fields as a person writes them: without those that are false or None, within it as well."""
    body = _plain(noun) if is_dataclass(noun) else noun
    if isinstance(body, list):
        return [written(item) for item in body]
    if not isinstance(body, dict):
        return body
    return {key: written(item) for key, item in body.items() if item is not False and item is not None}


def survey_from_json(body: Mapping[str, Any]) -> Survey:
    """The survey that ``survey_to_json`` wrote; raises SurveyError where ``body`` is not of this form."""
    if not isinstance(body, Mapping) or body.get("form") != FORM:
        found = body.get("form") if isinstance(body, Mapping) else type(body).__name__
        raise SurveyError(f"stored survey: expected form {FORM}, got {found!r}")
    try:
        mappings = {
            "dimensions": {dimension["code"]: dimension["name"] for dimension in body["dimensions"]},
            "excluded": dict(body.get("excluded", [])),
            "references": [{**reference, "shares": dict(reference["shares"])} for reference in body["references"]],
        }
        # Strict, and by way of text, whose lists may become tuples: no other value is converted.
        return _SURVEY.validate_json(json.dumps({**body, **mappings}), strict=True)
    except KeyError as error:
        raise SurveyError(f"stored survey: expected a key {error}, got none") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{step + 1}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).lstrip(".")
        got = f"another value at {place} ({first['msg']})"
    except (TypeError, ValueError) as error:
        got = f"something else ({error})"
    raise SurveyError(f"stored survey: expected form {FORM}, got {got}")


def fingerprint(survey: Survey) -> str:
    """SHA-256 (hexadecimal) of every word and figure of the survey, its own fingerprint left out."""
    body = survey_to_json(survey)
    del body["fingerprint"]
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
