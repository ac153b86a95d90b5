"""The bundled survey wvs7: figures against numbers typed in from the published tables, wording against rules."""

import math
import re

import pytest

from defsurvey.storage.surveys.folder import _BUNDLED, find_survey
from defsurvey.storage.surveys.survey import Group, Option, Question, QuestionType, Survey

FOLDER = _BUNDLED / "wvs7"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LATIN = re.compile(r"[A-Za-z]")

#: question, culture, group -> n, percentages by option code, as published
FIGURES = {
    ("Q1", "us", Group.ALL): (2593, {1: 91.1, 2: 7.1, 3: 1.6, 4: 0.2}),
    ("Q1", "cn", Group.ALL): (3028, {1: 86.4, 2: 13.0, 3: 0.6, 4: 0.0}),
    ("Q6", "cn", Group.ALL): (3009, {1: 3.3, 2: 9.8, 3: 43.8, 4: 43.1}),
    ("Q6", "us", Group.AGE_LE29): (628, {1: 30.2, 2: 23.3, 3: 23.5, 4: 23.0}),
    ("Q33", "us", Group.ALL): (2591, {1: 5.2, 2: 17.1, 3: 77.7}),
    ("Q33", "cn", Group.AGE_50PLUS): (1143, {1: 55.6, 2: 5.5, 3: 38.9}),
    ("Q36", "cn", Group.ALL): (3023, {1: 0.9, 2: 10.7, 3: 28.3, 4: 41.5, 5: 18.6}),
    ("Q57", "us", Group.ALL): (2587, {1: 37.2, 2: 62.8}),
    ("Q57", "cn", Group.ALL): (3009, {1: 64.0, 2: 36.0}),
    ("Q111", "cn", Group.ALL): (3005, {1: 68.8, 2: 26.4, 3: 4.7}),
    ("Q122", "cn", Group.ALL): (3016, {0: 14.1, 1: 31.3, 2: 54.5}),
    ("Q150", "us", Group.ALL): (2550, {1: 71.1, 2: 28.9}),
    ("Q150", "cn", Group.ALL): (3026, {1: 6.6, 2: 93.4}),
    ("Q154", "cn", Group.ALL): (2968, {1: 45.1, 2: 16.0, 3: 34.0, 4: 4.9}),
    ("Q182", "us", Group.FEMALE): (
        1184,
        {1: 17.1, 2: 3.1, 3: 3.0, 4: 2.9, 5: 17.6, 6: 4.7, 7: 5.0, 8: 6.9, 9: 5.6, 10: 34.2},
    ),
    ("Q248", "cn", Group.ALL): (
        2967,
        {0: 0.1, 1: 9.7, 2: 3.4, 3: 5.3, 4: 4.6, 5: 14.5, 6: 10.0, 7: 9.9, 8: 12.4, 9: 8.3, 10: 21.8},
    ),
    ("Q254", "cn", Group.MALE): (234, {1: 40.6, 2: 53.0, 3: 6.0, 4: 0.4}),
}
#: Shares of lists, in percent; option 7 and those of Q18 recomputed by hand from percentages of all respondents:
#: 51.68 / (51.68 + 48.17), 83.7 / (83.7 + 15.8), 89.54 / (89.54 + 4.28), and 2329 of 3004 people.
LISTS = {
    ("Q7", "us", 7): 51.76,
    ("Q7", "us", 8): 55.5,
    ("Q7", "us", 17): 20.5,
    ("Q7", "cn", 7): 84.12,
    ("Q7", "cn", 8): 78.6,
    ("Q7", "cn", 15): 1.1,
    ("Q18", "us", 18): 95.44,
    ("Q18", "us", 21): 8.5,
    ("Q18", "cn", 20): 77.53,
    ("Q18", "cn", 22): 71.9,
}


@pytest.fixture(scope="module")
def wvs7() -> Survey:
    return find_survey("wvs7")


def _wordings(survey: Survey, language: str) -> list[str]:
    texts = [question.text[language] for question in survey.questions]
    labels = [option.label[language] for question in survey.questions for option in question.options]
    names = [culture.name[language] for culture in survey.cultures]
    regions = [region.name[language] for culture in survey.cultures for region in culture.regions]
    return [*texts, *labels, *names, *regions, *(name[language] for name in survey.dimensions.values())]


def _is_number(option: Option) -> bool:
    return all(label == str(option.code) for label in option.label.values())


@pytest.mark.parametrize("key", FIGURES, ids=str)
def test_figures_are_those_published(wvs7: Survey, key: tuple[str, str, Group]) -> None:
    n, percentages = FIGURES[key]
    reference = wvs7.reference(*key)
    assert set(reference.shares) == set(percentages)
    for code, percent in percentages.items():
        assert 100 * reference.shares[code] == pytest.approx(percent, abs=0.061), code
    assert reference.n == n
    assert reference.source


@pytest.mark.parametrize("key", LISTS, ids=str)
def test_shares_of_lists_are_those_published(wvs7: Survey, key: tuple[str, str, int]) -> None:
    question, culture, code = key
    reference = wvs7.reference(question, culture)
    assert 100 * reference.shares[code] == pytest.approx(LISTS[key], abs=0.061)


def test_the_hundred_items_are_there(wvs7: Survey) -> None:
    """100 items are 87 questions of their own and 13 options with a value in two lists."""
    assert len(wvs7.questions) == 89
    items = [question for question in wvs7.questions if question.value is not None]
    options = [option for question in wvs7.questions for option in question.options if option.value is not None]
    assert (len(items), len(options)) == (87, 13)
    assert {question.type for question in wvs7.questions if question.value is None} == {QuestionType.MULTIPLE}


def test_core_is_sixty_items_in_fifty_five_questions(wvs7: Survey) -> None:
    """The balanced subset: 53 questions and 7 options of the two lists; each dimension has four to ten."""
    values = [question.value for question in wvs7.questions]
    values += [option.value for question in wvs7.questions for option in question.options]
    core = [value.dimension for value in values if value is not None and value.core]
    assert len(core) == 60
    assert len([question for question in wvs7.questions if question.core]) == 55
    assert [*wvs7.dimensions] == ["EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI"]
    assert [core.count(dimension) for dimension in wvs7.dimensions] == [10, 8, 6, 6, 6, 6, 4, 7, 7]


def test_only_volunteered_answers_are_residual(wvs7: Survey) -> None:
    """ "Other" of Q111 and "against democracy" of three questions are residual, and stand last."""
    residual = {question.id: [o.code for o in question.options if o.residual] for question in wvs7.questions}
    volunteered = {name: codes for name, codes in residual.items() if codes}
    assert volunteered == {"Q111": [3], "Q243": [0], "Q248": [0], "Q249": [0]}
    for name, codes in volunteered.items():
        assert list(wvs7.question(name).codes[-len(codes) :]) == codes


def test_every_distribution_is_one(wvs7: Survey) -> None:
    """Shares sum to 1; those of a list are each a share; n is positive."""
    for reference in wvs7.references:
        question = wvs7.question(reference.question)
        assert reference.n > 200
        assert all(0 <= share <= 1 for share in reference.shares.values())
        if question.type is QuestionType.MULTIPLE:
            assert set(reference.shares) <= set(question.codes)
        else:
            assert tuple(reference.shares) == question.codes
            assert math.fsum(reference.shares.values()) == pytest.approx(1, abs=1e-15)


def test_every_question_has_both_populations(wvs7: Survey) -> None:
    for question in wvs7.questions:
        assert wvs7.reference(question.id, "cn") is not None, question.id
        for group in Group:
            assert wvs7.reference(question.id, "us", group) is not None, (question.id, group)


def test_regions(wvs7: Survey) -> None:
    """50 states and the District of Columbia, 30 provinces; shares sum to 1; names in both languages."""
    for code, count in (("us", 51), ("cn", 30)):
        regions = wvs7.culture(code).regions
        assert len(regions) == len({region.code for region in regions}) == count
        assert math.fsum(region.share for region in regions) == pytest.approx(1, abs=1e-15)
        for language in wvs7.languages:
            assert len({region.name[language] for region in regions}) == count
    ohio, anhui = wvs7.culture("us").region("US-OH"), wvs7.culture("cn").region("CN-AH")
    assert ohio.name == {"en": "Ohio", "zh": "俄亥俄州"}
    assert anhui.name == {"en": "Anhui", "zh": "安徽"}
    assert 100 * ohio.share == pytest.approx(3.7, abs=0.05)
    assert 100 * anhui.share == pytest.approx(4.3, abs=0.05)
    assert 100 * wvs7.culture("cn").region("CN-HA").share == pytest.approx(12.8, abs=0.1)
    nobody = [region.code for culture in wvs7.cultures for region in culture.regions if not region.share]
    assert nobody == ["US-AK", "CN-TW"]


def test_regions_of_the_published_code(wvs7: Survey) -> None:
    """The 50 states without the capital's district; 23 provinces without municipalities and autonomous regions."""
    listed = {code: [r.code for r in wvs7.culture(code).regions if r.uniform] for code in ("us", "cn")}
    assert (len(listed["us"]), len(listed["cn"])) == (50, 23)
    left = {r.code for culture in wvs7.cultures for r in culture.regions if not r.uniform}
    assert left == {"US-DC", "CN-BJ", "CN-TJ", "CN-SH", "CN-CQ", "CN-GX", "CN-NM", "CN-NX"}


def test_everything_is_said_in_both_languages(wvs7: Survey) -> None:
    assert wvs7.languages == ("en", "zh")
    assert {culture.code: culture.language for culture in wvs7.cultures} == {"us": "en", "cn": "zh"}
    assert not [text for text in _wordings(wvs7, "en") if CHINESE.search(text)]
    assert not [text for text in _wordings(wvs7, "zh") if LATIN.search(text)]
    for question in wvs7.questions:
        assert CHINESE.search(question.text["zh"])
        for option in question.options:
            assert CHINESE.search(option.label["zh"]) or _is_number(option), (question.id, option.code)


def _oriented_mean(survey: Survey, question: Question, culture: str) -> float:
    """Mean code on [0, 1], 1 being most of the dimension, residual options left out; straight from the shares."""
    reference = survey.reference(question.id, culture)
    assert question.value is not None
    codes = [option.code for option in question.options if not option.residual]
    weight = sum(reference.shares[code] for code in codes)
    mean = sum(code * reference.shares[code] for code in codes) / weight
    scaled = (mean - min(codes)) / (max(codes) - min(codes))
    return scaled if question.value.direction == 1 else 1 - scaled


@pytest.mark.parametrize(
    ("question", "higher", "lower"),
    [
        ("Q6", "us", "cn"),  # religion matters more to Americans: more tradition
        ("Q29", "us", "cn"),  # fewer Americans say that men lead better: more emancipative values
        ("Q71", "cn", "us"),  # more confidence in government: more power distance
        ("Q150", "cn", "us"),  # security before freedom: more uncertainty avoidance
        ("Q3", "us", "cn"),  # leisure matters more: more indulgence
        ("Q63", "us", "cn"),  # trust in people of another nationality: more universalism
    ],
)
def test_directions_point_where_the_figures_say(wvs7: Survey, question: str, higher: str, lower: str) -> None:
    asked = wvs7.question(question)
    assert _oriented_mean(wvs7, asked, higher) > _oriented_mean(wvs7, asked, lower)
