"""Files that are not as they should be: one error that says where, and no survey left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from defsurvey.storage.surveys.importers import wvs
from defsurvey.storage.surveys.importers.wvs import import_wvs
from defsurvey.storage.surveys.problem import Fault, SurveyError
from tests.storage.importers.official import Row, header_of, person, write_official, write_rows

NAMES = ["B_COUNTRY", "B_COUNTRY_ALPHA", "W_WEIGHT", "Q260", "Q262", "X003R2", "Q1", "Q57"]


def people(number: int = 5) -> list[Row]:
    """Respondents who answered two questions."""
    rng = np.random.default_rng(1)
    return [person(rng, "840") | {"Q1": "1", "Q57": "2"} for _ in range(number)]


def broken(tmp_path: Path, text: str | bytes) -> str:
    """The message with which a file is refused; nothing is left beside it."""
    path = tmp_path / "wvs.csv"
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SurveyError) as error:
        import_wvs(path, id="x").write(tmp_path / "survey")
    assert [entry.name for entry in tmp_path.iterdir()] == ["wvs.csv"]
    message = str(error.value)
    assert "\n" not in message
    return message


def good(tmp_path: Path, rows: list[Row] | None = None) -> str:
    """The text of a file that is as it should be."""
    path = tmp_path / "good.csv"
    text = write_rows(path, NAMES, rows or people(), delimiter=",").read_text(encoding="utf-8")
    path.unlink()
    return text


def test_latin_1(tmp_path: Path) -> None:
    """A byte that is not UTF-8 is told with line and column."""
    lines = good(tmp_path).splitlines()
    lines[3] += "é"
    message = broken(tmp_path, "\n".join(lines).encode("latin-1"))
    assert message.startswith(f"wvs.csv, line 4, column {len(lines[3])}: expected text in UTF-8, got byte 0xe9")


def test_truncated_line(tmp_path: Path) -> None:
    """A file that ends within a row is told at that row."""
    message = broken(tmp_path, good(tmp_path)[:-8])
    assert message == "wvs.csv, line 6, column 5: expected 8 cells, as the header has, got 5"


def test_truncated_quote(tmp_path: Path) -> None:
    """A quote that is never closed is told where its row begins."""
    path = write_rows(tmp_path / "q.csv", NAMES, people(), delimiter=";", quoted=True)
    text = path.read_text(encoding="utf-8")[:-2]
    path.unlink()
    assert broken(tmp_path, text).startswith("wvs.csv, line 6: expected cells separated by ';', their quotes closed")


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("Q57", "yes", "a code or one of the labels"),
        ("Q260", "woman?", "a code or one of the labels Male, Female"),
        ("Q262", "young", "a number"),
        ("W_WEIGHT", "heavy", "a weight, 0 or more"),
        ("W_WEIGHT", "", "a weight, 0 or more"),
    ],
)
def test_text_in_a_numeric_column(tmp_path: Path, column: str, cell: str, expected: str) -> None:
    """What is no number is told with line, column, variable, and what was expected."""
    rows = people()
    rows[2][column] = cell
    message = broken(tmp_path, good(tmp_path, rows))
    assert message.startswith(f"wvs.csv, line 4, column {NAMES.index(column) + 1}, {column}: expected {expected}")
    assert message.endswith(f"got {cell!r}" if cell else "got nothing")


def test_unknown_country(tmp_path: Path) -> None:
    """A country that is in no table is told, with the way to add it."""
    rows = people()
    rows[1]["B_COUNTRY_ALPHA"] = "Atlantis"
    message = broken(tmp_path, good(tmp_path, rows))
    assert message.startswith("wvs.csv, line 3, column 2, B_COUNTRY_ALPHA: expected a country that is known")
    assert message.endswith("--cultures FILE, got 'Atlantis' (did you mean 'Albania'?)")


def test_rows_of_empty_cells_are_passed_over(tmp_path: Path) -> None:
    """Spreadsheets write them where something once was; a row that lacks its country alone is none of them."""
    header, *rows = good(tmp_path).splitlines()
    empty = "," * (len(NAMES) - 1)
    path = tmp_path / "f.csv"
    path.write_text("\n".join([header, empty, *rows[:2], empty, *rows[2:], f" {empty}", empty, ""]), encoding="utf-8")
    imported = import_wvs(path, id="x")
    assert imported.notes[0] == "2 questions; respondents: us 5"
    path.unlink()
    rows[1] = rows[1].replace("USA", "")
    message = broken(tmp_path, "\n".join([header, empty, *rows]))
    assert message.startswith("wvs.csv, line 4, column 2, B_COUNTRY_ALPHA: expected a country that is known")


def test_a_name_within_quotes_may_have_several_lines(tmp_path: Path) -> None:
    """As the titles of labelled files are exported at times."""
    text = good(tmp_path).replace("Q1,Q57", '"Q1 Important in life:\nFamily","Q57 Most people\n\ncan be trusted"', 1)
    (tmp_path / "f.csv").write_text(text, encoding="utf-8")
    imported = import_wvs(tmp_path / "f.csv", id="x")
    assert [question.id for question in imported.survey.questions] == ["Q1", "Q57"]
    assert imported.notes[0] == "2 questions; respondents: us 5"


def test_no_weight_column(tmp_path: Path) -> None:
    """Without weights the figures would be others."""
    message = broken(tmp_path, good(tmp_path).replace("W_WEIGHT", "WEIGHTS"))
    assert message.startswith("wvs.csv, line 1, header: expected a column 'W_WEIGHT', got B_COUNTRY")


def test_no_questions(tmp_path: Path) -> None:
    """A file with respondents and no question is none of these."""
    text = good(tmp_path).replace("Q1,Q57", "A1,A57").replace("Q260,Q262", "SEX,AGE")
    assert "line 1, header: expected a column 'Q1'" in broken(tmp_path, text)


def test_zero_weights(tmp_path: Path) -> None:
    """A country in which nobody has a weight has no shares."""
    message = broken(tmp_path, good(tmp_path, [row | {"W_WEIGHT": "0"} for row in people()]))
    assert message == (
        "wvs.csv, W_WEIGHT: expected a weight above 0 for some respondent of United States, got 0 for all"
    )


def test_duplicated_header(tmp_path: Path) -> None:
    """A name that stands twice leaves open which one is meant."""
    message = broken(tmp_path, good(tmp_path).replace("Q57", "Q1", 1))
    assert message == "wvs.csv, line 1, column 8, header: expected every name once, got 'Q1' again, first in column 7"


@pytest.mark.parametrize("text", ["", "\n", "B_COUNTRY,W_WEIGHT,Q1\n"])
def test_nothing_in_it(tmp_path: Path, text: str) -> None:
    """An empty file, an empty first line, and a header alone."""
    message = broken(tmp_path, text)
    assert message.startswith(("wvs.csv, line 1: expected a header", "wvs.csv, line 2: expected respondents, got none"))


def test_a_missing_file_stays_an_error_of_the_system(tmp_path: Path) -> None:
    """A file that is not there is no malformed survey."""
    with pytest.raises(FileNotFoundError):
        import_wvs(tmp_path / "none.csv", id="x")


def test_blocks_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More respondents than one block holds are all counted, and a fault far down is still told by its line."""
    monkeypatch.setattr(wvs, "_BLOCK", 30)
    rng = np.random.default_rng(2)
    rows = [person(rng, "840") | {"Q1": str(rng.integers(1, 5))} for _ in range(400)]
    path = write_official(tmp_path / "big.csv", "cross-national v5", rows)
    assert path.stat().st_size > 20 * 2**14
    reference = import_wvs(path, id="x").survey.reference("Q1", "us")
    assert reference is not None
    assert reference.n == len(rows)
    weights = {code: sum(float(row["W_WEIGHT"]) for row in rows if row["Q1"] == str(code)) for code in range(1, 5)}
    assert reference.shares == pytest.approx({c: weight / sum(weights.values()) for c, weight in weights.items()})
    rows[390]["Q1"] = "often"
    with pytest.raises(Fault, match=r"big\.csv, line 392, column 40, Q1: expected a code or one of the labels"):
        import_wvs(write_official(path, "cross-national v5", rows), id="x")


@pytest.mark.slow
def test_100_000_respondents_take_little(tmp_path: Path) -> None:
    """Under 20 seconds and 1 GB for a file as large as the cross-national one, with all its columns."""
    rng = np.random.default_rng(3)
    questions = [name for name in header_of("cross-national v5") if name[0] == "Q" and name[1:].isdigit()]
    rows = [person(rng, "840") | {name: str(rng.integers(1, 5)) for name in questions} for _ in range(1000)]
    rows = [row | {"Q262": "40", "D_INTERVIEW": f"ID{number:03}"} for number, row in enumerate(rows)]
    path = write_official(tmp_path / "large.csv", "cross-national v5", rows)
    head, _, body = path.read_text(encoding="utf-8").partition("\n")
    bodies = "".join(body.replace("ID", f"8400{copy:02}") for copy in range(100))
    path.write_text(f"{head}\n{bodies}", encoding="utf-8")
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from defsurvey.storage.surveys.importers.wvs import import_wvs\n"
        "begin = time.monotonic(); import_wvs(Path(sys.argv[1]), id='x')\n"
        "print(time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, done.stdout.split())
    sys.stdout.write(f"\n100,000 respondents: {seconds:.1f} s, {gigabytes:.2f} GB\n")
    assert seconds < 20
    assert gigabytes < 1
