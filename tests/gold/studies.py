"""Runs a reference study by the command line and collects everything that it says.

Each folder here is a study: ``study.yaml`` and, where it needs them, model cards and an official file; beside them is
what it gave when it was recorded. Nothing of the program is imported, so that the program can be moved about.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zlib import crc32

from tests.judging.provider import judging
from tests.workers.api.server import Got, Reply, chat, serving

PROGRAM = "defsurvey"  #: what ``python -m`` starts
FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parents[1]
#: Study -> whether it asks a real model.
STUDIES = {
    "scripted": False,
    "five-countries": False,
    "ablation": False,
    "judged": False,
    "first-token": True,
    "demo": True,
}
INPUTS = ("study.yaml", "models.toml", "wvs.csv")
#: The same arithmetic on every processor that has AVX2: of kernels, of NumPy and of its BLAS, in one thread.
ENVIRONMENT = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "JUDGE_KEY": "opens-nothing",
    "SERVED_KEY": "opens-nothing",
}
#: The card of the model that the judged study asks.
SERVED = """
[served]
engine = "openai"
model = "served-1"
base_url = "{}/v1"
key = "SERVED_KEY"
input_price = 1.0
output_price = 5.0
"""
#: What belongs to the moment or the machine, and what stands for it.
OF_THE_MOMENT = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "TIME"),
    (r"http\\?://127\.0\.0\.1:\d+", "SERVER"),
    (r'"rate_per_second": [\d.]+', '"rate_per_second": RATE'),
    (r"celery [\d.]+, defsurvey [^<\n]+", "VERSIONS"),
    (r"\b(torch|transformers|httpx2): [\w.+]+", r"\1: VERSION"),
    (r"(· run [\w-]+ · )\d+ \w+ \d{4}", r"\1DATE"),
    (r"(?s)(Time, tokens and cost by model(?:</span>|\*\*)).*?(</table>|\n\n(?!\|))", r"\1 THROUGHPUT\2"),
)
#: In a report also names of anchors, and the geometry of its charts, which follows the fonts of the machine.
OF_A_REPORT = (
    (r' (id|for|aria-\w+)="[^"]*"| href="#[^"]*"', ""),
    (r"\]\(#[^)]*\)", "]"),
    (r"<path[^>]*>| (transform|[xy]\d?|width|height|viewBox)=\"[^\"]*\"", ""),
)


def inputs(study: str) -> list[Path]:
    return [file for name in INPUTS if (file := FOLDER / study / name).exists()]


def outputs(study: str) -> dict[str, bytes]:
    """What was recorded of a study: name -> content."""
    files = [file for file in (FOLDER / study).rglob("*") if file.is_file() and file not in inputs(study)]
    return {file.relative_to(FOLDER / study).as_posix(): file.read_bytes() for file in files}


def run(study: str, folder: Path) -> dict[str, bytes]:
    """Run a study in an empty folder. Returns what it gives now: name -> content."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in inputs(study):
        shutil.copy(file, folder)
    with judging() as judge, serving(_served) as server:
        if study == "judged":
            (folder / "models.toml").write_text(judge.cards() + SERVED.format(server.url))
        return dict(_lasting(name, content, folder) for name, content in _collect(study, folder).items())


def _served(got: Got, before: int) -> Reply:
    """An answer that follows from the prompt alone; one in three is false to facts, by the judge's rule."""
    drawn = crc32(got.prompt.encode())
    return chat(f"Answer: {1 + drawn % 2}\nExplanation: The earth is {('round', 'wide', 'flat')[drawn % 3]}.")


def _collect(study: str, folder: Path) -> dict[str, bytes]:
    found = {}
    if (folder / "wvs.csv").exists():
        _type(folder, "survey", "import", "wvs", "wvs.csv", "--output", "survey")
        found |= {f"survey/{file.name}": file.read_bytes() for file in (folder / "survey").iterdir()}
    found["plan.json"] = _type(folder, "plan", "study.yaml", "--json")
    found["preview.json"] = _type(folder, "preview", "study.yaml", "--json", "--participant", "1")
    if STUDIES[study]:
        found["preview.txt"] = _type(folder, "preview", "study.yaml")
    _type(folder, "run", "study.yaml", "--device", "cpu", "--concurrency", "4")
    found["answers.csv"] = _type(folder, "export", study, "--format", "csv")
    if "first-token" in (folder / "study.yaml").read_text():
        found["probabilities.csv"] = _type(folder, "export", study, "--format", "csv", "--probabilities")
    found["status.json"] = _type(folder, "status", study, "--json")
    report = folder / "home" / "reports" / study
    found |= {f"report/{file.name}": file.read_bytes() for file in report.glob("[!.]*")}
    return found


def _type(folder: Path, *words: str) -> bytes:
    """Type a command, which must end well. Returns what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEFSURVEY_")}
    cache = os.environ.get("DEFSURVEY_CACHE") or str(REPOSITORY / ".defsurvey" / "models")
    own = {"DEFSURVEY_HOME": str(folder / "home"), "DEFSURVEY_CACHE": cache}
    command = [sys.executable, "-m", PROGRAM, *words]
    done = subprocess.run(command, cwd=folder, env=inherited | ENVIRONMENT | own, capture_output=True, check=False)
    assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def _lasting(name: str, content: bytes, folder: Path) -> tuple[str, bytes]:
    """A file without what is of the moment; of a report in HTML, which is big, its hash: the file itself is kept."""
    text = content.decode().replace(str(folder), "FOLDER")
    for pattern, word in OF_THE_MOMENT + (OF_A_REPORT if name.startswith("report/report.") else ()):
        text = re.sub(pattern, word, text)
    if name.endswith(".html"):
        (folder / "report.html").write_text(text)
        return f"{name}.sha256", hashlib.sha256(text.encode()).hexdigest().encode() + b"\n"
    return name, text.encode()
