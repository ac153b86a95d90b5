"""Replies that were cut off: what needs them whole is not given, and the report says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.judging import insensitivity
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.merge import merge
from defsurvey.reports.metrics.judges import Verdicts
from defsurvey.reports.page import Section
from defsurvey.storage.runs.judgement import DIMENSIONS
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import Reply
from tests.reports.synthetic import human, results, survey

CUT = [(Reply.FIRST_SENTENCE, "first sentence"), (Reply.ANSWER, "end of the answer")]


def read_to(reply: Reply) -> Results:
    """A run of two conditions whose replies were read that far."""
    made = results([("m", "us", condition, human) for condition in ("def", "none")])
    return replace(made, run=replace(made.run, protocol=replace(made.run.protocol, reply=reply)))


def verdicts() -> Verdicts:
    """Ten answers that fail on every dimension."""
    answers, dimensions = 10, len(DIMENSIONS)
    return Verdicts(
        judge="j 1",
        cell=np.zeros(answers * dimensions, dtype=np.int32),
        answer=np.repeat(np.arange(answers), dimensions),
        dimension=np.tile(np.arange(dimensions), answers).astype(np.int8),
        verdict=np.tile([0, 0, 0, 1, 0, 1], answers).astype(np.int8),
        weight=np.ones(answers * dimensions),
    )


def sections(made: Results) -> dict[str, Section]:
    """Anchor -> section."""
    whole = page(analyse(made, verdicts=[verdicts()]))
    assert "nan" not in render_markdown(whole)
    return {section.anchor: section for section in whole.sections}


@pytest.mark.parametrize(("reply", "words"), CUT)
def test_diversity_needs_whole_replies(reply: Reply, words: str) -> None:
    """D is nan with the reason, in every table that has it; distinct choices stay."""
    whole, cut = analyse(read_to(Reply.FULL)), analyse(read_to(reply))
    assert whole.cells[0].diversity.d > 0
    assert np.isnan(cut.cells[0].diversity.d)
    assert words in cut.cells[0].diversity.reason
    assert cut.cells[0].distinct_choices == whole.cells[0].distinct_choices
    found = sections(read_to(reply))
    entries = [
        found["table-1"].tables[0].rows[0].entries[-1],
        found["table-1"].tables[1].rows[0].entries[0],
        found["table-2"].tables[0].rows[0].entries[-1],
        found["table-4"].tables[0].rows[0].entries[0],
        found["quality"].tables[1].rows[0].entries[0],
    ]
    assert {entry.text for entry in entries} == {"–"}
    assert all(words in entry.why for entry in entries)


@pytest.mark.parametrize(("reply", "words"), CUT)
def test_what_a_judge_says_of_explanations_needs_them(reply: Reply, words: str) -> None:
    """cv and ff have no rate, and no answer counts as failed because of them; the rest stays."""
    parts = {kind: analyse(read_to(kind), verdicts=[verdicts()]).figure(insensitivity) for kind in (Reply.FULL, reply)}
    rates = {}
    for kind, part in parts.items():
        rates[kind] = part.judges[0].rows[0].rates
    assert [rate.n for rate in rates[Reply.FULL].fail] == [10] * 6
    assert [rate.n for rate in rates[reply].fail] == [10, 10, 10, 0, 10, 0]
    assert (rates[Reply.FULL].any_fail.share, rates[reply].any_fail.share) == (1.0, 0.0)
    table = sections(read_to(reply))["figure-9"].tables[0]
    assert [entry.text for entry in table.rows[0].entries[:6]].count("–") == 2
    assert words in table.rows[0].entries[3].why
    assert words in table.notes[0]


@pytest.mark.parametrize("reply", Reply)
def test_the_method_says_how_far_replies_were_read(reply: Reply) -> None:
    """In words and by the study's own."""
    found = sections(read_to(reply))
    (term,) = [term for term in found["method"].terms if term.name == "Replies"]
    assert f"(reply: {reply.value})" in term.value
    assert ("are not given" in term.value) == (reply is not Reply.FULL)
    assert any(reply.value in term.value for term in found["provenance"].terms if term.name == "Replies")


def test_runs_together_claim_no_more_than_the_shortest_replies_allow() -> None:
    """One run whole and one cut off: no diversity of either."""
    whole, cut = read_to(Reply.FULL), read_to(Reply.ANSWER)
    for pair in ([whole, cut], [cut, whole]):
        one, other = pair[0], replace(pair[1], run=replace(pair[1].run, id="run-2"))
        assert merge([one, other]).run.protocol.reply is Reply.ANSWER


def test_a_culture_asked_in_another_language_is_told() -> None:
    """Where the survey has no wording in its language: at the top, and with what was asked."""
    known = survey()
    cultures = tuple(
        replace(culture, language="en", spoken="yue") if culture.code == "cn" else culture for culture in known.cultures
    )
    made = results(tiny=replace(known, cultures=cultures))
    whole = page(analyse(made))
    assert "China was asked in English, not in its own language, Cantonese." in whole.sentences[0]
    (asked,) = [section for section in whole.sections if section.anchor == "figure-3"]
    assert asked.paragraphs == (
        "The survey has no wording in Cantonese, the language of China: its participants were asked in English.",
    )


def test_excluded_questions_are_told_with_their_reasons() -> None:
    """Experts left them out; none are listed where there are none."""
    plain, without = (
        next(section for section in page(analyse(results(tiny=tiny))).sections if section.anchor == "figure-3")
        for tiny in (survey(), replace(survey(), excluded={"Q9": "offensive <b>here</b>"}))
    )
    assert [table.anchor for table in plain.tables] == ["figure-3-topics", "figure-3-kinds"]
    table = without.tables[-1]
    assert [(row.head.text, row.entries[0].text) for row in table.rows] == [("Q9", "offensive <b>here</b>")]
