"""What is typed behind verbs: what says nothing, and what could be kept nowhere, is refused before anything happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from defsurvey.jobs.cli.main import main
from defsurvey.jobs.study.producer import enqueue
from defsurvey.storage.database import Database
from defsurvey.storage.runs.budget import budget_of
from tests.jobs.ledger_rows import change
from tests.jobs.small_study import study

EXAMPLES = Path(__file__).parents[2] / "examples"
#: What may be named by nothing: it is looked up, and the error names what there is.
LOOKED_UP = ("RUN", "[RUN]", "[RUN]...", "RUN...", "SURVEY", "MODEL", "TEMPLATE|MODEL")


def typed(*words: str, home: str | Path) -> Result:
    """The outcome of a command in this process."""
    return CliRunner().invoke(main, words, env={"DEFSURVEY_HOME": str(home)})


@pytest.fixture
def home(database: Database) -> str:
    """The home of a run of two participants that nobody has worked on, with a budget."""
    enqueue(database, None, study(models="[human]", participants="1"))
    change(database, "UPDATE run SET budget = 5.0")
    return str(Path(str(database.url.database)).parent)


def parameters() -> Iterator[tuple[str, click.Command, click.Parameter]]:
    """Every option and argument that takes words, with its verb; a choice of a few words knows no others."""

    def of(command: click.Command, verb: str) -> Iterator[tuple[str, click.Command, click.Parameter]]:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from of(inner, f"{verb} {name}".strip())
            return
        for one in command.params:
            if not isinstance(one.type, (click.Choice, click.IntRange, click.types.BoolParamType)):
                yield verb, command, one

    return of(main, "")


TAKING = [pytest.param(command, one, id=f"{verb} {one.opts[-1]}") for verb, command, one in parameters()]


@pytest.mark.parametrize(("command", "parameter"), TAKING)
def test_an_option_that_is_given_says_something(command: click.Command, parameter: click.Parameter) -> None:
    """``--models "$UNSET"`` is not every model, and a path of nothing is not the working folder."""
    if parameter.make_metavar(click.Context(command)) in LOOKED_UP:
        return
    for empty in ("", ",") if parameter.type.name == "names" else ("",):
        with pytest.raises(click.BadParameter, match=r"expected|is not a valid"):
            parameter.process_value(click.Context(command), (empty,) if parameter.nargs == -1 else empty)


@pytest.mark.parametrize(("command", "parameter"), TAKING)
def test_words_are_text(command: click.Command, parameter: click.Parameter) -> None:
    """Bytes that are no UTF-8 are only in the names of files and folders."""
    if isinstance(parameter.type, click.Path) or parameter.metavar == "SURVEY":
        return
    with pytest.raises(click.BadParameter, match=r"expected|is not a valid"):
        parameter.process_value(click.Context(command), ("\udcff",) if parameter.nargs == -1 else "\udcff")


@pytest.mark.parametrize("verb", ["status", "export", "cancel", "review", "judge", "report"])
def test_a_run_that_is_no_text_is_a_usage_error(verb: str, home: str) -> None:
    """Its bytes are told as they were typed."""
    refused = typed(verb, "\udcff", home=home)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "expected text in UTF-8, got b'\\xff'" in refused.stderr


@pytest.mark.parametrize("words", [("bundle", "export", "first", ""), ("export", "first", "--output", "")])
def test_nothing_is_no_place_to_write_to(words: tuple[str, ...], home: str) -> None:
    """Least of all the working folder."""
    refused = typed(*words, home=home)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "expected a path, got nothing" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("worker", "--models", ","),
        ("worker", "--models", ""),
        ("contamination", "first", "--models", ","),
        ("extend", "first", "--models", " , "),
        ("extend", "first", "--models", "", "--participants", "3"),
        ("survey", "exclude", "DIR", "--restore", ""),
        ("survey", "import", "wvs", __file__, "-o", "DIR", "--countries", ","),
        ("survey", "rephrase", "DIR", "--model", "human", "--questions", ","),
        ("judge", "first", "--model", ""),
    ],
    ids=" ".join,
)
def test_a_list_of_nothing_is_not_all(words: tuple[str, ...], tmp_path: Path) -> None:
    """It is refused before a database is opened."""
    refused = typed(*words, home=tmp_path / "home")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "got '" in refused.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("words", [(), ("--restore", "T2")])
def test_a_reason_is_for_questions_that_are_excluded(words: tuple[str, ...], tmp_path: Path) -> None:
    """Without one it would be dropped without a word."""
    refused = typed("survey", "exclude", str(tmp_path), *words, "--reason", "because", home=tmp_path / "home")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "expected questions, got --reason alone" in refused.stderr


@pytest.mark.parametrize("budget", ["nan", "inf", "-inf", "0", "-1", "1e999", "much", ""])
def test_a_budget_is_finite_and_above_zero(budget: str, home: str, database: Database) -> None:
    """As in a study file. One that is no number would be none: the run would cost whatever it costs."""
    refused = typed("resume", "first", "--budget", budget, home=home)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"expected a finite number above 0, got {budget!r}" in refused.stderr
    assert budget_of(database, "first") == 5.0


def test_json_has_no_word_for_what_is_not_finite(home: str, database: Database) -> None:
    """A budget without bounds may lie in a database of before; programs read ``null``."""
    change(database, "UPDATE run SET budget = 9e999")
    shown = typed("status", "first", "--json", home=home)
    assert json.loads(shown.stdout, parse_constant=pytest.fail)["budget"] is None


def test_a_study_that_is_wrong_leaves_nothing(tmp_path: Path) -> None:
    """It is read before the database that it would be written to is made."""
    (tmp_path / "broken.yaml").write_text("name: broken\n", encoding="utf-8")
    assert typed("enqueue", str(tmp_path / "broken.yaml"), home=tmp_path / "home").exit_code == 2
    assert not (tmp_path / "home").exists()
