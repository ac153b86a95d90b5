"""The audit: a table for people, read back, and how far they agree with the judge."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from defsurvey.jobs.judging import people as audit
from defsurvey.jobs.judging.people import BadAudit, read_labels, write_template
from defsurvey.reports.figures.judging import judged_by
from defsurvey.storage.errors import BadInput
from tests.judging.conftest import JudgedRun

Rows = list[dict[str, str]]


@pytest.fixture
def judged(here: JudgedRun, tmp_path: Path) -> Path:
    """The table of a judged run."""
    here.answer(6)
    here.judge()
    write_template(here.database, "first", tmp_path / "people.csv")
    return tmp_path / "people.csv"


def read(file: Path) -> Rows:
    """The rows of a table."""
    with file.open(encoding="utf-8-sig", newline="") as table:
        return list(csv.DictReader(table))


def write(file: Path, rows: Rows) -> None:
    """Write a table."""
    with file.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_people_and_judge_are_compared(here: JudgedRun, judged: Path) -> None:
    """Agreement beyond chance by person and dimension; the judge against itself beside it."""
    rows = read(judged)
    assert len(rows) == 34
    assert not any(row["qc"] or row["person"] for row in rows)
    for number, row in enumerate(rows):
        row |= {"person": "ann", "ff": "Fail" if "flat" in row["response"] or number == 0 else "pass"}
    rows[3]["ff"] = ""
    write(judged, rows)
    before = here.judgements().revision
    assert read_labels(here.database, "first", judged) == 33
    assert read_labels(here.database, "first", judged) == 33  # again: the same, not twice
    found = here.judgements()
    assert (found.revision, found.people) == (before + 2, {"ann": 33})
    _, notes = judged_by(found)
    ((judge, audits),) = notes.audits.items()
    assert judge == "judge (judge-1, rubric 1)"
    itself = next(audit for audit in audits if not audit.other and not audit.dimension)
    assert (itself.agreement.observed, itself.agreement.n) == (1.0, 6 * 4)
    ann = next(audit for audit in audits if (audit.other, audit.dimension) == ("ann", "ff"))
    assert ann.agreement.n == 33
    assert 0.9 < ann.agreement.observed < 1
    assert (ann.stricter.first_only, ann.stricter.second_only) in ((0, 1), (0, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qc": "maybe", "person": "ann"}, "row 2, qc: expected pass, fail, unsure or nothing, got 'maybe'"),
        ({"qc": "pass"}, "row 2, person: expected who judged, got nothing"),
        (
            {"qc": "pass", "person": "ann", "participant": "x"},
            "row 2, participant: expected .* of at most 9 digits, got 'x'",
        ),
        ({"qc": "pass", "person": "ann", "slot": "1" * 5000}, "row 2, slot: expected .* of at most 9 digits, got '1"),
        ({"qc": "pass", "person": "ann", "question": "Z"}, "row 2: run first has no such answer"),
        ({"qc": "pass", "person": "ann", "digest": "d0"}, "row 2, digest: expected d"),
        ({}, "expected at least one verdict, got none"),
    ],
)
def test_a_table_that_is_wrong_changes_nothing(
    here: JudgedRun, judged: Path, changes: dict[str, str], message: str
) -> None:
    """One error with file, row and column; no verdict is kept."""
    rows = read(judged)[:1]
    rows[0] |= changes
    write(judged, rows)
    with pytest.raises(BadAudit, match=message):
        read_labels(here.database, "first", judged)
    assert here.judgements().people == {}


def test_a_long_reply_is_read_back(here: JudgedRun, judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the library takes by itself; what is beyond ours is wrong input."""
    rows = read(judged)[:2]
    rows[1] |= {"response": "A" * 200_000, "person": "ann", "qc": "pass"}
    write(judged, rows)
    assert read_labels(here.database, "first", judged) == 1
    monkeypatch.setattr(audit, "LONGEST_CELL", 150_000)
    with pytest.raises(BadInput, match=r"people.csv, line .*: expected cells .*, got field larger than field limit"):
        read_labels(here.database, "first", judged)


def test_files_that_are_no_table_are_refused(here: JudgedRun, tmp_path: Path) -> None:
    """Missing, binary, without the columns; and no template of what nobody judged."""
    here.answer(5)
    for content, message in ((None, "No such file"), (b"\xff\xfe\x00", "UTF-8"), (b"a,b\n", "a column 'model'")):
        if content is not None:
            (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(BadInput, match=message):
            read_labels(here.database, "first", tmp_path / "x.csv")
    with pytest.raises(BadAudit, match="expected judged answers, got none"):
        write_template(here.database, "first", tmp_path / "y.csv")
    assert not (tmp_path / "y.csv").exists()


def test_a_template_that_cannot_be_written_is_wrong_input(here: JudgedRun) -> None:
    """The option and the place are named as they were typed."""
    here.answer(2)
    here.judge()
    refused = here.type("judge", "first", "--template", "/proc/x")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("defsurvey: --template: expected a place that can be written to, got /proc/x: ")
