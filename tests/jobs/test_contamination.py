"""The verb that asks whether a run's models know its survey, and the report that says so."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.storage.database import Database
from defsurvey.storage.runs.probes import Probe, add_probes
from tests.workers.paraphrasers import COUNTED, Paraphraser

CARDS = "".join(
    f'[{name}]\nengine = "tests.workers.memorisers:open_{name}"\nhub = "nobody/nothing"\n\n'
    for name in ("memorised", "guesser", "broken")
)
STUDY = """\
name: known
survey: wvs7
questions: {sample: 24}
cultures: [us, cn]
models: [MODELS]
conditions: [none]
participants: 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFSURVEY_MODELS", str(tmp_path / "cards.toml"))
    monkeypatch.setenv("DEFSURVEY_HOME", str(tmp_path / "home"))
    (tmp_path / "cards.toml").write_text(CARDS, encoding="utf-8")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def enqueued(here: Path, models: str) -> None:
    (here / "study.yaml").write_text(STUDY.replace("MODELS", models), encoding="utf-8")
    done = run("enqueue", "study.yaml")
    assert done.exit_code == 0, done.output


def test_who_knows_the_survey_stands_out_in_the_report(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNTED, str(here / "requests"))
    enqueued(here, "memorised, guesser, human")
    made = run("contamination", "known", "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert (told["wanted"], told["there"], told["asked"]) == (192, 192, 192)  # 2 models, 4 each of 24 questions
    text = Path(told["report"]).with_name("report.md").read_text(encoding="utf-8").replace("\\", "")
    rows = [
        re.split(r"\s*\|\s*", line.strip("| "))
        for line in text.splitlines()
        if re.match(r"\|.*(memorised|guesser)", line)
    ]
    cells = ["|".join(row) for row in rows]
    recalled = [row for row in cells if row.startswith(("memorised|en|1.00|", "memorised|zh|1.00|"))]
    assert len(recalled) == 2
    assert all("<0.001" in row and row.endswith("|24 of 24") for row in recalled)
    unseen = [row for row in cells if row.startswith(("guesser|en|", "guesser|zh|"))]
    assert len(unseen) == 2
    assert not any("<0.001" in row for row in unseen)
    exact = [row for row in cells if row.startswith("memorised|") and row.endswith("|24 of 24|24 of 24")]
    assert [row.split("|")[1] for row in exact] == ["United States", "China"]
    invented = [row for row in cells if row.startswith("guesser|") and row.endswith("|0 of 24|24 of 24")]
    assert [row.split("|")[1] for row in invented] == ["United States", "China"]
    assert not any("<0.001" in row for row in invented)
    requests = len((here / "requests").read_text().splitlines())
    again = json.loads(run("contamination", "known", "--json").stdout)
    assert (again["there"], again["asked"]) == (192, 0)
    assert len((here / "requests").read_text().splitlines()) == requests == 192


def test_a_kill_loses_at_most_a_batch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNTED, str(here / "requests"))
    enqueued(here, "memorised")
    kept: list[int] = []

    def twice(database: Database, run_id: str, probes: tuple[Probe, ...]) -> None:
        if len(kept) == 2:
            raise KeyboardInterrupt
        add_probes(database, run_id, probes)
        kept.append(len(probes))

    with monkeypatch.context() as cut_off:
        cut_off.setattr("defsurvey.jobs.judging.contamination.add_probes", twice)
        assert run("contamination", "known").exit_code == 130
    before = len((here / "requests").read_text().splitlines())
    done = json.loads(run("contamination", "known", "--json").stdout)
    assert done["asked"] == 96 - sum(kept)
    assert len((here / "requests").read_text().splitlines()) - before == 96 - sum(kept)


def test_what_the_engine_gave_up_is_told(here: Path) -> None:
    """Exit code 3, and the report says that nobody asked."""
    enqueued(here, "broken")
    made = run("contamination", "known")
    assert made.exit_code == 3
    assert "failed: model broken, question " in made.stdout
    assert "known: 0 of 96 probes, 0 of them new" in made.stdout
    report = made.stdout.split("report: ")[1].strip()
    text = Path(report).with_name("report.md").read_text(encoding="utf-8")
    assert "was not checked: nobody asked; defsurvey contamination known does." in text.replace("\\", "")


@pytest.mark.parametrize(
    ("models", "words", "told"),
    [
        ("human", ("known",), "model human: expected a model that can know a survey, got a scripted respondent"),
        ("memorised", ("known", "--models", "guesser"), "model guesser: expected one of run known (memorised)"),
        ("memorised", ("unknown",), "there is no run 'unknown'"),
    ],
)
def test_what_is_wrong_is_one_error(here: Path, models: str, words: tuple[str, ...], told: str) -> None:
    """Exit code 2, and nothing is asked."""
    enqueued(here, models)
    made = run("contamination", *words)
    assert made.exit_code == 2
    assert told in made.stderr


def test_a_spent_budget_is_not_overdrawn(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with a price is asked nothing more; it is told which. One without, or with 0, goes on."""
    card = 'engine = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\nattempts = 1\n'
    prices = {"priced": "input_price = 1\noutput_price = 1\n", "free": "input_price = 0\noutput_price = 0\n"}
    cards = "".join(f"[{name}]\n{card}{price}" for name, price in prices.items())
    (here / "cards.toml").write_text(CARDS + cards, encoding="utf-8")
    monkeypatch.setattr("defsurvey.jobs.judging.contamination.budget.is_spent", lambda database, run: True)
    enqueued(here, "priced, free, memorised")
    made = run("contamination", "known")
    assert made.exit_code == 3
    assert "failed: model priced: the budget of run known is spent" in made.stdout
    assert "failed: model free, question " in made.stdout
    assert "known: 96 of 288 probes, 96 of them new" in made.stdout


def test_a_model_that_cannot_say_what_it_is_is_asked_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COUNTED, str(here / "requests"))
    enqueued(here, "guesser")

    def nameless(_engine: object) -> dict[str, str]:
        raise KeyError("weights file gone")

    monkeypatch.setattr(Paraphraser, "describe", nameless)
    failed = run("contamination", "known")
    assert failed.exit_code == 2, failed.output
    assert "model guesser: cannot be described: KeyError: 'weights file gone'" in failed.output
    assert not (here / "requests").exists()
