"""Six reference studies give what they gave when they were recorded, byte for byte."""

from itertools import zip_longest
from pathlib import Path

import pytest

from tests.gold.studies import STUDIES, outputs, run

MARKED = [
    pytest.param(study, marks=[pytest.mark.slow, pytest.mark.timeout(900)] if real else [])
    for study, real in STUDIES.items()
]


@pytest.mark.parametrize("study", MARKED)
def test_a_study_gives_what_was_recorded(study: str, tmp_path: Path) -> None:
    """Plan, prompts, answers, status and report; what is found instead is kept in the test's folder."""
    recorded, found = outputs(study), run(study, tmp_path / "machine")
    assert sorted(found) == sorted(recorded)
    differences = []
    for name, content in found.items():
        if content != recorded[name]:
            file = tmp_path / "found" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            differences.append(f"{name}, {_first_difference(recorded[name], content)}; see {file}")
    assert not differences, "\n".join(differences)


def _first_difference(recorded: bytes, found: bytes) -> str:
    lines = zip_longest(recorded.splitlines(keepends=True), found.splitlines(keepends=True))
    number, (was, now) = next((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1])
    return f"line {number}: recorded {was!r}, found {now!r}"
