"""What the paper printed is there as printed, its slips in footnotes."""

from __future__ import annotations

import pytest

from defsurvey.reports.figures.words import TABLES, meanings, published, replicates
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.importers.def_dataset import CITATION


@pytest.mark.parametrize(("name", "rows"), [("table1", 8), ("table2", 11), ("table3", 4), ("table4", 5)])
def test_tables_are_complete(name: str, rows: int) -> None:
    """Every row has every column; every table says what its columns and slips are."""
    table = published(name)
    assert name in TABLES
    assert len(table.rows) == rows
    assert all(set(row) == set(table.columns) and all(row.values()) for row in table.rows)
    assert table.title
    assert table.meaning
    assert table.notes


def test_slips_of_the_source_are_kept_and_noted() -> None:
    """Printed averages that their rows do not give: the value stays, the footnote says it."""
    row = published("table1").rows[0]
    values = [float(row[code]) for code in ("EVI", "IDV", "IVR", "LTO", "MAS", "PDI", "TDI", "UAI", "USI")]
    assert float(row["average"]) == 6.36
    assert round(sum(values) / 9, 2) == 6.23
    assert any("6.36" in note and "6.23" in note for note in published("table1").notes)
    mistral = next(row for row in published("table2").rows if row["model"] == "Mistral-7B-Instruct")
    assert (mistral["EVI"], mistral["average"]) == ("0.58", "0.81")
    assert any(".58" in note for note in published("table2").notes)


def test_table_3_leaves_out_a_llama_3_model() -> None:
    """Table 2 has four, and 27 values are of three."""
    named = [row["model"] for row in published("table2").rows if "Llama-3" in row["model"]]
    assert len(named) == 4
    assert any("four Llama-3 models" in note for note in published("table3").notes)


def test_every_dimension_has_both_meanings() -> None:
    """High and low, for the nine dimensions of Table 2."""
    codes = set(published("table2").columns) - {"model", "average"}
    assert set(meanings()) == codes
    assert all(each["high"] and each["low"] and each["high"] != each["low"] for each in meanings().values())


def test_only_the_authors_own_survey_is_a_replication() -> None:
    """Published values stand beside ours only where the questions are the paper's."""
    assert replicates(CITATION)
    assert not replicates(find_survey("wvs7").citation)
