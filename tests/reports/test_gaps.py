"""A list of which some options were not published: what is known is shown, and the rest is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.figures.questions import question_cards
from defsurvey.reports.page import Table
from defsurvey.storage.surveys.survey import Survey
from tests.reports.synthetic import results, survey


def published(*codes: int) -> Survey:
    """The survey with the shares of only these options of its list, for the United States."""
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
    """The table of the list."""
    return next(card.table for card in question_cards(analyse(results(tiny=tiny))) if card.id == "Q4")


@pytest.mark.parametrize("codes", [(2, 3), (1, 3), (3,)], ids=str)
def test_a_list_has_a_reference_where_any_option_has(codes: tuple[int, ...]) -> None:
    """Which option has no share does not matter: people are counted, and only the gap is named."""
    table = card(published(*codes))
    people = [entry.text for entry in table.rows[0].entries]
    assert [text != "–" for text in people[:3]] == [code in codes for code in (1, 2, 3)]
    assert people[3] == "2,593"
    assert not any("no reference" in note for note in table.notes)
    assert any(note.startswith("United States: not published for every option") for note in table.notes)
    assert any("too few people" in note for note in table.notes) == (1 not in codes)


def test_a_whole_list_has_no_note() -> None:
    """Nothing is missing where every option has a share."""
    assert card(survey()).notes == ()
