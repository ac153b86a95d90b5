"""``defsurvey run``: one command from a study to a report, and the same answers whatever happens to it."""

import csv
import io
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

from tests.end_to_end.machine import CULTURES, PARTICIPANTS, PLANNED, QUESTIONS, Machine, ended, wait_until

SLOW = 0.5  #: seconds of a reply where a run has to be caught in the middle
STATES = ("answered", "refused", "unparsable", "failed")


def start_slowly(machine: Machine, *options: str) -> subprocess.Popen[str]:
    machine.set_latency(SLOW)
    run = machine.start("run", "study.yaml", "--concurrency", "2", *options)
    wait_until(lambda: machine.answers() >= 8 or run.poll() is not None, "the first answers")
    assert run.poll() is None, ended(run).stderr
    assert 8 <= machine.answers() < PLANNED
    machine.set_latency(0.0)  # for whatever goes on with it
    return run


def test_one_command_ends_with_a_report_and_every_answer(undisturbed: Machine) -> None:
    assert undisturbed.first_output == f"report: {undisturbed.home}/reports/small/report.html\n"
    report = Path(undisturbed.first_output.removeprefix("report: ").strip())
    assert report.is_file()
    assert report.with_suffix(".md").is_file()
    status = undisturbed.json("status")
    assert (status["run"], status["state"], status["report"]) == ("small", "finished", str(report))
    assert (status["planned"], status["remaining"], status["eta_seconds"]) == (PLANNED, 0, 0.0)
    assert sum(status[state] for state in STATES) == PLANNED
    assert status["participants"] == {"waiting": 0, "running": 0, "finished": 10, "quarantined": 0}
    assert [(cell["culture"], cell["planned"]) for cell in status["cells"]] == [("us", 40), ("cn", 40)]
    assert undisturbed.processes() == []


def test_the_export_has_one_row_for_each_planned_answer(undisturbed: Machine) -> None:
    found = list(csv.DictReader(io.StringIO(undisturbed.done("export", "small"), newline="")))
    keys = [(row["culture"], int(row["participant"]), row["question"]) for row in found]
    planned = [(c, p, f"Q{q}") for c in CULTURES for p in range(PARTICIPANTS) for q in range(1, QUESTIONS + 1)]
    assert sorted(keys) == sorted(planned)
    assert Counter(row["state"] for row in found)["answered"] == undisturbed.json("status")["answered"]
    lines = undisturbed.done("export", "small", "--format", "jsonl").splitlines()
    assert [json.loads(line)["completion"] for line in lines] == [row["completion"] for row in found]


def test_a_finished_run_is_not_run_again(undisturbed: Machine) -> None:
    before = undisturbed.committed_at()
    resumed = undisturbed.type("resume", "small", "--wait")
    assert (resumed.returncode, resumed.stdout) == (0, undisturbed.first_output)
    assert resumed.stderr == "small is finished; nothing to do\n"
    assert undisturbed.done("run", "study.yaml") == undisturbed.first_output
    assert undisturbed.committed_at() == before


def test_three_workers_answer_as_one_does(machine: Machine, expected: list[str]) -> None:
    machine.done("run", "study.yaml", "--name", "twin", "--workers", "3", "--concurrency", "2")
    assert machine.export("twin") == expected


def test_a_killed_run_leaves_no_process_behind_and_goes_on_when_it_is_typed_again(
    machine: Machine, expected: list[str]
) -> None:
    """kill -9 half way: its processes see that their parent is gone; what was committed is not computed again."""
    first = start_slowly(machine, "--workers", "2")
    assert [len(machine.processes(verb)) for verb in ("worker", "reporter")] == [2, 1]
    first.kill()
    first.wait()
    wait_until(lambda: not machine.processes(), "every process to end", seconds=15)
    before = machine.committed_at()
    assert len(before) < PLANNED
    finished = machine.type("run", "study.yaml", "--concurrency", "2")
    assert (finished.returncode, finished.stderr.count("Traceback")) == (0, 0)
    after = machine.committed_at()
    assert {key: after[key] for key in before} == before
    assert len(after) == PLANNED
    assert machine.export() == expected
    assert machine.processes() == []


def test_a_worker_that_ends_is_replaced(machine: Machine, expected: list[str]) -> None:
    run = start_slowly(machine)
    (worker,) = machine.processes("worker")
    os.kill(worker, signal.SIGTERM)
    finished = ended(run)
    assert finished.returncode == 0, finished.stderr
    assert machine.export() == expected
    log = (machine.home / "logs" / "run.log").read_text()
    assert "worker-1 ended with status 0 and is started again" in log


def test_an_interrupted_run_is_resumed(machine: Machine, expected: list[str]) -> None:
    run = start_slowly(machine)
    run.send_signal(signal.SIGINT)
    interrupted = ended(run)
    assert interrupted.returncode == 130
    assert interrupted.stderr.splitlines()[-1] == ("interrupted; what was committed is kept: defsurvey resume goes on")
    assert machine.processes() == []
    before = machine.committed_at()
    assert 0 < len(before) < PLANNED
    assert machine.rows("SELECT count(*) FROM participant WHERE lease_until IS NOT NULL") == [(0,)]
    assert machine.done("resume", "small", "--wait") == f"report: {machine.home}/reports/small/report.html\n"
    after = machine.committed_at()
    assert {key: after[key] for key in before} == before
    assert machine.export() == expected


def test_a_pilot_grows(machine: Machine) -> None:
    machine.done("run", "study.yaml", "--pilot", "1")
    machine.done("run", "study.yaml", "--pilot", "2")
    pilot, committed = machine.export(), machine.committed_at()
    assert len(pilot) == 2 * QUESTIONS * len(CULTURES)
    assert machine.json("extend", "small", "--participants", "4")["added"] == 2 * len(CULTURES)
    said = machine.done("extend", "small", "--models", "neighbour")
    assert said == "small: 8 participants added; work on them: defsurvey resume small --wait\n"
    machine.done("resume", "small", "--wait")
    whole, after = machine.export(), machine.committed_at()
    assert len(whole) == 2 * 4 * QUESTIONS * len(CULTURES)
    assert set(pilot) <= set(whole)
    assert {key: after[key] for key in committed} == committed


def test_an_engine_that_cannot_load_ends_the_run_with_its_reason(machine: Machine) -> None:
    machine.write_study((machine.folder / "study.yaml").read_text().replace("[citizen]", "[empty]"))
    finished = machine.type("run", "study.yaml", CUDA_VISIBLE_DEVICES="")
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    first, *_, last = finished.stderr.splitlines()
    assert first == "device: auto: cpu, CUDA_VISIBLE_DEVICES hides every GPU"
    assert last.startswith("defsurvey: model empty: ")
    assert str(machine.folder / "empty") in last
    assert machine.processes() == []
    assert machine.answers() == 0


def test_a_report_that_cannot_be_built_ends_the_run_with_its_reason(machine: Machine) -> None:
    """Every answer is kept, the message says what is in the way, and the same command goes on once it is not."""
    machine.home.mkdir()
    (machine.home / "reports").write_text("in the way")
    finished = machine.type("run", "study.yaml")
    assert finished.returncode == 1
    last = finished.stderr.splitlines()[-1]
    assert last.startswith("defsurvey: run small: every answer is there, but its report cannot be built: ")
    assert str(machine.home / "reports" / "small") in last
    assert last.endswith("then: defsurvey report small")
    assert machine.answers() == PLANNED
    by_hand = machine.type("report", "small")
    assert (by_hand.returncode, by_hand.stderr.count("\n")) == (1, 1)
    (machine.home / "reports").unlink()
    assert machine.done("run", "study.yaml") == f"report: {machine.home}/reports/small/report.html\n"


def test_answers_that_failed_are_told_by_the_exit_code(machine: Machine) -> None:
    """Where nobody chose anything, a respondent that answers as people did has no answer: the run ends with 3."""
    survey = machine.folder / "survey"
    asked = (survey / "questions.yaml").read_text().replace("type: ordinal", "type: multiple\n    max_choices: 2", 1)
    asked = asked.replace("    value: {dimension: EVI, direction: 1, basis: A, core: true}\n", "", 1)
    (survey / "questions.yaml").write_text(asked)
    known = (survey / "references.csv").read_text()
    (survey / "references.csv").write_text(
        known.replace("Q1,cn,all,1000,,,1:40|2:30|3:20|4:10", "Q1,cn,all,9,,,1:0|2:0")
    )
    finished = machine.type("run", "study.yaml", "--json")
    assert finished.returncode == 3, finished.stderr
    status = json.loads(finished.stdout)
    assert (status["state"], status["failed"], status["remaining"]) == ("finished", PARTICIPANTS, 0)
    assert Path(status["report"]).is_file()
    failed = machine.rows("SELECT DISTINCT question, completion FROM answer WHERE state = 'failed'")
    assert failed == [("Q1", "")]
