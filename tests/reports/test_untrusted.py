"""What others wrote, in both of a report's forms."""

from __future__ import annotations

from defsurvey.reports.untrusted import html_text, markdown_text

PERSIAN = "می\u200cخواهم"


def test_both_forms_leave_a_word_as_it_is_spelt() -> None:
    """A joiner between Persian letters is no hidden character; one in a Latin name is."""
    assert html_text(PERSIAN) == markdown_text(PERSIAN) == PERSIAN
    assert html_text("mo\u200cdel") == 'mo<span class="control">U+200C</span>del'
    assert markdown_text("mo\u200cdel") == "mo⟨U+200C⟩del"
