"""Whole-process time and peak memory beside QSTN, EDSL and Inspect, against one local OpenAI-compatible server.

Run it with nothing else on the machine; each peer has a virtual environment named after it::

    python3.13 -m venv DIR/qstn && DIR/qstn/bin/pip install qstn                  # needs Python 3.12 or newer
    python3 -m venv DIR/edsl && DIR/edsl/bin/pip install 'edsl[inference]'
    python3 -m venv DIR/inspect && DIR/inspect/bin/pip install inspect-ai openai
    python -m benchmarks.peers --venvs DIR --calls 400 4000 --repeat 3

Every run is a process of its own in an empty home, with a server of its own that counts: a run that did not make
exactly the calls of its workload, or made more at once than it may, fails the benchmark. Tools take turns. Ours is
``defsurvey run``: each answer is parsed and committed in a fenced transaction of its own, and a report is built at the
end, for which there is no switch; the column "last answer" says when there was nothing left to do but the report. The
others build none. Under the condition ``none`` our participants of one culture are asked a question in the same words,
as a country's citizen; nothing is answered from a cache, which the count of calls shows. Under ``def`` every prompt is
another, and longer, since it remembers. The others' prompts all differ.

Knows rotation, medians and tables; ``benchmarks.peer_tools`` knows the tools, ``benchmarks.peer_process`` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO
from urllib.request import urlopen

from benchmarks.peer_process import ProcessFailed, measure
from benchmarks.peer_tools import TOOLS, Ours, Workload, command, committed

#: Milliseconds before each reply, and calls under way at once.
SHAPES = ((50.0, 10), (0.0, 16))
#: The distribution whose version names a peer.
PACKAGES = {"qstn": "qstn", "edsl": "edsl", "inspect": "inspect-ai"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One tool, one workload, once."""

    tool: str
    workload: Workload
    seconds: float  #: of the process, from start to exit
    peak_mb: float  #: of its processes together
    seen: int  #: calls that the server counted
    prompts: int  #: different ones among them
    characters: int  #: of an average prompt, as JSON
    most_at_once: int
    last_answer: float | None  #: seconds from start to the last commit, where that is known


@contextmanager
def served(delay_ms: float) -> Iterator[str]:
    """A server in a process of its own. Gives its address."""
    process = subprocess.Popen(  # noqa: S603  # this very program, and no shell
        [sys.executable, "-m", "benchmarks.peer_server", "--delay-ms", str(delay_ms)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def once(tool: str, workload: Workload, *, venvs: Path, ours: Ours) -> Run:
    """Run a tool on a workload.

    Raises:
        ProcessFailed: it ended badly, or did not ask what it should have.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, served(workload.delay_ms) as server:
        folder = Path(name)
        told = command(tool, workload, server=f"{server}/v1", folder=folder, venvs=venvs, ours=ours)
        took = measure(told.words, folder=folder, environment=told.environment)
        with urlopen(f"{server}/seen", timeout=10) as answer:  # noqa: S310  # our own server
            seen = json.load(answer)
        last_answer = None
        if tool == "ours":
            answered, last = committed(folder)
            _check(tool, workload, "answers committed", answered)
            last_answer = last - took.began
    _check(tool, workload, "calls", seen["calls"])
    if seen["most_at_once"] > workload.concurrency:
        raise ProcessFailed(
            f"{tool}: {seen['most_at_once']} calls at once, at most {workload.concurrency} were asked for"
        )
    return Run(
        tool=tool,
        workload=workload,
        seconds=took.seconds,
        peak_mb=took.peak_mb,
        seen=seen["calls"],
        prompts=seen["prompts"],
        characters=round(seen["characters"] / seen["calls"]),
        most_at_once=seen["most_at_once"],
        last_answer=last_answer,
    )


def _check(tool: str, workload: Workload, what: str, got: int) -> None:
    if got != workload.calls:
        raise ProcessFailed(f"{tool}: {got:,} {what}, expected {workload.calls:,}: {got - workload.calls:+,}")


def markdown(runs: Sequence[Run]) -> str:
    """Medians of each tool on each workload."""
    titles = ["server", "at once", "calls", "tool", "seconds", "calls/s", "peak MB", "calls seen", "prompts"]
    titles += ["characters each", "most at once", "last answer, s"]
    lines = [f"| {' | '.join(titles)} |", "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for tool, workload in dict.fromkeys((run.tool, run.workload) for run in runs):
        same = [run for run in runs if (run.tool, run.workload) == (tool, workload)]
        seconds = statistics.median(run.seconds for run in same)
        peak = statistics.median(run.peak_mb for run in same)
        last = [run.last_answer for run in same if run.last_answer is not None]
        counts = " | ".join(
            "-".join(f"{count:,}" for count in sorted(set(found)))
            for found in (
                [run.seen for run in same],
                [run.prompts for run in same],
                [run.characters for run in same],
                [run.most_at_once for run in same],
            )
        )
        lines.append(
            f"| {workload.delay_ms:.0f} ms | {workload.concurrency} | {workload.calls:,} | {tool} | {seconds:.2f} "
            f"| {workload.calls / seconds:,.0f} | {peak:.0f} | {counts} "
            f"| {f'{statistics.median(last):.2f}' if last else ''} |"
        )
    return "\n".join(lines)


def setting(tools: Sequence[str], venvs: Path, ours: Ours, repeat: int) -> str:
    """What was measured on what."""
    versions = [f"{tool} {_version(venvs / tool, PACKAGES[tool])}" for tool in tools if tool in PACKAGES]
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}; "
        f"{', '.join(versions) or 'no peers'}; medians of {repeat}. Ours: condition `{ours.condition}`, "
        f"{ours.workers} worker process(es), every answer committed durably, report included."
    )


def _version(venv: Path, package: str) -> str:
    asked = (
        "import sys, platform, importlib.metadata as m; "
        "print(m.version(sys.argv[1]), f'(Python {platform.python_version()})')"
    )
    words = [str(venv / "bin" / "python"), "-c", asked, package]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603  # no shell


def measured(workloads: Sequence[Workload], asked: argparse.Namespace, ours: Ours) -> Iterator[Run]:
    """Run after run, the tools in turn."""
    for workload in workloads:
        for turn in range(asked.repeat):
            for tool in asked.only:
                run = once(tool, workload, venvs=asked.venvs, ours=ours)
                last = "" if run.last_answer is None else f", last answer after {run.last_answer:.2f} s"
                _say(
                    f"{workload.delay_ms:.0f} ms, {workload.concurrency} at once, {workload.calls:,} calls, "
                    f"{turn + 1} of {asked.repeat}: {tool} {run.seconds:.2f} s, {run.peak_mb:.0f} MB{last}",
                    sys.stderr,
                )
                yield run


def _say(line: str, to: TextIO = sys.stdout) -> None:
    to.write(f"{line}\n")
    to.flush()


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, required=True, help="folder of the peers' virtual environments")
    parser.add_argument("--calls", type=int, nargs="+", default=[400, 4000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--condition", default="none", choices=("none", "def"), help="of our own study")
    parser.add_argument("--workers", type=int, default=1, help="of our own run")
    parser.add_argument("--json", type=Path, help="file for every single run")
    asked = parser.parse_args()
    ours = Ours(condition=asked.condition, workers=asked.workers)
    try:
        workloads = [
            Workload(calls=calls, delay_ms=delay_ms, concurrency=concurrency)
            for delay_ms, concurrency in SHAPES
            for calls in asked.calls
        ]
    except ValueError as wrong:
        parser.error(str(wrong))
    runs: list[Run] = []
    try:
        for run in measured(workloads, asked, ours):
            runs.append(run)  # kept one by one, so that a failure loses none of them
            if asked.json:
                asked.json.write_text(json.dumps([asdict(run) for run in runs], indent=2), encoding="utf-8")
    except ProcessFailed as failure:
        sys.exit(f"{failure}\n\n{markdown(runs)}")
    _say(f"{setting(asked.only, asked.venvs, ours, asked.repeat)}\n\n{markdown(runs)}")


if __name__ == "__main__":
    main()
