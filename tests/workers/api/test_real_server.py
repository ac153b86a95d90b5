"""The OpenAI engine against a server that others wrote: ``transformers serve``, as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Engine, FinishReason
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.models import ModelCard
from tests.workers.api.conftest import ask
from tests.workers.tiny import write_tiny_model

#: Seconds for a server to come up on a busy machine, the model library included.
PATIENCE = 150.0
SAMPLED = Decoding(do_sample=True, temperature=1.0, top_p=1.0, max_new_tokens=24)
GREEDY = Decoding(do_sample=False, max_new_tokens=24)


@contextmanager
def transformers_serving(folder: Path) -> Iterator[str]:
    """The address of a server for the model in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(folder), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    program = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", folder / "server.log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if httpx2.get(url, timeout=5).is_success:
                return
        except httpx2.HTTPError:
            assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@contextmanager
def engine_for(folder: Path, url: str, survey: Survey, cache: Path, **api: Any) -> Iterator[Engine]:
    given = {"model": str(folder), "base_url": url, "takes": ("temperature", "top_p", "seed")} | api
    card = ModelCard.model_validate({"name": "served", "engine": "openai"} | given)
    engine = open_engine(card, survey=survey, cache=cache)
    try:
        yield engine
    finally:
        engine.close()


def generated(folder: Path, prompt: str, tokens: int) -> tuple[str, int]:
    """What the model generates greedily after a prompt, and how many tokens the prompt has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    count = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    return tokenizer.decode(output[0, count:], skip_special_tokens=True), count


@pytest.mark.slow
def test_a_real_server_answers_as_the_model_does(small_survey: Survey, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model", do_sample=True)
    with transformers_serving(folder) as url:
        with engine_for(folder, url, small_survey, tmp_path) as engine:
            greedy = engine.submit(ask("How?", decoding=GREEDY)).result(PATIENCE)
            text, count = generated(folder, "How?", 24)
            assert greedy.text == text
            assert (greedy.prompt_tokens, greedy.finish) == (count, FinishReason.LENGTH)
            assert greedy.completion_tokens == 24
            sampled = [engine.submit(ask(decoding=SAMPLED, seed=seed)).result(PATIENCE).text for seed in (1, 2, 1)]
            assert sampled[0] == sampled[2] != sampled[1]
        with engine_for(folder, url, small_survey, tmp_path, model="another") as engine:
            refused = engine.submit(ask()).result(PATIENCE)
            assert refused.finish is FinishReason.ERROR
            assert refused.error.startswith("the server says 400: Server is pinned to")
