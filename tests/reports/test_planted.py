"""The report finds what was planted in a study at full scale, and nothing that was not."""

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, analyse, answer_weights
from defsurvey.reports.cells import item_table, rank, reference_table, sample_of
from defsurvey.reports.figures.configured import configuration_section, configured
from defsurvey.reports.figures.profiles import profiles
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.figures.questions import distinguish, placement
from defsurvey.reports.figures.series import series, training
from defsurvey.storage.surveys.folder import find_survey
from tests.reports.planted import MODELS, Planted, planted, wide_survey, without

WIDE = wide_survey()
CULTURES = ("us", "cn")


@pytest.fixture(scope="module")
def wide() -> Analysis:
    made = planted(WIDE)
    assert made.results.answers.cell.size == 253_440
    return analyse(made.results, draws=made.draws)


@pytest.fixture(scope="module")
def wvs() -> Analysis:
    made = planted(find_survey("wvs7"))
    return analyse(made.results, draws=made.draws)


def test_the_honest_model_cannot_be_told_from_people(wide: Analysis, wvs: Analysis) -> None:
    for found in (wide, wvs):
        alike = {cell.culture: cell.share_alike for cell in found.figure(distinguish) if cell.name == "honest"}
        assert set(alike) == set(CULTURES)
        assert all(share >= 0.93 for share in alike.values())
        for cell in found.cells:
            if cell.name == "honest":
                assert cell.interval.low < cell.sound_floor.headline < cell.interval.high


def test_distant_models_are_told_from_people(wide: Analysis) -> None:
    for culture in CULTURES:
        alike = {c.name: c.share_alike for c in wide.figure(distinguish) if c.culture == culture}
        assert alike["honest"] > alike["alpha-instruct"] > alike["alpha-base"] > alike["beta-base"] > alike["men"]
        assert alike["beta-base"] < 0.3


def test_the_honest_model_comes_first_alone(wide: Analysis, wvs: Analysis) -> None:
    for culture in wide.cultures:
        assert culture.ranking.order[0][0] == "honest"
        assert (culture.ranking.places[0].first, culture.ranking.places[0].last) == (1, 1)
    for culture in wvs.cultures:
        assert culture.ranking.places[[n for n, _ in culture.ranking.order].index("honest")].first == 1


def test_models_planted_alike_share_a_place(wide: Analysis, wvs: Analysis) -> None:
    for found in (wide, wvs):
        for culture in found.cultures:
            names = [name for name, _ in culture.ranking.order]
            for stage in ("base", "instruct"):
                pair = (names.index(f"alpha-{stage}"), names.index(f"gamma-{stage}"))
                assert not culture.ranking.apart[pair]


def test_the_first_shown_model_alone_is_flagged_for_position(wide: Analysis, wvs: Analysis) -> None:
    for found in (wide, wvs):
        placed = found.figure(placement)
        assert {row.name for row in placed if row.flagged} == {"first"}
        for row in placed:
            assert row.bias.moved == pytest.approx(1.0 if row.name == "first" else 0.0, abs=0.06)


def test_the_skewed_model_shows_in_the_profile_of_sexes(wide: Analysis, wvs: Analysis) -> None:
    """Nine in ten of its mismatching answers are most typical of men; of the others about half."""
    for found, margin in ((wide, 0.12), (wvs, 0.3)):
        figure = found.figure(profiles)
        for row in figure.sound:
            known = row.mismatching.gender
            if row.name == "men":
                assert known[0] > 0.9
                assert row.lift[0] > 1.05 > 0.95 > row.lift[1]
            elif row.name in ("honest", "alpha-instruct", "random"):
                assert known[0] == pytest.approx(0.5, abs=margin)


def test_refusals_are_not_answers(wide: Analysis) -> None:
    for culture in wide.cultures:
        cells = {cell.name: cell for cell in culture.cells}
        refuser, twin = cells["refuser"], cells["alpha-instruct"]
        assert refuser.quality.refused.share == pytest.approx(1 / 3, abs=0.01)
        assert refuser.n_valid.sum() == refuser.quality.valid.count
        assert twin.quality.refused.count == 0
        names = [name for name, _ in culture.ranking.order]
        assert not culture.ranking.apart[names.index("refuser"), names.index("alpha-instruct")]


def test_the_series_difference_is_found_and_the_null_pair_is_not(wide: Analysis, wvs: Analysis) -> None:
    """beta lies further than alpha and gamma by question; alpha and gamma are not told apart, by either test."""
    for found in (wide, wvs):
        compared = found.figure(series)
        for test in compared:
            assert test.by_question is not None
            if "Beta" in (test.first, test.second):
                further = 1 if test.second == "Beta" else -1
                assert test.by_question.difference * further < 0
                assert test.by_question.p_holm < 0.05
            else:
                assert test.by_question.p_holm > 0.05
                assert test.sound.test.welch.p > 0.05
            for way in (test.sound, test.paper):
                assert way.units[0] == f"{test.first}: 18 = 2 models x 9 dimensions, not independent"


def test_the_training_stage_is_found(wide: Analysis) -> None:
    trained = wide.figure(training)
    assert len(trained.contrasts) == 6
    for _, _, contrast in trained.contrasts:
        assert (contrast.first, contrast.second) == ("base", "instruct")
        assert contrast.difference > 0
        assert contrast.p_holm < 0.05
    means = {(mean.culture, mean.stage): mean for mean in trained.stages}
    for culture in CULTURES:
        base, instruct = (means[culture, each].mean(lambda cell: cell.sound.headline) for each in ("base", "instruct"))
        assert instruct < base
        assert means[culture, "instruct"].match > means[culture, "base"].match
    assert all(size.models == 6 and size.divergence_p > 0.05 for size in trained.sizes)


def test_configurations_that_do_nothing_are_not_found(wide: Analysis) -> None:
    """No axis was planted: p below .05 about as often as chance has it, and the report warns of extremes."""
    figure = wide.figure(configured)
    p = [row.axis.p for cell in figure.cells for row in cell.axes if not np.isnan(row.axis.p)]
    assert len(p) > 60
    assert np.mean(np.array(p) < 0.05) < 0.15
    assert any("after the fact" in each for each in configuration_section(wide).paragraphs)
    for cell in figure.cells:
        assert cell.extremes[0].value.value < cell.extremes[1].value.value


def test_the_honest_model_moves_between_cultures_like_people(wide: Analysis) -> None:
    mapped = wide.figure(cultural_map)
    assert mapped.cultures == ("us", "cn")
    people = {row.culture: row.point for row in mapped.sound.rows if row.human}
    assert people["us"][0] > people["cn"][0]
    arrows = {row.subject: row.arrow for row in mapped.sound.arrows}
    assert arrows["honest"].cosine > 0.7
    assert arrows["first"].length_ratio == pytest.approx(0, abs=1e-9)


def claims(made: Planted, culture: str) -> dict[str, int]:
    results = made.results
    items = item_table(results.survey, results.run.questions)
    reference = reference_table(results.survey, items, culture)
    samples = {
        cell.model: sample_of(answer_weights(results.answers, items, place, cell.participants), items, reference)
        for place, cell in enumerate(results.run.cells)
        if cell.culture == culture
    }
    ranking = rank(samples, items, reference)
    ranked = {name: place.last for (name, _), place in zip(ranking.order, ranking.places, strict=True)}
    return {name: ranked.get(name, len(samples)) for name in samples}


@pytest.mark.parametrize(
    ("participants", "culture"),
    [
        (20, "us"),
        (60, "cn"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((20, "cn"), (40, "us"), (40, "cn"), (60, "us"))),
    ],
)
def test_refusing_two_thirds_never_improves_a_rank(participants: int, culture: str) -> None:
    """Each model in turn leaves two thirds unanswered at random: the place that it may claim is the same or worse."""
    survey = wide_survey(240)
    before = claims(planted(survey, participants=participants, refuses=()), culture)
    for model in MODELS:
        after = claims(planted(survey, participants=participants, refuses=(model,), refusal=2 / 3), culture)
        assert after[model] >= before[model], model


def test_a_model_that_refuses_everything_takes_nothing_from_the_others() -> None:
    survey = wide_survey(60)
    whole = planted(survey, refuses=())
    gone = without(whole, "random")
    ranking, alone = (analyse(made.results).cultures[0].ranking for made in (gone, whole))
    assert [name for name, _ in ranking.unranked] == ["random"]
    assert [name for name, _ in ranking.order] == [name for name, _ in alone.order if name != "random"]
