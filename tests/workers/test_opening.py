"""From a card to its engine, and the cheap check before it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines import opening
from defsurvey.workers.engines.base import Engine, EngineUnavailable
from defsurvey.workers.engines.opening import check_card, open_engine
from defsurvey.workers.models import ModelCard, read_cards


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


def test_every_scripted_card_opens(small_survey: Survey, tmp_path: Path) -> None:
    """The bundled respondents need neither weights nor a cache."""
    cards = [card for card in read_cards().values() if card.engine == "scripted"]
    assert len(cards) == 6
    for card in cards:
        engine = open_engine(card, survey=small_survey, cache=tmp_path / "cache")
        assert isinstance(engine, Engine)
        engine.close()


def test_weights_that_are_not_there_are_unavailable(tmp_path: Path) -> None:
    """A path is looked up where the card says."""
    card = ModelCard(name="m", path=tmp_path / "absent")
    with pytest.raises(EngineUnavailable, match=r"model m: field path: there is no file or folder .*absent"):
        check_card(card, cache=tmp_path)


def test_a_file_that_is_no_gguf_is_unavailable(tmp_path: Path) -> None:
    """Loose weights in another format lack their configuration."""
    file = tmp_path / "model.bin"
    file.touch()
    with pytest.raises(EngineUnavailable, match=r"field path: expected a folder or a \.gguf file, got .*model\.bin"):
        check_card(ModelCard(name="m", path=file), cache=tmp_path)


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Better now than after a download."""
    file = tmp_path / "cache"
    file.touch()
    with pytest.raises(EngineUnavailable, match=r"the cache .* is not a folder"):
        check_card(ModelCard(name="m", hub="a/b"), cache=file)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is not installed, the message says so."""

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
        (f"{OPENING}raise KeyError('key')", "cannot be opened: KeyError: 'key'"),
        (f"{OPENING}raise AssertionError", "cannot be opened: AssertionError"),
        (f"{OPENING}return None", "field engine: .*:opened opened a NoneType, which is no engine: it needs submit,"),
    ],
)
def test_whatever_keeps_an_engine_from_opening_makes_it_unavailable(
    own: Callable[[str], ModelCard], small_survey: Survey, tmp_path: Path, source: str, told: str
) -> None:
    """A worker would try it again without end, and say nothing."""
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
    """Whatever its own lines do, the card is named."""
    with pytest.raises(EngineUnavailable, match=rf"^model m: field engine: cannot import own_\w+:opened: .*{told}"):
        check_card(own(source), cache=tmp_path)
