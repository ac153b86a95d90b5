"""A report stays small and quick however many questions and answers there are, and leaves none out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from defsurvey.reports.build import build_report
from tests.reports.planted import planted, wide_survey

MEGABYTE = 1_000_000
#: Builds the report of the whole planted study and prints what it took.
FULL = """
import sys, time
from pathlib import Path
from defsurvey.reports.build import build_report
from tests.reports.planted import planted
made = planted()
start = time.process_time()
paths = build_report(made.results, Path(sys.argv[1]), draws=made.draws)
# Of this program alone: getrusage's peak begins with that of the process it was forked from.
status = Path("/proc/self/status").read_text().splitlines()
peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
print(made.results.answers.cell.size, time.process_time() - start, peak, paths.html.stat().st_size)
"""


def ids(html: str) -> list[str]:
    """Names of the questions that have a card."""
    return re.findall(r'<details id="question-\d+">\s*<summary><b>(\w+)</b>', html)


def test_a_hundred_questions_fit_into_a_megabyte_and_a_half(tmp_path: Path) -> None:
    """Eleven models in two cultures, every question there."""
    made = planted(wide_survey(100))
    html = build_report(made.results, tmp_path, draws=made.draws).html
    assert html.stat().st_size <= 1.5 * MEGABYTE
    assert ids(html.read_text(encoding="utf-8")) == list(made.results.run.questions)


@pytest.mark.slow
def test_a_quarter_of_a_million_answers(tmp_path: Path) -> None:
    """253,440 answers: under 20 s of one processor and 1 GB, at most 8 MB, all 576 questions there."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    answers, seconds, peak, size = map(float, done.stdout.split())
    assert answers == 253_440
    assert seconds < 20
    assert peak < 1000
    assert size <= 8 * MEGABYTE
    assert len(ids((tmp_path / "report.html").read_text(encoding="utf-8"))) == 576


#: Seconds of processor time that an analysis takes, in a process of its own.
MEASURE = """
import sys, time
from defsurvey.reports.analysis import analyse
from tests.reports.planted import planted
made = planted(participants=int(sys.argv[1]))
start = time.process_time()
analyse(made.results, draws=made.draws)
print(made.results.answers.cell.size, time.process_time() - start)
"""


@pytest.mark.slow
def test_ten_times_the_answers_take_at_most_twelve_times_as_long() -> None:
    """Ten times as many participants: no part grows faster than the answers."""
    told = [
        subprocess.run([sys.executable, "-c", MEASURE, people], check=True, capture_output=True, text=True).stdout
        for people in ("20", "200")
    ]
    (_, seconds), (answers, more) = (map(float, each.split()) for each in told)
    assert answers == 2_534_400
    assert more <= 12 * seconds
