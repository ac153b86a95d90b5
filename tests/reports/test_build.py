"""The report as files: sound structure, nothing loaded, hostile text shown as text, the same bytes twice."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.build import build_report
from defsurvey.reports.cards import sample_cards
from defsurvey.reports.contents import page
from defsurvey.reports.html import render_html
from defsurvey.reports.markdown import render_markdown
from defsurvey.reports.untrusted import html_text, markdown_text
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Paraphrase
from tests.reports.reading import Element, read
from tests.reports.synthetic import human, last, one_question, results, sample, survey, uniform

HOSTILE = (
    "Answer: 2: Rather</pre></style></main><script>alert(1)</script>\x00\x07 \u202etxt\u202c 'q' \"q\" & `code` "
    "| pipe | [a](javascript:alert(1)) ![i](http://evil.example/x.png) <img src=x onerror=alert(1)>\n```\n# heading\n"
)
FIXED = results(
    [("small-model", "us", "def", uniform), ("small-model", "cn", "def", last)],
    states=(0.85, 0.05, 0.05, 0.05),
    samples=(
        sample("Answer: 2: Rather\nExplanation: They matter to me."),
        sample("回答：3：物价", cell=1, question="Q2", region="CN-GD"),
        sample("As an AI language model, I have no family.", state=AnswerState.REFUSED, region=None),
    ),
)
FILES = ["answers.csv", "metrics.csv", "report.html", "report.md"]
GOLD = Path(__file__).parent / "gold" / "report.md"
CASES = {
    "usual": FIXED,
    "hostile": results(samples=(sample(HOSTILE),), study="name: '</pre><script>x</script>'\n"),
    "hostile name": results([('a|b<script>alert(1)</script>"\n# c `d`\x00', "us", "def", human)]),
    "one question": results(tiny=one_question()),
    "none valid": results(states=(0, 0.5, 0.3, 0.2)),
    "nothing done": results(done=0),
}


def html(made: Results) -> str:
    """The HTML of that run."""
    return render_html(page(analyse(made)))


def section(root: Element, anchor: str) -> Element:
    """One section of a page."""
    return next(found for found in root.find("section") if found.attributes["id"] == anchor)


def markdown(made: Results) -> str:
    """The Markdown of that run."""
    return render_markdown(page(analyse(made)))


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def document(request: pytest.FixtureRequest) -> tuple[str, Element]:
    """Each case's HTML and its tree; the tree checks that every element is closed."""
    text = html(request.param)
    return text, read(text)


def test_nothing_is_loaded(document: tuple[str, Element]) -> None:
    """One script that the policy names by its hash, no link, no image, no address but of namespaces."""
    text, root = document
    for tag in ("link", "img", "iframe", "object", "form", "base"):
        assert root.find(tag) == []
    for element in [root, *(found for tag in ("svg", "a", "path", "g", "use") for found in root.find(tag))]:
        assert not any(name in ("src", "xlink:href") or name.startswith("on") for name in element.attributes)
    style = root.find("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    plain = re.sub(r"http-equiv|http://www\.w3\.org/|https://doi\.org", "", text.replace("http://evil.example", ""))
    assert "http" not in plain


def test_the_policy_allows_the_one_script(document: tuple[str, Element]) -> None:
    """Nothing may run but the script whose hash the policy names; a test of its own works the hash out."""
    _, root = document
    (script,) = root.find("script")
    assert script.attributes == {}
    policy = next(meta.attributes["content"] for meta in root.find("meta") if "http-equiv" in meta.attributes)
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_contents_lead_somewhere(document: tuple[str, Element]) -> None:
    """Every link of the page goes to an anchor that is there once, and no id is given twice."""
    text, root = document
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    links = [link.attributes["href"] for link in root.find("a")]
    within = {link for link in links if link.startswith("#")}
    assert len(within) > 8
    assert {link.removeprefix("#") for link in within} <= set(ids)
    assert set(links) - within == {"metrics.csv", "answers.csv"}


def test_tables_can_be_read_aloud(document: tuple[str, Element]) -> None:
    """Tables have a caption, scoped heads, and rows as wide as their columns."""
    _, root = document
    tables = root.find("table")
    assert tables
    for table in tables:
        assert table.find("caption")[0].text.strip()
        assert all(head.attributes.get("scope") in ("col", "row", "rowgroup") for head in table.find("th"))
        width = len(table.find("thead")[0].find("th"))
        for body in table.find("tbody"):
            for row in body.find("tr"):
                assert len(row.children) == width or row.attributes.get("class") == "group"


def test_hostile_text_is_text_in_html() -> None:
    """Tags, quotes, controls and direction marks of a completion are shown, and do nothing."""
    text = html(CASES["hostile"])
    root = read(text)
    reply = next(block for block in root.find("pre") if "Rather" in block.text)
    assert "<script>alert(1)</script>" in reply.text
    assert "</pre></style></main>" in reply.text
    assert [chip.text for chip in reply.find("span")] == ["U+0000", "U+0007", "U+202E", "U+202C"]
    assert "\x00" not in text
    assert "\u202e" not in text
    assert any("</pre><script>x</script>" in block.text for block in root.find("pre"))


def test_hostile_text_is_text_in_markdown() -> None:
    """A completion stands in a fence that it cannot close, with controls written out."""
    text = markdown(CASES["hostile"])
    block = re.search(r"^````text\n(.*?)\n````$", text, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    assert "<script>" in block[1]
    assert "```\n# heading" in block[1]
    assert "⟨U+0000⟩⟨U+0007⟩ ⟨U+202E⟩txt" in block[1]
    assert "\x00" not in text


def test_hostile_names_cannot_leave_their_place() -> None:
    """A model's name with pipes, HTML and newlines stays in its cell, in both formats."""
    made = CASES["hostile name"]
    text, root = markdown(made), read(html(made))
    assert len(root.find("script")) == 1
    assert any("<script>" in head.text for head in root.find("th"))
    assert r"a\|b\<script\>alert(1)\</script\>" in text
    rows = [line for line in text.splitlines() if line.startswith("| a\\|b")]
    assert rows
    assert not [line for line in text.splitlines() if line.startswith("# c")]


def test_long_completions_are_cut_with_a_note() -> None:
    """1,200 characters are shown, and the rest is counted."""
    made = results(samples=(sample("x" * 10_000),))
    root = read(html(made))
    assert any(block.text == "x" * 1200 for block in root.find("pre"))
    assert "8,800 more characters are not shown." in root.text
    assert "8800 more characters are not shown." in markdown(made)


def test_answers_are_shown_as_they_were_asked() -> None:
    """Chinese wording is marked as Chinese, options stand in the order shown, the choice is marked."""
    root = read(html(FIXED))
    first, second, third = section(root, "appendix-e").find("article")
    assert [item.text.split(":")[0].split()[-1] for item in first.find("li")] == ["4", "3", "2", "1"]
    chosen = [item for item in first.find("li") if item.attributes.get("class") == "chosen"]
    assert len(chosen) == 1
    assert "Rather" in chosen[0].text
    assert "哪个目标最重要?" in second.text
    assert second.find("p")[0].attributes["lang"] == "zh"
    assert "Guangdong, China" in second.text
    assert "remembers 2 questions: Q2, Q3" in first.text
    assert "refused" in third.find("h3")[0].text
    assert "the model declined" in third.text
    assert "3 beams, sampled" in third.text


@pytest.mark.parametrize(
    ("beams", "sample_it", "said"),
    [
        (None, True, "provider's own beams, sampled"),
        (3, None, "3 beams, provider's own sampling"),
        (1, False, "1 beam, not sampled"),
    ],
)
def test_each_axis_of_decoding_is_told_by_itself(beams: int | None, sample_it: bool | None, said: str) -> None:
    """What was drawn does not stand for what an engine left to its provider: beams, or sampling."""
    shown = sample("2")
    used = replace(shown.answer.used, num_beams=beams, do_sample=sample_it)
    article = read(html(results(samples=(replace(shown, answer=replace(shown.answer, used=used)),)))).find("article")[0]
    assert said in [chip.text for chip in article.find("span")]


def test_answers_asked_again_say_so() -> None:
    """A chip marks an answer that was asked again out of sequence, and provenance counts it."""
    shown = sample("2")
    again = replace(shown, answer=replace(shown.answer, out_of_sequence=True))
    root = read(html(replace(results(samples=(shown, again)), out_of_sequence=1)))
    chips = [[chip.text for chip in article.find("span")] for article in section(root, "appendix-e").find("article")]
    assert ["asked again out of sequence" in found for found in chips] == [False, True]
    assert "1 of 160 answers were asked again" in section(root, "provenance").text


def test_every_figure_of_the_paper_is_there_or_says_why_not(document: tuple[str, Element]) -> None:
    """The paper's tables, figures and appendices stand under their own numbers and in their order."""
    _, root = document
    sections = root.find("section")
    numbers = [found.find("p")[0].text for found in sections if _numbered(found)]
    assert numbers == [
        *("Table 1", "Table 2", "Fig. 3", "Fig. 4", "Fig. 5", "Fig. 6", "Table 3", "Fig. 7", "Fig. 8"),
        *("Fig. 9 and Fig. 19", "Table 4", "Fig. 10", "Fig. 11", "Fig. 12", "Appendix F", "Appendix C", "Appendix E"),
        *("Appendix G", "Appendix I, section 6.1", "Section 5.2.4"),
    ]
    for found in sections:
        if found.attributes.get("class") == "missing":
            assert re.search(r"Not run: [^.]{4,}\.", found.text)
        elif _numbered(found):
            assert found.find("table") or found.find("article")


def _numbered(found: Element) -> bool:
    return any(part.attributes.get("class") == "number" for part in found.find("p")[:1])


def test_printed_figures_are_folded_beside_another_survey() -> None:
    """What the paper printed of other questions is closed, and says that it is no replication."""
    root = read(html(FIXED))
    folds = [found for found in root.find("details") if found.attributes["id"].startswith("published-")]
    assert [fold.attributes["id"] for fold in folds] == [f"published-table{n}" for n in (1, 2, 3, 4)]
    assert all("open" not in fold.attributes for fold in folds)
    assert all("not a replication" in fold.find("summary")[0].text for fold in folds)


@pytest.mark.parametrize("made", CASES.values(), ids=CASES.keys())
def test_markdown_tables_are_rectangular(made: Results) -> None:
    """Every row of a table has as many cells as its head."""
    text = re.sub(r"^(`{3,})text\n.*?\n\1$", "", markdown(made), flags=re.DOTALL | re.MULTILINE)
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("| --")]
    assert heads
    for rule in heads:
        width = lines[rule].count("|")
        row = rule - 1
        while row < len(lines) and lines[row].startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", lines[row])) == width
            row += 1


def test_markdown_equals_the_gold_file() -> None:
    """The Markdown of a fixed run is what was read and approved."""
    assert markdown(FIXED) == GOLD.read_text(encoding="utf-8")


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    """Two builds differ in nothing, and say where they are."""
    first, second = build_report(FIXED, tmp_path / "a"), build_report(FIXED, tmp_path / "b")
    assert first.html == tmp_path / "a" / "report.html"
    assert first.markdown == tmp_path / "a" / "report.md"
    assert sorted(path.name for path in first.html.parent.iterdir()) == FILES
    for name in FILES:
        assert first.html.with_name(name).read_bytes() == second.html.with_name(name).read_bytes()


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails, the old report stays and no part of the new one lies about."""
    paths = build_report(FIXED, tmp_path)
    before = paths.html.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        build_report(replace(FIXED, revision=999), tmp_path)
    assert paths.html.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_reports_are_as_private_as_other_files(tmp_path: Path, umask: int, mode: int) -> None:
    """Whoever may read what the account writes may read its reports."""
    before = os.umask(umask)
    try:
        assert build_report(FIXED, tmp_path).html.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_a_sample_is_shown_in_the_wording_that_was_drawn() -> None:
    """Question and number of the paraphrase; one in the question's own words says nothing of it."""
    other = Paraphrase(question="Q1", number=2, language="en", text="Does family matter?", model="m")
    asked = sample("Answer: 2: Rather")
    drawn = replace(asked, answer=replace(asked.answer, draws=replace(asked.answer.draws, paraphrase=2)))
    known = replace(survey(), paraphrases=(other,))
    plain, paraphrased = sample_cards(analyse(results(tiny=known, samples=(asked, drawn))), [0, 1])
    assert (plain.question, paraphrased.question) == ("How important is family in your life?", "Does family matter?")
    assert paraphrased.chips == (*plain.chips, "paraphrase 2")


def test_both_forms_leave_a_word_as_it_is_spelt() -> None:
    """A joiner between Persian letters is no hidden character; one in a Latin name is."""
    persian = "می\u200cخواهم"
    assert html_text(persian) == markdown_text(persian) == persian
    assert html_text("mo\u200cdel") == 'mo<span class="control">U+200C</span>del'
    assert markdown_text("mo\u200cdel") == "mo⟨U+200C⟩del"
