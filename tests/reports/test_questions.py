"""Questions one by one, and dashes: where there is no figure, its reason is there on hover."""

import tracemalloc
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.judging import insensitivity
from defsurvey.reports.figures.landscape import near_section
from defsurvey.reports.figures.matching import matching_section
from defsurvey.reports.figures.questions import placement, question_cards
from defsurvey.reports.html import render_html
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.merge import merge
from defsurvey.reports.number_format import NONE
from defsurvey.reports.page import Entry, Section, Table
from defsurvey.storage.runs.judgement import DIMENSIONS
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import Reply
from defsurvey.storage.surveys.survey import Survey
from tests.reports.reading import read
from tests.reports.synthetic import (
    QUESTIONS,
    human,
    refusing,
    results,
    sample,
    survey,
    uniform,
    verdicts,
    without_reference,
)


def dashes(table: Table) -> list[Entry]:
    return [entry for row in table.rows for entry in row.entries if entry.text == NONE]


def gaps() -> Results:
    """Two cultures; the first was not asked Q1, and nobody of the second gave a valid answer to Q3."""
    made = results([("m", "us", "def", human), ("m", "cn", "def", human)], tiny=without_reference("us", "Q1"))
    return refusing(made, (made.answers.cell == 1) & (made.answers.question == 2))


def test_every_dash_of_a_question_says_why() -> None:
    first, _, third, _ = question_cards(analyse(gaps()))
    rows = {(row.group, row.head.text): row for row in first.table.rows}
    assert {entry.why for entry in dashes(first.table)} == {"no reference"}
    assert [entry.text for entry in rows["United States", "m"].entries][-4:] == [NONE] * 4
    assert len(dashes(first.table)) == 4 + 1 + 4
    assert {entry.why for entry in dashes(third.table)} == {"no valid answer"}
    assert len(dashes(third.table)) > 4
    assert 'title="no reference">–' in render_html(page(analyse(gaps())))


def test_figures_4_and_8_say_why_too() -> None:
    only = results([("m", "us", "def", human)], tiny=without_reference("us", "Q1"))
    near = near_section(analyse(refusing(only, only.answers.question > 0))).tables[0]
    assert {entry.why for entry in dashes(near)} == {"no reference"}
    lost = dashes(matching_section(analyse(refusing(only, only.answers.question == 2))).tables[0])
    assert {entry.why for entry in lost} == {"no valid answer meets a reference distribution in this dimension"}


def test_texts_run_the_way_their_letters_do() -> None:
    root = read(render_html(page(analyse(replace(results(), samples=(sample("می‌خواهم بگویم: 1"),))))))
    marked = [
        part for tag in ("p", "ul", "pre", "span") for part in root.find(tag) if part.attributes.get("dir") == "auto"
    ]
    kinds = {part.attributes.get("class", part.tag) for part in marked}
    assert kinds == {"asked", "options", "reply", "span"}


def published(*codes: int) -> Survey:
    known = survey()
    return replace(
        known,
        references=tuple(
            replace(r, shares={code: share for code, share in r.shares.items() if code in codes}, low_n=1 not in codes)
            if (r.question, r.culture) == ("Q4", "us")
            else r
            for r in known.references
        ),
    )


def card(tiny: Survey) -> Table:
    return next(card.table for card in question_cards(analyse(results(tiny=tiny))) if card.id == "Q4")


@pytest.mark.parametrize("codes", [(2, 3), (1, 3), (3,)], ids=str)
def test_a_list_has_a_reference_where_any_option_has(codes: tuple[int, ...]) -> None:
    table = card(published(*codes))
    people = [entry.text for entry in table.rows[0].entries]
    assert [text != "–" for text in people[:3]] == [code in codes for code in (1, 2, 3)]
    assert people[3] == "2,593"
    assert not any("no reference" in note for note in table.notes)
    assert any(note.startswith("United States: not published for every option") for note in table.notes)
    assert any("too few people" in note for note in table.notes) == (1 not in codes)


def shown_in_turn(made: Results) -> Results:
    answers, questions = made.answers, made.survey.questions
    pairs = zip(answers.question.tolist(), answers.participant.tolist(), strict=True)
    shown = [questions[place].codes[person % len(questions[place].codes)] for place, person in pairs]
    return replace(made, answers=replace(answers, shown=np.array(shown)))


@pytest.mark.parametrize("codes", [(1, 2, 3), (999_999_999, 7, 12)])
def test_a_code_may_be_as_large_as_it_likes(codes: tuple[int, ...]) -> None:
    """Nine digits are valid: no table is as large as a code, and positions are those of small ones, in any order."""
    options = tuple(replace(known, code=code) for known, code in zip(QUESTIONS[1].options, codes, strict=True))
    tiny = survey(questions=(QUESTIONS[0], replace(QUESTIONS[1], options=options), QUESTIONS[2]))
    made = shown_in_turn(results([("a", "us", "def", uniform)], tiny=tiny))
    analysis = analyse(made)
    tracemalloc.start()
    found, (_, peak) = placement(analysis), tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    (row,) = found
    of = made.answers
    rows = zip(of.question.tolist(), of.choices.tolist(), of.shown.tolist(), strict=True)
    met = [tiny.questions[place].codes.index(code) == choices.bit_length() - 1 for place, choices, code in rows]
    assert (row.bias.answers, row.bias.questions) == (60, 3)
    assert row.bias.first == pytest.approx(sum(met) / 60, abs=1e-12)


# Replies that were cut off: what needs them whole is not given, and the report says why.

CUT = [(Reply.FIRST_SENTENCE, "first sentence"), (Reply.ANSWER, "end of the answer"), (Reply.CHOICE, "bare choices")]


def read_to(reply: Reply) -> Results:
    made = results([("m", "us", condition, human) for condition in ("def", "none")])
    return replace(made, run=replace(made.run, protocol=replace(made.run.protocol, reply=reply)))


#: Ten answers, judged on every dimension: they fail where the explanation counts.
_SIX = range(len(DIMENSIONS))
FAILING = verdicts([0, 0, 0, 1, 0, 1] * 10, answer=np.repeat(np.arange(10), 6), dimension=[*_SIX] * 10)


def sections(made: Results) -> dict[str, Section]:
    whole = page(analyse(made, verdicts=[FAILING]))
    assert "nan" not in render_markdown(whole)
    return {section.anchor: section for section in whole.sections}


@pytest.mark.parametrize(("reply", "words"), CUT)
def test_diversity_needs_whole_replies(reply: Reply, words: str) -> None:
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
    parts = {kind: analyse(read_to(kind), verdicts=[FAILING]).figure(insensitivity) for kind in (Reply.FULL, reply)}
    rates = {}
    for kind, part in parts.items():
        rates[kind] = part[0].rows[0].rates
    assert [rate.n for rate in rates[Reply.FULL].fail] == [10] * 6
    assert [rate.n for rate in rates[reply].fail] == [10, 10, 10, 0, 10, 0]
    assert (rates[Reply.FULL].any_fail.share, rates[reply].any_fail.share) == (1.0, 0.0)
    table = sections(read_to(reply))["figure-9"].tables[0]
    assert [entry.text for entry in table.rows[0].entries[:6]].count("–") == 2
    assert words in table.rows[0].entries[3].why
    assert words in table.notes[0]


@pytest.mark.parametrize("reply", Reply)
def test_the_method_says_how_far_replies_were_read(reply: Reply) -> None:
    found = sections(read_to(reply))
    (term,) = [term for term in found["method"].terms if term.name == "Replies"]
    assert f"(reply: {reply.value})" in term.value
    assert ("are not given" in term.value) == (reply is not Reply.FULL)
    assert any(reply.value in term.value for term in found["provenance"].terms if term.name == "Replies")


@pytest.mark.parametrize("pair", list(permutations(Reply, 2)))
def test_runs_together_claim_no_more_than_the_shortest_replies_allow(pair: tuple[Reply, Reply]) -> None:
    one, other = map(read_to, pair)
    furthest = [Reply.FULL, Reply.FIRST_SENTENCE, Reply.ANSWER, Reply.CHOICE]
    joint = merge([one, replace(other, run=replace(other.run, id="run-2"))])
    assert joint.run.protocol.reply is max(pair, key=furthest.index)


def test_a_culture_asked_in_another_language_is_told() -> None:
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
    plain, without = (
        next(section for section in page(analyse(results(tiny=tiny))).sections if section.anchor == "figure-3")
        for tiny in (survey(), replace(survey(), excluded={"Q9": "offensive <b>here</b>"}))
    )
    assert [table.anchor for table in plain.tables] == ["figure-3-topics", "figure-3-kinds"]
    table = without.tables[-1]
    assert [(row.head.text, row.entries[0].text) for row in table.rows] == [("Q9", "offensive <b>here</b>")]
