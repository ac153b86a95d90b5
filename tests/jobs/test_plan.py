"""What a study would run, told before it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from defsurvey.jobs.study.plan import Earlier, Plan, Spread, plan, render, to_json
from defsurvey.jobs.study.preview import preview
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.runs.pilot import TokensSeen
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.methods.first_token import FirstToken
from tests.jobs.small_study import CARDS, SURVEY, study, written


def printed(**changes: str | None) -> str:
    """A plan as it is printed."""
    return in_words(plan(study(**changes), cards=CARDS))


def in_words(made: Plan) -> str:
    """What a person reads of a plan."""
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render(made))
    return capture.get()


def characters(**changes: str | None) -> int:
    """Characters of the prompts that participant 0 of a study's first cell is asked with, memory empty."""
    read = study(**changes)
    prompts = (preview(read, cards=CARDS, question=name)[0] for name in read.questions)
    return sum(len(message.content) for prompt in prompts for message in prompt.request.messages)


def test_counts() -> None:
    """Cells, questions and answers are counted; what was left out is told."""
    made = plan(study(models="[human, tiny-model]", participants="5"), cards=CARDS)
    assert len(made.study.cells()) == 4
    assert made.study.questions == ("Q1", "Q2", "Q4")
    assert made.study.left_out == ("Q3",)
    assert made.study.answers() == 4 * 5 * 3


def test_prompt_tokens_without_memory() -> None:
    """Without memory a prompt costs its own characters, at 0.18 to 0.3 tokens each in English, and a template."""
    changes: dict[str, str | None] = {"cultures": "[us]", "conditions": "[none]", "participants": "5"}
    length = characters(**changes)
    made = plan(study(**changes), cards=CARDS)
    assert made.prompt_tokens.low == round(5 * (0.18 * length + 4 * 3))
    assert made.prompt_tokens.high == round(5 * (0.3 * length + 4 * 45))


def test_weighed_options_are_read_once_for_each_order() -> None:
    """First-token prompts are as long in every order, and one participant stands for its cell."""
    changes: dict[str, str | None] = {"cultures": "[us]", "conditions": "[first-token]", "participants": "5"}
    read = study(**changes)
    prompts = [
        sum(len(message.content) for message in preview(read, cards=CARDS, question=name)[0].request.messages)
        for name in read.questions
        for _ in FirstToken().option_orders(read.survey.question(name))
    ]
    assert len(prompts) > len(read.questions)
    made = plan(read, cards=CARDS)
    assert made.prompt_tokens == Spread(
        low=round(0.18 * sum(prompts) + 3 * len(prompts)), high=round(0.3 * sum(prompts) + 45 * len(prompts))
    )
    assert made.completion_tokens == Spread(low=0, high=0)


def test_memory_grows() -> None:
    """At the most, memory adds each remembered question and answer: capacities 0-15, items 0, 1, 2 and 3.

    Of 16 capacities 15 hold 1 entry at item 1; at item 2 one holds 1 and 14 hold 2; at item 3 13 hold 3.
    """
    shown = (15 + (1 + 2 * 14) + (1 + 2 + 3 * 13)) / 16
    made = {
        condition: plan(study(cultures="[us]", conditions=f"[{condition}]", participants="1"), cards=CARDS)
        for condition in ("def", "def-without-memory")
    }
    request = len("Request: What of Q1?\n1: choice 1\n2: choice 2\n3: choice 3\n4: choice 4")
    growth = made["def"].prompt_tokens.high - made["def-without-memory"].prompt_tokens.high
    assert growth == pytest.approx(shown * (0.3 * (request + 220) + 2 * 14), abs=1)
    assert made["def"].prompt_tokens.low == made["def-without-memory"].prompt_tokens.low


def test_tokens_seen_in_a_pilot_take_the_place_of_rules_of_thumb() -> None:
    """Means per answer give or take a third, never above max_new_tokens; a language not seen stays a guess."""
    changes = {"models": "[paid]", "participants": "10", "decoding": "{max_new_tokens: 60}"}
    pilot = {
        ("paid", "def", language): TokensSeen(run="first", answers=12, prompt=300.0, completion=written)
        for language, written in (("en", 45.0), ("zh", 54.0))
    }
    read = parse_study(written(**changes), path=Path("s.yaml"), cards=priced(), survey=SURVEY)
    made = plan(read, cards=priced(), earlier=Earlier(tokens=pilot))
    assert made.prompt_tokens == Spread(low=2 * 30 * 200, high=2 * 30 * 400)
    assert made.completion_tokens == Spread(low=30 * (30 + 36), high=30 * (60 + 60))
    assert made.cost is not None
    assert made.cost.high == pytest.approx((made.prompt_tokens.high + 5 * made.completion_tokens.high) / 1e6)
    assert "12,000 to 24,000 (as seen in 24 answers of run first, within a third)" in in_words(made)
    assert to_json(made)["tokens_seen"] == {"first": 24}
    half = plan(read, cards=priced(), earlier=Earlier(tokens={key: pilot[key] for key in pilot if key[2] == "en"}))
    alone = plan(replace(read, cultures=("cn",)), cards=priced())
    assert half.prompt_tokens.high == 30 * 400 + alone.prompt_tokens.high
    assert "12 answers of run first, within a third; conditions and languages not seen: at most" in in_words(half)


def test_scripted_respondents_cost_no_tokens() -> None:
    """A respondent that follows a rule reads and writes no tokens, and none are printed."""
    made = plan(study(models="[human]"), cards=CARDS)
    assert made.prompt_tokens == made.completion_tokens == Spread(low=0, high=0)
    both = plan(study(models="[human, tiny-model]"), cards=CARDS)
    assert both.prompt_tokens == plan(study(), cards=CARDS).prompt_tokens
    assert "tokens" not in printed(models="[human]")


def test_time_by_the_paces_of_models() -> None:
    """30 answers at 1 a second and 30 at 3, one model after the other: 40 seconds; with one unknown none are told."""
    read = study(models="[tiny-model, plain-model]", participants="5")
    paces = {"tiny-model": 1.0, "plain-model": 3.0, "another": 9.0}
    assert read.answers() == 60
    assert plan(read, cards=CARDS, earlier=Earlier(paces=paces)).seconds == Spread(low=27, high=53)
    assert plan(read, cards=CARDS, earlier=Earlier(paces={"tiny-model": 1.0})).seconds is None


def test_a_study_that_only_weighs_options_has_no_pace() -> None:
    """No answers are planned that a pace could be of; where others are, their pace alone is asked for."""
    only = study(models="[tiny-model]", conditions="[first-token]")
    made = plan(only, cards=CARDS, earlier=Earlier(paces={"tiny-model": 2.0}))
    assert (made.study.answers(), made.seconds) == (0, None)
    assert "unknown: no answers are planned, by whose pace it could be told" in in_words(made)
    both = study(models="[tiny-model]", conditions="[first-token, def]", participants="5")
    assert plan(both, cards=CARDS, earlier=Earlier(paces={"tiny-model": 1.0})).seconds == Spread(low=20, high=40)


@pytest.mark.parametrize(
    ("rate", "told"), [(10.0, "6 s to 12 s"), (1.0, "1 min 00 s to 2 min 00 s"), (0.001, "16 h 40 min to 33 h 20 min")]
)
def test_time_in_words(rate: float, told: str) -> None:
    """Times are printed in the units that a person would use."""
    assert told in in_words(plan(study(participants="15"), cards=CARDS, earlier=Earlier(paces={"tiny-model": rate})))


def test_noise_floor() -> None:
    """The floor is the smoothed KL that honest people score, here by simulating 20,000 groups of 20."""
    people, n = np.array([0.5, 0.3, 0.15, 0.05]), 20
    counts = np.random.default_rng(1).multinomial(n, people, size=20_000)
    model, human = (counts + 0.5) / (n + 2), (people * 1000 + 0.5) / (1000 + 2)
    scores = (model * np.log(model / human)).sum(axis=1)
    made = plan(study(participants="20"), cards=CARDS)
    assert made.noise_floor.keys() == {"us", "cn"}
    for floor in made.noise_floor.values():
        assert floor == pytest.approx(scores.mean(), abs=4 * scores.std() / np.sqrt(len(scores)))


def test_notes() -> None:
    """A model that is asked in a language its card does not list is told of, once; one without a list is not."""
    made = plan(study(models="[tiny-model, plain-model]", conditions="[def, none]"), cards=CARDS)
    assert made.notes == ("tiny-model is asked in zh, but its card lists only en",)
    assert plan(study(language="en"), cards=CARDS).notes == ()


def test_json() -> None:
    """A program reads the same figures."""
    made = plan(study(participants="5"), cards=CARDS, earlier=Earlier(paces={"tiny-model": 1.0}))
    body = json.loads(json.dumps(to_json(made)))
    assert body["planned"] == 30
    assert body["cells"][1] == {
        "model": "tiny-model",
        "culture": "cn",
        "condition": "def",
        "language": "zh",
        "participants": 5,
        "answers": 15,
    }
    assert body["seconds"] == [20, 40]
    assert body["left_out"] == ["Q3"]
    assert body["prompt_tokens"] == [made.prompt_tokens.low, made.prompt_tokens.high]
    assert json.loads(json.dumps(to_json(plan(study(), cards=CARDS))))["seconds"] is None


def test_the_device_is_said_where_a_model_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where a rule answers, or a server."""
    monkeypatch.setattr("defsurvey.workers.engines.machine.nvidia_gpus", list)
    assert "auto: cpu, no NVIDIA GPU was found" in printed()
    assert to_json(plan(study(), cards=CARDS))["device"] == "auto: cpu, no NVIDIA GPU was found"
    assert "NVIDIA" not in printed(models="[human]")


def test_printed() -> None:
    """A person reads what would run, what is left out and why, and that the time is not known."""
    text = printed(participants="5")
    assert "first: what would run" in text
    assert "planned answers" in text
    assert "30" in text
    assert "Q3: not known for every culture, so asked in none" in text
    assert "unknown until a pilot has run" in text
    assert "tiny-model is asked in zh" in text
    assert "left out" not in printed(cultures="[us]")


def priced() -> dict[str, ModelCard]:
    """The cards, with a model behind a server at 1 and 5 US dollars per million tokens beside them."""
    server = {"model": "m", "base_url": "http://127.0.0.1:9", "input_price": 1.0, "output_price": 5.0}
    return {**CARDS, "paid": ModelCard.model_validate({"name": "paid", "engine": "anthropic", **server})}


def test_what_costs_money_is_priced_as_a_range() -> None:
    """Tokens by their prices; models without one cost nothing that is known."""
    text = written(models="[paid, tiny-model]", cultures="[us]", conditions="[none]", participants="10")
    made = plan(parse_study(text, path=Path("s.yaml"), cards=priced(), survey=SURVEY), cards=priced())
    alone = parse_study(text.replace("paid, tiny-model", "paid"), path=Path("s"), cards=priced(), survey=SURVEY)
    own = plan(alone, cards=priced())
    assert own.cost is not None
    assert made.cost == own.cost
    assert own.cost.low == pytest.approx((own.prompt_tokens.low + 5 * own.completion_tokens.low) / 1e6)
    assert own.cost.high == pytest.approx((own.prompt_tokens.high + 5 * own.completion_tokens.high) / 1e6)
    assert plan(study(), cards=CARDS).cost is None


def test_a_judge_is_counted_and_priced() -> None:
    """At least 30 of each model and culture, a tenth again, and the calibration set; at most 30 of each state."""
    text = written(models="[tiny-model]", cultures="[us]", participants="50", judge="{model: paid}")
    made = plan(parse_study(text, path=Path("s.yaml"), cards=priced(), survey=SURVEY), cards=priced())
    assert made.judging is not None
    assert made.judging.calls == Spread(low=30 + 3 + 72, high=90 + 9 + 72)
    assert made.cost is not None
    assert made.cost == made.judging.cost
    assert 0.1 < made.cost.low < made.cost.high < 3
    assert to_json(made)["judging"] == {"model": "paid", "calls": (105, 171)}
    seen = plan(
        parse_study(text, path=Path("s.yaml"), cards=priced(), survey=SURVEY),
        cards=priced(),
        earlier=Earlier(judge=(900.0, 300.0)),
    ).cost
    assert seen is not None
    assert (seen.low, seen.high) == pytest.approx((105 * (600 + 5 * 200) / 1e6, 171 * (1200 + 5 * 400) / 1e6))


def test_more_participants_find_smaller_differences() -> None:
    """Four times as many see about half as much; both are told."""
    few, many = (plan(study(participants=n), cards=CARDS).detectable["us"] for n in ("20", "80"))
    assert 1.6 < few / many < 5
    assert f"{few:.3f} nats between two models" in printed(participants="20")


def test_too_few_participants_find_no_difference() -> None:
    """Below ten valid answers to a question models are not compared."""
    assert plan(study(participants="9"), cards=CARDS).detectable == {}
    assert "none: models are compared from 10 participants on" in printed(participants="9")


@pytest.mark.parametrize(
    ("participants", "seen", "said"),
    [
        ("10", {}, "90% of its answers are valid, which is assumed; plan 12 participants"),
        ("12", {}, ""),
        ("12", {"tiny-model": 0.6}, "60% of its answers were valid in an earlier run; plan 20 participants"),
        ("30", {"tiny-model": 0.0}, "0% of its answers were valid in an earlier run; no number of participants"),
        ("10", {"tiny-model": 1.0}, ""),
    ],
)
def test_too_few_participants_for_a_place_are_told(participants: str, seen: dict[str, float], said: str) -> None:
    """With the smallest number that would do for a model, by the validity that was seen or is assumed."""
    read = study(models="[tiny-model, human]", participants=participants)
    notes = [
        note
        for note in plan(read, cards=CARDS, earlier=Earlier(validities={"human": 1.0, **seen})).notes
        if "ranked" in note
    ]
    assert len(notes) == bool(said)
    assert all("tiny-model would probably not be ranked" in note and said in note for note in notes)
