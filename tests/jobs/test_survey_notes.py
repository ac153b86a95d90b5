"""Surveys that are sound and cannot be asked, or answered, in every way: what is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study.catalogue import validation_notes
from defsurvey.storage.surveys.folder import find_survey, read_survey
from tests.storage.test_survey_folder import Change, write_tiny

NO_PROMPT = "there is no prompt in ja, only in en, zh, and a folder cannot add one (docs/importing.md)"
UNREAD = "a label in Q3 cannot be read (it has no letter, or differs from another in signs alone)"
Q = "questions.yaml"


def run(*words: str) -> Result:
    """A call of the command line."""
    return CliRunner().invoke(main, ["survey", *words])


def test_nothing_is_told_of_the_bundled_survey() -> None:
    """It can be asked in its languages, and every label is read as its own option."""
    assert validation_notes(find_survey("wvs7")) == []


def test_a_language_without_a_prompt_is_told(tmp_path: Path) -> None:
    """A folder that is worded in the people's own language is sound, and no study can ask in it."""
    (tmp_path / "t.csv").write_text(
        "question,type,text_ja,code,label_ja,culture,n,percent\n"
        "A,single,はい?,1,はい,JPN,500,40\nA,,,2,いいえ,JPN,500,60\n",
        encoding="utf-8",
    )
    made = run("import", "table", str(tmp_path / "t.csv"), "-o", str(tmp_path / "mine"))
    assert f"- {NO_PROMPT}: a study that asks in it is refused\n" in made.stdout
    checked = run("validate", str(tmp_path / "mine"))
    assert (checked.exit_code, checked.stdout) == (
        0,
        f"{tmp_path / 'mine'} is a valid survey\n- {NO_PROMPT}: a study that asks in it is refused\n",
    )


@pytest.mark.parametrize(
    "changes",
    [
        [(Q, "en: Manners", 'en: "Faith."')],
        [(Q, "en: Manners", 'en: "Cafe\\u0301"'), (Q, "en: Faith", "en: Café")],
        [(Q, "en: Manners", 'en: "No\\u00a0faith"'), (Q, "en: Faith", "en: No faith")],
        [(Q, "en: Manners", "en: 🙂")],
        [(Q, "en: Manners", 'en: "++"'), (Q, "en: Faith", 'en: "--"')],
    ],
    ids=["full stop", "accents", "blanks", "emoji", "signs"],
)
def test_labels_that_cannot_be_read_are_told(tmp_path: Path, changes: list[Change]) -> None:
    """A model that answers with one of them, and without its number, has said nothing."""
    (note,) = validation_notes(read_survey(write_tiny(tmp_path, *changes)))
    assert note == f"{UNREAD}: a reply of that label without its number is unparsable"


def test_a_label_that_is_another_options_number_is_told(tmp_path: Path) -> None:
    """As importers tell it."""
    folder = write_tiny(tmp_path, (Q, "en: Manners", 'en: "8"'))
    told = "- a label in Q3 is the number of another option: a reply of that number alone is read as that option\n"
    assert run("validate", str(folder)).stdout == f"{folder} is a valid survey\n{told}"


def test_an_import_tells_labels_that_cannot_be_read(tmp_path: Path) -> None:
    """To programs as well."""
    (tmp_path / "t.csv").write_text(
        "question,type,text_en,code,label_en,culture,n,percent\n"
        "Q3,single,Is it?,1,Yes,USA,500,40\nQ3,,,2,Yes.,USA,500,60\n",
        encoding="utf-8",
    )
    made = run("import", "table", str(tmp_path / "t.csv"), "-o", str(tmp_path / "mine"), "--json")
    assert [note for note in json.loads(made.stdout)["notes"] if note.startswith(UNREAD)]
