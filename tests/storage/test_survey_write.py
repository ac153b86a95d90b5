"""Survey folders written: they are read back as they were, whole or not at all."""

from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.storage.surveys import write as survey_write
from defsurvey.storage.surveys.as_json import survey_from_json, survey_to_json
from defsurvey.storage.surveys.folder import EXCLUDED_FILE, check_survey, find_survey, read_survey
from defsurvey.storage.surveys.problem import InvalidSurvey, SurveyError, UnknownName
from defsurvey.storage.surveys.survey import Culture
from defsurvey.storage.surveys.write import copy_survey, exclude_questions, survey_files, write_survey

WVS7 = find_survey("wvs7")


def test_a_survey_is_read_as_it_was(tmp_path: Path) -> None:
    written = write_survey(WVS7, tmp_path / "copy")
    assert check_survey(tmp_path / "copy") == []
    assert written == read_survey(tmp_path / "copy")
    assert replace(written, references=(), cultures=()) == replace(WVS7, references=(), cultures=())
    for reference, original in zip(written.references, WVS7.references, strict=True):
        assert replace(reference, shares={}) == replace(original, shares={})
        assert reference.shares == pytest.approx(original.shares, abs=2e-8)
    for culture, before in zip(written.cultures, WVS7.cultures, strict=True):
        assert replace(culture, regions=()) == replace(before, regions=())
        names = [[(r.code, dict(r.name), r.uniform) for r in each.regions] for each in (culture, before)]
        assert names[0] == names[1]
        assert [r.share for r in culture.regions] == pytest.approx([r.share for r in before.regions], abs=1e-7)


def test_a_survey_of_the_barest_kind(tmp_path: Path) -> None:
    bare = replace(
        WVS7,
        dimensions={},
        questions=tuple(replace(q, value=None) for q in WVS7.questions[:3]),
        references=tuple(replace(r, source="") for r in WVS7.references if r.question == "Q1"),
        cultures=tuple(replace(culture, regions=()) for culture in WVS7.cultures),
    )
    assert write_survey(bare, tmp_path / "bare").questions == bare.questions
    assert {entry.name for entry in (tmp_path / "bare").iterdir()} == {
        "questions.yaml",
        "references.csv",
        "survey.yaml",
    }
    text = (tmp_path / "bare" / "survey.yaml").read_text(encoding="utf-8")
    assert "dimensions" not in text
    assert "sources" not in text


def test_the_language_that_is_missing_is_kept(tmp_path: Path) -> None:
    spoken = Culture(code="de", name={"en": "Germany", "zh": "德国"}, language="en", spoken="de")
    survey = write_survey(replace(WVS7, cultures=(*WVS7.cultures, spoken)), tmp_path / "three")
    assert survey.culture("de") == spoken
    assert survey_from_json(survey_to_json(survey)) == survey
    path = tmp_path / "three" / "survey.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("spoken: de", "spoken: zh"), encoding="utf-8")
    [problem] = check_survey(tmp_path / "three")
    assert str(problem).endswith("cultures.de.spoken: expected a language in which the survey has no wording, got 'zh'")


def test_effective_numbers_are_kept(tmp_path: Path) -> None:
    first, *rest = WVS7.references
    weighted = replace(WVS7, references=(replace(first, n_eff=812.25), *rest))
    written = write_survey(weighted, tmp_path / "weighted")
    assert [reference.n_eff for reference in written.references[:2]] == [812.25, None]
    assert survey_from_json(survey_to_json(written)) == written
    assert "n_eff" not in survey_files(WVS7)["references.csv"]


def test_a_survey_that_is_not_sound_leaves_nothing(tmp_path: Path) -> None:
    wrong = replace(WVS7, references=(replace(WVS7.references[0], n=0),))
    with pytest.raises(InvalidSurvey, match=r"survey folder .*/copy: references\.csv, line 2, n: expected a whole"):
        write_survey(wrong, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(survey_write, "read_survey", full)
    with pytest.raises(OSError, match="No space left"):
        write_survey(WVS7, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    write_survey(WVS7, taken)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("taken", "file", "link"):
        with pytest.raises(SurveyError, match=f"{name}: expected a place where nothing is yet, got something"):
            write_survey(WVS7, tmp_path / name)
    with pytest.raises(SurveyError, match="none/copy: expected a folder to make it in, got none"):
        write_survey(WVS7, tmp_path / "none" / "copy")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "link", "taken"]


def test_excluded_questions_are_kept_and_not_asked(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    before = write_survey(WVS7, folder)
    survey = exclude_questions(folder, {"Q57": "not  about\nvalues", "Q7": "too long"})
    assert survey.excluded == {"Q57": "not about values", "Q7": "too long"}
    assert len(survey.questions) == len(WVS7.questions) - 2
    assert not any(reference.question in ("Q57", "Q7") for reference in survey.references)
    assert survey.fingerprint != before.fingerprint
    with pytest.raises(UnknownName, match="there is no question Q57; it was excluded: not about values"):
        survey.question("Q57")
    assert survey_from_json(survey_to_json(survey)) == survey
    assert "id: Q57" in (folder / "questions.yaml").read_text(encoding="utf-8")
    again = exclude_questions(folder, {"Q57": "another reason"}, restore=["Q7"])
    assert again.excluded == {"Q57": "another reason"}
    assert exclude_questions(folder, {}, restore=["Q57"]) == before


def test_a_folder_is_copied_with_what_is_left_out(tmp_path: Path) -> None:
    folder, copy = tmp_path / "mine", tmp_path / "copy"
    write_survey(WVS7, folder)
    before = exclude_questions(folder, {"Q57": "asks for a fact"})
    (folder / "paraphrases.yaml").write_text(
        "# mine\nparaphrases:\n  Q1:\n    - {number: 1, language: en, text: What?, model: me, rejected: too short}\n",
        encoding="utf-8",
    )
    (folder / "notes.txt").write_text("no part of a survey", encoding="utf-8")
    assert copy_survey(folder, copy) == before
    assert sorted(path.name for path in copy.iterdir()) == sorted({p.name for p in folder.iterdir()} - {"notes.txt"})
    for path in copy.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()
    assert exclude_questions(copy, {}, restore=["Q57"]).question("Q57") == WVS7.question("Q57")
    with pytest.raises(SurveyError, match="copy: expected a place where nothing is yet"):
        copy_survey(folder, copy)


def test_a_survey_without_its_excluded_questions_is_not_written(tmp_path: Path) -> None:
    write_survey(WVS7, tmp_path / "mine")
    survey = exclude_questions(tmp_path / "mine", {"Q57": "asks for a fact", "Q58": "as well"})
    with pytest.raises(SurveyError, match="survey wvs7: expected its excluded questions, got none of Q57, Q58; copy"):
        write_survey(survey, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_exclusions_that_cannot_be(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    write_survey(WVS7, folder)
    with pytest.raises(UnknownName, match=r"there is no question Q571 \(did you mean 'Q[0-9]+'\?\)"):
        exclude_questions(folder, {"Q571": "x"})
    with pytest.raises(SurveyError, match="question Q57: expected a reason to exclude it, got none"):
        exclude_questions(folder, {"Q57": " "})
    with pytest.raises(SurveyError, match=r"question Q57: expected a reason without control .*, got one with U\+001B"):
        exclude_questions(folder, {"Q57": "x\x1b[2J"})
    with pytest.raises(UnknownName, match="question Q57 is not excluded"):
        exclude_questions(folder, {}, restore=["Q57"])
    with pytest.raises(SurveyError, match="expected a question to be left, got all 89 excluded"):
        exclude_questions(folder, {question.id: "x" for question in WVS7.questions})
    assert not (folder / EXCLUDED_FILE).exists()


def test_an_exclusion_of_nothing_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    write_survey(WVS7, folder)
    (folder / EXCLUDED_FILE).write_text("question,reason\nQ1,x\nQ999,y\nQ1,z\nQ2,\n", encoding="utf-8")
    assert [str(problem).partition(": expected")[0] for problem in check_survey(folder)] == [
        "excluded.csv, line 3, question",
        "excluded.csv, line 4, question",
        "excluded.csv, line 5, reason",
    ]
