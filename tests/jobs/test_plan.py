"""What a study would run, told before it runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from defsurvey.jobs.study.plan import Earlier, Plan, Spread, plan, render, to_json
from defsurvey.jobs.study.preview import preview
from defsurvey.jobs.study.study import Study
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.runs.pilot import TokensSeen
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.methods.first_token import FirstToken
from tests.jobs.small_study import CARDS, SURVEY, study, written

SERVER = {"model": "m", "base_url": "http://127.0.0.1:9", "input_price": 1.0, "output_price": 5.0}
#: With a model behind a server at 1 and 5 US dollars per million tokens.
PRICED = {**CARDS, "paid": ModelCard.model_validate({"name": "paid", "engine": "anthropic", **SERVER})}


def priced(**changes: str | None) -> Study:
    """A study that may name the model that costs money."""
    return parse_study(written(**changes), path=Path("s.yaml"), cards=PRICED, survey=SURVEY)


def in_words(made: Plan) -> str:
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render(made))
    return capture.get()


def characters(read: Study, question: str) -> int:
    """Characters of the prompt that participant 0 of a study's first cell is asked with, memory empty."""
    return sum(len(message.content) for message in preview(read, cards=CARDS, question=question)[0].request.messages)


def test_prompt_tokens_without_memory() -> None:
    """A prompt costs its own characters, at 0.18 to 0.3 tokens each in English, and a template."""
    read = study(cultures="[us]", conditions="[none]", participants="5")
    length = sum(characters(read, name) for name in read.questions)
    made = plan(read, cards=CARDS)
    assert made.prompt_tokens.low == round(5 * (0.18 * length + 4 * 3))
    assert made.prompt_tokens.high == round(5 * (0.3 * length + 4 * 45))


def test_weighed_options_are_read_once_for_each_order() -> None:
    """First-token prompts are as long in every order, and one participant stands for its cell."""
    read = study(cultures="[us]", conditions="[first-token]", participants="5")
    prompts = [
        characters(read, name)
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
    with_memory, without = (
        plan(study(cultures="[us]", conditions=f"[{condition}]", participants="1"), cards=CARDS).prompt_tokens
        for condition in ("def", "def-without-memory")
    )
    request = len("Request: What of Q1?\n1: choice 1\n2: choice 2\n3: choice 3\n4: choice 4")
    assert with_memory.high - without.high == pytest.approx(shown * (0.3 * (request + 220) + 2 * 14), abs=1)
    assert with_memory.low == without.low


def test_tokens_seen_in_a_pilot_take_the_place_of_rules_of_thumb() -> None:
    """Means per answer give or take a third, never above max_new_tokens; a language not seen stays a guess."""
    pilot = {
        ("paid", "def", language): TokensSeen(run="first", answers=12, prompt=300.0, completion=written)
        for language, written in (("en", 45.0), ("zh", 54.0))
    }
    read = priced(models="[paid]", participants="10", decoding="{max_new_tokens: 60}")
    made = plan(read, cards=PRICED, earlier=Earlier(tokens=pilot))
    assert made.prompt_tokens == Spread(low=2 * 30 * 200, high=2 * 30 * 400)
    assert made.completion_tokens == Spread(low=30 * (30 + 36), high=30 * (60 + 60))
    assert made.cost is not None
    assert made.cost.high == pytest.approx((made.prompt_tokens.high + 5 * made.completion_tokens.high) / 1e6)
    assert "12,000 to 24,000 (as seen in 24 answers of run first, within a third)" in in_words(made)
    assert to_json(made)["tokens_seen"] == {"first": 24}
    half = plan(read, cards=PRICED, earlier=Earlier(tokens={key: pilot[key] for key in pilot if key[2] == "en"}))
    alone = plan(replace(read, cultures=("cn",)), cards=PRICED)
    assert half.prompt_tokens.high == 30 * 400 + alone.prompt_tokens.high
    assert "12 answers of run first, within a third; conditions and languages not seen: at most" in in_words(half)


@pytest.mark.parametrize(
    ("changes", "paces", "seconds", "told"),
    [
        # 30 answers at 1 a second and 30 at 3, one model after the other
        ({"models": "[tiny-model, plain-model]"}, {"tiny-model": 1.0, "plain-model": 3.0}, (27, 53), "27 s to 53 s"),
        ({"models": "[tiny-model, plain-model]"}, {"tiny-model": 1.0}, None, "unknown until a pilot has run"),
        ({"conditions": "[first-token]"}, {"tiny-model": 2.0}, None, "unknown: no answers are planned"),
        ({"conditions": "[first-token, def]"}, {"tiny-model": 1.0}, (20, 40), "20 s to 40 s"),
        ({}, {"tiny-model": 0.001}, (20_000, 40_000), "5 h 33 min to 11 h 06 min"),
    ],
)
def test_time_by_the_paces_of_models(
    changes: dict[str, str | None], paces: dict[str, float], seconds: tuple[int, int] | None, told: str
) -> None:
    made = plan(study(participants="5", **changes), cards=CARDS, earlier=Earlier(paces=paces))
    assert made.seconds == seconds
    assert told in in_words(made)


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


def test_json_and_words_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts, what is left out and why, a language that a card does not list, and where a model would run here."""
    monkeypatch.setattr("defsurvey.workers.engines.machine.nvidia_gpus", list)
    made = plan(study(models="[tiny-model, plain-model]"), cards=CARDS)
    body, text = json.loads(json.dumps(to_json(made))), in_words(made)
    names = {"model": "tiny-model", "culture": "cn", "condition": "def", "language": "zh"}
    assert body["cells"][1] == {**names, "participants": 20, "answers": 60}
    assert (body["planned"], body["left_out"], body["seconds"]) == (4 * 20 * 3, ["Q3"], None)
    assert body["prompt_tokens"] == [made.prompt_tokens.low, made.prompt_tokens.high]
    assert body["device"] == "auto: cpu, no NVIDIA GPU was found"
    assert made.notes == ("tiny-model is asked in zh, but its card lists only en",)
    for said in ("first: what would run", "Q3: not known for every culture, so asked in none", *made.notes):
        assert said in text
    assert "auto: cpu, no NVIDIA GPU was found" in text
    rule = in_words(plan(study(models="[human]", language="en"), cards=CARDS))
    assert "NVIDIA" not in rule
    assert "tokens" not in rule  # one that follows a rule reads and writes none


def test_a_study_of_bare_choices_says_what_it_is_without_and_writes_a_few_tokens() -> None:
    """One to as many as the longest list of options has characters, whatever max_new_tokens is."""
    made = plan(study(reply="choice", conditions="[none]", cultures="[us]"), cards=CARDS)
    answers = 20 * len(made.study.questions)
    assert made.completion_tokens == (answers, answers * len('{"answer": "none"}'))
    assert "no answer is explained, so that diversity D, cv and ff are not given" in made.notes[0]
    assert made.notes[0] in in_words(made)
    mixed = plan(study(reply="choice", conditions="[def, ccsv-single]", models="[human]"), cards=CARDS)
    assert "the steps of ccsv-single are written freely" in mixed.notes[1]


def test_what_costs_money_is_priced_as_a_range() -> None:
    """Tokens by their prices; models without one cost nothing that is known."""
    rest: dict[str, str | None] = {"cultures": "[us]", "conditions": "[none]", "participants": "10"}
    own = plan(priced(models="[paid]", **rest), cards=PRICED)
    assert own.cost is not None
    assert plan(priced(models="[paid, tiny-model]", **rest), cards=PRICED).cost == own.cost
    assert own.cost.low == pytest.approx((own.prompt_tokens.low + 5 * own.completion_tokens.low) / 1e6)
    assert own.cost.high == pytest.approx((own.prompt_tokens.high + 5 * own.completion_tokens.high) / 1e6)
    assert plan(study(), cards=CARDS).cost is None


def test_a_judge_is_counted_and_priced() -> None:
    """At least 30 of each model and culture, a tenth again, and the calibration set; at most 30 of each state."""
    read = priced(cultures="[us]", participants="50", judge="{model: paid}")
    made = plan(read, cards=PRICED)
    assert made.judge_calls == Spread(low=30 + 3 + 72, high=90 + 9 + 72)
    assert made.cost is not None
    assert 0.1 < made.cost.low < made.cost.high < 3
    assert to_json(made)["judging"] == {"model": "paid", "calls": (105, 171)}
    seen = plan(read, cards=PRICED, earlier=Earlier(judge=(900.0, 300.0))).cost
    assert seen is not None
    assert (seen.low, seen.high) == pytest.approx((105 * (600 + 5 * 200) / 1e6, 171 * (1200 + 5 * 400) / 1e6))


@pytest.mark.parametrize(
    ("participants", "seen", "said"),
    [
        ("10", {}, "90% of its answers are valid, which is assumed; plan 12 participants"),
        ("12", {}, ""),
        ("12", {"tiny-model": 0.6}, "60% of its answers were valid in an earlier run; plan 20 participants"),
        ("30", {"tiny-model": 0.0}, "0% of its answers were valid in an earlier run; no number of participants"),
    ],
)
def test_too_few_participants_for_a_place_are_told(participants: str, seen: dict[str, float], said: str) -> None:
    """With the smallest number that would do for a model, by the validity that was seen or is assumed."""
    read = study(models="[tiny-model, human]", participants=participants)
    made = plan(read, cards=CARDS, earlier=Earlier(validities={"human": 1.0, **seen}))
    notes = [note for note in made.notes if "ranked" in note]
    assert len(notes) == bool(said)
    assert all("tiny-model would probably not be ranked" in note and said in note for note in notes)


def test_more_participants_find_smaller_differences() -> None:
    """Four times as many see about half as much; below ten valid answers to a question models are not compared."""
    made = {n: plan(study(participants=n), cards=CARDS) for n in ("9", "20", "80")}
    assert 1.6 < made["20"].detectable["us"] / made["80"].detectable["us"] < 5
    assert f"{made['20'].detectable['us']:.3f} nats between two models" in in_words(made["20"])
    assert made["9"].detectable == {}
    assert "none: models are compared from 10 participants on" in in_words(made["9"])
