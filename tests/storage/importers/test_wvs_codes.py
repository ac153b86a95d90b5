"""What importers know: the codes of labels and regions in official files, and the table of cultures."""

import csv
from pathlib import Path

import pytest

from defsurvey.storage.surveys.importers.cultures import DATA, read_populations
from defsurvey.storage.surveys.importers.wvs_codes import MISSING, UNREADABLE, read_cell, read_region
from defsurvey.storage.surveys.problem import SurveyError

with (DATA / "wvs7_labels.csv").open(encoding="utf-8", newline="") as _file:
    LABELS = [
        (column, int(row["code"]), row["label"]) for row in csv.DictReader(_file) for column in row["columns"].split()
    ]


def test_no_label_is_taken_for_another() -> None:
    for column, code, label in LABELS:
        written = label.replace("...", " and further words")
        assert read_cell(column, written).code == code, (column, label)
        assert read_cell(column, f"  {written.upper()} ").code == code, (column, label)


@pytest.mark.parametrize("cell", ["-5", "", "NA", "Don't know", "Don´t know", "INAP; Filter", "Not asked"])
def test_missing_answers(cell: str) -> None:
    assert read_cell("Q1", cell).code == MISSING


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        ("Q107", "Don't -9:-2", MISSING),
        ("Q109", "Competition is good{1}", 1),
        ("Q112", "10 There is abundant corruption in my country", 10),
        ("Q110", "Hard work does not generally bring success", 10),
        ("Q1", "2. Rather important", 2),
        ("X003R2", "50 years and over", 3),
    ],
)
def test_labels_of_text_files(column: str, cell: str, code: int) -> None:
    assert read_cell(column, cell).code == code


@pytest.mark.parametrize(
    ("column", "cell", "doubt"),
    [
        ("Q49", "Completely disatisfied", "near 1 'Completely dissatisfied' and 10 'Completely satisfied'"),
        ("Q49", "Not completely satisfied", ""),
        ("Q109", "Competition is good{10}", "whose number is 10 and whose words are 1 'Competition is good'"),
        ("Q1", "1 Rather important", "whose number is 1 and whose words are 2 'Rather important'"),
        ("Q1", "Rather importan", ""),
    ],
)
def test_labels_in_doubt_are_not_read(column: str, cell: str, doubt: str) -> None:
    reading = read_cell(column, cell)
    assert reading.code == UNREADABLE
    assert doubt in reading.doubt
    assert bool(doubt) == bool(reading.doubt)


def test_a_slip_never_turns_an_answer_into_another() -> None:
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


@pytest.mark.parametrize(
    ("cell", "code", "name"),
    [
        ("156001", "CN-AH", "Anhui"),
        ("CN-AH Anhui Sheng", "CN-AH", "Anhui"),
        ("KE: KE-30 Nairobi City", "KE-30", "Nairobi City"),
        ("Somewhere", "Somewhere", "Somewhere"),
    ],
)
def test_regions(cell: str, code: str, name: str) -> None:
    found = read_region(cell, country="cn")
    assert (found[0], found[1]["en"]) == (code, name)


@pytest.mark.parametrize("cell", ["-4", "Missing; Unknown", ""])
def test_no_region(cell: str) -> None:
    assert read_region(cell, country="cn") is None


#: ISO numbers of the countries and territories with data in wave 7.
WAVE_7 = (
    20, 32, 51, 36, 50, 68, 76, 124, 152, 156, 170, 196, 203, 218, 818, 231, 276, 826, 300, 320, 344, 356, 360, 364,
    368, 392, 400, 398, 404, 410, 417, 422, 434, 446, 458, 462, 484, 496, 504, 104, 528, 554, 558, 566, 909, 586, 604,
    608, 630, 642, 643, 688, 702, 703, 158, 762, 764, 788, 792, 804, 840, 858, 860, 862, 704, 716,
)  # fmt: skip


def test_every_country_of_wave_7_is_known() -> None:
    populations = read_populations()
    assert len(set(WAVE_7)) == 66
    for number in WAVE_7:
        found = populations.named(f"{number:03d}")
        assert set(found.names) == {"en", "zh"}
        assert found.language
        for name in (found.code, found.alpha3, found.alpha3.lower(), found.names["en"].upper(), found.names["zh"]):
            assert populations.named(name) is found


def test_languages_without_a_wording_are_replaced() -> None:
    japan = read_populations().named("JPN")
    assert (japan.culture(["en", "zh"]).language, japan.culture(["en", "zh"]).spoken) == ("en", "ja")
    assert (japan.culture(["zh"]).language, japan.culture(["ja", "en"]).language) == ("zh", "ja")
    assert japan.culture(["ja", "en"]).spoken == ""
    assert japan.culture(["ja"]).name == {"ja": "Japan"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code,name_en\nxk,Kosovo\n", "line 1, header: expected a column 'language'"),
        ("code,name_en,language,capital\nxk,Kosovo,sq,P\n", "line 1, column 4, capital: expected one of the columns"),
        ("code,name_en,language\nXK,Kosovo,sq\n", "line 2, column 1, code: expected a code of small letters"),
        ("code,name_en,language\n", "expected a row for each population, got none"),
    ],
)
def test_a_table_of_ones_own_is_checked(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SurveyError) as error:
        read_populations(path)
    assert expected in str(error.value)
