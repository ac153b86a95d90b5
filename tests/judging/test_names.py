"""The names under which judges are kept apart: whose verdicts are pooled, and who is paid again."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from defsurvey.storage.runs.judgement import Rubric, rubric_in
from defsurvey.storage.runs.run import EngineDescription
from defsurvey.workers.engines.base import Completion, Request
from defsurvey.workers.judging.verdicts import judge_name
from defsurvey.workers.models import ModelCard

DIGEST = "0123456789abcdef" * 4
HUB = {"weights": "hub org/judge", "revision": "fedcba9876543210"}


class Described:
    """An engine that says this of itself and is asked nothing."""

    def __init__(self, **said: str) -> None:
        self.said = said

    def submit(self, request: Request) -> Future[Completion]:
        """Nobody does."""
        raise NotImplementedError

    def describe(self) -> EngineDescription:
        """What it was given."""
        return self.said

    def close(self) -> None:
        """Nothing to give back."""


def named(card: ModelCard, **said: str) -> str:
    """The name of a judge."""
    return judge_name(card, Described(**said)).identity


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (HUB, "fedcba987654"),
        ({"weights": "package judge 1.0, judge.gguf", "weights_sha256": DIGEST}, "0123456789ab"),
        ({"weights": "/models/judge.gguf", "weights_sha256": DIGEST}, "0123456789ab"),
        ({"weights": "mine", "revision": "2026-01"}, "2026-01"),
    ],
)
def test_a_judge_with_a_hash_or_a_revision_keeps_its_name(said: dict[str, str], version: str) -> None:
    """Under any other its verdicts would be paid for again."""
    assert named(ModelCard(name="judge", hub="org/judge"), **said) == f"judge ({version}, rubric 1)"


def test_an_engine_of_ones_own_is_named_by_what_it_says_of_its_weights() -> None:
    """Two that say something else are two judges."""
    card = ModelCard(name="judge", engine="mine:opened")
    assert named(card, weights="the strict one, version 1") == "judge (the strict one, version 1, rubric 1)"
    assert named(card, weights="the strict one, version 2") != named(card, weights="the strict one, version 1")
    assert named(card) == "judge (main, rubric 1)"


def test_weights_in_a_folder_are_named_by_the_folder() -> None:
    """It has neither hash nor revision; long ones that begin alike stay apart."""
    first, second = (Path(f"/srv/{'models/' * 20}judge-{number}") for number in (1, 2))
    names = [named(ModelCard(name="judge", path=path), weights=str(path)) for path in (first, second)]
    assert names == [f"judge ({path}, rubric 1)" for path in (first, second)]


def test_a_judge_with_another_rubric_is_another_judge() -> None:
    """By name and by what its judging is kept under, so that verdicts of two rubrics never meet."""
    card, engine = ModelCard(name="judge", hub="org/judge"), Described(**HUB)
    ours, theirs = judge_name(card, engine), judge_name(card, engine, Rubric.CODE)
    assert theirs.identity == "judge (fedcba987654, rubric code 1)"
    assert [rubric_in(each.identity) for each in (ours, theirs)] == [Rubric.OWN, Rubric.CODE]
    assert (ours.model, theirs.model) == ("judge", "judge, rubric code")


def test_a_judge_behind_a_server_is_named_by_the_model_that_is_asked_for() -> None:
    """Whatever its address."""
    card = ModelCard(name="judge", engine="openai", model="judge-1", base_url="http://127.0.0.1:9/v1")
    assert named(card, weights="judge-1 behind a server", server="http://127.0.0.1:9") == "judge (judge-1, rubric 1)"
