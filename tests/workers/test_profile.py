"""What a worker's log says of a model's time."""

from __future__ import annotations

from defsurvey.workers.engines.base import Counters
from defsurvey.workers.runner.telemetry import profile


class Counting:
    """An engine that counts."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def counters(self) -> Counters:
        """What it was given."""
        return self._counters


def test_a_profile_names_rates_reuse_and_phases() -> None:
    """Shares are of the time that was not idle."""
    counters = Counters(
        steps=10,
        rows=400,
        prefilled_tokens=300,
        reused_tokens=120,
        reply_tokens=80,
        finished=4,
        restarted=1,
        compactions=2,
        peak_kv_bytes=2_500_000,
        seconds={"forward": 3.0, "select": 1.0, "idle": 6.0},
    )
    assert list(profile("tiny", Counting(counters))) == [
        "profile of tiny: 4 replies, 80 tokens in 4.0 s (20.0 tokens/s)",
        "  10 steps of 40.0 rows; prompts: 300 tokens computed, 120 taken over",
        "  keys and values: at most 2 MB; 2 compactions, 1 requests begun again",
        "  forward       3.00 s  75.0%",
        "  select        1.00 s  25.0%",
        "  idle          6.00 s",
    ]


def test_a_model_served_one_request_at_a_time_has_no_steps() -> None:
    """Nor keys and values of its own to speak of: replies, prompts and time are counted."""
    counters = Counters(
        prefilled_tokens=140, reply_tokens=40, finished=5, seconds={"build": 0.0, "forward": 2.0, "idle": 1.5}
    )
    assert list(profile("tiny", Counting(counters))) == [
        "profile of tiny: 5 replies, 40 tokens in 2.0 s (20.0 tokens/s)",
        "  one request at a time; prompts: 140 tokens computed",
        "  build         0.00 s   0.0%",
        "  forward       2.00 s 100.0%",
        "  idle          1.50 s",
    ]


def test_nothing_computed_is_no_division_by_nothing() -> None:
    """A model that was loaded and never asked."""
    lines = list(profile("tiny", Counting(Counters(seconds={"forward": 0.0}))))
    assert lines[0] == "profile of tiny: 0 replies, 0 tokens in 0.0 s (0.0 tokens/s)"
    assert lines[-1] == "  forward       0.00 s"


def test_an_engine_that_counts_nothing_says_so() -> None:
    """A provider's API, or a scripted respondent."""
    assert list(profile("human", object())) == ["profile of human: its engine counts nothing"]
