"""A judge and a budget in a study: queue, worker, reporter and command line as they really are."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.end_to_end.machine import PLANNED, STUDY, Machine, wait_until
from tests.judging.conftest import KEY
from tests.judging.provider import JudgeServer, judging
from tests.workers.api.server import chat, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

JUDGED = "judge: {model: judge, sample: all}\n"


@pytest.fixture
def judge(machine: Machine) -> Iterator[JudgeServer]:
    with judging() as local, (machine.folder / "cards.toml").open("a") as cards:
        cards.write(local.cards())
        cards.flush()
        yield local


def traces(machine: Machine) -> list[str]:
    files = [file for file in machine.folder.rglob("*") if file.is_file()]
    assert len(files) > 10
    return [str(file) for file in files if KEY.encode() in file.read_bytes()]


def test_a_study_judges_itself_and_no_key_is_left_anywhere(machine: Machine, judge: JudgeServer) -> None:
    """Run, judge, report, export and bundle of a study whose model and judge are asked with marked keys."""
    with serving(lambda got, before: chat("Answer: 2\nExplanation: So it is here.")) as server:
        card = '[served]\nengine = "openai"\nmodel = "m"\nbase_url = "{}/v1"\nkey = "MARKED_KEY"\n'
        (machine.folder / "cards.toml").write_text(card.format(server.url) + judge.cards())
        machine.write_study(STUDY.replace("[citizen]", "[served]") + JUDGED)
        keys = {"MARKED_KEY": KEY, "JUDGE_KEY": KEY}
        ran = machine.type("run", "study.yaml", **keys)
        assert ran.returncode == 0, ran.stderr
        said = [ran]
        for words in (
            ("judge", "small", "--json"),
            ("report", "small"),
            ("export", "small", "--telemetry", "--output", "answers.csv"),
            ("bundle", "export", "small", "small.bundle"),
            ("judge", "small", "--template", "people.csv"),
            ("status", "small", "--json"),
        ):
            said.append(machine.type(*words, **keys))
            assert said[-1].returncode == 0, said[-1].stderr
        wrong = machine.type("judge", "small", "--model", "served", **keys)
        said.append(wrong)
        assert wrong.returncode == 3  # it says "Answer: 2", which is no verdict, and fails the calibration set
    assert KEY not in "".join(each.stdout + each.stderr for each in said)
    assert traces(machine) == []
    assert json.loads(said[-2].stdout)["state"] == "finished"
    reports = machine.rows("SELECT revision, judgements FROM report ORDER BY judgements")
    assert reports[0] == (PLANNED, 0)
    assert (PLANNED, 1) in reports
    text = (machine.home / "reports" / "small" / "report.md").read_text()
    assert "judge (judge-1, rubric 1)" in text
    assert sum(judge.paid().values()) == 72 + PLANNED + PLANNED // 10


def test_killed_while_judging_it_goes_on(machine: Machine, judge: JudgeServer) -> None:
    machine.done("run", "study.yaml")
    process = machine.start("judge", "small", "--model", "judge", "--sample", "all", JUDGE_KEY=KEY)
    wait_until(lambda: judged(machine) > 10, "some judgements")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    committed = judged(machine)
    assert committed < PLANNED
    before = sum(judge.asked.values())
    done = json.loads(machine.done("judge", "small", "--model", "judge", "--sample", "all", "--json", JUDGE_KEY=KEY))
    assert (done["ended"], done["judged"]) == ("done", done["sampled"])
    asked_again = sum(judge.asked.values()) - before - (done["sampled"] - committed)
    assert asked_again == 0
    assert before - 72 - committed <= 4  # under way at once


def judged(machine: Machine) -> int:
    return int(machine.rows("SELECT count(*) FROM judgement")[0][0])


@pytest.mark.parametrize("moment", ["made", "waiting", "reading"])
def test_killed_during_a_batch_it_pays_for_nothing_twice(machine: Machine, judge: JudgeServer, moment: str) -> None:
    """Right after the batch was made and before its name is known here; while it is waited for; among its results."""
    machine.done("run", "study.yaml")
    words = ("judge", "small", "--model", "judge", "--sample", "all", "--batch", "--json")
    killed: list[int] = []

    def kill(path: str) -> None:
        here = {"made": path.endswith("/batches"), "reading": path.endswith("/results"), "waiting": False}[moment]
        if here and not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    judge.before_reply = kill
    if moment == "waiting":
        judge.held.clear()
    process = machine.start(*words, JUDGE_KEY=KEY)
    if moment == "waiting":
        wait_until(lambda: judge.batches and machine.rows("SELECT batch FROM judge_batch")[0][0], "a named batch")
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert judged(machine) == 0
    assert machine.rows("SELECT count(batch), count(*) FROM judge_batch") == [(int(moment != "made"), 1)]
    judge.held.set()
    done = json.loads(machine.done(*words, JUDGE_KEY=KEY))
    assert (done["ended"], done["judged"]) == ("done", done["sampled"])
    assert len(judge.batches) == 1
    assert sum(judge.paid().values()) == 72 + done["sampled"]
    assert machine.rows("SELECT count(*) FROM judge_batch") == [(0,)]


def test_a_spent_budget_stops_the_run_and_more_money_lets_it_go_on(machine: Machine) -> None:
    """Nothing is lost, the state says so, and it ends with exit code 3; twice the answers need twice the money."""
    with serving(lambda got, before: chat("Answer: 2\nExplanation: So it is here.")) as server:
        card = '[served]\nengine = "openai"\nmodel = "m"\nbase_url = "{}/v1"\nkey = "OWN_KEY"\nconcurrency = 4\n'
        prices = "input_price = 1000.0\noutput_price = 1000.0\n"  # 0.025 an answer
        (machine.folder / "cards.toml").write_text(card.format(server.url) + prices)
        study = STUDY.replace("[citizen]", "[served]")
        machine.write_study(study + "budget: 0.5\n")
        ran = machine.type("run", "study.yaml", "--concurrency", "4", OWN_KEY=KEY)
        assert ran.returncode == 3, ran.stderr
        assert "of 0.50 US dollars are spent; go on with: defsurvey resume small --wait --budget USD" in ran.stderr
        assert 20 <= machine.answers() <= 20 + 4
        status = machine.json("status")
        assert (status["state"], status["budget"]) == ("budget reached", 0.5)
        assert status["spent"] == pytest.approx(0.025 * machine.answers())
        before = machine.answers()
        again = machine.type("resume", "small", "--wait", OWN_KEY=KEY)
        assert (again.returncode, machine.answers()) == (3, before)
        more = machine.type("resume", "small", "--wait", "--budget", "1", "--concurrency", "4", OWN_KEY=KEY)
        assert more.returncode == 3
        assert 40 <= machine.answers() <= 40 + 4
        machine.write_study(study + "budget: 100\n")
        whole = machine.type("run", "study.yaml", OWN_KEY=KEY)
        assert whole.returncode == 0, whole.stderr
    assert machine.answers() == PLANNED == len(server.got)
    assert machine.json("status")["state"] == "finished"
