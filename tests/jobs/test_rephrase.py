"""The verb that has paraphrases written: into the folder, batch by batch, and from there into a study."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.storage.surveys.folder import find_survey, read_survey
from tests.workers.paraphrasers import COUNTED

CARDS = "".join(
    f'[{name}]\nengine = "tests.workers.paraphrasers:open_{name}"\nhub = "nobody/nothing"\n\n'
    for name in ("good", "parrot", "broken")
)
STUDY = """\
name: worded
survey: ./mine
questions: all
cultures: [us]
models: [human]
conditions: {worded: {paraphrase: true, memory: false}}
participants: 6
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFSURVEY_MODELS", str(tmp_path / "cards.toml"))
    (tmp_path / "cards.toml").write_text(CARDS, encoding="utf-8")
    assert run("survey", "template", "mine.csv").exit_code == 0
    assert run("survey", "import", "table", "mine.csv", "-o", "mine").exit_code == 0
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def rephrase(*words: str) -> Result:
    return run("survey", "rephrase", "mine", *words)


def test_paraphrases_stand_beside_the_questions(here: Path) -> None:
    made = rephrase("--model", "good", "-n", "2")
    assert made.exit_code == 0, made.output
    languages = read_survey(here / "mine").languages
    count = 4 * 2 * len(languages)
    assert made.stdout == f"mine: {count} of {count} paraphrases, {count} of them new\n"
    survey = read_survey(here / "mine")
    assert len(survey.paraphrases) == count
    assert {p.model for p in survey.paraphrases} == {"good"}
    assert all("[QUESTION]" in p.prompt for p in survey.paraphrases)
    assert f"{count} paraphrases, 0 of them new" in rephrase("--engine", "good", "-n", "2").stdout
    assert run("survey", "validate", "mine").exit_code == 0
    shown = json.loads(run("survey", "show", "mine", "--question", "T1", "--json").stdout)
    assert len(shown["question"]["paraphrases"]) == 2 * len(languages)


def test_a_kill_loses_at_most_what_is_under_way(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNTED, str(here / "requests"))
    from defsurvey.storage.surveys import questions as survey_questions

    kept = 0
    write = survey_questions.write_tried

    def once(folder: Path, tried: list[survey_questions.Tried]) -> None:
        nonlocal kept
        if kept:
            raise KeyboardInterrupt
        write(folder, tried)
        kept = len(tried)

    monkeypatch.setattr("defsurvey.jobs.study.rephrasing.write_tried", once)
    assert rephrase("--model", "good", "-n", "4").exit_code == 130
    assert len(read_survey(here / "mine").paraphrases) == kept > 0
    before = len((here / "requests").read_text().splitlines())
    monkeypatch.setattr("defsurvey.jobs.study.rephrasing.write_tried", write)
    assert rephrase("--model", "good", "-n", "4").exit_code == 0
    after = len((here / "requests").read_text().splitlines())
    assert after - before == len(read_survey(here / "mine").paraphrases) - kept


def test_rejected_wordings_are_told_and_kept(here: Path) -> None:
    """Exit code 3 says that some are missing; the reasons are in the folder."""
    made = rephrase("--model", "parrot", "-n", "1", "--attempts", "2", "--questions", "T1", "--json")
    assert made.exit_code == 3
    told = json.loads(made.stdout)
    languages = len(read_survey(here / "mine").languages)
    assert (told["wanted"], told["there"], len(told["rejected"])) == (languages, 0, 2 * languages)
    assert told["rejected"][0]["why"] == "it is a wording that there is already"
    assert "rejected: it is a wording" in (here / "mine" / "paraphrases.yaml").read_text(encoding="utf-8")
    assert read_survey(here / "mine").paraphrases == ()


def test_an_engine_that_gives_up_is_told(here: Path) -> None:
    made = rephrase("--model", "broken", "-n", "1", "--attempts", "1", "--languages", "en")
    assert made.exit_code == 3
    assert "failed: question T1, en, paraphrase 1: the server is gone" in made.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", "human"), "model human: expected a model that writes text, got a scripted respondent"),
        (("--model", "good", "--questions", "T11"), "there is no question T11 (did you mean 'T1'?)"),
        (("--model", "good", "-n", "0"), "-n"),
    ],
)
def test_what_is_wrong_is_one_error(here: Path, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, and nothing is written."""
    made = rephrase(*words)
    assert made.exit_code == 2
    assert told in made.stderr
    assert not (here / "mine" / "paraphrases.yaml").exists()


def test_a_study_draws_a_wording_for_each_participant(here: Path) -> None:
    (here / "study.yaml").write_text(STUDY, encoding="utf-8")
    refused = run("plan", "study.yaml")
    assert refused.exit_code == 2
    assert "expected a survey with paraphrases in en for condition worded (defsurvey survey rephrase)" in refused.stderr
    assert rephrase("--model", "good", "-n", "2").exit_code == 0
    requests = [
        json.loads(run("preview", "study.yaml", "--participant", str(index), "--json").stdout)["prompts"][0]
        for index in range(6)
    ]
    texts = {json.dumps(request, ensure_ascii=False) for request in requests}
    assert any("Request: Well, " in text for text in texts)
    assert any("Request: So, " in text for text in texts)


def test_a_bundled_survey_is_copied_to_work_on(here: Path) -> None:
    assert run("survey", "copy", "wvs7", "-o", "own").exit_code == 0
    assert read_survey(here / "own") == find_survey("wvs7")
    assert run("survey", "copy", "wvs7", "-o", "own").exit_code == 2
    assert len(read_survey(here / "own").questions) == 89
