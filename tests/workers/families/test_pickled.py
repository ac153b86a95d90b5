"""Tensors that were published as pickles: read as data, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from defsurvey.workers.engines.base import EngineUnavailable
from defsurvey.workers.engines.transformers.loading import load_model
from defsurvey.workers.engines.transformers.weights import Weights
from defsurvey.workers.models import ModelCard
from tests.workers.families.tiny_families import FAMILIES, write_family


class Malice:
    """An object whose unpickling would create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A tiny model whose only weights are a pickle."""
    from safetensors.torch import load_file

    folder = write_family(tmp_path / "model", FAMILIES["wizardlm-13b-v1-2"])
    safe = folder / "model.safetensors"
    torch.save(load_file(safe), folder / "pytorch_model.bin")
    safe.unlink()
    return folder


def load(folder: Path) -> Any:
    """The model of that folder."""
    card = ModelCard(name="pickled", path=folder, dtype="float32", chat_template="vicuna")
    return load_model(card, Weights(folder=folder, gguf=None, origin={}), device="cpu").model


def test_tensors_are_read_from_a_pickle(pickled: Path, tmp_path: Path, one_thread: None) -> None:
    """The same numbers as from the safe format."""
    again = write_family(tmp_path / "again", FAMILIES["wizardlm-13b-v1-2"])
    mine, other = load(pickled).state_dict(), load(again).state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_what_a_pickle_would_run_is_not_run(pickled: Path, tmp_path: Path) -> None:
    """A file with anything but tensors is refused, and nothing in it has happened."""
    mark = tmp_path / "mark"
    file = pickled / "pytorch_model.bin"
    torch.save({**torch.load(file, weights_only=True), "more": Malice(mark)}, file)
    with pytest.raises(EngineUnavailable, match=r"model pickled: .* its pickled weights hold more than tensors"):
        load(pickled)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()
