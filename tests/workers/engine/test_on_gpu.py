"""The batch on a GPU: the pool, grouped candidates and hashed draws, on the device that they are for."""

from __future__ import annotations

import random

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.workloads import random_prompts
from defsurvey.workers.engines.transformers import paged
from defsurvey.workers.engines.transformers.decoder import Decoder
from defsurvey.workers.engines.transformers.exchanging import exchange
from defsurvey.workers.engines.transformers.kv import LayerShape
from defsurvey.workers.engines.transformers.loading import attend_without_plans
from defsurvey.workers.engines.transformers.scheduler import Limits
from defsurvey.workers.engines.transformers.support import adopt, packed_logits
from tests.workers.engine.scripted_logits import generated
from tests.workers.engine.tiny_models import ARCHITECTURES, decode, mixed_requests, tiny_model

LIMITS = Limits(kv_bytes=1 << 25, kept_bytes=1 << 23)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_replies_on_a_gpu_are_those_of_generate_and_of_nobody_else(architecture: str) -> None:
    requests = mixed_requests(40, seed=3)
    expected = [None if one.sampling else generated(tiny_model(architecture), one) for one in requests]
    model = tiny_model(architecture).to("cuda")
    layout = adopt(model)
    found = []
    for order in range(2):
        decoder = Decoder(model, layout, LIMITS)
        caught = decode(decoder, requests, random.Random(order))
        found.append([one.tokens for one in caught])
        decoder.close()
        assert decoder.counters().kv_bytes == 0
    assert found[0] == found[1]
    assert [tokens for tokens, wanted in zip(found[0], expected, strict=True) if wanted is not None] == [
        wanted for wanted in expected if wanted is not None
    ]
    assert torch.cuda.max_memory_allocated() > LIMITS.kv_bytes  # the pool was there


@pytest.mark.gpu
def test_short_number_formats_are_served_without_plans_for_shapes() -> None:
    device = torch.device("cuda")
    attend_without_plans(device)
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4)
    model = LlamaForCausalLM(config).to(device, torch.bfloat16).eval()
    layout = adopt(model)  # packed logits are near those of whole sequences, or it raises
    decoder = Decoder(model, layout, LIMITS)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        caught = decode(decoder, random_prompts(config.vocab_size, requests=20, prompt=300, new_tokens=10))
    decoder.close()
    assert [len(one.tokens or ()) for one in caught] == [10] * 20
    kernels = {event.name.lower() for event in profiled.events()}
    assert kernels
    assert not [name for name in kernels if "cudnn" in name]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "width", "per_group"), [(32, 128, 1), (8, 128, 4), (3, 64, 3), (4, 80, 1)])
def test_the_kernel_attends_as_over_gathered_keys(dtype: torch.dtype, heads: int, width: int, per_group: int) -> None:
    device = torch.device("cuda:0")
    if torch.cuda.get_device_capability(device) < (8, 0):
        assert not paged.usable(device, dtype, LayerShape(heads, width), per_group)
        return
    assert paged._deviation(device, dtype, LayerShape(heads, width), per_group) < 1e-2
    assert paged.usable(device, dtype, LayerShape(heads, width), per_group)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_norms_are_one_kernel_and_the_model_is_the_same(dtype: torch.dtype) -> None:
    model = tiny_model("llama").to("cuda", dtype)
    layout = adopt(model)
    before = packed_logits(model, layout)
    assert exchange(model, layout) == 5
    after = packed_logits(model, layout)
    assert float((after - before).norm() / before.norm()) < (1e-5 if dtype is torch.float32 else 3e-2)
