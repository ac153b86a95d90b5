"""Metrics and answers as flat rows: every figure of the report, and every answer, found again in the CSV."""

from __future__ import annotations

import csv
import io
import json
from math import isnan
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from defsurvey.reports.analysis import analyse
from defsurvey.reports.export import WRITERS, write_csv
from defsurvey.reports.measures import ANSWERS, MEASURES, answer_rows, measure_rows
from defsurvey.reports.metrics.divergence import js_distance, total_variation, wasserstein
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
