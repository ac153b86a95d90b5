"""Official files, imported, asked and reported: the dataset of Liu et al. (2025) in full size, and the real model."""

import csv
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from defsurvey.storage.surveys.folder import read_survey
from defsurvey.storage.surveys.survey import Group, QuestionType
from tests.end_to_end.machine import Machine, machine_in
from tests.storage.importers.def_files import SIZES, UNREPORTED, MadeUpPart, make_part, write_dataset
from tests.storage.importers.official import person, write_official

PATIENCE = 1000  #: seconds that an import or a run of a part may take on a machine with other things to do
STUDY = """\
name: paper-{culture}
survey: ./{culture}
questions: all
cultures: [{culture}]
models: [human]
conditions: [def]
participants: 5
seed: 20250314
"""


def timed(machine: Machine, *words: str) -> str:
    begun = time.monotonic()
    process = machine.start(*words, DEFSURVEY_MODELS="")
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    print(f"{' '.join(words)}: {time.monotonic() - begun:.0f} s")  # noqa: T201
    return printed


def check_figures(folder: Path, part: MadeUpPart, culture: str) -> None:
    survey = read_survey(folder)
    assert len(survey.questions) == SIZES[part.name][0]
    for number, (question, made) in enumerate(zip(survey.questions, part.questions, strict=True), start=1):
        assert question.codes == made.codes
        assert (question.type is QuestionType.MULTIPLE, question.type is QuestionType.SCALE) == (
            made.multiple,
            made.scale,
        )
        reference = survey.reference(question.id, culture)
        if number in UNREPORTED[part.name]:
            assert reference is None
            continue
        assert reference is not None
        # Of a list that is repeated no respondent tells how many were asked: the largest number is taken.
        slack = 0.02 if made.multiple and made.repeats else 0.002
        assert reference.shares == pytest.approx(part.shares(number), abs=slack), question.id
        women = survey.reference(question.id, culture, Group.FEMALE)
        assert (women is None) == (made.multiple and made.repeats > 0)


@pytest.mark.slow
def test_both_parts_go_into_one_report(tmp_path: Path) -> None:
    """613 questions of the United States and 540 of China, with the oddities that are known of the files."""
    parts = {"us": make_part("US_survey", people=1200, seed=1), "cn": make_part("CN_survey", people=1200, seed=2)}
    data = write_dataset(tmp_path / "data", list(parts.values()))
    with machine_in(tmp_path / "machine") as machine:
        for culture, part in parts.items():
            told = timed(machine, "survey", "import", "def", str(data), "--part", part.name, "-o", culture)
            lists = [str(number) for number, made in enumerate(part.questions, start=1) if made.multiple]
            size, unreported = SIZES[part.name][0], UNREPORTED[part.name]
            assert f"{part.name}: {size} questions, {len(lists)} of them lists ({', '.join(lists)})" in told
            missing = ", ".join(f"{culture.upper()}{number}" for number in unreported)
            assert f"{len(unreported)} questions have no reference scores and cannot be asked: {missing}" in told
            check_figures(machine.folder / culture, part, culture)
            machine.write_study(STUDY.format(culture=culture))
            asked = size - len(unreported)
            timed(machine, "run", "study.yaml")
            assert machine.json("status", f"paper-{culture}")["answered"] == 5 * asked
        report = Path(timed(machine, "report", "paper-us", "paper-cn").split()[1])
        text = report.read_text(encoding="utf-8")
    assert "run paper-us + paper-cn" in text
    assert "| human | United States |" in text
    assert "| human | China |" in text
    assert "(paper-us)" not in text
    assert "| US\\_survey | 611 |" in text
    assert "| CN\\_survey | 539 |" in text


REPOSITORY = Path(__file__).parents[2]
IMPORTED = """\
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
    rng = np.random.default_rng(1)
    rows = [person(rng, "840") | {"Q1": str(rng.integers(1, 5)), "Q57": str(rng.integers(1, 3))} for _ in range(120)]
    write_official(tmp_path / "wvs.csv", "country v6", rows)
    cache = os.environ.get("DEFSURVEY_CACHE") or str(REPOSITORY / ".defsurvey" / "models")
    with machine_in(tmp_path / "machine") as machine:
        machine.done("survey", "import", "wvs", str(tmp_path / "wvs.csv"), "-o", "mine")
        machine.write_study(IMPORTED)
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
