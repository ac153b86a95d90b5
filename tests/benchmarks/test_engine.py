"""The benchmark of the batch: which requests it takes, what is measured of them, and how it is told."""

import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.engine import WAYS, WORKLOADS, refusal, table
from benchmarks.measuring import HELD_TO, commit, in_its_own_process, machine, measured
from benchmarks.models import random_model
from benchmarks.ways import alone, continuous, grouped, shareable, weighed
from benchmarks.workloads import Beams, as_json, fixed, from_json, kind, random_prompts, stratified

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 500,
}
FIXED = {name: work for name, work in WORKLOADS.items() if "requests" in work}


def letters(text: str) -> dict[str, list[int]]:
    """A tokenizer."""
    return {"input_ids": list(text.encode())}


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("one_in", [1, 2, 4, 1000])
def test_a_sample_has_every_kind_of_request_in_its_proportion(name: str, one_in: int) -> None:
    requests = fixed(letters, **FIXED[name])
    part = stratified(requests, one_in)
    there = Counter(kind(request) for request in requests)
    stands_for: Counter[tuple[int, bool, int]] = Counter()
    for request, weight in part:
        stands_for[kind(request)] += weight
    assert stands_for == pytest.approx(there)
    drawn = Counter(kind(request) for request, _ in part)
    assert all(abs(drawn[one] - max(1, number / one_in)) <= 0.5 for one, number in there.items())
    assert len({request.seed for request, _ in part}) == len(part)
    assert (one_in > 1) or len(part) == len(requests)


def test_workloads_have_the_beams_and_the_sampling_that_their_names_say() -> None:
    def made(beams: Beams) -> set[tuple[int, bool]]:
        requests = fixed(letters, requests=20, new_tokens=40, beams=beams)
        assert all(400 <= len(one.prompt) <= 560 and not one.ends for one in requests)
        return {(one.num_beams, one.sampling is not None) for one in requests}

    assert made(Beams.MIXED) == {(beams, sampled) for beams in range(1, 6) for sampled in (True, False)}
    assert made(Beams.NONE) == {(1, True), (1, False)}
    assert made(Beams.GREEDY) == {(beams, False) for beams in range(1, 6)}


def test_requests_travel_to_other_processes() -> None:
    requests = random_prompts(500, requests=10, prompt=9, new_tokens=3)
    assert [from_json(json.loads(json.dumps(as_json(one)))) for one in requests] == requests


def test_what_prompts_can_share_is_every_beginning_but_once() -> None:
    assert shareable([(1, 2, 3), (1, 5), (7,), (1, 2, 4)]) == 3 / 9


def test_ways_are_asked_only_for_what_they_can_batch() -> None:
    taken = {way: [name for name, work in FIXED.items() if not refusal(way, work)] for way in WAYS}
    everything = list(FIXED)
    assert all(taken[way] == everything for way in ("engine", "beside", "alone", "grouped"))
    assert taken["continuous"] == taken["vllm"] == ["20 x 40, no beams"]
    assert taken["genai"] == ["20 x 40, no beams", "20 x 40, greedy beams"]
    talks = WORKLOADS["interviews, questions 1-8"]
    assert [way for way in WAYS if not refusal(way, talks)] == ["engine", "beside", "alone"]


def test_ways_of_the_library_make_all_tokens_and_weights_count_requests_more_than_once() -> None:
    loaded = random_model(TINY, "none", torch.device("cpu"))
    requests = random_prompts(500, requests=10, prompt=30, new_tokens=3)
    narrow = [one for one in requests if one.num_beams == 1]
    assert alone(loaded, requests) == grouped(loaded, requests) == 30
    assert continuous(loaded, narrow) == 6
    took = weighed(loaded, narrow, [1.0, 2.5])
    assert took.tokens == round(3.5 * 3)
    assert took.seconds > 0 < took.cpu_seconds


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--only", "20 x 41"], ["20 x 41", *WORKLOADS]),
        (["--ways", "engine", "llama.cpp"], ["llama.cpp", *WAYS]),
        (["--beside", "/nowhere"], ["/nowhere", ".venv/bin/python"]),
    ],
)
def test_what_does_not_exist_is_an_error(arguments: list[str], expected: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", *arguments], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (error,) = [line for line in ended.stderr.splitlines() if "error:" in line]
    assert all(name in error for name in expected)


def test_the_table_has_least_median_and_most_and_says_what_is_scaled_or_missing() -> None:
    run = {
        "workload": "20 x 40",
        "load_before": 0.1,
        "load_after": 0.2,
        "others": 0.01,
        "peak_mb": 1000.0,
        "tokens": 800,
    }
    lines = [
        *(
            {**run, "way": "engine", "round": n, "seconds": s, "cpu_seconds": 2 * s}
            for n, s in enumerate((4.0, 2.0, 3.0))
        ),
        {**run, "way": "alone", "round": 0, "seconds": 40.0, "cpu_seconds": 80.0, "scaled from": "10 of 20"},
        {**run, "way": "alone", "round": 1, "seconds": 30.0, "cpu_seconds": 60.0, "scaled from": "10 of 20"},
        {"workload": "20 x 40", "way": "genai", "round": 0, "missing": "No module named 'openvino_genai'"},
    ]
    written = io.StringIO()
    Console(file=written, width=300).print(table(lines, markdown=True))
    rows = {
        cells[2].strip(): [cell.strip() for cell in cells[3:-1]]
        for line in written.getvalue().splitlines()
        if len(cells := line.split("|")) > 3
    }
    assert rows["engine"] == ["3", "2.00, 3.00, 4.00", "4.00, 6.00, 8.00", "1,000", "800", "1%", "1.00", ""]
    assert rows["alone"][:3] == ["2", "30.00, 35.00, 40.00", "60.00, 70.00, 80.00"]
    assert rows["alone"][-2:] == ["12.50", "scaled from: 10 of 20"]  # in the middle of 10 and 15 times
    assert rows["genai"] == ["0", "", "", "", "", "", "", "missing: No module named 'openvino_genai'"]


# What is measured of a piece of work, in a process of its own.


def python(program: str, **variables: str) -> dict[str, object]:
    return in_its_own_process([sys.executable, "-c", program], folder=Path.cwd(), variables=variables)


def test_a_process_of_its_own_tells_by_its_last_line() -> None:
    told = python("import os; print('other'); print('{\"seconds\": ' + os.environ['SAID'] + '}')", SAID="3")
    assert told["seconds"] == 3
    assert {"load_before", "load_after", "others"} < told.keys()


def test_what_fails_there_and_what_is_not_installed_is_named() -> None:
    assert python("raise ValueError('no room')")["failed"] == "ValueError: no room"
    assert python("import not_installed")["missing"] == "ModuleNotFoundError: No module named 'not_installed'"
    assert python("raise SystemExit(3)")["failed"] == "exit status 3"


def test_the_share_that_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks for other programs and for other machines of the same host count; idle and waiting ones do not."""
    read, stat, ticks = Path.read_text, "cpu {0} 2 3 {0} {0} 4 5 {0} 0 0", iter([0, 50 * os.sysconf("SC_CLK_TCK")])

    def read_text(path: Path, encoding: str | None = None) -> str:
        return stat.format(next(ticks)) if path.name == "stat" else read(path, encoding)

    monkeypatch.setattr(Path, "read_text", read_text)
    began = time.perf_counter()
    others = python("print('{}')")["others"]
    assert others * (time.perf_counter() - began) * (os.cpu_count() or 1) == pytest.approx(100, rel=0.1)


def test_the_peak_is_that_of_the_work_alone() -> None:
    def fill(megabytes: int) -> int:
        return int(np.ones(megabytes << 20, dtype=np.uint8)[-1])

    fill(600)
    little, much = measured(lambda: fill(20)), measured(lambda: fill(300))
    assert much.peak_mb - little.peak_mb == pytest.approx(1.048576 * 280, rel=0.1)
    assert (much.tokens, much.seconds > 0, much.cpu_seconds > 0) == (1, True, True)


def test_a_checkout_says_whether_files_differ_from_its_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    clean = commit(tmp_path)
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{clean}-dirty"
    assert commit(tmp_path / "nothing") == "unknown"


def test_the_first_line_says_what_the_processor_computes_with() -> None:
    has = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    found = machine()
    assert [flag in found["flags"] for flag in ("avx2", "amx_bf16")] == ["avx2" in has, "amx_bf16" in has]
    assert {"processor", "cores", "load", "versions"} < found.keys()
    assert torch.__version__.startswith(found["versions"]["torch"])  # which leaves out what torch was built for


def test_a_processor_can_be_held_to_avx2() -> None:
    program = "import torch, json; print(json.dumps({'can': torch.backends.cpu.get_cpu_capability()}))"
    assert python(program, **HELD_TO["avx2"])["can"] in ("AVX2", "DEFAULT")
