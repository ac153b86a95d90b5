"""An engine of the user's own: the one that docs/models.md shows, and what `models check` says of one that raises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from defsurvey.jobs.cli.main import main
from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import Asked, FinishReason, Message, Request
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.models import read_cards
from tests.workers.citizens import SURVEY

ROOT = Path(__file__).parents[2]
RAISING = """\
from concurrent.futures import Future

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.workers.engines.base import Completion, FinishReason

USED = UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None)
REPLY = Completion(text="Answer: 1", finish=FinishReason.STOP, used=USED)


class Mine:
    def submit(self, request):
        future = Future()
        {submit}
        return future

    def describe(self):
        {describe}

    def close(self):
        print("closed")


def open_mine(card, *, survey, device):
    return Mine()
"""
QUESTION = SURVEY.questions[0]
ASKED = Request(
    messages=(Message(role="user", content="?"),),
    decoding=Decoding(),
    seed=0,
    asked=Asked(question=QUESTION, culture=SURVEY.cultures[0].code, language="en", shown=QUESTION.codes[::-1]),
)


@pytest.fixture
def documented(tmp_path: Path) -> Path:
    """A folder with the module and the card of docs/models.md, as they stand there."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = text.partition("## An engine of your own\n")[2].partition("\n## ")[0]
    (module,) = re.findall(r"(?ms)^```python\n(.*?)^```", section)
    (card,) = re.findall(r"(?ms)^```toml\n(.*?)^```", section)
    (tmp_path / "my_engines.py").write_text(module)
    (tmp_path / "cards.toml").write_text(card)
    return tmp_path


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test's module of engines can be imported, and is forgotten behind it."""
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_engines", None)


def test_the_documented_engine_of_ones_own_works(documented: Path) -> None:
    """The module and the card of docs/models.md, as they stand: no weights, no line of ours, and an answer."""
    checked = subprocess.run(
        [sys.executable, "-m", "defsurvey", "models", "check", "my-rule", "--weights"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(documented), "DEFSURVEY_MODELS": str(documented / "cards.toml")},
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "reply: 'Answer: 1\\nExplanation: It stands first.'" in checked.stdout


@pytest.mark.usefixtures("found")
def test_the_documented_engine_answers_whatever_it_is_asked(documented: Path) -> None:
    """A question by its first option; where no citizen is asked, as by a judge, an error and no exception."""
    card = read_cards(documented / "cards.toml")["my-rule"]
    engine = open_engine(card, survey=SURVEY, cache=documented)
    answered = engine.submit(ASKED).result()
    assert answered.finish is FinishReason.STOP
    assert answered.text.startswith(f"Answer: {QUESTION.codes[-1]}\n")
    given_up = engine.submit(replace(ASKED, asked=None)).result()
    assert (given_up.finish, given_up.text) == (FinishReason.ERROR, "")
    assert given_up.error


@pytest.mark.parametrize(
    ("submit", "describe", "told"),
    [
        ("raise KeyError('colour')", "return {}", "the reply ended in an error: the engine raised KeyError: 'colour'"),
        ("raise ValueError('a\\nb')", "return {}", "the reply ended in an error: the engine raised ValueError: a b"),
        ("future.set_exception(OSError(5, 'off'))", "return {}", "the engine raised OSError: [Errno 5] off"),
        ("future.cancel()", "return {}", "the reply was cancelled"),
        ("future.set_result(REPLY)", "raise KeyError('weights')", "cannot be described: KeyError: 'weights'"),
    ],
)
@pytest.mark.usefixtures("found")
def test_an_engine_that_raises_fails_the_check_in_one_line(
    tmp_path: Path, submit: str, describe: str, told: str
) -> None:
    """Wherever it does; the card is named, the engine closed, and the exit code is that of wrong input."""
    (tmp_path / "my_engines.py").write_text(RAISING.format(submit=submit, describe=describe))
    (tmp_path / "cards.toml").write_text('[mine]\nengine = "my_engines:open_mine"\n')
    places = {"DEFSURVEY_HOME": str(tmp_path / "home"), "DEFSURVEY_MODELS": str(tmp_path / "cards.toml")}
    shown = CliRunner().invoke(main, ("models", "check", "mine", "--weights"), env=places)
    assert (shown.exit_code, shown.stdout) == (2, "closed\n"), shown.exception
    (line,) = shown.stderr.splitlines()
    assert line.startswith("defsurvey: model mine: ")
    assert line.endswith(told)
