"""A verb that has nothing to do says so and why; the next verb then does what it says."""

from __future__ import annotations

from tests.end_to_end.machine import Machine


def test_a_finished_run_is_not_cancelled(machine: Machine) -> None:
    """So that what is added to it later is taken by any worker."""
    machine.done("run", "study.yaml", "--pilot", "1")
    assert machine.done("cancel", "small") == "small is finished: nothing was cancelled\n"
    assert machine.done("retry", "small") == "small: nothing to ask again, no answer of it is failed\n"
    assert machine.done("extend", "small", "--participants", "1") == (
        "small: nothing added, it has these participants and models already\n"
    )
    assert "2 participants added" in machine.done("extend", "small", "--participants", "2")
    assert machine.rows("SELECT cancelled FROM run") == [(0,)]


def test_a_cancelled_run_that_is_finished_is_opened_by_resume(machine: Machine) -> None:
    """As databases of before may hold one."""
    machine.done("run", "study.yaml", "--pilot", "1")
    machine.change("UPDATE run SET cancelled = 1")
    assert "nothing to do" in machine.type("resume", "small").stderr
    assert machine.rows("SELECT cancelled FROM run") == [(0,)]


def test_resume_says_that_nothing_is_working(machine: Machine) -> None:
    """Messages alone do nothing where there is no worker."""
    machine.done("enqueue", "study.yaml")
    resumed = machine.type("resume", "small")
    assert resumed.returncode == 0
    assert resumed.stderr == "nothing is working on it; work on it here: defsurvey resume small --wait\n"
