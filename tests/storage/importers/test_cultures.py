"""The table of cultures: every country of the World Values Survey, found by any of its names."""

from __future__ import annotations

from pathlib import Path

import pytest

from defsurvey.storage.surveys.importers.cultures import DATA, read_populations
from defsurvey.storage.surveys.problem import SurveyError, UnknownName

#: ISO numbers of the countries and territories with data in wave 7.
WAVE_7 = (
    20, 32, 51, 36, 50, 68, 76, 124, 152, 156, 170, 196, 203, 218, 818, 231, 276, 826, 300, 320, 344, 356, 360, 364,
    368, 392, 400, 398, 404, 410, 417, 422, 434, 446, 458, 462, 484, 496, 504, 104, 528, 554, 558, 566, 909, 586, 604,
    608, 630, 642, 643, 688, 702, 703, 158, 762, 764, 788, 792, 804, 840, 858, 860, 862, 704, 716,
)  # fmt: skip


def test_every_country_of_wave_7_is_known() -> None:
    """Each has names in both languages and a language, and is found by any of its codes."""
    populations = read_populations()
    assert len(set(WAVE_7)) == 66
    for number in WAVE_7:
        found = populations.named(f"{number:03d}")
        assert set(found.names) == {"en", "zh"}
        assert found.language
        for name in (found.code, found.alpha3, found.alpha3.lower(), found.names["en"].upper(), found.names["zh"]):
            assert populations.named(name) is found


def test_no_name_means_two_countries() -> None:
    """Codes, numbers and names are each one country's."""
    lines = (DATA / "cultures.csv").read_text(encoding="utf-8").splitlines()[1:]
    names = [name for line in lines for name in line.split(",")[:5]]
    assert len(names) == len(set(names))


def test_languages_without_a_wording_are_replaced() -> None:
    """English stands in where the survey has it, else its first language."""
    japan = read_populations().named("JPN")
    assert (japan.culture(["en", "zh"]).language, japan.culture(["en", "zh"]).spoken) == ("en", "ja")
    assert (japan.culture(["zh"]).language, japan.culture(["ja", "en"]).language) == ("zh", "ja")
    assert japan.culture(["ja", "en"]).spoken == ""
    assert japan.culture(["ja"]).name == {"ja": "Japan"}


def test_names_that_are_near_are_told() -> None:
    """A misspelt country is an error with a suggestion."""
    with pytest.raises(UnknownName, match=r"country 'Untied States': .* \(did you mean 'United States'\?\)"):
        read_populations().named("Untied States")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code,name_en\nxk,Kosovo\n", "line 1, header: expected a column 'language'"),
        ("code,name_en,language,capital\nxk,Kosovo,sq,P\n", "line 1, column 4, capital: expected one of the columns"),
        ("code,name_en,language\nXK,Kosovo,sq\n", "line 2, column 1, code: expected a code of small letters"),
        ("code,name_en,language\nxk,,sq\n", "line 2, column 2, name_en: expected a name, got nothing"),
        ("code,name_en,language\nxk,Kosovo,Albanian\n", "line 2, column 3, language: expected a language code"),
        ("code,alpha3,name_en,language\nxk,xk,Kosovo,sq\n", "line 2, column 2, alpha3: expected an ISO 3166 code"),
        ("code,numeric,name_en,language\nxk,x,Kosovo,sq\n", "line 2, column 2, numeric: expected an ISO 3166 number"),
        ("code,name_en,language\n", "expected a row for each population, got none"),
    ],
)
def test_a_table_of_ones_own_is_checked(tmp_path: Path, text: str, expected: str) -> None:
    """What is wrong with it is told with line and column."""
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SurveyError) as error:
        read_populations(path)
    assert expected in str(error.value)
