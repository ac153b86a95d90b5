"""From a card to its engine, and the cheap check before it."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from click.testing import CliRunner

from defsurvey.jobs.cli.main import main
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines import opening
from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.models import ModelCard


def test_checking_the_bundled_cards_loads_no_model_library(tmp_path: Path) -> None:
    """Enqueueing must not pay for torch: after all checks a fresh interpreter has not imported it."""
    program = (
        "import sys; from pathlib import Path; from defsurvey.workers.models import read_cards; "
        "from defsurvey.workers.engines.opening import check_card\n"
        f"cache = Path({str(tmp_path / 'cache')!r})\n"
        "for card in read_cards().values(): card.retired or check_card(card, cache=cache)\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'anthropic', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"ANTHROPIC_API_KEY": "none"},
    )
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"path": "absent"}, r"model m: field path: there is no file or folder .*absent"),
        ({"path": "model.bin"}, r"field path: expected a folder or a \.gguf file, got .*model\.bin"),
        ({"hub": "a/b"}, r"the cache .* is not a folder"),
    ],
)
def test_what_is_not_there_is_told_by_the_cheap_check(tmp_path: Path, fields: dict[str, str], told: str) -> None:
    """Weights that are looked up where the card says, loose ones without configuration, a cache that is a file."""
    (tmp_path / "model.bin").touch()
    if "path" in fields:
        fields = {"path": str(tmp_path / fields["path"])}
    with pytest.raises(EngineUnavailable, match=told):
        check_card(ModelCard(name="m", **fields), cache=tmp_path / "model.bin")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_torch(name: str) -> ModuleSpec | None:
        return None if name == "torch" else importlib.util.find_spec(name)

    monkeypatch.setattr(opening, "find_spec", without_torch)
    with pytest.raises(EngineUnavailable, match="model m: engine transformers needs the package torch"):
        check_card(ModelCard(name="m", hub="a/b"), cache=tmp_path)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModelCard]:
    """Writes a module of the user's own, named after the test, and gives a card whose engine it opens."""

    def write(source: str) -> ModelCard:
        module = f"own_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, module, raising=False)
        return ModelCard(name="m", engine=f"{module}:opened")

    return write


OPENING = "def opened(card, *, survey, device):\n    "


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (f"{OPENING}raise RuntimeError('no\\nlicence')", "cannot be opened: RuntimeError: no licence"),
        (f"{OPENING}raise AssertionError", "cannot be opened: AssertionError"),
        (f"{OPENING}return None", "field engine: .*:opened opened a NoneType, which is no engine: it needs submit,"),
    ],
)
def test_whatever_keeps_an_engine_from_opening_makes_it_unavailable(
    own: Callable[[str], ModelCard], small_survey: Survey, tmp_path: Path, source: str, told: str
) -> None:
    with pytest.raises(EngineUnavailable, match=f"^model m: {told}"):
        open_engine(own(source), survey=small_survey, cache=tmp_path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("def opened(:", r"SyntaxError: .*line 1"),
        ("raise ValueError('no key')", "ValueError: no key"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_by_the_cheap_check(
    own: Callable[[str], ModelCard], tmp_path: Path, source: str, told: str
) -> None:
    with pytest.raises(EngineUnavailable, match=rf"^model m: field engine: cannot import own_\w+:opened: .*{told}"):
        check_card(own(source), cache=tmp_path)


# An engine of the user's own: the one that docs/models.md shows, and what `models check` says of one that raises.


ROOT = Path(__file__).parents[2]
RAISING = """\
from concurrent.futures import Future

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.workers.engines.base import Completion, FinishReason

USED = UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None)
REPLY = Completion(text="Answer: 1", finish=FinishReason.STOP, used=USED)


class Mine:
    def submit(self, request):
        future = Future()
        {submit}
        return future

    def describe(self):
        {describe}

    def close(self):
        print("closed")


def opened(card, *, survey, device):
    return Mine()
"""


def test_the_documented_engine_of_ones_own_works(tmp_path: Path) -> None:
    """The module and the card of docs/models.md, as they stand: no weights, no line of ours, and an answer."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = text.partition("## An engine of your own\n")[2].partition("\n## ")[0]
    (module,) = re.findall(r"(?ms)^```python\n(.*?)^```", section)
    (card,) = re.findall(r"(?ms)^```toml\n(.*?)^```", section)
    (tmp_path / "my_engines.py").write_text(module)
    (tmp_path / "cards.toml").write_text(card)
    checked = subprocess.run(
        [sys.executable, "-m", "defsurvey", "models", "check", "my-rule", "--weights"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "DEFSURVEY_MODELS": str(tmp_path / "cards.toml")},
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "reply: 'Answer: 1\\nExplanation: It stands first.'" in checked.stdout


@pytest.mark.parametrize(
    ("submit", "describe", "told"),
    [
        ("raise KeyError('colour')", "return {}", "the reply ended in an error: the engine raised KeyError: 'colour'"),
        ("future.set_exception(OSError(5, 'off'))", "return {}", "the engine raised OSError: [Errno 5] off"),
        ("future.cancel()", "return {}", "the reply was cancelled"),
        ("future.set_result(REPLY)", "raise KeyError('weights')", "cannot be described: KeyError: 'weights'"),
    ],
)
def test_an_engine_that_raises_fails_the_check_in_one_line(
    own: Callable[[str], ModelCard], tmp_path: Path, submit: str, describe: str, told: str
) -> None:
    """Wherever it does; the card is named, the engine closed, and the exit code is that of wrong input."""
    card = own(RAISING.format(submit=submit, describe=describe))
    (tmp_path / "cards.toml").write_text(f'[mine]\nengine = "{card.engine}"\n')
    places = {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_MODELS": str(tmp_path / "cards.toml")}
    shown = CliRunner().invoke(main, ("models", "check", "mine", "--weights"), env=places)
    assert (shown.exit_code, shown.stdout) == (2, "closed\n"), shown.exception
    (line,) = shown.stderr.splitlines()
    assert line.startswith("defsurvey: model mine: ")
    assert line.endswith(told)
