"""The nouns of a survey: looking things up, and what a question says of itself."""

from pathlib import Path

import pytest

from defsurvey.storage.surveys.folder import read_survey
from defsurvey.storage.surveys.problem import UnknownName
from defsurvey.storage.surveys.survey import Group, QuestionType, Survey
from tests.storage.test_survey_folder import write_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Survey:
    """The tiny survey."""
    return read_survey(write_tiny(tmp_path))


def test_a_question_is_core_by_itself_or_by_an_option(tiny: Survey) -> None:
    """Core and dimensions are gathered from the question and its options."""
    assert [question.core for question in tiny.questions] == [True, False, False]
    assert [question.dimensions for question in tiny.questions] == [("EVI",), (), ("EVI",)]


def test_ordered_types() -> None:
    """Distances mean something on ordinal questions and scales only."""
    assert [kind for kind in QuestionType if kind.ordered] == [QuestionType.ORDINAL, QuestionType.SCALE]


def test_unknown_names_are_told(tiny: Survey) -> None:
    """Each look-up of something that is not there says what and where."""
    with pytest.raises(UnknownName, match="survey tiny: there is no question Q9"):
        tiny.question("Q9")
    with pytest.raises(UnknownName, match="survey tiny: there is no culture fr"):
        tiny.culture("fr")
    with pytest.raises(UnknownName, match="culture us: there is no region US-AK"):
        tiny.culture("us").region("US-AK")
    with pytest.raises(UnknownName, match="question Q2: option 9 is not one of 1, 2, 3, 4"):
        tiny.question("Q2").option(9)


def test_a_distribution_that_is_not_known_is_none(tiny: Survey) -> None:
    """Missing figures are not an error: a culture may not have been asked."""
    assert tiny.reference("Q2", "cn") is None
    assert tiny.reference("Q1", "us", Group.MALE) is None
