"""Paraphrases in a survey folder: read, written, and refused where they are not as they should be."""

from pathlib import Path

import pytest

from defsurvey.storage.surveys.as_json import survey_from_json, survey_to_json
from defsurvey.storage.surveys.folder import check_survey, read_survey
from defsurvey.storage.surveys.problem import Fault
from defsurvey.storage.surveys.questions import PARAPHRASES_FILE, Tried, read_tried, used, write_tried
from defsurvey.storage.surveys.survey import Paraphrase
from defsurvey.storage.surveys.write import exclude_questions, write_survey
from tests.storage.test_survey_folder import write_tiny

FILE = """\
prompts:
  mine: |
    Say it anew: [QUESTION]
paraphrases:
  Q1:
    - {number: 2, language: zh, text: 孩子要紧。, model: someone}
    - {number: 1, language: en, text: Children count., model: m, prompt: mine}
    - {number: 2, language: en, text: "", model: m, prompt: mine, rejected: it is empty}
    - {number: 2, language: en, text: No to them?, model: m, prompt: mine, attempt: 1}
"""


def _folder(tmp_path: Path, text: str = FILE) -> Path:
    write_tiny(tmp_path)
    (tmp_path / PARAPHRASES_FILE).write_text(text, encoding="utf-8")
    return tmp_path


def test_what_is_not_rejected_is_part_of_the_survey(tmp_path: Path) -> None:
    plain = read_survey(write_tiny(tmp_path))
    survey = read_survey(_folder(tmp_path))
    first = {"question": "Q1", "number": 1, "language": "en", "model": "m", "prompt": "Say it anew: [QUESTION]"}
    assert survey.paraphrases == (
        Paraphrase(**first, text="Children count."),
        Paraphrase(**{**first, "number": 2}, text="No to them?"),
        Paraphrase(question="Q1", number=2, language="zh", text="孩子要紧。", model="someone"),
    )
    assert survey.most_paraphrases == 2
    assert survey.worded("Q1", 2).text == {"en": "No to them?", "zh": "孩子要紧。"}
    assert survey.fingerprint != plain.fingerprint
    assert survey_from_json(survey_to_json(survey)) == survey


def test_all_that_was_tried_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_tried(write_tiny(tmp_path), ids=[], languages=[]) == ()
    folder = _folder(tmp_path)
    tried = read_tried(folder, ids=["Q1"], languages=["en", "zh"])
    assert [(one.attempt, one.rejected) for one in tried] == [(0, ""), (0, ""), (0, "it is empty"), (1, "")]
    odd = ["yes", "null", "a: b # c", "two\nlines", "\x07 \u2028 'q' \"q\" {x}", "- 1"]
    more = tuple(
        Tried(
            paraphrase=Paraphrase(question="Q1", number=3, language="en", text=text, model="m", prompt="p"),
            attempt=attempt,
            rejected="why: not",
        )
        for attempt, text in enumerate(odd)
    )
    write_tried(folder, [*tried, *more])
    assert read_tried(folder, ids=["Q1"], languages=["en", "zh"]) == (*tried, *more)
    assert used([*tried, *more]) == read_survey(folder).paraphrases
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_written_survey_keeps_its_paraphrases(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    survey = read_survey(_folder(tmp_path / "a"))
    copy = write_survey(survey, tmp_path / "b")
    assert copy.paraphrases == survey.paraphrases
    assert exclude_questions(tmp_path / "b", {"Q1": "unclear"}).paraphrases == ()
    assert exclude_questions(tmp_path / "b", {}, restore=["Q1"]).paraphrases == survey.paraphrases


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  Q1:", "  Q11:", "line 6, paraphrases.Q11: expected a question of the survey, got 'Q11'"),
        ("number: 1", "number: 0", "expected a number of at least 1, got '0'"),
        ("number: 1", "number: 2", "expected one paraphrase of a number and language that is not rejected"),
        ("language: zh", "language: fr", "expected one of en, zh, got 'fr'"),
        ("Children count.", "", "Q1.paraphrase.text: expected a text, got nothing"),
        ("prompt: mine, attempt", "prompt: yours, attempt", "expected one of mine, got 'yours'"),
        ("paraphrases:", "paraphrasis:", "expected one of the keys"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    problems = check_survey(_folder(tmp_path, FILE.replace(old, new, 1)))
    assert problems[0].file == PARAPHRASES_FILE
    assert told in str(problems[0])
    with pytest.raises(Fault):
        read_tried(tmp_path, ids=["Q1"], languages=["en", "zh"])
