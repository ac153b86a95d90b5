"""Metrics and answers as flat rows: every figure of the report, and every answer, found again in the CSV."""

import csv
import io
import json
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.export import WRITERS, write_csv
from defsurvey.reports.figures.profiles import heatmap_section, profiles
from defsurvey.reports.figures.provenance import download_section, throughput, throughput_section
from defsurvey.reports.figures.quality import contamination, quality_section
from defsurvey.reports.figures.words import meanings, published, replicates
from defsurvey.reports.measures import ANSWERS, MEASURES, answer_rows, measure_rows
from defsurvey.reports.merge import merge
from defsurvey.reports.metrics.divergence import js_distance, total_variation, wasserstein
from defsurvey.storage.runs.probes import Probe, ProbeKind
from defsurvey.storage.runs.results import Results, TokenCount
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers.def_dataset import CITATION
from tests.reports.planted import planted, wide_survey
from tests.reports.synthetic import SHARES, human, last, results

BOTH = results([("a", "us", "def", human), ("=b", "us", "def", last), ("a", "cn", "def", human)])
FOUND = analyse(BOTH)


def rows(**wanted: object) -> list[dict[str, Any]]:
    return [row for row in measure_rows(FOUND) if all(row[name] == value for name, value in wanted.items())]


def one(**wanted: object) -> dict[str, Any]:
    (found,) = rows(**wanted)
    return found


def test_every_row_has_every_column() -> None:
    assert all(set(row) == set(MEASURES) for row in measure_rows(FOUND))
    levels = {row["level"] for row in measure_rows(FOUND)}
    assert levels == {"cell", "control", "dimension", "item", "option", "question"}


def test_a_cells_figures_are_the_reports() -> None:
    for cell in FOUND.cells:
        key = {"model": cell.cell.model, "culture": cell.cell.culture, "level": "cell"}
        sound = one(**key, metric="smoothed_kl")
        assert (sound["value"], sound["floor"]) == (cell.sound.headline, cell.sound_floor.headline)
        assert (sound["low"], sound["high"]) == (cell.interval.low, cell.interval.high)
        assert one(**key, metric="plug_in_kl")["value"] == cell.paper.headline
        assert one(**key, metric="valid")["value"] == 1.0
        assert one(**key, metric="not_told_from_people")["n"] == 4


def test_every_distance_of_an_item_has_its_floor() -> None:
    people, rng = np.array(SHARES["us"]["Q2"]), np.random.default_rng(3)
    drawn = rng.multinomial(20, people, size=20_000)
    floors = {row["metric"]: row["floor"] for row in rows(level="item", model="a", culture="us", question="Q2")}
    assert floors["js_distance"] == pytest.approx(float(js_distance(drawn, people).mean()), rel=0.02)
    assert floors["total_variation"] == pytest.approx(float(total_variation(drawn, people).mean()), rel=0.02)
    ordered = one(level="item", model="a", culture="us", question="Q1", metric="wasserstein")
    known = np.array(SHARES["us"]["Q1"])
    assert ordered["floor"] == pytest.approx(wasserstein(rng.multinomial(20, known, 20_000), known).mean(), rel=0.05)
    assert all(row["floor"] > 0 for row in rows(level="item"))
    none = analyse(results(states=(0, 1, 0, 0)))
    assert all(isnan(row["floor"]) for row in measure_rows(none) if row["level"] == "item")


def test_position_bias_is_there_where_orders_differ() -> None:
    made = planted(wide_survey(30), models=("first", "honest"))
    found = [row for row in measure_rows(analyse(made.results)) if row["metric"] == "moved_by_order"]
    assert {row["model"]: row["value"] > 0.5 for row in found} == {"first": True, "honest": False}


def written(made: Any, columns: dict[str, type]) -> list[dict[str, str]]:
    target = io.BytesIO()
    write_csv(made, columns, target)
    return list(csv.DictReader(io.StringIO(target.getvalue().decode("utf-8"), newline="")))


def test_metrics_cannot_be_taken_for_a_formula() -> None:
    models = {row["model"] for row in written(measure_rows(FOUND), MEASURES)}
    assert models == {"", "a", "'=b"}


def test_every_answer_is_there_once() -> None:
    made = results(states=(0.5, 0.5, 0, 0))
    found = written(answer_rows(made), ANSWERS)
    assert len(found) == made.answers.cell.size
    single = [row for row in found if row["question"] != "Q4"]
    assert all(bool(row["choices"]) == (row["state"] == "answered") for row in single)
    first = next(row for row in found if row["question"] == "Q3" and row["choices"])
    assert 1 <= int(first["choices"]) <= 10


def test_what_is_not_known_is_null_and_empty() -> None:
    unknown = [row for row in measure_rows(FOUND) if isnan(row["floor"])]
    assert unknown
    target = io.BytesIO()
    WRITERS["jsonl"](unknown, MEASURES, target)

    def refused(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    lines = [json.loads(line, parse_constant=refused) for line in target.getvalue().decode("utf-8").splitlines()]
    assert [line["floor"] for line in lines] == [None] * len(unknown)
    assert {row["floor"] for row in written(unknown, MEASURES)} == {""}
    table = io.BytesIO()
    WRITERS["parquet"](unknown, MEASURES, table)
    assert parquet.read_table(table).column("floor").null_count == len(unknown)


PRICED = {"input_price": "2", "output_price": "10", "priced": "2026-10"}


def two_models() -> Results:
    """A priced model that counted the tokens of all its answers but one, and one of which nothing is known."""
    made = results([("api", "us", "def", human), ("own", "us", "def", human)])
    ended = made.progress.done // 2
    return replace(
        made,
        tokens={"api": TokenCount(answers=ended - 1, prompt=1_500_000, completion=200_000, seconds=100.0)},
        model_facts={"api": PRICED},
    )


def test_tokens_speed_and_cost_are_worked_out_and_what_is_not_known_says_why() -> None:
    made = two_models()
    found = analyse(made)
    api, own = found.figure(throughput)
    assert (api.cost, api.tokens_per_second) == (pytest.approx(5.0), 2000.0)
    assert np.isnan([own.cost, own.tokens_per_second]).all()
    section = throughput_section(found)
    assert section.title == "The models with a price cost $5.00"
    first, second = section.tables[0].rows
    assert [entry.text for entry in first.entries[4:]] == ["1,500,000", "200,000", "2,000.0", "$5.00"]
    assert first.entries[4].beneath == f"with {made.tokens['api'].answers:,} answers"
    assert [entry.text for entry in second.entries[4:]] == ["–", "–", "–", "no price"]
    (note,) = section.tables[0].notes
    assert "$2 per million prompt tokens" in note
    assert "as of 2026-10" in note
    uncounted = throughput_section(analyse(replace(made, tokens={})))
    assert (uncounted.title, uncounted.tables[0].rows[0].entries[-1].text) == ("Throughput and cost", "–")


#: The labels of Q3 are the numbers from 1 to 10.
SAID = {"Q1": "bananas are yellow", "Q2": "I do not know at all", "Q3": "hello there", "Q4": "zzz"}


def probed(**said: str) -> Analysis:
    """A run whose model made that of these questions, asked for their options."""
    made = results()
    probes = tuple(
        Probe(model="human", kind=ProbeKind.OPTIONS, culture="", language="en", question=name, prompt="?", completion=x)
        for name, x in said.items()
    )
    return analyse(replace(made, probes=probes))


def test_a_scale_of_numbers_proves_nothing() -> None:
    found = probed(**SAID)
    (row,) = found.figure(contamination).recalled
    (without,) = probed(**{name: SAID[name] for name in SAID if name != "Q3"}).figure(contamination).recalled
    assert row.questions == ("Q1", "Q2", "Q4")
    assert row.test.p_all == without.test.p_all > 0.05
    np.testing.assert_array_equal(row.test.p, without.test.p)
    assert np.isfinite(row.test.mean_others)
    assert quality_section(found).tables[-1].rows[0].entries[-1].text == "0 of 3"


def test_every_run_of_a_report_is_asked_by_itself() -> None:
    made = results()
    joint = merge([replace(made, run=replace(made.run, id=name)) for name in ("spring", "autumn")])
    told = [
        " ".join(section.paragraphs)
        for found in map(analyse, (made, joint))
        for section in (quality_section(found), download_section(found))
    ]
    assert "nobody asked; defsurvey contamination run-1 does." in told[0]
    assert "defsurvey export run-1 --format parquet --output answers.parquet" in told[1]
    assert "nobody asked; defsurvey contamination spring and defsurvey contamination autumn do." in told[2]
    assert told[3].endswith(
        "defsurvey export spring --format parquet --output spring.parquet; "
        "defsurvey export autumn --format parquet --output autumn.parquet"
    )


@pytest.mark.parametrize(("name", "rows"), [("table1", 8), ("table2", 11), ("table3", 4), ("table4", 5)])
def test_tables_are_complete(name: str, rows: int) -> None:
    table = published(name)
    assert len(table.rows) == rows
    assert all(set(row) == set(table.columns) and all(row.values()) for row in table.rows)
    assert all((table.title, table.meaning, table.notes))


def test_slips_of_the_source_are_kept_and_noted() -> None:
    row = published("table1").rows[0]
    values = [float(row[code]) for code in ("EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI")]
    assert float(row["average"]) == 6.36
    assert round(sum(values) / 9, 2) == 6.23
    assert any("6.36" in note and "6.23" in note for note in published("table1").notes)
    mistral = next(row for row in published("table2").rows if row["model"] == "Mistral-7B-Instruct")
    assert (mistral["EVI"], mistral["average"]) == ("0.58", "0.81")
    assert any(".58" in note for note in published("table2").notes)


def test_every_dimension_has_both_meanings() -> None:
    codes = set(published("table2").columns) - {"model", "average"}
    assert set(meanings()) == codes
    assert all(each["high"] and each["low"] and each["high"] != each["low"] for each in meanings().values())


def test_only_the_authors_own_survey_is_a_replication() -> None:
    assert replicates(CITATION)
    assert not replicates(find_survey("wvs7").citation)


def test_the_papers_way_stands_beside_the_sound_one() -> None:
    found = analyse(planted(wide_survey(60), models=("men", "random")).results)
    part = found.figure(profiles)
    for fold, code in zip(heatmap_section(found).folds, ("us", "cn"), strict=True):
        sound, paper = fold.tables
        assert paper.caption.startswith("The paper's way: mismatching items, ")
        for table, rows in ((sound, part.sound), (paper, part.paper)):
            shown = [float(entry.text or 0) for row in table.rows for entry in row.entries]
            tensors = np.concatenate([row.tensor.ravel() for row in rows if row.culture == code])
            assert shown == [round(value, 1) for value in tensors.tolist()]
        assert sound.rows != paper.rows
