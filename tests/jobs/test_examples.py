"""Every example can be planned as it stands; the one on an imported survey, once the survey is imported."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from defsurvey.jobs.cli.main import main
from defsurvey.workers.models import read_cards
from tests.storage.importers.test_def_dataset import dataset

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Their surveys have to be imported from files that cannot be passed on.
IMPORTED = {"five-countries": ("USA", "CHN", "DEU", "NGA", "BRA")}
BUNDLED = sorted(file.stem for file in EXAMPLES.glob("*.yaml") if file.stem not in IMPORTED)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key that opens nothing, and no home."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "no-key")
    monkeypatch.setenv("DEFSURVEY_HOME", str(tmp_path / "home"))


def plan(study: Path) -> dict[str, list[dict[str, object]]]:
    """What ``defsurvey plan STUDY --json`` prints."""
    done = CliRunner().invoke(main, ["plan", str(study), "--json"])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", BUNDLED)
def test_an_example_can_be_planned(name: str) -> None:
    """It names what there is, and would ask somebody something."""
    cells = plan(EXAMPLES / f"{name}.yaml")["cells"]
    assert cells
    assert all(int(str(cell["answers"])) > 0 for cell in cells)


def test_the_paper_has_eleven_models() -> None:
    """Two cultures, DEF and none, twenty citizens, 89 questions."""
    cells = plan(EXAMPLES / "paper.yaml")["cells"]
    assert len(cells) == 11 * 2 * 2
    assert {cell["answers"] for cell in cells} == {20 * 89}


def test_cards_of_the_published_code_take_the_place_of_bundled_ones() -> None:
    """Of models that the paper has, with a template of ours."""
    file = EXAMPLES / "models-of-the-code.toml"
    named = set(tomllib.loads(file.read_text()))
    bundled, cards = read_cards(), read_cards(file)
    assert named == {name for name, card in cards.items() if card != bundled[name]}
    assert {cards[name].chat_template for name in named} == {"llama3"}


def test_the_papers_own_questions_are_two_studies(tmp_path: Path) -> None:
    """As the example's head says: a part each, since neither has figures for the other's culture."""
    dataset(tmp_path)
    text = (EXAMPLES / "paper.yaml").read_text()
    told = re.findall(r"--part (\S+) -o examples/(\S+) +then survey: (\S+) and cultures: (\[..\])", text)
    assert [(part, cultures) for part, _, _, cultures in told] == [("US_survey", "[us]"), ("CN_survey", "[cn]")]
    body = text.replace("cultures: [us, cn]", "cultures: {cultures}").replace("survey: wvs7", "survey: {survey}")
    for part, folder, survey, cultures in told:
        words = ["survey", "import", "def", str(tmp_path), "--part", part, "-o", str(tmp_path / folder)]
        assert CliRunner().invoke(main, words).exit_code == 0
        study = tmp_path / f"{folder}.yaml"
        study.write_text(body.replace("{cultures}", cultures).replace("{survey}", survey))
        assert len(plan(study)["cells"]) == 11 * 2
        study.write_text(body.replace("{cultures}", "[us, cn]").replace("{survey}", survey))
        assert CliRunner().invoke(main, ["plan", str(study)]).exit_code == 2


@pytest.mark.parametrize("name", IMPORTED)
def test_an_example_on_an_imported_survey(name: str, tmp_path: Path) -> None:
    """The command in its head makes the folder that it names."""
    rows = [
        f"{country},1,{1 + number % 2},{20 + number % 60},{1 + number % 4},{1 + number % 2}"
        for country in IMPORTED[name]
        for number in range(120)
    ]
    file = tmp_path / "wvs.csv"
    file.write_text("\n".join(["B_COUNTRY_ALPHA,W_WEIGHT,Q260,Q262,Q1,Q57", *rows]) + "\n")
    text = (EXAMPLES / f"{name}.yaml").read_text()
    assert f"--countries {','.join(IMPORTED[name])} -o examples/wvs7-five" in text
    words = ["survey", "import", "wvs", str(file), "--countries", ",".join(IMPORTED[name])]
    done = CliRunner().invoke(main, [*words, "-o", str(tmp_path / "wvs7-five")])
    assert done.exit_code == 0, done.output
    study = shutil.copy(EXAMPLES / f"{name}.yaml", tmp_path)
    assert len(plan(Path(study))["cells"]) == 2 * 5 * 2
