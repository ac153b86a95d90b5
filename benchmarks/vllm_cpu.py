"""vLLM on a CPU serves a workload in an environment of its own, as it brings a torch of its own.

Requests have no beams: vLLM searches beams by a call of its own, and never samples with them.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.measuring import Generate, serve


def opened(task: dict[str, Any]) -> Generate:
    """Load the model."""
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process, whose time and memory are measured
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{task['threads'] - 1}"
    from vllm import LLM, SamplingParams

    # Of all memory: by itself it wants nearly all of it to be free.
    share = {"gpu_memory_utilization": 0.3}
    model = LLM(model=task["folder"], dtype=task["dtype"], max_model_len=1024, enable_prefix_caching=False, **share)

    def generate(prompts: list[list[int]], most: int) -> int:
        settings = [
            # no seed: with one of its own for a request, vLLM ends with an error on a CPU
            SamplingParams(
                temperature=float(bool(one["sampling"])), max_tokens=min(most, one["max_new_tokens"]), ignore_eos=True
            )
            for one in task["requests"]
        ]
        made = model.generate([{"prompt_token_ids": one} for one in prompts], settings, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in made)

    return generate


if __name__ == "__main__":
    serve(opened)
