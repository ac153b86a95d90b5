"""Steps computed by OpenVINO against transformers' own logits, and how graphs are kept."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from defsurvey.workers.engines.transformers.core.runner import Copy, Row
from defsurvey.workers.engines.transformers.cpu import serving
from defsurvey.workers.engines.transformers.cpu.graph import UnsupportedGraph, converted
from defsurvey.workers.engines.transformers.cpu.processor import fastest_type
from defsurvey.workers.engines.transformers.cpu.runner import OpenVINORunner
from defsurvey.workers.engines.transformers.cpu.store import Kept, kept
from defsurvey.workers.engines.transformers.opening import open_model
from defsurvey.workers.engines.transformers.weights import Weights
from defsurvey.workers.models import ModelCard
from tests.workers.engine.tiny_models import built
from tests.workers.families import tiny_families

VOCABULARY, WINDOW = 98, 40
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
HEADS = SIZES | {"head_dim": 16}
#: Windows are shorter than the prompts.
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": SIZES,
    "Mistral": SIZES | {"sliding_window": WINDOW},
    "Qwen2": SIZES,
    "Qwen3": HEADS,
    "Gemma": HEADS,
    "Gemma3": HEADS | {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "Phi": SIZES,
    "Phi3": SIZES,
    "Glm": HEADS,
    "Glm4": HEADS,
    "Olmo2": SIZES,
    "Granite": SIZES,
    "SmolLM3": SIZES,
    "GPTNeoX": {name: value for name, value in SIZES.items() if name != "num_key_value_heads"},
    "GPT2": {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": None}
    | {"eos_token_id": None, "initializer_range": 0.3},
}


def model_of(family: str, dtype: torch.dtype = torch.float32) -> Any:
    kind = getattr(transformers, {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config"))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(kind(**FAMILIES[family])).eval().to(dtype)


def runner_of(model: Any, dtype: str = "float32") -> OpenVINORunner:
    """Of a model whose blocks hold what nobody may read."""
    runner = OpenVINORunner(converted(model), dtype=dtype, kv_bytes=4 << 20, threads=2)
    for pool in runner.pools:
        pool.fill_(-1)  # all bits set: not a number, in any type
    return runner


def drawn(count: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, VOCABULARY, count)]


def table(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def last_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0, -1].float()


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((family, torch.float32) for family in FAMILIES), *((family, torch.bfloat16) for family in ("Gemma3", "GPT2"))],
)
def test_logits_are_the_librarys(family: str, dtype: torch.dtype, one_thread: None) -> None:
    """Prompts in pieces, forks that copy a block begun, beams and prompts in one step; in float32 whatever is held."""
    model = model_of(family, dtype)
    oracle = copy.deepcopy(model).float()
    runner = runner_of(model)
    assert runner.block_size == 32
    first, second = drawn(70, 1), drawn(101, 2)

    got = runner.run([Row(first[:50], 0, table(5, 9), True), Row(second, 0, table(1, 2, 3, 4), True)]).clone()
    check(got, [last_logits(oracle, first[:50]), last_logits(oracle, second)])

    runner.copy([Copy(4, 20, 5), Copy(4, 21, 5)])
    beams = [Row([token], 101, table(1, 2, 3, block), True) for token, block in ((11, 4), (12, 20), (13, 21))]
    got = runner.run([beams[0], Row(first[50:], 50, table(5, 9, 7), True), *beams[1:]]).clone()
    wanted = [last_logits(oracle, [*second, token]) for token in (11, 12, 13)]
    check(got, [wanted[0], last_logits(oracle, first), *wanted[1:]])

    got = runner.run([Row([3], 102, table(1, 2, 3, 20), False), Row([4], 70, table(5, 9, 7), True)]).clone()
    check(got, [last_logits(oracle, [*first, 4])])
    got = runner.run([Row([5], 103, table(1, 2, 3, 20), True)]).clone()
    check(got, [last_logits(oracle, [*second, 12, 3, 5])])
    assert runner.run([Row([6], 104, table(1, 2, 3, 20), False)]).shape == (0, VOCABULARY)


def check(got: torch.Tensor, wanted: list[torch.Tensor]) -> None:
    torch.testing.assert_close(got, torch.stack(wanted), rtol=1e-4, atol=1e-4)  # fails on NaN


def test_converting_leaves_a_model_as_it_was(one_thread: None) -> None:
    """Its weights keep their types and places, and it computes the same."""
    model = model_of("Gemma3", torch.bfloat16)
    before = {name: (each.dtype, each.data_ptr()) for name, each in model.state_dict().items()}
    logits = last_logits(model, drawn(20, 3))
    converted(model)
    assert {name: (each.dtype, each.data_ptr()) for name, each in model.state_dict().items()} == before
    assert torch.equal(last_logits(model, drawn(20, 3)), logits)


def test_a_row_sees_blocks_that_another_row_of_the_step_fills(one_thread: None) -> None:
    """In whichever order they come."""
    model = model_of("Llama")
    tokens = drawn(80, 4)
    whole = runner_of(model).run([Row(tokens, 0, table(0, 1, 2), True)]).clone()
    for order in (1, -1):
        rows = [Row(tokens[:64], 0, table(0, 1), False), Row(tokens[64:], 64, table(0, 1, 5), True)]
        assert torch.equal(runner_of(model).run(rows[::order]), whole)


@pytest.mark.parametrize("dtype", sorted({"float32", fastest_type()}))
def test_a_row_does_not_depend_on_its_company(dtype: str, one_thread: None) -> None:
    """Alone, with one more, with sixty, and beside a prompt: the same bits."""
    runner = runner_of(model_of("Llama"), dtype)
    prompt, other = drawn(40, 5), drawn(60, 6)
    runner.run([Row(prompt, 0, table(0, 1), True)])
    runner.copy([Copy(1, block, 8) for block in range(2, 62)])
    rows = [Row([9], 40, table(0, block), True) for block in range(1, 61)]
    alone = runner.run(rows[:1]).clone()
    assert not alone.isnan().any()
    for company in (rows[:2], rows, [Row(other, 0, table(62, 63), False), *rows]):
        got = runner.run(company)
        assert torch.equal(got, alone.expand_as(got))


def test_what_has_no_such_graph_is_named(one_thread: None) -> None:
    """Gemma 2 caps its attention."""
    model = built("Gemma2", attn_implementation="eager", **HEADS | {"sliding_window": WINDOW})
    with pytest.raises(UnsupportedGraph, match="ScaledDotProductAttention"):
        converted(model)


def test_other_types_are_refused(one_thread: None) -> None:
    """float16 is not computed."""
    with pytest.raises(ValueError, match="float32 or bfloat16 on a CPU, not in float16"):
        OpenVINORunner(converted(model_of("Llama")), dtype="float16", kv_bytes=1 << 20)


def test_a_second_start_makes_nothing(tmp_path: Path, one_thread: None) -> None:
    """Facts and arrays come back, logits are the same, and other weights replace what lay there."""
    made: list[str] = []

    def make() -> Kept:
        made.append("once")
        return Kept(graph=converted(model_of("Mistral")), facts={"window": 512}, arrays={"logits": np.arange(3.0)})

    def step(weights: str) -> torch.Tensor:
        again = kept(tmp_path, "a/model", "float32", {"revision": weights}, make)
        assert again.facts == {"window": 512}
        assert again.arrays["logits"].tolist() == [0, 1, 2]
        runner = OpenVINORunner(again.graph, dtype="float32", kv_bytes=1 << 20)
        return runner.run([Row(drawn(90, 7), 0, table(0, 1, 2), True)]).clone()

    first = step("1")
    check(first, [last_logits(model_of("Mistral"), drawn(90, 7))])
    assert torch.equal(step("1"), first)
    assert made == ["once"]
    step("2")
    assert len(made) == 2
    assert len([each for each in tmp_path.iterdir() if each.is_dir()]) == 1


def test_nothing_is_kept_of_a_conversion_that_fails(tmp_path: Path) -> None:
    """Not even a part."""

    def fail() -> Kept:
        raise UnsupportedGraph("so")

    with pytest.raises(UnsupportedGraph):
        kept(tmp_path, "model", "float32", {}, fail)
    assert not [each for each in tmp_path.iterdir() if each.is_dir()]


def test_what_fails_its_check_is_computed_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights that were converted."""
    folder = tiny_families.write_family(tmp_path, tiny_families.FAMILIES["llama-3-8b"])
    card = ModelCard(name="wrong", path=folder, dtype="float32")
    monkeypatch.setattr(serving, "disagrees", lambda *_: "so")
    found = open_model(card, Weights(folder=folder, gguf=None, origin={}), device="cpu", cache=tmp_path, threads=1)
    assert found.reason == "OpenVINO does not compute it: so"
    assert found.runner is not None
    got = found.runner.run([Row(drawn(9, 7), 0, table(0), True)])
    check(got, [last_logits(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), drawn(9, 7))])


ALONE = """
import socket, sys
def refused(*_, **__): sys.stderr.write("CONNECTED"); raise OSError("no connections")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refused
import test_openvino as t
from defsurvey.workers.engines.transformers.cpu import serving
from defsurvey.workers.engines.transformers.cpu.graph import compress
graph = compress(t.converted(t.model_of("Llama")), "int8")
runner = t.OpenVINORunner(graph, dtype="float32", kv_bytes=1 << 20)
print(runner.run([t.Row([1, 2, 3], 0, t.table(0), True)]).shape[0])
print([name for name, module in sys.modules.items() if "openvino_telemetry" in name and module is not None])
"""


def test_nothing_is_reported_to_anyone(tmp_path: Path) -> None:
    """Conversion, compression, compilation and a step, where any connection is an error and nothing else is printed."""
    paths = f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[3])]!r}\n"
    done = subprocess.run([sys.executable, "-c", paths + ALONE], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "CONNECTED" not in done.stderr
    assert done.stdout.splitlines()[-2:] == ["1", "[]"]


def test_the_fastest_type_is_computed(one_thread: None) -> None:
    """On this processor, whichever it is."""
    assert OpenVINORunner(converted(model_of("Llama")), dtype=fastest_type(), kv_bytes=1 << 20).blocks > 0


def test_one_thread_computes_bfloat16(one_thread: None) -> None:
    """OpenVINO ends the process where it fuses gated layers for one thread."""
    if fastest_type() == "bfloat16":
        runner = OpenVINORunner(converted(model_of("Llama")), dtype="bfloat16", kv_bytes=1 << 22, threads=1)
        assert runner.run([Row(drawn(40, 5), 0, table(0, 1), True)]).isfinite().all()
