"""Files to start from, and where cards of one's own are found."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study.catalogue import STARTERS
from defsurvey.storage.surveys.folder import check_survey

CARD = '[neighbour]\nengine = "scripted"\nrespondent = "uniform"\n'


def typed(*words: str, **environment: str) -> Result:
    """The outcome of a command in this process."""
    return CliRunner().invoke(main, words, env=environment)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_init_writes_can_be_used_at_once(folder: Path) -> None:
    """The study can be planned, the survey is sound, the cards are read; the demo is that of the examples."""
    begun = typed("init", "mine")
    assert begun.exit_code == 0
    assert len(begun.stdout.splitlines()) == len(STARTERS)
    assert typed("plan", "mine/demo.yaml").exit_code == 0
    assert check_survey(folder / "mine" / "coffee") == []
    assert typed("models", "list", DEFSURVEY_MODELS="mine/models.toml").exit_code == 0
    example = Path(__file__).parents[2] / "examples" / "demo.yaml"
    assert (folder / "mine" / "demo.yaml").read_bytes() == example.read_bytes()


def test_init_writes_over_nothing(folder: Path) -> None:
    """One file that is there keeps all from being written."""
    (folder / "models.toml").write_text(CARD)
    refused = typed("init")
    assert refused.exit_code == 2
    assert "models.toml is there already: nothing was written" in refused.stderr
    assert [path.name for path in folder.iterdir()] == ["models.toml"]


@pytest.mark.parametrize("place", ["working folder", "beside the study"])
def test_own_cards_are_found(folder: Path, place: str) -> None:
    """In the working folder, or beside the study that names them."""
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
