"""Models of a given shape with random weights."""

from __future__ import annotations

import gc
import tempfile
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.loading import attend_without_plans
from defsurvey.workers.engines.transformers.quantising import load_nf4


def random_model(shape: dict[str, int], quantisation: str, device: torch.device) -> LoadedModel:
    """A model of a shape with random weights, in bfloat16 or with its layers in 4 bits."""
    attend_without_plans(device)
    config = LlamaConfig(**shape)
    torch.manual_seed(0)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        model: Any = LlamaForCausalLM(config)
        torch.set_default_dtype(before)
    if quantisation == "nf4":
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            del model
            forget(device)
            source = {"pretrained_model_name_or_path": folder, "local_files_only": True}
            model = load_nf4(source, dtype=torch.bfloat16, place=device)
    return LoadedModel(
        model=model.eval(),
        tokenizer=None,
        window=config.max_position_embeddings,
        ends=(),
        padding=0,
        dropped="none",
        description={},
    )


def forget(device: torch.device) -> None:
    """Free what nothing refers to any more, on the device too."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
