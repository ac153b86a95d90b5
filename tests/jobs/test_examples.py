"""Every example can be planned as it stands; the one on an imported survey, once the survey is imported."""

import json
import re
import shutil
from pathlib import Path

import click
import pytest

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study.catalogue import STARTERS
from defsurvey.reports.measures import MEASURES
from defsurvey.storage.runs.export import COLUMNS, PROBABILITIES, TELEMETRY
from defsurvey.storage.surveys.folder import check_survey
from tests.jobs.small_study import typed
from tests.storage.importers.test_def_dataset import dataset

EXAMPLES = Path(__file__).parents[2] / "examples"
#: The countries of an example whose survey has to be imported from a file that cannot be passed on.
FIVE = "USA,CHN,DEU,NGA,BRA"
BUNDLED = sorted(file.stem for file in EXAMPLES.glob("*.yaml") if file.stem != "five-countries")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "no-key")
    monkeypatch.setenv("DEFSURVEY_HOME", str(tmp_path / "home"))


def plan(study: Path) -> dict[str, list[dict[str, object]]]:
    done = typed("plan", str(study), "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", BUNDLED)
def test_an_example_can_be_planned(name: str) -> None:
    cells = plan(EXAMPLES / f"{name}.yaml")["cells"]
    assert cells
    assert all(int(str(cell["answers"])) > 0 for cell in cells)
    if name == "paper":  # eleven models, two cultures, DEF and none, twenty citizens, 89 questions
        assert (len(cells), {cell["answers"] for cell in cells}) == (11 * 2 * 2, {20 * 89})


def test_the_papers_own_questions_are_two_studies(tmp_path: Path) -> None:
    dataset(tmp_path)
    text = (EXAMPLES / "paper.yaml").read_text()
    told = re.findall(r"--part (\S+) -o examples/(\S+) +then survey: (\S+) and cultures: (\[..\])", text)
    assert [(part, cultures) for part, _, _, cultures in told] == [("US_survey", "[us]"), ("CN_survey", "[cn]")]
    body = text.replace("cultures: [us, cn]", "cultures: {cultures}").replace("survey: wvs7", "survey: {survey}")
    for part, folder, survey, cultures in told:
        words = ("survey", "import", "def", str(tmp_path), "--part", part, "-o", str(tmp_path / folder))
        assert typed(*words).exit_code == 0
        study = tmp_path / f"{folder}.yaml"
        study.write_text(body.replace("{cultures}", cultures).replace("{survey}", survey))
        assert len(plan(study)["cells"]) == 11 * 2
        study.write_text(body.replace("{cultures}", "[us, cn]").replace("{survey}", survey))
        assert typed("plan", str(study)).exit_code == 2


def test_an_example_on_an_imported_survey(tmp_path: Path) -> None:
    """The command in its head makes the folder that it names."""
    rows = [
        f"{country},1,{1 + number % 2},{20 + number % 60},{1 + number % 4},{1 + number % 2}"
        for country in FIVE.split(",")
        for number in range(120)
    ]
    (tmp_path / "wvs.csv").write_text("\n".join(["B_COUNTRY_ALPHA,W_WEIGHT,Q260,Q262,Q1,Q57", *rows]) + "\n")
    study = Path(shutil.copy(EXAMPLES / "five-countries.yaml", tmp_path))
    assert f"--countries {FIVE} -o examples/wvs7-five" in study.read_text()
    words = ("survey", "import", "wvs", str(tmp_path / "wvs.csv"), "--countries", FIVE)
    done = typed(*words, "-o", str(tmp_path / "wvs7-five"))
    assert done.exit_code == 0, done.output
    assert len(plan(study)["cells"]) == 2 * 5 * 2


CARD = '[neighbour]\nengine = "scripted"\nrespondent = "uniform"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_init_writes_can_be_used_at_once(folder: Path) -> None:
    begun = typed("init", "mine")
    assert begun.exit_code == 0
    assert len(begun.stdout.splitlines()) == len(STARTERS)
    assert typed("plan", "mine/demo.yaml").exit_code == 0
    assert check_survey(folder / "mine" / "coffee") == []
    assert typed("models", "list", DEFSURVEY_MODELS="mine/models.toml").exit_code == 0
    example = EXAMPLES / "demo.yaml"
    assert (folder / "mine" / "demo.yaml").read_bytes() == example.read_bytes()
    (folder / "mine" / "models.toml").rename(folder / "models.toml")
    refused = typed("init")  # one file that is there keeps all from being written
    assert refused.exit_code == 2
    assert "models.toml is there already: nothing was written" in refused.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["mine", "models.toml"]


@pytest.mark.parametrize("place", ["working folder", "beside the study"])
def test_own_cards_are_found(folder: Path, place: str) -> None:
    typed("init", "mine")
    study = folder / "mine" / "demo.yaml"
    study.write_text(study.read_text().replace("smollm2-135m-instruct]", "neighbour]"))
    refused = typed("plan", "mine/demo.yaml")
    assert refused.exit_code == 2
    assert f"to add a model, write its card into {folder / 'mine' / 'models.toml'}" in refused.stderr
    if place == "working folder":
        (folder / "mine" / "models.toml").unlink()
        assert f"write its card into {folder / 'models.toml'}" in typed("plan", "mine/demo.yaml").stderr
        (folder / "models.toml").write_text(CARD)
        assert "neighbour" in typed("models", "list").stdout
    else:
        (folder / "mine" / "models.toml").write_text(CARD)
    assert typed("plan", "mine/demo.yaml").exit_code == 0
    assert typed("run", "mine/demo.yaml", "--json").exit_code == 0  # its workers find the card as well


ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: What several verbs share is explained once.
SHARED = ("--json", "--device", "--name", "--workers", "--concurrency", "--events")


def section(heading: str) -> str:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_column_of_exported_answers_is_explained() -> None:
    rows = re.findall(r"(?m)^\| (`.*?) \| (.+) \|$", section("Answers as data"))
    named = {name: said for names, said in rows for name in re.findall(r"`(\w+)`", names)}
    assert list(named) == [*COLUMNS, *TELEMETRY]
    assert [name for name, said in named.items() if "`--telemetry`" in said] == list(TELEMETRY)


def test_columns_of_other_exports_are_listed() -> None:
    listed = re.findall(r"Columns: ([\w,\s]+)\.", section("Metrics as data"))
    assert [re.split(r",\s+", names) for names in listed] == [list(MEASURES), list(PROBABILITIES)]


def options() -> list[tuple[str, tuple[str, ...]]]:

    def of(command: click.Command, verb: str) -> list[tuple[str, tuple[str, ...]]]:
        if isinstance(command, click.Group):
            return [pair for name, inner in command.commands.items() for pair in of(inner, f"{verb} {name}".strip())]
        own = (one for one in command.params if isinstance(one, click.Option) and not one.hidden)
        return [(verb, tuple(one.opts)) for one in own if not set(one.opts) & set(SHARED)]

    return of(main, "")


@pytest.mark.parametrize(("verb", "spellings"), options(), ids=lambda part: part if isinstance(part, str) else part[0])
def test_every_option_is_on_a_page(verb: str, spellings: tuple[str, ...]) -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    if not verb.startswith("survey import"):
        texts = [block for text in texts for block in re.split(r"\n\s*\n", text)]
    word = re.compile(rf"(?<![\w-])({'|'.join(spellings)})(?![\w-])")
    last = re.compile(rf"\b{re.escape(verb.split()[-1])}\b")
    assert any(word.search(text) and last.search(text) for text in texts)
