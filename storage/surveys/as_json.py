"""A survey as JSON and back, without loss: how it is kept beside a run.

Whatever has an order is a list, since a database may sort the keys of an object. What most surveys do not have
(exclusions, paraphrases, effective numbers) is written only where it is, so that their fingerprints stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from defsurvey.storage.surveys.survey import (
    Culture,
    Group,
    Option,
    Paraphrase,
    Question,
    QuestionType,
    ReferenceDistribution,
    Region,
    Survey,
    SurveyError,
    Value,
)

#: Version of the form; another form gets another number.
FORM = 1


def survey_to_json(survey: Survey) -> dict[str, object]:
    """The survey as values that ``json.dumps`` takes; ``survey_from_json`` is its inverse."""
    return {
        "form": FORM,
        "id": survey.id,
        "title": survey.title,
        "version": survey.version,
        "citation": survey.citation,
        "terms": survey.terms,
        "languages": list(survey.languages),
        "dimensions": [{"code": code, "name": dict(name)} for code, name in survey.dimensions.items()],
        "questions": [_question_to_json(question) for question in survey.questions],
        "cultures": [_culture_to_json(culture) for culture in survey.cultures],
        "references": [_reference_to_json(reference) for reference in survey.references],
        **({"excluded": [[name, why] for name, why in survey.excluded.items()]} if survey.excluded else {}),
        **({"paraphrases": [_paraphrase_to_json(p) for p in survey.paraphrases]} if survey.paraphrases else {}),
        "fingerprint": survey.fingerprint,
    }


def survey_from_json(body: Mapping[str, Any]) -> Survey:
    """The survey that ``survey_to_json`` wrote.

    Raises:
        SurveyError: ``body`` is not of this form.
    """
    if not isinstance(body, Mapping) or body.get("form") != FORM:
        found = body.get("form") if isinstance(body, Mapping) else type(body).__name__
        raise SurveyError(f"stored survey: expected form {FORM}, got {found!r}")
    try:
        return Survey(
            id=body["id"],
            title=body["title"],
            version=body["version"],
            citation=body["citation"],
            terms=body["terms"],
            languages=tuple(body["languages"]),
            dimensions={dimension["code"]: dict(dimension["name"]) for dimension in body["dimensions"]},
            questions=tuple(_question_from_json(question) for question in body["questions"]),
            cultures=tuple(_culture_from_json(culture) for culture in body["cultures"]),
            references=tuple(_reference_from_json(reference) for reference in body["references"]),
            excluded=dict(body.get("excluded", [])),
            paraphrases=tuple(Paraphrase(**paraphrase) for paraphrase in body.get("paraphrases", [])),
            fingerprint=body["fingerprint"],
        )
    except KeyError as error:
        raise SurveyError(f"stored survey: expected a key {error}, got none") from error
    except (TypeError, ValueError) as error:
        raise SurveyError(f"stored survey: expected form {FORM}, got something else ({error})") from error


def fingerprint(survey: Survey) -> str:
    """SHA-256 (hexadecimal) of the survey's content, its own fingerprint left out.

    It changes with every word and figure, and not with comments or the order of keys in the files.
    """
    body = survey_to_json(survey)
    del body["fingerprint"]
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _value_to_json(value: Value | None) -> dict[str, object] | None:
    if value is None:
        return None
    return {"dimension": value.dimension, "direction": value.direction, "basis": value.basis, "core": value.core}


def _value_from_json(body: Mapping[str, Any] | None) -> Value | None:
    if body is None:
        return None
    return Value(dimension=body["dimension"], direction=body["direction"], basis=body["basis"], core=body["core"])


def _question_to_json(question: Question) -> dict[str, object]:
    return {
        "id": question.id,
        "type": question.type.value,
        "topic": question.topic,
        "text": dict(question.text),
        "options": [
            {
                "code": option.code,
                "label": dict(option.label),
                "residual": option.residual,
                "value": _value_to_json(option.value),
            }
            for option in question.options
        ],
        "max_choices": question.max_choices,
        "value": _value_to_json(question.value),
    }


def _question_from_json(body: Mapping[str, Any]) -> Question:
    return Question(
        id=body["id"],
        type=QuestionType(body["type"]),
        topic=body["topic"],
        text=dict(body["text"]),
        options=tuple(
            Option(
                code=option["code"],
                label=dict(option["label"]),
                residual=option["residual"],
                value=_value_from_json(option["value"]),
            )
            for option in body["options"]
        ),
        max_choices=body["max_choices"],
        value=_value_from_json(body["value"]),
    )


def _culture_to_json(culture: Culture) -> dict[str, object]:
    return {
        "code": culture.code,
        "name": dict(culture.name),
        "language": culture.language,
        "regions": [
            {"code": r.code, "name": dict(r.name), "share": r.share, **({} if r.uniform else {"uniform": False})}
            for r in culture.regions
        ],
        **({"spoken": culture.spoken} if culture.spoken else {}),
        **({"in_sentence": culture.in_sentence} if culture.in_sentence else {}),
    }


def _culture_from_json(body: Mapping[str, Any]) -> Culture:
    return Culture(
        code=body["code"],
        name=dict(body["name"]),
        language=body["language"],
        regions=tuple(
            Region(
                code=region["code"],
                name=dict(region["name"]),
                share=region["share"],
                uniform=region.get("uniform", True),
            )
            for region in body["regions"]
        ),
        spoken=body.get("spoken", ""),
        in_sentence=body.get("in_sentence", ""),
    )


def _paraphrase_to_json(paraphrase: Paraphrase) -> dict[str, object]:
    return {
        "question": paraphrase.question,
        "number": paraphrase.number,
        "language": paraphrase.language,
        "text": paraphrase.text,
        "model": paraphrase.model,
        "prompt": paraphrase.prompt,
    }


def _reference_to_json(reference: ReferenceDistribution) -> dict[str, object]:
    return {
        "question": reference.question,
        "culture": reference.culture,
        "group": reference.group.value,
        "shares": [[code, share] for code, share in reference.shares.items()],
        "n": reference.n,
        "low_n": reference.low_n,
        "source": reference.source,
        **({} if reference.n_eff is None else {"n_eff": reference.n_eff}),
    }


def _reference_from_json(body: Mapping[str, Any]) -> ReferenceDistribution:
    return ReferenceDistribution(
        question=body["question"],
        culture=body["culture"],
        group=Group(body["group"]),
        shares={int(code): float(share) for code, share in body["shares"]},
        n=body["n"],
        low_n=body["low_n"],
        source=body["source"],
        n_eff=body.get("n_eff"),
    )
