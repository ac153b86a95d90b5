"""From an official file to a report: an imported survey, asked of the small real model by one command."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.machine import machine_in
from tests.storage.importers.official import person, write_official

REPOSITORY = Path(__file__).parents[2]
#: Seconds that loading the model and two answers may take on a machine with other things to do.
PATIENCE = 220
STUDY = """\
name: imported
survey: ./mine
questions: [Q1, Q57]
cultures: [us]
models: [smollm2-135m-instruct]
conditions: [none]
participants: 1
decoding: {max_new_tokens: 16}
"""


@pytest.mark.slow
def test_an_imported_survey_runs_through_the_small_model(tmp_path: Path) -> None:
    """Import, run, export and report: both questions have an answer that the model wrote."""
    rng = np.random.default_rng(1)
    rows = [person(rng, "840") | {"Q1": str(rng.integers(1, 5)), "Q57": str(rng.integers(1, 3))} for _ in range(120)]
    write_official(tmp_path / "wvs.csv", "country v6", rows)
    cache = os.environ.get("DEFSURVEY_CACHE") or str(REPOSITORY / ".defsurvey" / "models")
    with machine_in(tmp_path / "machine") as machine:
        machine.done("survey", "import", "wvs", str(tmp_path / "wvs.csv"), "-o", "mine")
        machine.write_study(STUDY)
        run = machine.start("run", "study.yaml", DEFSURVEY_CACHE=cache)
        printed, said = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, said
        found = list(csv.DictReader(io.StringIO(machine.done("export", "imported"), newline="")))
        report = Path(printed.removeprefix("report: ").strip())
        assert report.is_file()
    assert [row["question"] for row in found] == ["Q1", "Q57"]
    assert all(row["state"] in ("answered", "refused", "unparsable") for row in found)
    assert all(row["completion"].startswith("Answer: ") for row in found)
    assert "World Values Survey, wave 7" in report.with_suffix(".md").read_text(encoding="utf-8")
