"""Surveys as JSON: nothing is lost, and what is not a survey is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defsurvey.storage.surveys.as_json import fingerprint, survey_from_json, survey_to_json
from defsurvey.storage.surveys.folder import find_survey, read_survey
from defsurvey.storage.surveys.problem import SurveyError
from defsurvey.storage.surveys.survey import Culture, Paraphrase, ReferenceDistribution, Region, Survey
from tests.storage.test_survey_folder import write_tiny

_shares = st.floats(0, 1)
_references = st.builds(
    ReferenceDistribution,
    shares=st.dictionaries(st.integers(0, 99), _shares, max_size=4),
    n_eff=st.none() | st.floats(0.5, 10**6),
)
_cultures = st.builds(Culture, regions=st.lists(st.builds(Region, share=_shares), max_size=2).map(tuple))
#: The other fields are filled by their types.
_surveys = st.builds(
    Survey,
    cultures=st.lists(_cultures, max_size=2).map(tuple),
    references=st.lists(_references, max_size=2).map(tuple),
    excluded=st.dictionaries(st.text(), st.text(), max_size=2),
    paraphrases=st.lists(st.builds(Paraphrase, prompt=st.text()), max_size=2).map(tuple),
    fingerprint=st.text(),
)


def _through_text(survey: Survey) -> Survey:
    return survey_from_json(json.loads(json.dumps(survey_to_json(survey), sort_keys=True)))


@settings(max_examples=60, deadline=None)
@given(_surveys)
def test_any_survey_comes_back_as_it_was(survey: Survey) -> None:
    back = _through_text(survey)
    assert back == survey
    assert back.fingerprint == survey.fingerprint
    assert list(back.dimensions) == list(survey.dimensions)
    assert [list(r.shares) for r in back.references] == [list(r.shares) for r in survey.references]


def test_wvs7_comes_back_as_it_was() -> None:
    survey = find_survey("wvs7")
    back = _through_text(survey)
    assert back == survey
    assert back.fingerprint == survey.fingerprint == fingerprint(back)


@pytest.mark.parametrize("body", [[], {}, {"form": 2}, None])
def test_another_form_is_refused(body: Any) -> None:
    with pytest.raises(SurveyError, match="stored survey: expected form 1, got"):
        survey_from_json(body)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("questions", [{"id": "Q1"}], r"expected form 1, got another value at questions\[1\].type \(Field required"),
        ("references", [{"question": "Q1", "culture": "us", "group": "nobody"}], "expected a key 'shares', got none"),
        (
            "references",
            [{"question": "Q1", "culture": "us", "group": "nobody", "shares": []}],
            r"another value at references\[1\].group .* 'all'",
        ),
    ],
)
def test_a_damaged_body_is_refused(tmp_path: Path, key: str, value: object, told: str) -> None:
    body = survey_to_json(read_survey(write_tiny(tmp_path))) | {key: value}
    with pytest.raises(SurveyError, match=told):
        survey_from_json(body)
