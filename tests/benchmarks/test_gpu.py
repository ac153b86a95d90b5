"""The benchmark for GPUs, run on a CPU."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Ceilings, Workload, floor, host, measure, size_of
from benchmarks.models import random_model
from benchmarks.workloads import random_prompts
from defsurvey.workers.engines.transformers.core.adoption import adopt

CPU = torch.device("cpu")
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 500,
}
#: Numbers a token is multiplied with: four products of attention, three of the gate, norms; and the output's.
PARAMETERS = 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64 + 64 * 500


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.SHAPES, "tiny", TINY)


def test_the_floor_is_reading_where_reading_takes_longer_and_operations_where_these_do() -> None:
    model = random_model(TINY, "none", CPU).model
    size, kept = size_of(model), adopt(model).bytes_per_token
    requests = random_prompts(500, requests=2, prompt=40, new_tokens=3)
    prompts = sum(len(request.prompt) for request in requests)
    weights = 2 * (PARAMETERS + 64 * 500) + 64  # bytes: with the embedding, and 16 numbers that positions are made of
    token = 2 * 2 * 64 * 2  # bytes of keys and values of two layers
    reading = 2 * weights + (prompts + 2 + prompts + 4) * token
    slow_memory = floor(size, kept, requests, Ceilings(bytes_per_second=1.0, operations_per_second=1e30))
    assert slow_memory == pytest.approx(reading)
    slow_products = floor(size, kept, requests, Ceilings(bytes_per_second=1e30, operations_per_second=1.0))
    assert slow_products == pytest.approx(2 * PARAMETERS * (prompts + 2 * 3))


@pytest.mark.parametrize("quantisation", gpu.QUANTISATIONS)
def test_it_measures(quantisation: str) -> None:
    found = measure("tiny", quantisation, CPU, Workload(participants=10, prompt=30, new_tokens=3, alone=5))
    assert found["ratio"] > 0
    assert (found["rows_per_step"], found["asked_alone"], found["device"]) == (30, 5, "cpu")
    assert list(found["milliseconds_per_step"]) == ["core"]
    assert found["computed_by"]["core"].startswith("torch ")
    assert 0 <= found["of_the_roofline"] < 1
    assert set(found["paper_hours"]) == {"replies of 100 tokens", "replies of 512 tokens"}


def test_prompts_have_every_number_of_beams_with_and_without_sampling() -> None:
    kinds = {(one.num_beams, one.sampling is None) for one in random_prompts(500, requests=10, prompt=9, new_tokens=1)}
    assert len(kinds) == 10


def test_it_measures_what_the_host_does() -> None:
    found = host(Workload(participants=10, prompt=30), steps=6)
    assert (found["requests"], found["beams"]) == (10, 30)
    assert 0 < found["host_milliseconds"]["least"] <= found["host_milliseconds"]["median"]
    assert {"admit", "forward", "select"} <= set(found["phases"])
