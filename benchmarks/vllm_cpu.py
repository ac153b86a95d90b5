"""vLLM on a CPU serves a workload in an environment of its own, as it brings a torch of its own; see ``benchmarks.engine``.

Requests have no beams: vLLM searches beams by a call of its own, and never samples with them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measuring import Measured, measured


def serve(task: dict[str, Any]) -> Measured:
    """Load the model, warm up on other prompts of the same lengths, serve all requests at once."""
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process, whose time and memory are measured
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{task['threads'] - 1}"
    from vllm import LLM, SamplingParams

    model = LLM(
        model=task["folder"],
        dtype=task["dtype"],
        max_model_len=1024,
        enable_prefix_caching=False,
        seed=0,
        gpu_memory_utilization=0.3,  # on a CPU, of all memory: by itself it wants nearly all of it to be free
    )

    def generate(prompts: list[list[int]], most: int) -> int:
        settings = [
            # no seed: with one of its own for a request, vLLM ends with an error on a CPU
            SamplingParams(
                temperature=1.0 if one["sampling"] else 0.0,
                max_tokens=min(most, one["max_new_tokens"]),
                ignore_eos=True,
            )
            for one in task["requests"]
        ]
        made = model.generate([{"prompt_token_ids": one} for one in prompts], settings, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in made)

    prompts = [one["prompt"] for one in task["requests"]]
    generate([one[::-1] for one in prompts], 4)
    return measured(lambda: generate(prompts, 10**6))


if __name__ == "__main__":
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(asdict(serve(asked))))  # noqa: T201
