"""The batch beside other ways of serving the same requests with the same weights, in turn, each in its own process.

Run it with nothing else on the machine::

    python -m benchmarks.engine --cache .defsurvey/models --threads 2 --repeat 3
    python -m benchmarks.engine --only "20 x 40" --ways engine beside --beside ../before --dtype float32

Ways: ``engine``, the batch of this checkout; ``beside``, that of another, by its own environment; ``alone``,
``generate`` on one request at a time; ``grouped``, ``generate`` on all requests of equal settings; ``continuous``,
transformers' continuous batching; ``genai``, OpenVINO GenAI; ``vllm``, vLLM for CPUs. A process loads the model and
serves short requests first, which counts neither as time nor towards its peak of memory.

The first line of the output says what was measured on what, each other line is one run, and a table follows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.measuring import HELD_TO, ROOT, commit, in_its_own_process, machine
from benchmarks.workloads import Beams, as_json, fixed, from_json, stratified

#: What ``fixed`` and ``interviews`` are given.
WORKLOADS: dict[str, dict[str, Any]] = {
    "20 x 40": {"requests": 20, "new_tokens": 40, "beams": Beams.MIXED},
    "20 x 40, no beams": {"requests": 20, "new_tokens": 40, "beams": Beams.NONE},
    "20 x 40, greedy beams": {"requests": 20, "new_tokens": 40, "beams": Beams.GREEDY},
    "40 x 96": {"requests": 40, "new_tokens": 96, "beams": Beams.MIXED},
    "interviews, questions 1-8": {"participants": 24, "first": 0, "order": "drawn"},
    "interviews, questions 31-38, drawn order": {"participants": 24, "first": 30, "order": "drawn"},
    "interviews, questions 31-38, chronological": {"participants": 24, "first": 30, "order": "chronological"},
}
WAYS = ("engine", "beside", "alone", "grouped", "continuous", "genai", "vllm")
#: Headings of a table, what of a line they stand for, and how it is written.
_COLUMNS = {
    "seconds: min, median, max": ("seconds", ".2f"),
    "CPU seconds": ("cpu_seconds", ".2f"),
    "peak MB": ("peak_mb", ",.0f"),
    "tokens": ("tokens", ",.0f"),
    "others": ("others", ".0%"),
}
#: Keys of a line that its row repeats.
_NOTES = ("refused", "missing", "failed", "scaled from")
#: Ways that other interpreters may serve.
_OTHERS = {"genai": "benchmarks.genai", "vllm": "benchmarks.vllm_cpu"}


def refusal(way: str, workload: dict[str, Any]) -> str:
    """Why a way cannot serve a workload; empty where it can."""
    if "participants" in workload:
        return "" if way in ("engine", "beside", "alone") else "answers follow from each other"
    if way in ("continuous", "vllm") and workload["beams"] is not Beams.NONE:
        return "has no beams in its batch"
    return "no beams with sampling" if way == "genai" and workload["beams"] is Beams.MIXED else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Has ways serve workloads."""

    settings: dict[str, Any]  #: of every task: model, dtype, threads, and folders of weights
    variables: dict[str, str]  #: of every process' environment
    interpreters: dict[str, str]  #: of other ways than this one's
    beside: Path | None  #: another checkout
    sample: int  #: ``alone`` takes one in so many requests of every kind
    scratch: Path  #: a folder for tasks

    def run(self, way: str, workload: dict[str, Any]) -> dict[str, Any]:
        """Have one way serve one workload, once; says why where that cannot be."""
        if reason := refusal(way, workload):
            return {"refused": reason}
        if way == "beside" and self.beside is None:
            return {"missing": "--beside names no checkout"}
        asked = self.scratch / f"{workload.get('first')} {workload.get('order')}.json"
        if "requests" in workload:
            requests = fixed(AutoTokenizer.from_pretrained(self.settings["folder"]), **workload)
        elif way != "alone":
            return self.serve(way, {"interviews": workload, "asked": str(asked if way == "engine" else "/dev/null")})
        elif asked.exists():
            requests = [from_json(one) for one in json.loads(asked.read_text(encoding="utf-8"))]
        else:
            return {"missing": "the way engine, whose requests it is given"}
        part = stratified(requests, self.sample if way == "alone" else 1)
        weights = [weight for _, weight in part]
        took = self.serve(way, {"requests": [as_json(one) for one, _ in part], "weights": weights})
        return took | ({"scaled from": f"{len(part)} of {len(requests)}"} if len(part) < len(requests) else {})

    def serve(self, way: str, task: dict[str, Any]) -> dict[str, Any]:
        """Run the program of a way."""
        file = self.scratch / "task.json"
        file.write_text(json.dumps({**self.settings, **task}), encoding="utf-8")
        python, folder = self.interpreters.get(way, sys.executable), ROOT
        program = ["-m", _OTHERS[way]] if way in _OTHERS else ["-m", "benchmarks.ways", way]
        if way == "beside" and self.beside is not None:
            python, folder, program = str(self.beside / ".venv/bin/python"), self.beside, [*program[:-1], "engine"]
            if "__main__" not in (folder / "benchmarks/ways.py").read_text(encoding="utf-8"):
                program = ["-c", (ROOT / "benchmarks/before.py").read_text(encoding="utf-8")]
        return in_its_own_process([python, *program, str(file)], folder=folder, variables=self.variables)


def table(lines: Sequence[dict[str, Any]], *, markdown: bool) -> Table:
    """A row for each way of each workload."""
    shown = Table("workload", "way", "runs", box=box.MARKDOWN if markdown else box.SIMPLE)
    for heading in (*_COLUMNS, "times engine's"):
        shown.add_column(heading, justify="right")
    shown.add_column("note")
    ways: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        ways.setdefault((line["workload"], line["way"]), []).append(line)
    for (workload, way), runs in ways.items():
        took = [run for run in runs if "seconds" in run]
        engine = {run["round"]: run["seconds"] for run in ways.get((workload, "engine"), []) if "seconds" in run}
        ratios = [run["seconds"] / engine[run["round"]] for run in took if run["round"] in engine]
        spreads = [_spread([run[key] for run in took], form) for key, form in _COLUMNS.values()]
        notes = {f"{word}: {run[word]}" for run in runs for word in _NOTES if word in run}
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        shown.add_row(workload, way, str(len(took)), *spreads, ratio, "; ".join(sorted(notes)))
    return shown


def _spread(values: Sequence[float], form: str) -> str:
    shown = [format(value, form) for value in (min(values), statistics.median(values), max(values))] if values else []
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".defsurvey/models"), help="where weights are kept")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sample", type=int, default=1, help="alone takes one in so many requests of every kind")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORKLOAD")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, metavar="WAY")
    parser.add_argument("--beside", type=Path, help="another checkout, with an environment in .venv")
    parser.add_argument("--held-to", choices=HELD_TO, help="use no instructions newer than these")
    parser.add_argument("--genai", default=sys.executable, help="interpreter that has openvino-genai")
    parser.add_argument("--vllm", default=sys.executable, help="interpreter that has vllm-cpu")
    asked = parser.parse_args()
    own = asked.beside / ".venv/bin/python" if asked.beside else sys.executable
    for option, python in (("--beside", own), ("--genai", asked.genai), ("--vllm", asked.vllm)):
        if not Path(python).exists():
            parser.error(f"argument {option}: expected an interpreter, found none at {python}")
    return asked


def main() -> None:
    """Read the command line and measure; ends with 1 where the batch itself failed."""
    asked = _arguments()
    shared = {"model": asked.model, "dtype": asked.dtype, "threads": asked.threads}
    first = {"commit": commit(ROOT), "beside": asked.beside and commit(asked.beside), **machine(), **shared}
    console = Console(width=None if sys.stdout.isatty() else 400)
    say = lambda line: console.print(json.dumps(line), markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    say({**first, "held_to": asked.held_to, "sample": asked.sample})
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(asked.threads))
    folder = ROOT / "build/benchmarks" / asked.model
    lines = []
    with tempfile.TemporaryDirectory() as scratch, Progress(console=console, disable=not console.is_terminal) as bars:
        bench = Benchmark(
            settings={**shared, "cache": str(asked.cache.resolve()), "folder": str(folder)},
            variables={**threads, **HELD_TO.get(asked.held_to, {}), "HF_HUB_OFFLINE": "1"},
            interpreters={"genai": asked.genai, "vllm": asked.vllm},
            beside=asked.beside and asked.beside.resolve(),
            sample=asked.sample,
            scratch=Path(scratch),
        )
        exported = (folder / "tokenizer.json").exists() or bench.serve("export", {"dtype": "float32"})
        if exported is not True and "failed" in exported:
            sys.exit(f"the model could not be exported: {exported['failed']}")
        bar = bars.add_task("", total=len(asked.only) * asked.repeat * len(asked.ways))
        for workload, number in product(asked.only, range(asked.repeat)):
            turn = number % len(asked.ways)
            for way in (*asked.ways[turn:], *asked.ways[:turn]):
                bars.update(bar, description=f"{workload}: {way}")
                took = bench.run(way, WORKLOADS[workload])
                lines.append({"workload": workload, "way": way, "round": number, **took})
                say(lines[-1])
                bars.advance(bar)
    console.print(table(lines, markdown=not console.is_terminal))
    sys.exit(any("failed" in line for line in lines if line["way"] == "engine"))


if __name__ == "__main__":
    main()
