"""Wrong input: one clear line, exit code 2, and nothing enqueued."""

import pytest

from tests.end_to_end.machine import STUDY, Machine
from tests.storage.test_survey_folder import write_tiny

TINY_STUDY = STUDY.replace("survey: survey", "survey: tiny").replace("questions: all", "questions: [Q1]")
TINY_STUDY = TINY_STUDY.replace("[us, cn]", "[us]")


def refusal(machine: Machine, *words: str, code: int = 2, **environment: str) -> str:
    refused = machine.type_here(*words, **environment)
    assert refused.returncode == code, refused.stderr
    assert refused.stdout == ""
    assert refused.stderr.startswith("defsurvey: ")
    assert refused.stderr.count("\n") == 1
    return refused.stderr.removeprefix("defsurvey: ").strip()


def assert_nothing_was_enqueued(machine: Machine) -> None:
    if (machine.home / "defsurvey.db").exists():
        assert machine.rows("SELECT id FROM run") == []
    assert machine.processes() == []


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("[citizen]", "[citzen]", "study.yaml, line 5, models[1]: expected"),
        ("questions: all", "questions: [Q1, Q22]", "line 3, questions[2]: expected"),
        ("[us, cn]", "[us, chn]", "line 4, cultures[2]: expected one of us, cn, got 'chn' (did you mean 'cn'?)"),
        ("participants:", "participant:", "(did you mean 'participants'?)"),
        ("[us, cn]", "[us, cn", "study.yaml, line 5, column 7: expected YAML, got"),
        ("[citizen]", "[gone]", "model gone: field path: there is no file or folder"),
    ],
)
def test_a_wrong_study(machine: Machine, right: str, wrong: str, told: str) -> None:
    assert right in STUDY
    machine.write_study(STUDY.replace(right, wrong))
    assert told in refusal(machine, "enqueue", "study.yaml")
    assert_nothing_was_enqueued(machine)


@pytest.mark.parametrize(
    ("file", "right", "wrong", "told"),
    [
        ("questions.yaml", "id: Q2", "id: Q1", "questions.yaml, line 12, questions[2].id: expected an id of its own"),
        ("references.csv", "1:70.2|2:29.9", "1:70.2|2:20.9", "references.csv, line 2, percent: expected"),
    ],
)
def test_a_wrong_survey(machine: Machine, file: str, right: str, wrong: str, told: str) -> None:
    (machine.folder / "tiny").mkdir()
    write_tiny(machine.folder / "tiny", (file, right, wrong))
    machine.write_study(TINY_STUDY)
    assert told in refusal(machine, "run", "study.yaml")
    assert_nothing_was_enqueued(machine)
    checked = machine.type_here("survey", "validate", "tiny")
    assert checked.returncode == 2
    assert told in checked.stderr


def test_a_name_that_is_taken_by_another_design(undisturbed: Machine) -> None:
    changed = undisturbed.folder / "changed.yaml"
    changed.write_text(STUDY.replace("seed: 7", "seed: 8"))
    before = undisturbed.rows("SELECT * FROM run")
    for verb in ("run", "enqueue"):
        told = refusal(undisturbed, verb, "changed.yaml")
        assert told.startswith("run small exists already with another design; give this study another name")
    assert undisturbed.rows("SELECT * FROM run") == before


@pytest.mark.parametrize(
    "words", [("status",), ("resume",), ("export",), ("report",), ("extend", "--models", "neighbour")]
)
def test_an_unknown_run(undisturbed: Machine, words: tuple[str, ...]) -> None:
    verb, *options = words
    assert (
        refusal(undisturbed, verb, "smal", *options)
        == f"there is no run 'smal' (did you mean 'small'?); known: small (in {undisturbed.database_url})"
    )


NEAR = "environment variable DEFSURVEY_HOM is not known (did you mean 'DEFSURVEY_HOME'?)"
EXPECTED = "environment variable DEFSURVEY_DATABASE_URL: expected sqlite or postgresql, got mysql"
REFUSED = "expected a folder that this account can write to, got /proc/nowhere: No such file"


@pytest.mark.parametrize(
    ("name", "value", "told", "code"),
    [
        ("HOM", "x", NEAR, 2),
        ("DATABASE_URL", "mysql://x/y", EXPECTED, 2),
        ("DATABASE_URL", "sqlite:////nowhere/x.db", "database sqlite:////nowhere/x.db: unable to open", 1),
        ("DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/x", "database postgresql://me:***@127.0.0.1:1/x: ", 1),
        ("MODELS", "/nowhere/cards.toml", "/nowhere/cards.toml: there is no such model file", 2),
        ("BROKER_URL", "amqp://x", "environment variable DEFSURVEY_BROKER_URL: expected a URL with", 2),
        ("BROKER_URL", "redis://127.0.0.1:1", "broker redis://127.0.0.1:1 (DEFSURVEY_BROKER_URL): ", 1),
        ("HOME", "/proc/nowhere", REFUSED, 2),
    ],
)
def test_a_wrong_environment(machine: Machine, name: str, value: str, told: str, code: int) -> None:
    said = refusal(machine, "run", "study.yaml", code=code, **{f"DEFSURVEY_{name}": value})
    assert told in said
    assert "secret" not in said
    assert_nothing_was_enqueued(machine)


def test_a_database_that_is_none(machine: Machine) -> None:
    other = machine.folder / "other.db"
    other.write_text("this is no database, and long enough for its header to be looked at" * 20)
    told = refusal(machine, "status", code=1, DEFSURVEY_DATABASE_URL=f"sqlite:///{other}")
    assert told.startswith(f"database sqlite:///{other}: file is not a database; move the file away")


def test_parquet_needs_a_file(undisturbed: Machine) -> None:
    refused = undisturbed.type_here("export", "small", "--format", "parquet")
    assert refused.returncode == 2
    assert "--format parquet is binary: name a file by --output" in refused.stderr


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (("report", "small", "--output"), "--output"),
        (("bundle", "export", "small"), "FILE"),
        (("survey", "copy", "wvs7", "-o"), "--output"),
        (("survey", "template"), "FILE"),
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_to(undisturbed: Machine, words: tuple[str, ...], given: str) -> None:
    told = refusal(undisturbed, *words, "/proc/x")
    assert told == f"{given}: expected a place that can be written to, got /proc/x: No such file or directory"
