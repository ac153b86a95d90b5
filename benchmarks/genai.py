"""OpenVINO GenAI serves a workload: beam searches, greedy and sampled requests in one batch, no sampling with beams.

Its model is converted as ours is, without optimum: the same graph and weights, under its scheduler.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai
from openvino_tokenizers import convert_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.measuring import Generate, serve
from defsurvey.workers.engines.transformers.cpu.graph import converted


def convert(folder: Path, target: Path) -> None:
    """Write a transformers model and its tokenizer as ``optimum-cli export openvino`` would."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="sdpa").eval()
    ov.save_model(converted(model), target / "openvino_model.xml", compress_to_fp16=False)
    parts = convert_tokenizer(AutoTokenizer.from_pretrained(folder), with_detokenizer=True)
    for name in ("config.json", "generation_config.json"):
        shutil.copy(folder / name, target)
    for part, name in zip(parts, ("tokenizer", "detokenizer"), strict=True):
        ov.save_model(part, target / f"openvino_{name}.xml")


def settings(request: dict[str, Any], most: int) -> openvino_genai.GenerationConfig:
    """Of a request, for replies of at most so many tokens that end only there."""
    chosen = openvino_genai.GenerationConfig()
    chosen.max_new_tokens, chosen.ignore_eos = min(most, request["max_new_tokens"]), True
    if request["num_beams"] > 1:
        chosen.num_beams, chosen.num_return_sequences = request["num_beams"], 1
    elif request["sampling"]:
        chosen.do_sample, chosen.temperature, chosen.top_p = True, 1.0, 1.0
    return chosen


def opened(task: dict[str, Any]) -> Generate:
    """Load the model, which is converted once."""
    target = Path(task["folder"] + "-openvino")
    if not (target / "openvino_detokenizer.xml").exists():
        convert(Path(task["folder"]), target)
    scheduling = openvino_genai.SchedulerConfig()
    scheduling.cache_size, scheduling.max_num_batched_tokens = 4, 2048
    scheduling.enable_prefix_caching, scheduling.dynamic_split_fuse = False, True
    precision = {"float32": "f32", "bfloat16": "bf16"}[task["dtype"]]
    options = {"INFERENCE_PRECISION_HINT": precision, "KV_CACHE_PRECISION": precision}
    options["INFERENCE_NUM_THREADS"] = task["threads"]
    pipeline = openvino_genai.ContinuousBatchingPipeline(target, scheduling, "CPU", options)

    def generate(prompts: list[list[int]], most: int) -> int:
        tensors = [ov.Tensor(np.array([one], np.int64)) for one in prompts]
        replies = pipeline.generate(tensors, [settings(one, most) for one in task["requests"]])
        return sum(len(one.m_generation_ids[0]) for one in replies)

    return generate


if __name__ == "__main__":
    serve(opened)
