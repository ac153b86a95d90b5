"""Weights as they are published and held: in fewer bits, in GGUF, and pickles, which are read as data and never run."""

import json
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter, LlamaFileType
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from defsurvey.workers.engines.base import EngineUnavailable, FinishReason
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.engines.transformers import quantising
from defsurvey.workers.engines.transformers.loading import load_model
from defsurvey.workers.engines.transformers.quantising import check_quantisation, load_nf4, stored_as
from defsurvey.workers.engines.transformers.weights import Weights
from defsurvey.workers.models import ModelCard, read_cards
from tests.workers.citizens import SURVEY
from tests.workers.families.test_families import interview_request
from tests.workers.families.tiny_families import FAMILIES, write_family


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantising, "find_spec", lambda name: ModuleSpec(name, None))


def card(kind: str) -> ModelCard:
    return ModelCard(name="big", hub="org/big", quantisation=kind)


@pytest.mark.parametrize(
    ("kind", "device", "told"), [("gptq", "cpu", "a GPU"), ("int8", "cuda", "a CPU"), ("int4", "cuda:1", "a CPU")]
)
def test_another_sort_of_device_is_refused(kind: str, device: str, told: str, tmp_path: Path) -> None:
    weights = Weights(folder=tmp_path, gguf=None, origin={})
    with pytest.raises(EngineUnavailable, match=f"model big: quantisation {kind} needs {told}: .* got {device}"):
        load_model(card(kind), weights, device=device)


@pytest.mark.parametrize("kind", ["nf4", "int8", "int4"])
def test_weights_in_fewer_bits_are_served_on_a_cpu(one_thread: None, kind: str, tmp_path: Path) -> None:
    kind == "nf4" or pytest.importorskip("defsurvey.workers.engines.transformers.cpu", reason="the folder is gone")
    folder = write_family(tmp_path, FAMILIES["llama-3-8b"], width=256)
    model = ModelCard(name="few", path=folder, dtype="float32", quantisation=kind, chat_template="none")
    engine = open_engine(model, survey=SURVEY, cache=tmp_path, threads=1)
    described = engine.describe()
    reply = engine.submit(interview_request(SURVEY, model)).result(60)
    engine.close()
    assert reply.finish is not FinishReason.ERROR, reply.error
    assert described["quantisation"] == kind
    assert described["batching"] == "continuous"
    assert described["computed_by"].startswith("torch" if kind == "nf4" else "OpenVINO")


@pytest.mark.parametrize(
    ("kind", "published", "refused"),
    [
        ("gptq", {}, "expected weights published in gptq, got full weights"),
        ("gptq", {"quantization_config": {"quant_method": "awq"}}, "expected weights published in gptq, got awq"),
        ("gptq", {"quantization_config": {"quant_method": "gptq"}}, ""),
        ("nf4", {"quantization_config": {"quant_method": "fp8"}}, "expected full weights, got fp8 in "),
        ("nf4", {}, ""),
        ("nf4", None, ""),  # without a configuration
    ],
)
def test_bits_go_with_how_weights_were_published(
    all_installed: None, tmp_path: Path, kind: str, published: dict[str, Any] | None, refused: str
) -> None:
    if published is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **published}))
    if not refused:
        check_quantisation(card(kind), tmp_path, "cuda")
        return
    with pytest.raises(EngineUnavailable, match=f"model big: field quantisation: {refused}"):
        check_quantisation(card(kind), tmp_path, "cuda")


def test_models_of_ten_billion_parameters_and_more_are_held_in_four_bits() -> None:
    loaded = [card for card in read_cards().values() if card.engine == "transformers" and card.parameters[-1] == "B"]
    assert len(loaded) == 12
    for one in loaded:
        assert (one.quantisation == "nf4") is (float(one.parameters[:-1]) >= 10), one.name


def matrices(model: Any) -> dict[str, torch.Tensor]:
    """Every weight of a linear layer but the head, and every stack of experts, in full."""
    from bitsandbytes.functional import dequantize_4bit

    found = {}
    for name, module in model.named_modules():
        if name.endswith("_proj") and isinstance(module, torch.nn.Linear):
            state = getattr(module.weight, "quant_state", None)
            found[name] = module.weight if state is None else dequantize_4bit(module.weight, state)
        if name.endswith(".experts"):
            found |= {f"{name}.{stack}": getattr(module, stack) for stack in ("gate_up_proj", "down_proj")}
    return {name: matrix.detach().float() for name, matrix in found.items()}


@pytest.mark.parametrize(("name", "count"), [("wizardlm-13b-v1-2", 14), ("mixtral-8x7b-instruct-v0-1", 12)])
def test_layers_and_experts_are_held_in_four_bits(name: str, count: int, one_thread: None, tmp_path: Path) -> None:

    folder = write_family(tmp_path, FAMILIES[name], width=64)  # a block of 64 weights has one scale
    whole: Any = AutoModelForCausalLM
    full = whole.from_pretrained(folder, dtype=torch.float32).eval()
    source = {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    small = load_nf4(source, dtype=torch.float32, place=torch.device("cpu")).eval()
    expected, got = matrices(full), matrices(small)
    assert len(expected) == count
    assert expected.keys() == got.keys()
    for key, matrix in expected.items():
        error = float((got[key] - matrix).norm() / matrix.norm())
        assert 0.07 < error < 0.13, key
    packed = [value for value in small.parameters() if value.dtype == torch.uint8]
    assert 2 * sum(value.numel() for value in packed) == sum(matrix.numel() for matrix in expected.values())
    assert torch.equal(full.get_output_embeddings().weight, small.get_output_embeddings().weight)
    with torch.inference_mode():
        assert torch.isfinite(small(torch.arange(5, 45)[None]).logits).all()


@pytest.mark.parametrize(
    ("header", "name", "expected"),
    [
        (LlamaFileType.MOSTLY_Q4_K_M, "model.gguf", "Q4_K_M"),
        (LlamaFileType.MOSTLY_F16, "model.Q8_0.gguf", "F16"),
        (LlamaFileType.ALL_F32, "model.gguf", "F32"),
        (None, "SmolLM2-135M.q5_0.gguf", "Q5_0"),
        (None, "model.gguf", "not known"),
    ],
)
def test_the_number_type_of_a_gguf_file_is_told(
    tmp_path: Path, header: LlamaFileType | None, name: str, expected: str
) -> None:
    writer = GGUFWriter(tmp_path / name, "llama")
    if header is not None:
        writer.add_file_type(header)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = stored_as(Weights(folder=tmp_path, gguf=name, origin={}))
    assert found == {"weights_format": "GGUF", "weights_type": expected}


class Malice:
    """An object whose unpickling would create a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def pickled(folder: Path) -> Path:
    safe = write_family(folder, FAMILIES["wizardlm-13b-v1-2"]) / "model.safetensors"
    torch.save(load_file(safe), folder / "pytorch_model.bin")
    safe.unlink()
    return folder


def load(folder: Path) -> Any:
    card = ModelCard(name="pickled", path=folder, dtype="float32", chat_template="vicuna")
    return load_model(card, Weights(folder=folder, gguf=None, origin={}), device="cpu").model


def test_tensors_are_read_from_a_pickle_and_nothing_is_run(tmp_path: Path, one_thread: None) -> None:
    folder, again = pickled(tmp_path / "model"), write_family(tmp_path / "again", FAMILIES["wizardlm-13b-v1-2"])
    mine, other = load(folder).state_dict(), load(again).state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    mark, file = tmp_path / "mark", folder / "pytorch_model.bin"
    torch.save({**torch.load(file, weights_only=True), "more": Malice(mark)}, file)
    with pytest.raises(EngineUnavailable, match=r"model pickled: .* its pickled weights hold more than tensors"):
        load(folder)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["wizardlm-13b-v1-2", "mixtral-8x7b-instruct-v0-1"])
def test_four_bits_answer_on_a_gpu(name: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, FAMILIES[name], width=64)
    card = ModelCard(name=name, path=folder, quantisation="nf4", chat_template="chatml")
    engine = open_engine(card, survey=SURVEY, device="cuda", cache=tmp_path)
    completion = engine.submit(interview_request(SURVEY, card)).result(timeout=120)
    description = engine.describe()
    engine.close()
    assert completion.finish is not FinishReason.ERROR, completion.error
    assert (description["quantisation"], description["dtype"]) == ("nf4", "bfloat16")
    assert description["device"].startswith("cuda")
    assert description["batching"] == "continuous"
