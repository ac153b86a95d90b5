"""Official files of the World Values Survey: distributions that went in come out."""

import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from defsurvey.storage.surveys.folder import read_survey
from defsurvey.storage.surveys.importers import wvs
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.problem import Fault, SurveyError, UnknownName
from defsurvey.storage.surveys.survey import Group, QuestionType, Survey
from tests.storage.importers.official import (
    ALPHA3,
    FIXTURES,
    VARIANTS,
    Row,
    header_of,
    person,
    shares_of,
    write_official,
    write_rows,
)

AGES = {Group.AGE_LE29: range(16, 30), Group.AGE_30_49: range(30, 50), Group.AGE_50PLUS: range(50, 200)}
LISTS = {f"Q{number}" for number in range(7, 27)}
FIVE_POINTS = {"Q33", "Q34", "Q35"}


def answered(rng: np.random.Generator, country: str, people: int) -> list[Row]:
    rows = [person(rng, country) for _ in range(people)]
    for question in wvs_questions():
        if question.type is QuestionType.MULTIPLE:
            columns = {f"Q{code}": ["1", "2", "2", "-1"] for code in question.codes}
        elif question.id in FIVE_POINTS:
            columns = {question.id: ["1", "2", "3", "4", "5", "-2"]}
        else:
            columns = {question.id: [*map(str, question.codes), "-1", "-5"]}
        for column, codes in columns.items():
            for row, code in zip(rows, rng.choice(codes, people, p=rng.dirichlet(np.full(len(codes), 5))), strict=True):
                row[column] = str(code)
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_known_distributions_come_back(tmp_path: Path, variant: str) -> None:
    rng = np.random.default_rng(7)
    countries = ["840"] if variant == "country v6" else ["840", "156", "566"]
    rows = {country: answered(rng, country, 250) for country in countries}
    mixed = [row for together in zip(*rows.values(), strict=True) for row in together]
    survey = import_wvs(write_official(tmp_path / "wvs.csv", variant, mixed), id="wvs").write(tmp_path / "survey")
    present = set(header_of(variant))
    expected = [q.id for q in wvs_questions() if q.id in present]
    assert [question.id for question in survey.questions] == expected
    compared = 0
    for country, people in rows.items():
        culture = {"840": "us", "156": "cn", "566": "ng"}[country]
        for question in survey.questions:
            if question.type is QuestionType.MULTIPLE:
                for code in question.codes:
                    shares, _ = shares_of(people, f"Q{code}", ["1", "2"])
                    assert share(survey, question.id, culture, code) == pytest.approx(shares["1"], abs=1e-7)
            elif question.id in FIVE_POINTS:
                shares, _ = shares_of(people, question.id, ["1", "2", "3", "4", "5"])
                for code, parts in ((1, ("1", "2")), (2, ("3",)), (3, ("4", "5"))):
                    whole = sum(shares[part] for part in parts)
                    assert share(survey, question.id, culture, code) == pytest.approx(whole, abs=1e-7)
            else:
                valid = [str(code) for code in question.codes]
                groups = {Group.ALL: shares_of(people, question.id, valid)}
                groups |= {group: shares_of(people, question.id, valid, ages=ages) for group, ages in AGES.items()}
                for group, sex in ((Group.MALE, "1"), (Group.FEMALE, "2")):
                    groups[group] = shares_of(people, question.id, valid, sex=sex)
                for group, (shares, n) in groups.items():
                    reference = survey.reference(question.id, culture, group)
                    assert reference.n == n
                    assert reference.low_n == (n < 100)
                    assert reference.shares == pytest.approx({int(c): part for c, part in shares.items()}, abs=1e-7)
                    compared += 1
    assert compared > 500


def test_weighted_people_count_as_kish_says(tmp_path: Path) -> None:
    """(sum w)^2 / sum w^2 over those of the group who answered the question; equal weights count in full."""
    rng = np.random.default_rng(8)
    rows = answered(rng, "840", 300)
    even = [row | {"W_WEIGHT": "0.7"} for row in answered(rng, "156", 120)]
    path = write_official(tmp_path / "WVS_Cross-National_Wave_7_csv_v6_0.csv", "cross-national v5", rows + even)
    survey = import_wvs(path, id="weighted").survey
    compared = 0
    for group, sex in ((Group.ALL, None), (Group.MALE, "1"), (Group.FEMALE, "2")):
        for question in ("Q57", "Q1", "Q45"):
            codes = {str(code) for code in survey.question(question).codes}
            weights = [float(row["W_WEIGHT"]) for row in rows if row[question] in codes and sex in (None, row["Q260"])]
            reference, other = (survey.reference(question, culture, group) for culture in ("us", "cn"))
            assert reference.n_eff == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
            assert reference.effective_n < reference.n
            assert other.n_eff == pytest.approx(other.n)
            compared += 1
    assert compared == 9


def share(survey: Survey, question: str, culture: str, code: int) -> float:
    reference = survey.reference(question, culture)
    return reference.shares[code]


def published() -> dict[str, dict[str, dict[int, float]]]:
    found: dict[str, dict[str, dict[int, float]]] = {"USA": defaultdict(dict), "CHN": defaultdict(dict)}
    with (FIXTURES / "wvs7_published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for country in found:
                if row[country]:
                    found[country][row["question"]][int(row["code"])] = float(row[country])
    return found


def matching(percentages: dict[str, dict[int, float]], country: str, people: int) -> list[Row]:
    rng = np.random.default_rng(int(country))
    rows = [person(rng, country) for _ in range(people)]
    for question, parts in percentages.items():
        codes = [*parts, -1]
        ends = np.cumsum([*parts.values()]) / 100
        order = rng.permutation(people)
        weights = np.array([float(rows[place]["W_WEIGHT"]) for place in order])
        middle = (np.cumsum(weights) - weights / 2) / weights.sum()
        for place, which in zip(order, np.searchsorted(ends, middle), strict=True):
            rows[place][question] = str(codes[which])
    return rows


def test_published_percentages_are_reproduced(tmp_path: Path) -> None:
    figures = published()
    rows = matching(figures["USA"], "840", 6000) + matching(figures["CHN"], "156", 6000)
    path = write_official(tmp_path / "WVS_Cross-National_Wave_7_csv_v6_0.csv", "cross-national v5", rows)
    compared = 0
    for country in figures:
        survey = import_wvs(path, id="both", countries=[country]).survey
        [culture] = [culture.code for culture in survey.cultures]
        for question, parts in figures[country].items():
            if question in ("Q152", "Q153", "Q223"):
                continue  # no part of what is imported
            if question in LISTS:
                found = {1: share(survey, "Q7" if int(question[1:]) < 18 else "Q18", culture, int(question[1:]))}
                offered = parts
            elif question in FIVE_POINTS:
                offered = {1: parts[1] + parts[2], 2: parts[3], 3: parts[4] + parts[5]}
                found = {code: share(survey, question, culture, code) for code in offered}
            else:
                offered = {code: part for code, part in parts.items() if code in survey.question(question).codes}
                found = {code: share(survey, question, culture, code) for code in offered}
            whole = sum(offered.values())
            for code, part in found.items():
                assert 100 * part == pytest.approx(100 * offered[code] / whole, abs=0.05), (country, question, code)
                compared += 1
    assert compared > 1700


def test_five_countries_make_a_survey(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = [row for country in ALPHA3 for row in answered(rng, country, 60)]
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="five")
    imported.write(tmp_path / "five")
    survey = read_survey(tmp_path / "five")
    assert [culture.code for culture in survey.cultures] == ["us", "cn", "jp", "ng", "es"]
    assert [c.language + c.spoken for c in survey.cultures] == ["en", "zh", "enja", "en", "enes"]
    assert survey.culture("jp").name == {"en": "Japan", "zh": "日本"}
    assert len(survey.questions) == 238
    assert any("Japan (ja), Spain (es)" in note for note in imported.notes)
    counts = list(csv.DictReader((tmp_path / "five" / "import.csv").read_text(encoding="utf-8").splitlines()))
    [row] = [row for row in counts if (row["question"], row["culture"]) == ("Q1", "es")]
    answers = [person["Q1"] for person in rows if person["B_COUNTRY"] == "724"]
    assert int(row["valid"]) == sum(answer in "1234" for answer in answers)
    assert int(row["missing"]) == sum(answer.startswith("-") for answer in answers)


def test_regions_have_their_weighted_shares_and_names(tmp_path: Path) -> None:
    cells = [("840003", 1.0), ("840003", 0.5), ("840035", 1.5), ("-4", 9.0), ("840999", 1.0)]
    rows = [
        {"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": f"{weight}", "N_REGION_ISO": cell, "Q1": "1"} for cell, weight in cells
    ]
    survey = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us").survey
    assert [(r.code, r.name["en"], r.name["zh"], r.share) for r in survey.culture("us").regions] == [
        ("US-999", "US-999", "US-999", 0.25),
        ("US-AZ", "Arizona", "亚利桑那州", 0.375),
        ("US-OH", "Ohio", "俄亥俄州", 0.375),
    ]


def test_age_in_years_stands_in_for_a_missing_group(tmp_path: Path) -> None:
    """Q262 tells the group where X003R2 is missing or not in the file."""
    people = [("29", "-5"), ("30", "-5"), ("49", "2"), ("50", "-4"), ("-2", "1"), ("-2", "-2")]
    rows = [
        {"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": "1", "Q262": age, "X003R2": group, "Q1": "1" if age != "50" else "2"}
        for age, group in people
    ]
    survey = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us").survey
    found = {group: survey.reference("Q1", "us", group) for group in Group}
    assert {group: reference.n for group, reference in found.items() if reference} == {
        Group.ALL: 6,
        Group.AGE_LE29: 2,
        Group.AGE_30_49: 2,
        Group.AGE_50PLUS: 1,
    }


def test_codes_that_are_no_option_are_dropped_and_counted(tmp_path: Path) -> None:
    """Q254 has a fifth code that is no degree of pride; an unheard-of code is none either."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": "1", "Q254": code} for code in ("1", "4", "5", "77", "-1", "")]
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us")
    [counted] = imported.counts
    assert (counted.valid, counted.missing, counted.not_offered) == (2, 2, 2)
    reference = imported.survey.reference("Q254", "us")
    assert reference.shares == {1: 0.5, 2: 0.0, 3: 0.0, 4: 0.5}


def test_respondents_without_weight_count_for_nothing(tmp_path: Path) -> None:
    """A weight of 0 takes a respondent out; it is told."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": weight, "Q1": code} for weight, code in (("2", "1"), ("0", "2"))]
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us")
    reference = imported.survey.reference("Q1", "us")
    assert (reference.n, reference.shares[1]) == (1, 1.0)
    assert any("1 respondents left out whose weight is 0" in note for note in imported.notes)


LABELLED = {
    "": ["83", "412", "2237", "9", "10"],
    "B_COUNTRY ISO 3166-1 numeric country code": ["United States"] * 5,
    "B_COUNTRY_ALPHA ISO 3166-1 alpha-3 country code": ["USA"] * 5,
    "N_REGION_ISO Region": ["US-IL Illinois", "US-MI Michigan", "US-IL Illinois", "US-XX Nowhere", "Missing"],
    "W_WEIGHT Weight": ["1", "1", "1", "1", "1"],
    "Q1 Family": ["Very important", "Rather important", "Don´t know", "Not at all important", "No answer; Missing"],
    "Q7 Manners": ["Important", "Not mentioned", "Important", "Important", "No answer"],
    "Q8 Independence": ["Not mentioned", "Not mentioned", "Important", "Not mentioned", "Important"],
    "Q33_3 Jobs": ["Disagree", "Neither agree nor disagree", "Agree", "Disagree", "Not asked"],
    "Q111 Environment": ["Economy growth and creating jobs", "Other answer", "Protecting environment", "-2", "-2"],
    "Q146 War": ["A good deal", "A great deal", "Not at all", "Very much", "Not much"],
    "Q260 Sex": ["Male", "Female", "Female", "Male", "Female"],
    "Q262 Age": ["46", "30", "60", "29", "17"],
    "X003R2 Age recoded (3 intervals)": ["30-49 years", "30-49 years", "50 and more years", "16-29 years", "No answer"],
}


def test_text_labels_are_codes(tmp_path: Path) -> None:
    rows = [{name: cells[place] for name, cells in LABELLED.items()} for place in range(5)]
    path = write_rows(
        tmp_path / "F00011356-WVS_Wave_7_USA_CsvTxt.csv", list(LABELLED), rows, delimiter=";", quoted=True
    )
    survey = import_wvs(path, id="us").survey
    shares = {question.id: survey.reference(question.id, "us").shares for question in survey.questions}
    assert shares["Q1"] == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 0, 4: 1 / 3})
    assert shares["Q7"] == pytest.approx({7: 3 / 4, 8: 2 / 5})
    assert shares["Q33"] == pytest.approx({1: 1 / 4, 2: 1 / 4, 3: 1 / 2})
    assert shares["Q111"] == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert shares["Q146"] == pytest.approx({1: 0.2, 2: 0.4, 3: 0.2, 4: 0.2})
    assert survey.reference("Q146", "us", Group.AGE_LE29).n == 2
    assert [(region.code, region.name["en"]) for region in survey.culture("us").regions] == [
        ("US-IL", "Illinois"),
        ("US-MI", "Michigan"),
        ("US-XX", "Nowhere"),
    ]


def test_decimal_commas_are_weights(tmp_path: Path) -> None:
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": weight, "Q1": code} for weight, code in (("0,5", "1"), ("1,5", "2"))]
    survey = import_wvs(write_official(tmp_path / "f.csv", "country v6", rows), id="us").survey
    assert share(survey, "Q1", "us", 1) == 0.25


def test_countries_are_chosen_by_any_name(tmp_path: Path) -> None:
    rows = [{"B_COUNTRY_ALPHA": country, "W_WEIGHT": "1", "Q1": "1"} for country in ("USA", "XXX", "DEU", "MOR", "CHN")]
    path = write_official(tmp_path / "f.csv", "cross-national v5", rows)
    survey = import_wvs(path, id="some", countries=["china", "276", "MAR"]).survey
    assert [culture.code for culture in survey.cultures] == ["cn", "de", "ma"]


def test_a_country_that_is_not_there_is_named(tmp_path: Path) -> None:
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": "1", "Q1": "1"}]
    path = write_official(tmp_path / "f.csv", "cross-national v5", rows)
    with pytest.raises(SurveyError, match=r"f\.csv: expected respondents of Japan, got none"):
        import_wvs(path, id="jp", countries=["USA", "JPN"])
    with pytest.raises(UnknownName, match=r"country 'Jpan': expected one of the .* \(did you mean 'Japan'\?\)"):
        import_wvs(path, id="jp", countries=["Jpan"])


def test_users_add_countries(tmp_path: Path) -> None:
    extra = tmp_path / "mine.csv"
    extra.write_text(
        "code,alpha3,name_en,name_zh,language\nxk,XKX,Kosovo,科索沃,sq\nus,USA,The States,,en\n", encoding="utf-8"
    )
    rows = [{"B_COUNTRY_ALPHA": country, "W_WEIGHT": "1", "Q1": "1"} for country in ("XKX", "USA")]
    path = write_official(tmp_path / "f.csv", "cross-national v5", rows)
    survey = import_wvs(path, id="two", cultures=extra).survey
    assert [(c.code, c.name["en"], c.name["zh"], c.spoken) for c in survey.cultures] == [
        ("xk", "Kosovo", "科索沃", "sq"),
        ("us", "The States", "The States", ""),
    ]


def test_questions_that_a_country_was_not_asked_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [{"B_COUNTRY_ALPHA": country, "W_WEIGHT": "1", "Q1": "1"} for country in ("USA", "CHN")]
    rows[0]["Q2"] = "2"
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="both")
    assert [question.id for question in imported.survey.questions] == ["Q1"]
    assert any("questions left out, not asked everywhere: Q2 (cn), Q3, Q4" in note for note in imported.notes)


NAMES = ["B_COUNTRY", "B_COUNTRY_ALPHA", "W_WEIGHT", "Q260", "Q262", "X003R2", "Q1", "Q57"]


@pytest.fixture
def good(tmp_path: Path) -> str:
    """The text of a file of five respondents who answered two questions."""
    rng = np.random.default_rng(1)
    rows = [person(rng, "840") | {"W_WEIGHT": "1.5", "Q260": "2", "Q262": "44", "Q1": "1", "Q57": "2"} for _ in "12345"]
    return write_rows(tmp_path / "wvs.csv", NAMES, rows, delimiter=",").read_text(encoding="utf-8")


def broken(tmp_path: Path, text: str | bytes) -> str:
    """The message with which a file is refused; nothing is left beside it."""
    (tmp_path / "wvs.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SurveyError) as error:
        import_wvs(tmp_path / "wvs.csv", id="x").write(tmp_path / "survey")
    assert [entry.name for entry in tmp_path.iterdir()] == ["wvs.csv"]
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("1,2\n", "1,yes\n", "line 2, column 8, Q57: expected a code or one of the labels"),
        (",2,44,", ",woman?,44,", "line 2, column 4, Q260: expected a code or one of the labels Male, Female, got"),
        (",44,", ",young,", "line 2, column 5, Q262: expected a number, got 'young'"),
        (",1.5,", ",heavy,", "line 2, column 3, W_WEIGHT: expected a weight, 0 or more, got 'heavy'"),
        (",1.5,", ",,", "line 2, column 3, W_WEIGHT: expected a weight, 0 or more, got nothing"),
        ("USA", "Atlantis", "line 2, column 2, B_COUNTRY_ALPHA: expected a country that is known; others"),
        ("W_WEIGHT", "WEIGHTS", "line 1, header: expected a column 'W_WEIGHT', got B_COUNTRY"),
        ("Q260,Q262,X003R2,Q1,Q57", "SEX,AGE,X003R2,A1,A57", "line 1, header: expected a column 'Q1'"),
        ("Q57", "Q1", "line 1, column 8, header: expected every name once, got 'Q1' again, first in column 7"),
        ("1,2\n", "1\n", "line 2, column 7: expected 8 cells, as the header has, got 7"),
        ("1,2\n", '1,"2\n', "line 2: expected cells separated by ',', their quotes closed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_where_it_stands(tmp_path: Path, good: str, old: str, new: str, told: str) -> None:
    assert broken(tmp_path, good.replace(old, new, 1)).startswith(f"wvs.csv, {told}")


def test_what_is_wrong_with_the_whole_file_is_told(tmp_path: Path, good: str) -> None:
    lines = good.splitlines()
    lines[3] += "é"
    message = broken(tmp_path, "\n".join(lines).encode("latin-1"))
    assert message.startswith(f"wvs.csv, line 4, column {len(lines[3])}: expected text in UTF-8, got byte 0xe9")
    message = broken(tmp_path, good.replace(",1.5,", ",0,"))
    assert message.startswith(
        "wvs.csv, W_WEIGHT: expected a weight above 0 for some respondent of United States, got 0"
    )
    assert broken(tmp_path, "").startswith("wvs.csv, line 1: expected a header")
    assert broken(tmp_path, "B_COUNTRY,W_WEIGHT,Q1\n") == "wvs.csv, line 2: expected respondents, got none"


def test_a_name_within_quotes_may_have_several_lines_and_rows_of_empty_cells_are_passed_over(
    tmp_path: Path, good: str
) -> None:
    text = good.replace("Q1,Q57\n", '"Q1 Important in life:\nFamily","Q57 Most people\n\ncan be trusted"\n,,,,,,,\n', 1)
    (tmp_path / "f.csv").write_text(text, encoding="utf-8")
    imported = import_wvs(tmp_path / "f.csv", id="x")
    assert [question.id for question in imported.survey.questions] == ["Q1", "Q57"]
    assert imported.notes[0] == "2 questions; respondents: us 5"


def test_blocks_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wvs, "_BLOCK", 30)
    rng = np.random.default_rng(2)
    rows = [person(rng, "840") | {"Q1": str(rng.integers(1, 5))} for _ in range(400)]
    path = write_official(tmp_path / "big.csv", "cross-national v5", rows)
    reference = import_wvs(path, id="x").survey.reference("Q1", "us")
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
