"""What probes say of a run's models: only questions whose options have words can be recalled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.provenance import download_section
from defsurvey.reports.figures.quality import RecalledRow, contamination, quality_section
from defsurvey.reports.merge import merge
from defsurvey.storage.runs.probes import Probe, ProbeKind
from tests.reports.synthetic import results

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


def row(analysis: Analysis) -> RecalledRow:
    """What the one model recalls."""
    part = analysis.figure(contamination)
    (found,) = part.recalled
    return found


def test_a_scale_of_numbers_proves_nothing() -> None:
    """A question whose options are all numbers is left out: with it and without it the figures are the same."""
    found = probed(**SAID)
    assert row(found).questions == ("Q1", "Q2", "Q4")
    without = row(probed(**{name: text for name, text in SAID.items() if name != "Q3"})).test
    assert row(found).test.p_all == without.p_all > 0.05
    np.testing.assert_array_equal(row(found).test.p, without.p)
    assert np.isfinite(row(found).test.mean_others)
    options = quality_section(found).tables[-1]
    assert [entry.text for entry in options.rows[0].entries][-1] == "0 of 3"


def test_a_survey_of_numbers_alone_cannot_be_recalled() -> None:
    """Where no option has words there is no test, and the reason is given."""
    found = row(probed(Q3=SAID["Q3"]))
    assert found.questions == ()
    assert np.isnan(found.test.p_all)
    assert found.test.reason == "no two questions with different options"


def test_every_run_of_a_report_is_asked_by_itself() -> None:
    """One command a run: no run is called by two names at once."""
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
