"""Several runs as one report: put together without loss, refused by the name of what differs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.build import build_report
from defsurvey.reports.figures.configured import drawn
from defsurvey.reports.figures.judging import insensitivity, judged_by
from defsurvey.reports.figures.provenance import provenance_section
from defsurvey.reports.measures import answer_rows, measure_rows
from defsurvey.reports.merge import CannotMerge, differences, merge, merge_draws, merge_judgements
from defsurvey.storage.runs.results import DrawArrays, Results, TokenCount
from defsurvey.storage.runs.run import Preset
from defsurvey.storage.runs.verdicts import JudgeArrays, Pairs, RunJudgements
from tests.reports.synthetic import QUESTIONS, human, last, results, sample, survey, uniform


def run(name: str, model: str, respondent: object = human, **changes: object) -> Results:
    made = results([(model, "us", "def", respondent), (model, "cn", "def", respondent)], **changes)  # type: ignore[arg-type, list-item]
    return replace(made, run=replace(made.run, id=name))


def test_cells_follow_each_other_and_figures_stay() -> None:
    one, two = run("a", "honest"), run("b", "last", last, participants=12, samples=(sample("2", cell=1),))
    both = merge([one, two])
    assert both.run.id == "a + b"
    assert [cell.id for cell in both.run.cells] == [1, 2, 3, 4]
    assert [(cell.model, cell.culture) for cell in both.run.cells[1:3]] == [("honest", "cn"), ("last", "us")]
    assert both.samples[0].cell == 3
    assert both.progress.planned == one.progress.planned + two.progress.planned
    assert both.revision == one.revision + two.revision
    own = {(c.name, c.cell.culture): c for each in (one, two) for c in analyse(each).cells}
    for cell in analyse(both).cells:
        before = own[cell.name, cell.cell.culture]
        assert cell.sound.headline == before.sound.headline
        assert cell.quality == before.quality
        np.testing.assert_array_equal(cell.counts, before.counts)


def test_a_model_of_two_runs_is_called_by_its_run() -> None:
    counted = TokenCount(answers=1, prompt=2, completion=3, seconds=4.0)
    first = replace(run("a", "m"), model_facts={"m": {"stage": "base"}}, tokens={"m": counted})
    both = merge([first, run("b", "m", uniform), run("c", "n")])
    assert [cell.model for cell in both.run.cells] == ["m (a)", "m (a)", "m (b)", "m (b)", "n", "n"]
    assert sorted(both.engines) == ["m (a)", "m (b)", "n"]
    assert sorted(both.model_seconds) == ["m (a)", "m (b)", "n"]
    assert both.model_facts == {"m (a)": {"stage": "base"}}
    assert both.tokens == {"m (a)": counted}


def part(name: str, culture: str, questions: slice, **changes: object) -> Results:
    whole = survey(questions=QUESTIONS[questions])
    own = replace(
        whole,
        id=f"part-{culture}",
        title=f"Part {culture}",
        cultures=tuple(each for each in whole.cultures if each.code == culture),
        references=tuple(each for each in whole.references if each.culture == culture),
        fingerprint=culture * 32,
    )
    counted = TokenCount(answers=1, prompt=2, completion=3, seconds=4.0)
    made = results([("m", culture, "def", human)], tiny=own, **changes)  # type: ignore[arg-type]
    return replace(made, run=replace(made.run, id=name), tokens={"m": counted})


def test_two_parts_that_ask_each_culture_its_own_questions_are_one(tmp_path: Path) -> None:
    one, two = part("a", "us", slice(0, 2)), part("b", "cn", slice(2, 4), participants=12)
    both = merge([one, two])
    assert both.run.questions == ("Q1", "Q2", "Q3", "Q4")
    assert (both.survey.title, both.survey.fingerprint) == ("Part us; Part cn", f"{'us' * 32} and {'cn' * 32}")
    assert [(cell.model, cell.culture) for cell in both.run.cells] == [("m", "us"), ("m", "cn")]
    assert (both.model_seconds, both.tokens["m"].prompt) == ({"m": 25.0}, 4)
    own = {cell.cell.culture: cell for each in (one, two) for cell in analyse(each).cells}
    for cell in analyse(both).cells:
        before = own[cell.cell.culture]
        assert cell.quality == before.quality
        assert cell.sound.headline == pytest.approx(before.sound.headline)
        assert cell.paper.headline == pytest.approx(before.paper.headline)
        assert cell.intervals.headline.high == pytest.approx(before.intervals.headline.high)
    asked = {(row["run"], row["culture"], row["question"]) for row in answer_rows(both)}
    assert asked == {("a", "us", "Q1"), ("a", "us", "Q2"), ("b", "cn", "Q3"), ("b", "cn", "Q4")}
    text = build_report(both, tmp_path).markdown.read_text(encoding="utf-8")
    assert "questions have no reference" not in text
    assert "not asked there or not known" not in text
    two_each = replace(draws(regions=("r",), region=(0, 0)), cell=np.zeros(2, np.int32), question=np.array([1, -1]))
    merged = merge_draws([one, two], [two_each, two_each])
    assert merged is not None
    assert merged.question.tolist() == [1, -1, 3, -1]


def test_a_model_served_otherwise_is_another() -> None:
    two = replace(part("b", "cn", slice(2, 4)), engines={"m": {"engine": "other"}})
    assert [cell.model for cell in merge([part("a", "us", slice(0, 2)), two]).run.cells] == ["m (a)", "m (b)"]


@pytest.mark.parametrize(("culture", "questions"), [("us", slice(2, 4)), ("cn", slice(1, 3))])
def test_parts_that_overlap_are_refused(culture: str, questions: slice) -> None:
    """A culture that was asked in both, or a question of both, would be compared on other questions."""
    with pytest.raises(CannotMerge, match=r"runs a and b differ in (survey|questions)"):
        merge([part("a", "us", slice(0, 2)), part("b", culture, questions)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"survey": "0" * 64}, "differ in survey: two versions of Tiny Values Survey"),
        ({"questions": ("Q1", "Q2", "Q3")}, "differ in questions: Q4 only in one of them"),
        ({"questions": ("Q2", "Q1", "Q3", "Q4")}, "differ in the order of their questions"),
    ],
)
def test_runs_that_do_not_compare_are_refused(change: dict[str, object], said: str) -> None:
    one, two = run("a", "m"), run("b", "n")
    with pytest.raises(CannotMerge, match=f"runs a and b {said}"):
        merge([one, replace(two, run=replace(two.run, **change))])  # type: ignore[arg-type]


def test_the_same_run_twice_and_another_preset_are_refused() -> None:
    two = run("b", "n")
    two = replace(two, run=replace(two.run, protocol=replace(two.run.protocol, preset=Preset.CODE)))
    with pytest.raises(CannotMerge, match="differ in preset: paper and code"):
        merge([run("a", "m"), two])
    with pytest.raises(CannotMerge, match="run a is named twice"):
        merge([run("a", "m"), run("b", "n"), run("a", "m")])


def test_other_settings_are_named_and_not_refused(tmp_path: Path) -> None:
    two = run("b", "n")
    two = replace(two, run=replace(two.run, protocol=replace(two.run.protocol, seed=8, temperature=0.5)))
    assert differences([run("a", "m"), run("c", "o")]) == ()
    told = differences([run("a", "m"), two])
    assert told == ("seed (7 in a, 8 in b)", "temperature (1.0 in a, 0.5 in b)")
    paths = build_report(merge([run("a", "m"), two]), tmp_path, remarks=[f"The runs differ in {told[0]}."])
    assert "The runs differ in seed (7 in a, 8 in b)." in paths.markdown.read_text(encoding="utf-8")


def seeded(results: Results, seed: int) -> Results:
    return replace(results, run=replace(results.run, protocol=replace(results.run.protocol, seed=seed)))


def test_every_row_names_its_own_run() -> None:
    both = merge([run("a", "m"), run("b", "n")])
    assert {(row["run"], row["model"]) for row in answer_rows(both)} == {("a", "m"), ("b", "n")}
    figures = {(row["run"], row["model"]) for row in measure_rows(analyse(both))}
    assert figures == {("a", "m"), ("b", "n"), ("a + b", "")}


def test_provenance_tells_the_settings_of_each_run() -> None:
    both = merge([run("a", "m"), seeded(run("b", "n"), 8)])
    terms = {term.name: term.value for term in provenance_section(analyse(both)).terms}
    assert terms["Run"] == "a + b"
    assert terms["Seed"] == "7 in a; 8 in b"
    assert terms["Preset"] == "paper"


@pytest.mark.parametrize(("seed", "counted"), [(7, 2), (8, 4)], ids=["one seed", "two seeds"])
def test_participants_of_other_seeds_count_by_themselves(seed: int, counted: int) -> None:
    runs = [results([("m", "us", "def", human)]), seeded(results([("n", "us", "def", human)]), seed)]
    runs[1] = replace(runs[1], run=replace(runs[1].run, id="run-2"))
    two = replace(
        draws(regions=(), region=(-1, -1)), cell=np.zeros(2, np.int32), participant=np.arange(2, dtype=np.int32)
    )
    part = analyse(merge(runs), draws=merge_draws(runs, [two, two])).figure(drawn)
    assert sum(count for _, axis, _, count in part if axis == "memory") == counted


def draws(*, regions: tuple[str, ...], region: tuple[int, ...]) -> DrawArrays:
    whole = np.zeros(2, dtype=np.int32)
    return DrawArrays(
        cell=np.array([0, 1], dtype=np.int32),
        participant=whole,
        question=whole - 1,
        num_beams=np.array([1.0, np.nan]),
        do_sample=np.ones(2),
        memory_capacity=np.array([3, 4]),
        region=np.array(region, dtype=np.int32),
        regions=regions,
    )


def test_draws_follow_their_cells() -> None:
    one, two = run("a", "m"), run("b", "n")
    found = merge_draws(
        [one, two], [draws(regions=("A", "B"), region=(0, 1)), draws(regions=("B", "C"), region=(-1, 0))]
    )
    assert found is not None
    assert found.cell.tolist() == [0, 1, 2, 3]
    assert [found.regions[place] if place >= 0 else None for place in found.region.tolist()] == ["A", "B", None, "B"]
    assert found.memory_capacity.tolist() == [3, 4, 3, 4]
    assert merge_draws([one, two], [draws(regions=(), region=(-1, -1)), None]) is None


def judged(judge: str, verdicts: tuple[int, ...], told: tuple[str, ...] = ()) -> RunJudgements:
    """What a judge said of the first answers of a run, and a person too; told of, it did not come to its end."""
    count = len(verdicts)
    given = np.array(verdicts, dtype=np.int8)
    first = np.zeros(count, dtype=np.int8)
    arrays = JudgeArrays(
        judge=judge,
        cell=np.zeros(count, dtype=np.int32),
        answer=np.arange(count),
        dimension=first,
        verdict=given,
        weight=np.ones(count),
        pairs=(Pairs(other="Ana", dimension=first, first=given, second=given),),
    )
    partial = frozenset({judge} if told else ())
    return RunJudgements(judges=(arrays,), told=told, partial=partial, revision=1, people={"Ana": count})


def test_a_judge_of_two_runs_is_one_judge() -> None:
    both = [run("one", "a"), run("two", "b")]
    said = merge_judgements(both, [judged("strict 1", (1, 0)), judged("strict 1", (1, 1, 0, 0), told=("mute",))])
    verdicts, notes = judged_by(said)
    analysis = analyse(merge(both), verdicts=verdicts, notes=notes)
    part = analysis.figure(insensitivity)
    assert [judge.judge for judge in part] == ["strict 1"]
    assert {row.model: row.rates.answers for row in part[0].rows if row.rates.answers} == {"a": 2, "b": 4}
    assert [audit.agreement.n for audit in part[0].audits if not audit.dimension] == [6]
    assert (said.told, said.revision, said.people) == (("mute",), 2, {"Ana": 6})
    assert (analysis.notes.silent, [judge.partial for judge in part]) == (("mute",), [True])
