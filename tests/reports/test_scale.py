"""A full-scale study is analysed in little memory, and in time that grows with the answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Seconds of processor time and peak megabytes of an analysis, measured in a process of its own.
MEASURE = """
import sys, time
from pathlib import Path
from defsurvey.reports.analysis import analyse
from tests.reports.planted import planted
made = planted(participants=int(sys.argv[1]))
start = time.process_time()
analyse(made.results, draws=made.draws)
# Of this program alone: getrusage's peak begins with that of the process it was forked from.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
megabytes = int(peak.split()[1]) / 1024
print(made.results.answers.cell.size, time.process_time() - start, megabytes)
"""


def measured(participants: int) -> tuple[int, float, float]:
    """Answers, seconds, megabytes."""
    command = [sys.executable, "-c", MEASURE, str(participants)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answers, seconds, megabytes = done.stdout.split()
    return int(answers), float(seconds), float(megabytes)


@pytest.mark.slow
def test_a_quarter_of_a_million_answers_take_little_memory() -> None:
    """11 models x 2 cultures x 20 participants x 576 questions: less than 1 GB at the peak."""
    answers, _, megabytes = measured(20)
    assert answers == 253_440
    assert megabytes < 1000


@pytest.mark.slow
def test_ten_times_the_answers_take_at_most_twelve_times_as_long() -> None:
    """Ten times as many participants: no part grows faster than the answers."""
    _, seconds, _ = measured(20)
    answers, more, _ = measured(200)
    assert answers == 2_534_400
    assert more <= 12 * seconds
