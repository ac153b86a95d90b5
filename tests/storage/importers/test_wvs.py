"""Official files of the World Values Survey: distributions that went in come out."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from defsurvey.storage.surveys.folder import read_survey
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.problem import SurveyError, UnknownName
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
    """Respondents with an answer, valid or missing, to every question there is."""
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
    """In every variant, each question and group of each country has the weighted shares of its respondents."""
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
                    assert reference is not None
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
            assert reference is not None
            assert other is not None
            assert reference.n_eff == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
            assert reference.effective_n < reference.n
            assert other.n_eff == pytest.approx(other.n)
            compared += 1
    assert compared == 9


def share(survey: Survey, question: str, culture: str, code: int) -> float:
    """Of the people of a culture, who chose that option."""
    reference = survey.reference(question, culture)
    assert reference is not None
    return reference.shares[code]


def published() -> dict[str, dict[str, dict[int, float]]]:
    """Country -> question -> code -> weighted percentage of all respondents, as published."""
    found: dict[str, dict[str, dict[int, float]]] = {"USA": defaultdict(dict), "CHN": defaultdict(dict)}
    with (FIXTURES / "wvs7_published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for country in found:
                if row[country]:
                    found[country][row["question"]][int(row["code"])] = float(row[country])
    return found


def matching(percentages: dict[str, dict[int, float]], country: str, people: int) -> list[Row]:
    """Respondents with one weight each, whose weighted answers are those percentages of all of them."""
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
    """Respondents made to have the published weighted percentages give those, of valid answers, for both countries."""
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


def test_every_attitude_item_is_there() -> None:
    """Every item of the codebook is in a question, once and in order, but the two and the party that are left out."""
    questions = wvs_questions()
    items = [f"Q{c}" for q in questions if q.type is QuestionType.MULTIPLE for c in q.codes]
    items += [question.id for question in questions if question.type is not QuestionType.MULTIPLE]
    assert sorted(items, key=lambda name: int(name[1:])) == [
        f"Q{number}" for number in range(1, 260) if number not in (152, 153, 223)
    ]
    assert [question.id for question in questions] == sorted(
        (question.id for question in questions), key=lambda name: int(name[1:])
    )


def test_what_the_us_and_china_share_is_more_than_200_questions(tmp_path: Path) -> None:
    """Questions that one country was not asked are left out, and said to be."""
    rng = np.random.default_rng(3)
    not_in_china = {*range(82, 91), 93, 125, 130, *range(132, 142), 148, 222, *range(224, 235), 240}
    us, cn = answered(rng, "840", 30), answered(rng, "156", 30)
    for row in us:
        row["Q215"] = "-4"
    for row in cn:
        row.update({f"Q{number}": "-4" for number in not_in_china})
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", us + cn), id="both")
    ids = {question.id for question in imported.survey.questions}
    assert len(ids) == 201
    assert not ids & {f"Q{number}" for number in (*not_in_china, 215)}
    assert any("37 questions left out" in note and "Q82 (cn)" in note for note in imported.notes)


def test_five_countries_make_a_survey(tmp_path: Path) -> None:
    """Any countries are cultures, with names in both languages, regions, and English where there is no wording."""
    rng = np.random.default_rng(5)
    rows = [row for country in ALPHA3 for row in answered(rng, country, 60)]
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="five")
    imported.write(tmp_path / "five")
    survey = read_survey(tmp_path / "five")
    assert [culture.code for culture in survey.cultures] == ["us", "cn", "jp", "ng", "es"]
    assert [(c.language, c.spoken) for c in survey.cultures] == [
        ("en", ""),
        ("zh", ""),
        ("en", "ja"),
        ("en", ""),
        ("en", "es"),
    ]
    assert survey.culture("jp").name == {"en": "Japan", "zh": "日本"}
    assert len(survey.questions) == 238
    assert any("Japan (ja), Spain (es)" in note for note in imported.notes)
    counts = list(csv.DictReader((tmp_path / "five" / "import.csv").read_text(encoding="utf-8").splitlines()))
    [row] = [row for row in counts if (row["question"], row["culture"]) == ("Q1", "es")]
    answers = [person["Q1"] for person in rows if person["B_COUNTRY"] == "724"]
    assert int(row["valid"]) == sum(answer in "1234" for answer in answers)
    assert int(row["missing"]) == sum(answer.startswith("-") for answer in answers)


def test_regions_have_their_weighted_shares_and_names(tmp_path: Path) -> None:
    """Codes of the file become ISO codes with names; missing ones are left out; an unknown number is a code."""
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


def test_three_points_are_read_with_their_own_order(tmp_path: Path) -> None:
    """Q33_3 has 2 for disagree and 3 for neither; it is read where Q33 has nothing."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": "1", "Q33_3": code} for code in ("1", "2", "2", "2", "3", "-1")]
    survey = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us").survey
    reference = survey.reference("Q33", "us")
    assert reference is not None
    assert reference.shares == {1: 0.2, 2: 0.2, 3: 0.6}


def test_codes_that_are_no_option_are_dropped_and_counted(tmp_path: Path) -> None:
    """Q254 has a fifth code that is no degree of pride; an unheard-of code is none either."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": "1", "Q254": code} for code in ("1", "4", "5", "77", "-1", "")]
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us")
    [counted] = imported.counts
    assert (counted.valid, counted.missing, counted.not_offered) == (2, 2, 2)
    reference = imported.survey.reference("Q254", "us")
    assert reference is not None
    assert reference.shares == {1: 0.5, 2: 0.0, 3: 0.0, 4: 0.5}


def test_respondents_without_weight_count_for_nothing(tmp_path: Path) -> None:
    """A weight of 0 takes a respondent out; it is told."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": weight, "Q1": code} for weight, code in (("2", "1"), ("0", "2"))]
    imported = import_wvs(write_official(tmp_path / "f.csv", "cross-national v5", rows), id="us")
    reference = imported.survey.reference("Q1", "us")
    assert reference is not None
    assert (reference.n, reference.shares[1]) == (1, 1.0)
    assert any("1 respondents left out whose weight is 0" in note for note in imported.notes)


LABELLED = {
    "": ["83", "412", "2237", "9", "10"],
    "B_COUNTRY ISO 3166-1 numeric country code": ["United States"] * 5,
    "B_COUNTRY_ALPHA ISO 3166-1 alpha-3 country code": ["USA"] * 5,
    "N_REGION_ISO Region ISO 3166-2": [
        "US-IL Illinois",
        "US-MI Michigan",
        "US-IL Illinois",
        "US-XX Nowhere",
        "Missing",
    ],
    "W_WEIGHT Weight": ["1", "1", "1", "1", "1"],
    "Q1 Family": ["Very important", "Rather important", "Don´t know", "Not at all important", "No answer; Missing"],
    "Q7 Manners": ["Important", "Not mentioned", "Important", "Important", "No answer"],
    "Q8 Independence": ["Not mentioned", "Not mentioned", "Important", "Not mentioned", "Important"],
    "Q27 Parents": ["Agree", "Agree strongly", "Strongly agree", "Disagree", "Strongly disagree"],
    "Q33_3 Jobs": ["Disagree", "Neither agree nor disagree", "Agree", "Disagree", "Not asked"],
    "Q42 Society": ["Our society must be gradually improved by reforms"] * 4 + ["INAP"],
    "Q48 Control": ["7", "A great deal", "None at all", "7", "-1"],
    "Q111 Environment": ["Economy growth and creating jobs", "Other answer", "Protecting environment", "-2", "-2"],
    "Q146 War": ["A good deal", "A great deal", "Not at all", "Very much", "Not much"],
    "Q235 Leader": ["Fairly Bad", "Fairly bad", "Very good", "Very bad", "Fairly good"],
    "Q260 Sex": ["Male", "Female", "Female", "Male", "Female"],
    "Q262 Age": ["46", "30", "60", "29", "17"],
    "X003R2 Age recoded (3 intervals)": ["30-49 years", "30-49 years", "50 and more years", "16-29 years", "No answer"],
}


def test_text_labels_are_codes(tmp_path: Path) -> None:
    """The "CsvTxt" variant: a nameless first column, headers with titles, labels in place of codes."""
    rows = [{name: cells[place] for name, cells in LABELLED.items()} for place in range(5)]
    path = write_rows(
        tmp_path / "F00011356-WVS_Wave_7_USA_CsvTxt.csv", list(LABELLED), rows, delimiter=";", quoted=True
    )
    survey = import_wvs(path, id="us").survey
    shares = {question.id: survey.reference(question.id, "us").shares for question in survey.questions}  # type: ignore[union-attr]
    assert shares["Q1"] == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 0, 4: 1 / 3})
    assert shares["Q7"] == pytest.approx({7: 3 / 4, 8: 2 / 5})
    assert shares["Q27"] == pytest.approx({1: 0.4, 2: 0.2, 3: 0.2, 4: 0.2})
    assert shares["Q33"] == pytest.approx({1: 1 / 4, 2: 1 / 4, 3: 1 / 2})
    assert shares["Q42"] == {1: 0, 2: 1, 3: 0}
    assert (shares["Q48"][7], shares["Q48"][10], shares["Q48"][1]) == (0.5, 0.25, 0.25)
    assert shares["Q111"] == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert shares["Q146"] == pytest.approx({1: 0.2, 2: 0.4, 3: 0.2, 4: 0.2})
    assert shares["Q235"] == pytest.approx({1: 0.2, 2: 0.2, 3: 0.4, 4: 0.2})
    young = survey.reference("Q27", "us", Group.AGE_LE29)
    assert young is not None
    assert young.n == 2
    assert [(region.code, region.name["en"]) for region in survey.culture("us").regions] == [
        ("US-IL", "Illinois"),
        ("US-MI", "Michigan"),
        ("US-XX", "Nowhere"),
    ]


def test_decimal_commas_are_weights(tmp_path: Path) -> None:
    """A file that a spreadsheet saved with semicolons may have commas in its numbers."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": weight, "Q1": code} for weight, code in (("0,5", "1"), ("1,5", "2"))]
    survey = import_wvs(write_official(tmp_path / "f.csv", "country v6", rows), id="us").survey
    assert share(survey, "Q1", "us", 1) == 0.25


def test_countries_are_chosen_by_any_name(tmp_path: Path) -> None:
    """Codes and names in any case choose countries, in that order; the others may be unknown."""
    rows = [{"B_COUNTRY_ALPHA": country, "W_WEIGHT": "1", "Q1": "1"} for country in ("USA", "XXX", "DEU", "MOR", "CHN")]
    path = write_official(tmp_path / "f.csv", "cross-national v5", rows)
    survey = import_wvs(path, id="some", countries=["china", "276", "MAR"]).survey
    assert [culture.code for culture in survey.cultures] == ["cn", "de", "ma"]


def test_a_country_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Without its respondents there is no survey of a country."""
    rows = [{"B_COUNTRY_ALPHA": "USA", "W_WEIGHT": "1", "Q1": "1"}]
    path = write_official(tmp_path / "f.csv", "cross-national v5", rows)
    with pytest.raises(SurveyError, match=r"f\.csv: expected respondents of Japan, got none"):
        import_wvs(path, id="jp", countries=["USA", "JPN"])
    with pytest.raises(UnknownName, match=r"country 'Jpan': expected one of the .* \(did you mean 'Japan'\?\)"):
        import_wvs(path, id="jp", countries=["Jpan"])


def test_users_add_countries(tmp_path: Path) -> None:
    """A table of one's own adds a population or renames one."""
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
