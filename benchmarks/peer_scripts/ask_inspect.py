"""Ask a workload with Inspect, as its documentation does for a compatible server: the provider ``openai-api``.

Knows Inspect. One sample for each call, and ``generate`` alone: no scorer, no display, no live view, no control socket.
Deliberately leaves the samples in its log: they are the answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import inspect_ai
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, get_model
from inspect_ai.solver import generate


def main() -> None:
    """Ask everything and keep the answers."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    texts = [
        "\n".join(
            [
                "Answer with the option's number.",
                question["text"],
                *(f"{code}: {label}" for code, label in enumerate(question["options"], 1)),
            ]
        )
        for question in asked["questions"]
    ]
    samples = [
        Sample(input=[ChatMessageSystem(content=persona), ChatMessageUser(content=text)])
        for persona in asked["personas"]
        for text in texts
    ]
    logs = inspect_ai.eval(
        inspect_ai.Task(dataset=MemoryDataset(samples), solver=generate(), name="peers"),
        model=get_model(f"openai-api/local/{asked['model']}", base_url=asked["server"], api_key="none", stream=False),
        max_connections=asked["concurrency"],
        max_samples=asked["concurrency"],
        max_tokens=512,
        display="none",
        score=False,
        log_dir="logs",
        log_format="eval",
        log_realtime=False,
        ctl_server=False,
    )
    log = logs[0]
    answered = sum(sample.output.completion == "1" for sample in log.samples or [])
    if log.status != "success" or answered != len(samples):
        sys.exit(f"Inspect: {log.status}, {answered} answers, expected {len(samples)}: {log.error}")


if __name__ == "__main__":
    main()
