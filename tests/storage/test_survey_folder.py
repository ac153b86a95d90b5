"""Survey folders: what a person writes is read as meant, and harmless differences do no harm."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from defsurvey.storage.surveys.folder import bundled_surveys, check_survey, find_survey, read_survey
from defsurvey.storage.surveys.problem import InvalidSurvey, SurveyError, UnknownName
from defsurvey.storage.surveys.survey import Group, QuestionType

TINY = {
    "survey.yaml": """\
id: tiny
title: A tiny survey
version: "2"
citation: Nobody (2025)
terms: Free
languages: [en, zh]
dimensions:
  EVI: {en: Emancipative values, zh: 解放价值观}
cultures:
  us: {name: {en: United States, zh: 美国}, language: en}
  cn: {name: {en: China, zh: 中国}, language: zh}
sources:
  census: The census of 2025
""",
    "questions.yaml": """\
answers:
  agreement:
    - {code: 1, label: {en: Agree, zh: 同意}}
    - {code: 2, label: {en: Disagree, zh: 不同意}}
questions:
  - id: Q1
    type: ordinal
    topic: Family
    text: {en: Children matter., zh: 孩子很重要。}
    options: agreement
    value: {dimension: EVI, direction: -1, basis: A, core: true}
  - id: Q2
    type: scale
    topic: Life
    text: {en: How free are you?, zh: 您有多自由？}
    options: {from: 1, to: 4, low: {en: Not at all, zh: 完全不自由}, high: {en: Entirely, zh: 完全自由}}
  - id: Q3
    type: multiple
    max_choices: 2
    topic: Children
    text: {en: Which qualities?, zh: 哪些品质？}
    options:
      - {code: 7, label: {en: Manners, zh: 礼貌}}
      - {code: 8, label: {en: Faith, zh: 信仰}, value: {dimension: EVI, direction: -1}}
      - code: 9
        label: {en: None of these, zh: 都不是}
        residual: true
""",
    "references.csv": """\
question,culture,group,n,low_n,source,percent
Q1,us,all,1000,,census,1:70.2|2:29.9
Q1,cn,male,12,yes,,1:50|2:50
Q2,us,all,900,no,,1:10|2:20|3:30|4:40
Q3,us,all,800,,,7:60|8:70
""",
    "regions.csv": """\
culture,code,name_en,name_zh,share
us,US-OH,Ohio,俄亥俄州,30
us,US-TX,Texas,得克萨斯州,70
""",
}

Change = tuple[str, str, str]
Write = Callable[..., Path]


def write_tiny(folder: Path, *changes: Change) -> Path:
    files = dict(TINY)
    for file, old, new in changes:
        assert old in files[file], f"{old!r} is not in {file}"
        files[file] = files[file].replace(old, new, 1)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return lambda *changes: write_tiny(tmp_path, *changes)


def test_a_folder_is_read_as_written(write: Write) -> None:
    survey = read_survey(write())
    assert (survey.id, survey.title, survey.version) == ("tiny", "A tiny survey", "2")
    assert (survey.citation, survey.terms, survey.languages) == ("Nobody (2025)", "Free", ("en", "zh"))
    assert survey.dimensions == {"EVI": {"en": "Emancipative values", "zh": "解放价值观"}}
    assert [culture.code for culture in survey.cultures] == ["us", "cn"]
    assert survey.culture("cn").language == "zh"
    assert survey.culture("cn").regions == ()
    first, second, third = survey.questions
    assert (first.type, first.topic, first.text["zh"]) == (QuestionType.ORDINAL, "Family", "孩子很重要。")
    assert first.value is not None
    assert (first.value.dimension, first.value.direction, first.value.basis, first.value.core) == ("EVI", -1, "A", True)
    assert [option.label["en"] for option in first.options] == ["Agree", "Disagree"]
    assert second.value is None
    assert [option.label["zh"] for option in second.options] == ["完全不自由", "2", "3", "完全自由"]
    assert (third.type, third.max_choices, third.codes) == (QuestionType.MULTIPLE, 2, (7, 8, 9))
    assert [option.residual for option in third.options] == [False, False, True]
    assert third.option(8).value is not None
    assert third.option(8).value.basis == "B"


@pytest.mark.parametrize(
    ("codes", "refused"), [((1, 2, 3, 4), []), ((4, 3, 2, 1), []), ((9, 4, 2, 1), []), ((3, 1, 2, 4), ["3, 1, 2, 4"])]
)
def test_points_of_a_listed_scale_run_one_way(write: Write, codes: tuple[int, ...], refused: list[str]) -> None:
    beside = "{code: 7, label: {en: None, zh: 无}, residual: true}"
    points = ", ".join(f"{{code: {code}, label: {{en: p{code}, zh: 第{code}}}}}" for code in codes)
    compact = "{from: 1, to: 4, low: {en: Not at all, zh: 完全不自由}, high: {en: Entirely, zh: 完全自由}}"
    shares = "|".join(f"{code}:25" for code in codes) + "|7:0"
    figures = ("references.csv", "1:10|2:20|3:30|4:40", shares)
    folder = write(("questions.yaml", compact, f"[{beside}, {points}]"), figures)
    assert [problem.got for problem in check_survey(folder)] == refused
    assert refused or read_survey(folder).question("Q2").codes == (7, *codes)


def test_percentages_become_shares_that_sum_to_one(write: Write) -> None:
    """70.2 and 29.9 sum to 100.1: within the rounding, and scaled to 1. Those of a list do not sum."""
    reference = read_survey(write()).reference("Q1", "us")
    assert reference.shares[1] == pytest.approx(70.2 / 100.1)
    assert math.fsum(reference.shares.values()) == 1.0
    assert (reference.n, reference.low_n, reference.source) == (1000, False, "The census of 2025")
    men, listed = (read_survey(write()).references[place] for place in (1, 3))
    assert (men.group, men.low_n, men.n, men.source) == (Group.MALE, True, 12, "")
    assert listed.shares == {7: 0.6, 8: 0.7}


WEIGHTED = (
    ("references.csv", "n,low_n", "n,n_eff,low_n"),
    ("references.csv", "1000,,", "1000,612.5,,"),
    ("references.csv", "12,yes", "12,,yes"),
    ("references.csv", "900,no", "900,900,no"),
    ("references.csv", "800,,", "800,,,"),
)


def test_weighted_respondents_count_as_fewer(write: Write) -> None:
    plain, weighted = read_survey(write()), read_survey(write(*WEIGHTED))
    assert [reference.effective_n for reference in plain.references] == [1000, 12, 900, 800]
    assert [reference.effective_n for reference in weighted.references] == [612.5, 12, 900, 800]
    assert [reference.n for reference in weighted.references] == [1000, 12, 900, 800]
    assert plain.fingerprint != weighted.fingerprint


def test_numbers_are_read_as_programs_write_them(write: Write) -> None:
    changes = [
        ("references.csv", "1:70.2|2:29.9", "1:33.333333333333336|2:66.66666666666667"),
        ("references.csv", "1:10|2:20|3:30|4:40", "1:1e-05|2:.5|3:99.49999|4:0.0"),
        ("references.csv", "7:60|8:70", "7:100.00000000000001|8:7e+01"),
        ("references.csv", "1000,612.5,,", "1000,612.4999999999999,,"),
        ("regions.csv", "30", "30.000000000000004"),
    ]
    first, _, second, third = read_survey(write(*WEIGHTED, *changes)).references
    assert (first.shares[1], first.effective_n) == (pytest.approx(1 / 3, rel=1e-15), 612.4999999999999)
    assert second.shares == pytest.approx({1: 1e-7, 2: 0.005, 3: 0.9949999, 4: 0.0})
    assert third.shares == {7: 1.0, 8: 0.7}


@pytest.mark.parametrize("written", ["1000.5", "0", "many", "1e3000"])
def test_an_effective_number_is_above_zero_and_at_most_n(write: Write, written: str) -> None:
    changes = [("references.csv", "1000,612.5,,", f"1000,{written},,")]
    with pytest.raises(InvalidSurvey, match=r"line 2, n_eff: expected a number above 0 and at most n \(1000\)"):
        read_survey(write(*WEIGHTED, *changes))


def test_a_region_may_be_left_out_of_uniform_draws(write: Write) -> None:
    ohio, texas = read_survey(write()).culture("us").regions
    assert (ohio.code, ohio.name["zh"], ohio.share, texas.share) == ("US-OH", "俄亥俄州", 0.3, pytest.approx(0.7))
    assert ohio.uniform
    assert texas.uniform
    folder = write()
    head, first, second = (folder / "regions.csv").read_text(encoding="utf-8").splitlines()
    rows = (f"{head},uniform", f"{first},no", f"{second},")
    (folder / "regions.csv").write_text("\n".join(rows), encoding="utf-8")
    survey = read_survey(folder)
    assert [region.uniform for region in survey.culture("us").regions] == [False, True]
    (folder / "regions.csv").write_text("\n".join((f"{head},uniform", f"{first},no", f"{second},no")), encoding="utf-8")
    with pytest.raises(
        SurveyError, match=r"line 3, uniform: expected a region of us that may be drawn, got no for all"
    ):
        read_survey(folder)


def test_yes_and_no_are_words(write: Write) -> None:
    """YAML 1.1 takes an unquoted Yes for a truth value; as a label it is a word."""
    survey = read_survey(
        write(("questions.yaml", "en: Agree", "en: Yes"), ("questions.yaml", "en: Disagree", "en: No"))
    )
    assert [option.label["en"] for option in survey.question("Q1").options] == ["Yes", "No"]


def test_a_byte_order_mark_and_windows_lines_do_no_harm(write: Write) -> None:
    folder = write()
    before = read_survey(folder)
    for file, text in TINY.items():
        (folder / file).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_survey(folder) == before


def test_the_fingerprint_follows_the_content(write: Write) -> None:
    plain = read_survey(write()).fingerprint
    assert len(plain) == 64
    assert read_survey(write(("questions.yaml", "answers:", "# a comment\nanswers:"))).fingerprint == plain
    assert read_survey(write(("questions.yaml", "Children matter.", "Children matter!"))).fingerprint != plain
    assert read_survey(write(("references.csv", "1:10|2:20", "1:11|2:19"))).fingerprint != plain


def test_names_that_are_not_there_are_told_and_figures_that_are_not_known_are_none(write: Write) -> None:
    tiny = read_survey(write())
    with pytest.raises(UnknownName, match="survey tiny: there is no question Q9"):
        tiny.question("Q9")
    with pytest.raises(UnknownName, match="survey tiny: there is no culture fr"):
        tiny.culture("fr")
    with pytest.raises(UnknownName, match="culture us: there is no region US-AK"):
        tiny.culture("us").region("US-AK")
    with pytest.raises(UnknownName, match="question Q2: option 9 is not one of 1, 2, 3, 4"):
        tiny.question("Q2").option(9)
    assert (tiny.reference("Q2", "cn"), tiny.reference("Q1", "us", Group.MALE)) == (None, None)
    assert [question.core for question in tiny.questions] == [True, False, False]
    assert [question.dimensions for question in tiny.questions] == [("EVI",), (), ("EVI",)]
    assert [kind for kind in QuestionType if kind.ordered] == [QuestionType.ORDINAL, QuestionType.SCALE]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder of studies with the survey ``mine`` in it, and the survey ``other`` outside."""
    for folder in (tmp_path / "studies" / "mine", tmp_path / "other"):
        folder.mkdir(parents=True)
        write_tiny(folder)
    return tmp_path / "studies"


def test_bundled_surveys_can_be_read_and_bear_their_folders_name() -> None:
    assert "wvs7" in bundled_surveys()
    for name in bundled_surveys():
        assert find_survey(name).id == name


def test_a_folder_beside_the_study_is_found(studies: Path) -> None:
    assert find_survey("mine", beside=studies).id == "tiny"
    assert find_survey("./mine", beside=studies).id == "tiny"
    assert find_survey(str(studies / "mine"), beside=studies).id == "tiny"


def test_a_bundled_id_comes_before_a_folder(studies: Path) -> None:
    (studies / "mine").rename(studies / "wvs7")
    assert find_survey("wvs7", beside=studies).id == "wvs7"
    assert find_survey("./wvs7", beside=studies).id == "tiny"


@pytest.mark.parametrize("name", ["WVS7", "wsv7"])
def test_a_misspelt_name_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match=rf"survey '{name}': expected a bundled survey .* \(did you mean 'wvs7'\?\)"):
        find_survey(name)


@pytest.mark.parametrize("name", ["", " ", "nothing-like-it"])
def test_a_name_of_nothing_is_told(studies: Path, name: str) -> None:
    with pytest.raises(UnknownName, match=r"expected a bundled survey \(wvs7\) or a folder, got neither$"):
        find_survey(name, beside=studies)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_what_can_be_no_path_is_no_survey(studies: Path, name: str) -> None:
    for beside in (studies, None):
        with pytest.raises(UnknownName, match=r"expected a bundled survey \(wvs7\) or a folder, got neither") as told:
            find_survey(name, beside=beside)
        assert len(str(told.value)) < 250
        assert "\0" not in str(told.value)


@pytest.mark.parametrize("name", ["../other", "/"])
def test_a_study_reaches_no_folder_outside_its_own(studies: Path, name: str) -> None:
    with pytest.raises(SurveyError, match=rf"survey '{name}': expected a folder within .*studies, got /"):
        find_survey(name, beside=studies)


def test_a_link_out_of_the_folder_is_not_followed(studies: Path) -> None:
    (studies / "linked").symlink_to(studies.parent / "other")
    with pytest.raises(SurveyError, match=r"survey 'linked': expected a folder within"):
        find_survey("linked", beside=studies)
