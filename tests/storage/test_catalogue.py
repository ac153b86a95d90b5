"""The catalogue: a name becomes a survey, a wrong name a clear error."""

from pathlib import Path

import pytest

from defsurvey.storage.surveys.folder import bundled_surveys, find_survey
from defsurvey.storage.surveys.problem import SurveyError, UnknownName
from tests.storage.test_survey_folder import write_tiny


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder of studies with the survey ``mine`` in it, and the survey ``other`` outside."""
    for folder in (tmp_path / "studies" / "mine", tmp_path / "other"):
        folder.mkdir(parents=True)
        write_tiny(folder)
    return tmp_path / "studies"


def test_bundled_surveys_can_be_read_and_bear_their_folders_name() -> None:
    """Every bundled survey is well formed."""
    assert "wvs7" in bundled_surveys()
    for name in bundled_surveys():
        assert find_survey(name).id == name


def test_a_folder_beside_the_study_is_found(studies: Path) -> None:
    """A name that is no bundled survey is a folder relative to the study."""
    assert find_survey("mine", beside=studies).id == "tiny"
    assert find_survey("./mine", beside=studies).id == "tiny"
    assert find_survey(str(studies / "mine"), beside=studies).id == "tiny"


def test_a_folder_is_relative_to_the_working_directory(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user types may lie anywhere."""
    monkeypatch.chdir(studies)
    assert find_survey("mine").id == "tiny"
    assert find_survey("../other").id == "tiny"


def test_a_bundled_id_comes_before_a_folder(studies: Path) -> None:
    """A folder cannot pass itself off as a bundled survey."""
    (studies / "mine").rename(studies / "wvs7")
    assert find_survey("wvs7", beside=studies).id == "wvs7"
    assert find_survey("./wvs7", beside=studies).id == "tiny"


@pytest.mark.parametrize("name", ["wvs", "WVS7", "wsv7"])
def test_a_misspelt_name_is_answered_with_the_nearest(name: str) -> None:
    """The error lists the bundled surveys and the nearest of them."""
    with pytest.raises(UnknownName, match=rf"survey '{name}': expected a bundled survey .* \(did you mean 'wvs7'\?\)"):
        find_survey(name)


@pytest.mark.parametrize("name", ["", " ", "nothing-like-it"])
def test_a_name_of_nothing_is_told(studies: Path, name: str) -> None:
    """Neither a survey nor a folder; nothing is suggested that is not near."""
    with pytest.raises(UnknownName, match=r"expected a bundled survey \(wvs7\) or a folder, got neither$"):
        find_survey(name, beside=studies)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\0", "x" * 300 + "/y"])
def test_what_can_be_no_path_is_no_survey(studies: Path, name: str) -> None:
    """A NUL, or more letters than a name may have: one error, which does not repeat them all."""
    for beside in (studies, None):
        with pytest.raises(UnknownName, match=r"expected a bundled survey \(wvs7\) or a folder, got neither") as told:
            find_survey(name, beside=beside)
        assert len(str(told.value)) < 250
        assert "\0" not in str(told.value)


@pytest.mark.parametrize("name", ["../other", "mine/../../other", "/"])
def test_a_study_reaches_no_folder_outside_its_own(studies: Path, name: str) -> None:
    """A study reads surveys from where it lies, not from elsewhere."""
    with pytest.raises(SurveyError, match=rf"survey '{name}': expected a folder within .*studies, got /"):
        find_survey(name, beside=studies)


def test_a_link_out_of_the_folder_is_not_followed(studies: Path) -> None:
    """A link counts as what it points to."""
    (studies / "linked").symlink_to(studies.parent / "other")
    with pytest.raises(SurveyError, match=r"survey 'linked': expected a folder within"):
        find_survey("linked", beside=studies)


def test_a_survey_at_fault_is_told(studies: Path) -> None:
    """Problems of the folder come through."""
    (studies / "mine" / "questions.yaml").write_text("questions: []\n")
    with pytest.raises(SurveyError, match=r"questions.yaml, line 1, questions: expected at least 1 of them"):
        find_survey("mine", beside=studies)
