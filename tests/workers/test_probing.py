"""Probes: what is asked, and how percentages are read from replies."""

import time
from dataclasses import replace

import pytest

from defsurvey.storage.runs.probes import ProbeKind
from defsurvey.storage.surveys.folder import find_survey
from defsurvey.storage.surveys.survey import QuestionType
from defsurvey.workers.probing import BATCH, complete, planned, read_percentages
from defsurvey.workers.simulation.prompts import UnknownLanguage
from tests.workers.memorisers import memorised
from tests.workers.paraphrasers import Paraphraser

SURVEY = find_survey("wvs7")
CELLS = [("us", "en"), ("cn", "zh"), ("us", "en"), ("cn", "en")]


def test_the_wording_alone_is_shown() -> None:
    """Options are asked once a language, percentages once a culture and language; no answer is in the prompt."""
    probes = planned(SURVEY, "m", CELLS, ["Q1", "Q57"])
    assert [(p.kind, p.culture, p.language, p.question) for p in probes] == [
        *((ProbeKind.OPTIONS, "", language, name) for language in ("en", "zh") for name in ("Q1", "Q57")),
        *(
            (ProbeKind.PERCENTAGES, culture, language, name)
            for culture, language in (("us", "en"), ("cn", "zh"), ("cn", "en"))
            for name in ("Q1", "Q57")
        ),
    ]
    options, percentages = probes[0].prompt, probes[4].prompt
    assert "How important is family in your life?" in options
    assert "Very important" not in options
    assert "1: Very important" in percentages
    assert "people in United States" in percentages
    assert not any("World Values" in probe.prompt for probe in probes)
    with pytest.raises(UnknownLanguage, match="language fr: there is no prompt to probe in it, only in en, zh"):
        planned(SURVEY, "m", [("us", "fr")], ["Q1"])


def test_replies_are_kept_with_what_is_read_from_them() -> None:
    """A model that knows the survey gives every percentage to a decimal; requests are greedy."""
    thought = "<think>1: 90%\n2: 10%\n3: 0%\n4: 0%</think>\n"  # is not read
    engine = Paraphraser(lambda prompt: thought + memorised(SURVEY, prompt))
    todo = planned(SURVEY, "m", CELLS[:2], [question.id for question in SURVEY.questions[:10]])
    done = [probe for batch in complete(todo, SURVEY, engine) for probe in batch.probes]
    assert [probe.key for probe in done] == [probe.key for probe in todo]
    assert all((probe.percent is not None) == (probe.kind is ProbeKind.PERCENTAGES) for probe in done)
    assert not any(request.decoding.do_sample for request in engine.requests)
    [first] = [p for p in done if p.question == "Q1" and p.culture == "us"]
    reference = SURVEY.reference("Q1", "us")
    assert reference is not None
    assert first.percent == pytest.approx({code: 100 * share for code, share in reference.shares.items()}, abs=0.06)


def test_what_the_engine_gives_up_is_no_probe() -> None:
    todo = planned(SURVEY, "m", CELLS[:1], [question.id for question in SURVEY.questions[:20]])
    batches = list(complete(todo, SURVEY, Paraphraser(lambda prompt: None)))
    assert [len(batch.failures) for batch in batches] == [BATCH, BATCH, 40 - 2 * BATCH]
    assert not any(batch.probes for batch in batches)
    assert batches[0].failures[0] == "model m, question Q1, options: the server is gone"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1: 90\n2: 7\n3: 2\n4: 1", {1: 90, 2: 7, 3: 2, 4: 1}),
        ("Sure!\n**1**: Very - 90.5%\n- 2) Rather: 7%\n(3): 2 %\n4： 0,5％", {1: 90.5, 2: 7, 3: 2, 4: 0.5}),
        ("1: 90\n2: 7\n3: 2", None),
        ("1: 190\n2: 7\n3: 2\n4: 1", None),
        ("1: 90\n1: 80\n2: 7\n3: 2\n4: 1\n9: 3", {1: 90, 2: 7, 3: 2, 4: 1}),
        ("1: 0.9114\n2: 0.0706\n3: 0.0165\n4: 0.0016", {1: 91.14, 2: 7.06, 3: 1.65, 4: 0.16}),
        ("1: 0.9114%\n2: 0.0706\n3: 0.0165\n4: 0.0016", None),
        ("1: 9\n2: 1\n3: 0\n4: 0", None),
    ],
)
def test_percentages_are_read_or_not(text: str, expected: dict[int, float] | None) -> None:
    read = read_percentages(text, SURVEY.question("Q1"))
    assert read == (expected if expected is None else pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize(
    "line",
    ["1: 5" + " " * 200_000 + "x", "1" * 200_000 + ": 5", "." * 200_000 + "1: " + "1.1" * 60_000 + "x"],
    ids=["blanks", "a code", "points"],
)
def test_a_line_of_whatever_length_is_read_at_once(line: str) -> None:
    """Time grows with its length alone; a model that repeats itself would keep its worker for hours."""
    began = time.perf_counter()
    assert read_percentages(f"{line}\n1: 90\n2: 7\n3: 2\n4: 1", SURVEY.question("Q1")) == {1: 90, 2: 7, 3: 2, 4: 1}
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("number", "sign", "expected"),
    [(40, "%", 40), (0.4, "", 40), (0.4, "%", 0.4), (1, "", 1), (101, "", None)],
    ids=["of any sum", "proportions", "small percentages", "whole numbers", "more than all"],
)
def test_percentages_of_a_list_need_not_add_up(number: float, sign: str, expected: float | None) -> None:
    """Each option is chosen by some or not; numbers up to 1 are proportions where no sign says otherwise."""
    question = SURVEY.question("Q7")
    asked = replace(question, type=QuestionType.MULTIPLE, max_choices=2)
    read = read_percentages("\n".join(f"{code}: {number}{sign}" for code in asked.codes), asked)
    assert read == (None if expected is None else pytest.approx(dict.fromkeys(asked.codes, expected), abs=1e-9))
