"""A plan as a program or a person reads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from defsurvey.jobs.study.costs import between
from defsurvey.jobs.study.plan import Plan, Spread

if TYPE_CHECKING:
    from rich.console import RenderableType


def to_json(plan: Plan) -> dict[str, object]:
    """The plan for a program to read."""
    return {
        "name": plan.name,
        "survey": plan.survey,
        "cells": [
            {
                "model": cell.model,
                "culture": cell.culture,
                "condition": cell.condition.name,
                "language": cell.language,
                "participants": cell.participants,
                "answers": cell.answers,
            }
            for cell in plan.cells
        ],
        "participants": plan.participants,
        "questions": list(plan.questions),
        "left_out": list(plan.left_out),
        "planned": plan.answers,
        "prompt_tokens": [plan.prompt_tokens.low, plan.prompt_tokens.high],
        "completion_tokens": [plan.completion_tokens.low, plan.completion_tokens.high],
        "tokens_seen": dict(plan.tokens_seen),
        "seconds": None if plan.seconds is None else [plan.seconds.low, plan.seconds.high],
        "cost": None if plan.cost is None else [round(plan.cost.low, 4), round(plan.cost.high, 4)],
        "judging": None
        if plan.judging is None
        else {"model": plan.judging.model, "calls": [plan.judging.low, plan.judging.high]},
        "smallest_difference": dict(plan.detectable),
        "noise_floor": dict(plan.noise_floor),
        "notes": list(plan.notes),
        "device": plan.device,
    }


def render(plan: Plan) -> RenderableType:
    """The plan for a person to read."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    cells = Table("model", "culture", "condition", "language", title_justify="left")
    cells.add_column("participants", justify="right")
    cells.add_column("answers", justify="right")
    for cell in plan.cells:
        counts = (f"{cell.participants:,}", f"{cell.answers:,}")
        row = (cell.model, cell.culture, cell.condition.name, cell.language, *counts)
        cells.add_row(*(Text(text) for text in row))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for label, fact in _facts(plan):
        facts.add_row(Text(label), Text(fact))
    return Group(Text(f"{plan.name}: what would run", style="bold"), cells, Padding(facts, (1, 0, 0, 0)))


def _facts(plan: Plan) -> Iterable[tuple[str, str]]:
    yield "planned answers", f"{plan.answers:,}"
    yield f"questions ({len(plan.questions)})", f"{plan.survey}: {', '.join(plan.questions)}"
    if plan.left_out:
        reason = "not known for every culture, so asked in none"
        yield f"left out ({len(plan.left_out)})", f"{', '.join(plan.left_out)}: {reason}"
    if plan.completion_tokens.high:
        yield "prompt tokens", f"{plan.prompt_tokens} ({_basis(plan, 'rule of thumb')})"
        yield "completion tokens", f"{plan.completion_tokens} ({_basis(plan, 'at most max_new_tokens each')})"
    if plan.judging is not None:
        calls = f"{between(f'{plan.judging.low:,}', f'{plan.judging.high:,}')} calls"
        yield "judging", f"{calls} by {plan.judging.model}, those of its calibration counted"
    if plan.cost is not None:
        yield (
            "cost",
            f"{plan.cost} (models with prices on their cards, judge included; in batches, judging is half of that)",
        )
    pilot = "unknown until a pilot has run: defsurvey run STUDY --pilot 4"
    if not plan.answers:
        pilot = "unknown: no answers are planned, by whose pace it could be told"
    known = "as fast as these models answered in their newest runs here, one model after the other"
    yield "time", pilot if plan.seconds is None else f"{_time(plan.seconds)} ({known})"
    if plan.device:
        yield "device", f"{plan.device}; another: --device of run"
    for culture, floor in plan.noise_floor.items():
        yield f"noise floor, {culture}", f"{floor:.3f} nats: what {plan.participants:,} honest people would score"
    if not plan.detectable:
        yield "smallest difference", "none: models are compared from 10 participants on"
    for culture, least in plan.detectable.items():
        told = f"{least:.3f} nats between two models, found in 4 of 5 such runs at best"
        yield f"smallest difference, {culture}", told
    for note in plan.notes:
        yield "note", note


def _basis(plan: Plan, otherwise: str) -> str:
    """What an estimate of tokens rests on."""
    if not plan.tokens_seen:
        return otherwise
    seen = " and ".join(f"{answers:,} answers of run {run}" for run, answers in plan.tokens_seen.items())
    rest = f"; conditions and languages not seen: {otherwise}" if plan.tokens_guessed else ""
    return f"as seen in {seen}, within a third{rest}"


def _time(seconds: Spread) -> str:
    return between(_clock(seconds.low), _clock(seconds.high))


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
