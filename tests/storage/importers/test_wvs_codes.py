"""Cells of official files: each label is the code that the codebook gives it."""

from __future__ import annotations

import csv

import pytest

from defsurvey.storage.surveys.importers.cultures import DATA
from defsurvey.storage.surveys.importers.wvs import wvs_questions
from defsurvey.storage.surveys.importers.wvs_codes import MISSING, UNREADABLE, columns_of, read_cell, read_region

with (DATA / "wvs7_labels.csv").open(encoding="utf-8", newline="") as _file:
    LABELS = [
        (column, int(row["code"]), row["label"]) for row in csv.DictReader(_file) for column in row["columns"].split()
    ]


def test_no_label_is_taken_for_another() -> None:
    """Every label of the codebook, whatever its case, is read as its own code."""
    for column, code, label in LABELS:
        written = label.replace("...", " and further words")
        assert read_cell(column, written).code == code, (column, label)
        assert read_cell(column, f"  {written.upper()} ").code == code, (column, label)


def test_every_question_has_its_labels() -> None:
    """For each column of a question there are labels, and the inner points of scales are numbers."""
    labelled = {column for column, _, _ in LABELS}
    for question in wvs_questions():
        for column in columns_of(question):
            assert column in labelled


@pytest.mark.parametrize("cell", ["-5", "", "NA", "Don't know", "Don´t know", "INAP; Filter", "Not asked"])
def test_missing_answers(cell: str) -> None:
    """Negative codes, empty cells and the words for a missing answer are missing."""
    assert read_cell("Q1", cell).code == MISSING


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        ("Q107", "Don't -9:-2", MISSING),
        ("Q109", "Competition is good{1}", 1),
        ("Q109", "COMPETITION IS GOOD.", 1),
        ("Q112", "10 There is abundant corruption in my country", 10),
        ("Q110", "Hard work does not generally bring success", 10),
        ("Q182", "Never justifable", 1),
        ("Q1", "2. Rather important", 2),
        ("Q1", "3,00", 3),
        ("Q1", "Unknown{-5}", MISSING),
        ("X003R2", "50 years and over", 3),
    ],
)
def test_labels_of_text_files(column: str, cell: str, code: int) -> None:
    """Labels with their codes, missing answers by their codes, and the ends of scales in other words."""
    assert read_cell(column, cell).code == code


@pytest.mark.parametrize(
    ("column", "cell", "doubt"),
    [
        ("Q49", "Completely disatisfied", "near 1 'Completely dissatisfied' and 10 'Completely satisfied'"),
        ("Q49", "Not completely satisfied", ""),
        ("Q109", "Competition is good{10}", "whose number is 10 and whose words are 1 'Competition is good'"),
        ("Q250", "At all important", ""),
        ("Q1", "1 Rather important", "whose number is 1 and whose words are 2 'Rather important'"),
        ("Q1", "Rather importan", ""),
    ],
)
def test_labels_in_doubt_are_not_read(column: str, cell: str, doubt: str) -> None:
    """What is near both ends of a scale, contradicts itself or is near nothing; likeness is for scales alone."""
    reading = read_cell(column, cell)
    assert reading.code == UNREADABLE
    assert doubt in reading.doubt
    assert bool(doubt) == bool(reading.doubt)


def test_a_slip_never_turns_an_answer_into_another() -> None:
    """Without any one letter or word, a label is matched with its own code, if at all."""
    matched = 0
    for column, code, label in LABELS:
        text = label.removesuffix("...")
        words = text.split()
        slips = {text[:place] + text[place + 1 :] for place in range(len(text))}
        slips |= {" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))}
        for slip in slips:
            reading = read_cell(column, slip)
            if reading.label:
                matched += 1
                assert reading.code == code, (column, label, slip)
    assert matched > 500


@pytest.mark.parametrize("cell", ["very unimportant", "1.5", "1 2", "9999999999"])
def test_what_is_neither(cell: str) -> None:
    """What is neither a code, a label nor a word for missing cannot be read."""
    assert read_cell("Q1", cell).code == UNREADABLE


@pytest.mark.parametrize(
    ("cell", "code", "name"),
    [
        ("156001", "CN-AH", "Anhui"),
        ("CN-AH Anhui Sheng", "CN-AH", "Anhui"),
        ("KE: KE-30 Nairobi City", "KE-30", "Nairobi City"),
        ("ZZ-9 Elsewhere", "ZZ-9", "Elsewhere"),
        ("Somewhere", "Somewhere", "Somewhere"),
    ],
)
def test_regions(cell: str, code: str, name: str) -> None:
    """Numbers, ISO codes and both with a name tell a region."""
    found = read_region(cell, country="cn")
    assert found is not None
    assert (found[0], found[1]["en"]) == (code, name)


@pytest.mark.parametrize("cell", ["-4", "Missing; Unknown", ""])
def test_no_region(cell: str) -> None:
    """Missing regions are none."""
    assert read_region(cell, country="cn") is None
