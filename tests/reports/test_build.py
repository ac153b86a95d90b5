"""The report as files: sound structure, nothing loaded, hostile text shown as text, the same bytes twice."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.build import build_report
from defsurvey.reports.cards import sample_cards
from defsurvey.reports.contents import page
from defsurvey.reports.html import render_html
from defsurvey.reports.markdown import render_markdown
from defsurvey.storage.runs.results import Results
from defsurvey.storage.runs.run import AnswerState
from defsurvey.storage.surveys.survey import Paraphrase
from tests.reports.planted import planted, wide_survey
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
    return render_html(page(analyse(made)))


def section(root: Element, anchor: str) -> Element:
    return next(found for found in root.find("section") if found.attributes["id"] == anchor)


def markdown(made: Results) -> str:
    return render_markdown(page(analyse(made)))


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def document(request: pytest.FixtureRequest) -> tuple[str, Element]:
    text = html(request.param)
    return text, read(text)


def test_nothing_is_loaded(document: tuple[str, Element]) -> None:
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
    _, root = document
    (script,) = root.find("script")
    assert script.attributes == {}
    policy = next(meta.attributes["content"] for meta in root.find("meta") if "http-equiv" in meta.attributes)
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_contents_lead_somewhere(document: tuple[str, Element]) -> None:
    text, root = document
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    links = [link.attributes["href"] for link in root.find("a")]
    within = {link for link in links if link.startswith("#")}
    assert len(within) > 8
    assert {link.removeprefix("#") for link in within} <= set(ids)
    assert set(links) - within == {"metrics.csv", "answers.csv"}


def test_tables_can_be_read_aloud(document: tuple[str, Element]) -> None:
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
    text = markdown(CASES["hostile"])
    block = re.search(r"^````text\n(.*?)\n````$", text, flags=re.DOTALL | re.MULTILINE)
    assert block is not None
    assert "<script>" in block[1]
    assert "```\n# heading" in block[1]
    assert "⟨U+0000⟩⟨U+0007⟩ ⟨U+202E⟩txt" in block[1]
    assert "\x00" not in text


def test_hostile_names_cannot_leave_their_place() -> None:
    made = CASES["hostile name"]
    text, root = markdown(made), read(html(made))
    assert len(root.find("script")) == 1
    assert any("<script>" in head.text for head in root.find("th"))
    assert r"a\|b\<script\>alert(1)\</script\>" in text
    rows = [line for line in text.splitlines() if line.startswith("| a\\|b")]
    assert rows
    assert not [line for line in text.splitlines() if line.startswith("# c")]


def test_long_completions_are_cut_with_a_note() -> None:
    made = results(samples=(sample("x" * 10_000),))
    root = read(html(made))
    assert any(block.text == "x" * 1200 for block in root.find("pre"))
    assert "8,800 more characters are not shown." in root.text
    assert "8800 more characters are not shown." in markdown(made)


def test_answers_are_shown_as_they_were_asked() -> None:
    root = read(html(FIXED))
    first, second, third = section(root, "appendix-e").find("article")
    assert [item.text.split(":")[0].split()[-1] for item in first.find("li")] == ["4", "3", "2", "1"]
    chosen = [item for item in first.find("li") if item.attributes.get("class") == "chosen"]
    assert len(chosen) == 1
    assert "Rather" in chosen[0].text
    assert second.find("p")[0].attributes["lang"] == "zh"
    assert "the model declined" in third.text


def test_what_an_engine_left_to_its_provider_is_told() -> None:
    shown = sample("2")
    used = replace(shown.answer.used, num_beams=None)
    article = read(html(results(samples=(replace(shown, answer=replace(shown.answer, used=used)),)))).find("article")[0]
    assert "provider's own beams, sampled" in [chip.text for chip in article.find("span")]


def test_printed_figures_of_another_survey_are_no_replication() -> None:
    folds = [fold for fold in read(html(FIXED)).find("details") if fold.attributes["id"].startswith("published-")]
    assert folds
    assert all("not a replication" in fold.find("summary")[0].text for fold in folds)


def test_answers_asked_again_say_so() -> None:
    shown = sample("2")
    again = replace(shown, answer=replace(shown.answer, out_of_sequence=True))
    root = read(html(replace(results(samples=(shown, again)), out_of_sequence=1)))
    chips = [[chip.text for chip in article.find("span")] for article in section(root, "appendix-e").find("article")]
    assert ["asked again out of sequence" in found for found in chips] == [False, True]
    assert "1 of 160 answers were asked again" in section(root, "provenance").text


def test_every_figure_of_the_paper_is_there_or_says_why_not(document: tuple[str, Element]) -> None:
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


@pytest.mark.parametrize("made", CASES.values(), ids=CASES.keys())
def test_markdown_tables_are_rectangular(made: Results) -> None:
    text = re.sub(r"^(`{3,})text\n.*?\n\1$", "", markdown(made), flags=re.DOTALL | re.MULTILINE)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_equals_the_gold_file() -> None:
    assert markdown(FIXED) == GOLD.read_text(encoding="utf-8")


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = build_report(FIXED, tmp_path / "a"), build_report(FIXED, tmp_path / "b")
    assert first.html == tmp_path / "a" / "report.html"
    assert first.markdown == tmp_path / "a" / "report.md"
    assert sorted(path.name for path in first.html.parent.iterdir()) == FILES
    for name in FILES:
        assert first.html.with_name(name).read_bytes() == second.html.with_name(name).read_bytes()


def test_a_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = build_report(FIXED, tmp_path)
    before = paths.html.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        build_report(replace(FIXED, revision=999), tmp_path)
    assert paths.html.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_a_sample_is_shown_in_the_wording_that_was_drawn() -> None:
    other = Paraphrase(question="Q1", number=2, language="en", text="Does family matter?", model="m")
    asked = sample("Answer: 2: Rather")
    drawn = replace(asked, answer=replace(asked.answer, draws=replace(asked.answer.draws, paraphrase=2)))
    known = replace(survey(), paraphrases=(other,))
    plain, paraphrased = sample_cards(analyse(results(tiny=known, samples=(asked, drawn))), [0, 1])
    assert (plain.question, paraphrased.question) == ("How important is family in your life?", "Does family matter?")
    assert paraphrased.chips == (*plain.chips, "paraphrase 2")


# A report stays small and quick however many questions and answers there are, and leaves none out.

MEGABYTE = 1_000_000
#: Builds the report of the whole planted study and prints what it took.
FULL = """
import sys, time
from pathlib import Path
from defsurvey.reports.build import build_report
from tests.reports.planted import planted
made = planted()
start = time.process_time()
paths = build_report(made.results, Path(sys.argv[1]), draws=made.draws)
# Of this program alone: getrusage's peak begins with that of the process it was forked from.
status = Path("/proc/self/status").read_text().splitlines()
peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
print(made.results.answers.cell.size, time.process_time() - start, peak, paths.html.stat().st_size)
"""


def ids(html: str) -> list[str]:
    return re.findall(r'<details id="question-\d+">\s*<summary><b>(\w+)</b>', html)


def test_a_hundred_questions_fit_into_a_megabyte_and_a_half(tmp_path: Path) -> None:
    made = planted(wide_survey(100))
    html = build_report(made.results, tmp_path, draws=made.draws).html
    assert html.stat().st_size <= 1.5 * MEGABYTE
    assert ids(html.read_text(encoding="utf-8")) == list(made.results.run.questions)


@pytest.mark.slow
def test_a_quarter_of_a_million_answers(tmp_path: Path) -> None:
    """253,440 answers: under 20 s of one processor and 1 GB, at most 8 MB, all 576 questions there."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    answers, seconds, peak, size = map(float, done.stdout.split())
    assert answers == 253_440
    assert seconds < 20
    assert peak < 1000
    assert size <= 8 * MEGABYTE
    assert len(ids((tmp_path / "report.html").read_text(encoding="utf-8"))) == 576


#: Seconds of processor time that an analysis takes, in a process of its own.
MEASURE = """
import sys, time
from defsurvey.reports.analysis import analyse
from tests.reports.planted import planted
made = planted(participants=int(sys.argv[1]))
start = time.process_time()
analyse(made.results, draws=made.draws)
print(made.results.answers.cell.size, time.process_time() - start)
"""


@pytest.mark.slow
def test_ten_times_the_answers_take_at_most_twelve_times_as_long() -> None:
    told = [
        subprocess.run([sys.executable, "-c", MEASURE, people], check=True, capture_output=True, text=True).stdout
        for people in ("20", "200")
    ]
    (_, seconds), (answers, more) = (map(float, each.split()) for each in told)
    assert answers == 2_534_400
    assert more <= 12 * seconds
