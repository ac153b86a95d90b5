"""The batch beside other ways of serving the same requests with the same weights, in turn, each in a process of its own.

Run it with nothing else on the machine::

    python -m benchmarks.engine --cache .defsurvey/models --threads 2 --repeat 3
    python -m benchmarks.engine --only "20 x 40" --ways engine beside --beside ../before --dtype float32

The ways: ``engine``, the batch of this checkout; ``beside``, that of another checkout, by its own environment;
``alone``, ``generate`` on one request at a time; ``grouped``, ``generate`` on all requests of equal settings at once;
``continuous``, transformers' continuous batching; ``genai``, OpenVINO GenAI; ``vllm``, vLLM for CPUs. A process loads
the model and serves short requests first, which counts neither as time nor towards its peak of memory.

The first line of the output says on what was measured, each other line is one run, and a table follows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.measuring import HELD_TO, ROOT, commit, in_its_own_process, machine
from benchmarks.workloads import Beams, as_json, fixed, from_json, stratified

WORKLOADS: dict[str, dict[str, Any]] = {
    "20 x 40": {"requests": 20, "new_tokens": 40, "beams": Beams.MIXED},
    "20 x 40, no beams": {"requests": 20, "new_tokens": 40, "beams": Beams.NONE},
    "20 x 40, greedy beams": {"requests": 20, "new_tokens": 40, "beams": Beams.GREEDY},
    "40 x 96": {"requests": 40, "new_tokens": 96, "beams": Beams.MIXED},
    "interviews, questions 1-8": {"participants": 24, "first": 0, "order": "drawn"},
    "interviews, questions 31-38, drawn order": {"participants": 24, "first": 30, "order": "drawn"},
    "interviews, questions 31-38, chronological": {"participants": 24, "first": 30, "order": "chronological"},
}
#: What serves a workload in each way, see ``Benchmark.command``.
WAYS = {
    "engine": "benchmarks.ways",
    "beside": "benchmarks.ways",
    "alone": "benchmarks.ways",
    "grouped": "benchmarks.ways",
    "continuous": "benchmarks.ways",
    "genai": "benchmarks.genai",
    "vllm": "benchmarks.vllm_cpu",
}


def refusal(way: str, workload: dict[str, Any]) -> str:
    """Why a way cannot serve a workload; empty where it can."""
    if "participants" in workload:
        return "" if way in ("engine", "beside", "alone") else "takes no questions that follow from answers"
    if way in ("continuous", "vllm") and workload["beams"] is not Beams.NONE:
        return "takes no beams in its batch"
    if way == "genai" and workload["beams"] is Beams.MIXED:
        return "takes no beams together with sampling"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Has ways serve workloads."""

    settings: dict[str, Any]  #: of every task: model, cache, dtype, threads, folder
    variables: dict[str, str]  #: of the environment of every process
    interpreters: dict[str, str]
    beside: Path | None
    sample: int
    scratch: Path

    def command(self, way: str, task: Path) -> tuple[list[str], Path]:
        """The program that serves a task in one way, and its folder."""
        if way != "beside":
            ours = [self.interpreters.get(way, sys.executable), "-m", WAYS[way]]
            return [*ours, *([way] if WAYS[way] == "benchmarks.ways" else []), str(task)], ROOT
        assert self.beside is not None
        python = str(self.beside / ".venv/bin/python")
        if "__main__" in (self.beside / "benchmarks/ways.py").read_text(encoding="utf-8"):
            return [python, "-m", "benchmarks.ways", "engine", str(task)], self.beside
        older = (ROOT / "benchmarks/before.py").read_text(encoding="utf-8")
        return [python, "-c", older, str(task)], self.beside

    def export(self) -> None:
        """Write the weights for other libraries, once."""
        if not Path(self.settings["folder"], "model.safetensors").exists():
            self._serve("export", {"dtype": "float32"})

    def run(self, way: str, workload: dict[str, Any]) -> dict[str, Any]:
        """One way, one workload, once."""
        if reason := refusal(way, workload):
            return {"refused": reason}
        if way == "beside" and self.beside is None:
            return {"refused": "missing: --beside names no checkout"}
        asked = self.scratch / f"{workload.get('first')} {workload.get('order')}.json"
        if "participants" not in workload:
            tokenizer = AutoTokenizer.from_pretrained(self.settings["folder"])
            requests = fixed(tokenizer, **workload)
        elif way != "alone":
            return self._serve(way, {"interviews": workload, "asked": str(asked if way == "engine" else "/dev/null")})
        elif asked.exists():
            requests = [from_json(one) for one in json.loads(asked.read_text(encoding="utf-8"))]
        else:
            return {"refused": "needs the way engine: it is given the requests that came up there"}
        if way != "alone":
            return self._serve(way, {"requests": [as_json(one) for one in requests]})
        part = stratified(requests, self.sample)
        weighed = {"requests": [as_json(one) for one, _ in part], "weights": [weight for _, weight in part]}
        scaled = {"scaled_from": f"{len(part)} of {len(requests)}"} if len(part) < len(requests) else {}
        return self._serve(way, weighed) | scaled

    def _serve(self, way: str, task: dict[str, Any]) -> dict[str, Any]:
        file = self.scratch / "task.json"
        file.write_text(json.dumps({**self.settings, **task}), encoding="utf-8")
        command, folder = self.command(way, file)
        return in_its_own_process(command, folder=folder, variables=self.variables)


def table(lines: Sequence[dict[str, Any]], *, markdown: bool) -> Table:
    """A row for each way of each workload."""
    shown = Table(box=box.MARKDOWN if markdown else box.SIMPLE)
    for heading in ("workload", "way", "runs"):
        shown.add_column(heading)
    for heading in ("seconds: min, median, max", "CPU seconds", "beside engine", "peak MB", "tokens", "others' CPU"):
        shown.add_column(heading, justify="right")
    shown.add_column("note")
    ways: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        ways.setdefault((line["workload"], line["way"]), []).append(line)
    for (workload, way), runs in ways.items():
        taken = {run["round"]: run for run in runs if "seconds" in run}
        notes = {run.get("refused") or run.get("failed") or _scaled(run) for run in runs} - {""}
        rest = ["", "", "", "", "", ""]
        if taken:
            engine = {run["round"]: run["seconds"] for run in ways.get((workload, "engine"), []) if "seconds" in run}
            ratios = [run["seconds"] / engine[number] for number, run in taken.items() if number in engine]
            some = list(taken.values())
            rest = [
                _spread([run["seconds"] for run in some]),
                _spread([run["cpu_seconds"] for run in some]),
                f"{statistics.median(ratios):.2f}" if ratios else "",
                f"{max(run['peak_mb'] for run in some):,.0f}",
                _spread([run["tokens"] for run in some], "{:,.0f}"),
                f"{max(run['others_cpu_seconds'] / run['seconds'] for run in some):.0%}",
            ]
        shown.add_row(workload, way, str(len(taken)), *rest, "; ".join(sorted(notes)))
    return shown


def _scaled(run: dict[str, Any]) -> str:
    return f"scaled from {run['scaled_from']}" if "scaled_from" in run else ""


def _spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    least, middle, most = min(values), statistics.median(values), max(values)
    return form.format(middle) if least == most else ", ".join(form.format(one) for one in (least, middle, most))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".defsurvey/models"), help="where weights are kept")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sample", type=int, default=1, help="alone takes one in so many requests of every kind")
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORKLOAD")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--beside", type=Path, help="another checkout, with an environment in .venv")
    parser.add_argument("--held-to", choices=HELD_TO, help="use no instructions newer than these")
    parser.add_argument("--python", nargs="+", default=[], metavar="WAY=FILE", help="interpreters of genai and vllm")
    parser.add_argument("--exports", type=Path, default=Path("build/benchmarks"), help="weights for other libraries")
    asked = parser.parse_args()
    asked.interpreters = dict(one.partition("=")[::2] for one in asked.python)
    if unknown := set(asked.interpreters) - {"genai", "vllm"}:
        parser.error(f"argument --python: expected genai=FILE or vllm=FILE, got {', '.join(sorted(unknown))}")
    if asked.beside and not (asked.beside / ".venv/bin/python").exists():
        parser.error(f"argument --beside: expected a checkout with .venv/bin/python, got {asked.beside}")
    return asked


def main() -> None:
    """Read the command line and measure; ends with 1 where the batch itself failed."""
    asked = _arguments()
    held = HELD_TO.get(asked.held_to, {})
    threads = {name: str(asked.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    setting = {"model": asked.model, "dtype": asked.dtype, "threads": asked.threads}
    first = {"commit": commit(ROOT), **machine(), **setting, "held_to": asked.held_to, "sample": asked.sample}
    if asked.beside:
        first["beside"] = commit(asked.beside)
    console = Console(width=None if sys.stdout.isatty() else 400)
    console.print(json.dumps(first), markup=False, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    lines = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        bench = Benchmark(
            settings={
                **setting,
                "cache": str(asked.cache.resolve()),
                "folder": str(asked.exports.resolve() / asked.model),
            },
            variables={**threads, **held, "HF_HUB_OFFLINE": "1"},
            interpreters=asked.interpreters,
            beside=asked.beside,
            sample=asked.sample,
            scratch=Path(scratch),
        )
        bench.export()
        bar = progress.add_task("", total=len(asked.only) * asked.repeat * len(asked.ways))
        for workload in asked.only:
            for number in range(asked.repeat):
                for way in (*asked.ways[number % len(asked.ways) :], *asked.ways[: number % len(asked.ways)]):
                    progress.update(bar, description=f"{workload}: {way}")
                    took = bench.run(way, WORKLOADS[workload])
                    lines.append({"workload": workload, "way": way, "round": number, **took})
                    console.print(json.dumps(lines[-1]), markup=False, highlight=False, soft_wrap=True)
                    progress.advance(bar)
    console.print(table(lines, markdown=not console.is_terminal))
    sys.exit(any("failed" in line for line in lines if line["way"] == "engine"))


if __name__ == "__main__":
    main()
