"""Conditions that a study's engines can tell apart, and those that they cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from defsurvey.jobs import runs
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.settings import Settings
from defsurvey.jobs.study.study import Study, StudyError, check_prices, is_billed
from defsurvey.jobs.study.study_file import parse_study
from defsurvey.storage.database import Database
from defsurvey.workers.models import ModelCard
from tests.jobs.small_study import CARDS, SURVEY, written


def served(name: str, *takes: str) -> ModelCard:
    return ModelCard(name=name, engine="openai", model="m", base_url="http://localhost/v1", takes=takes)


KNOWN = {
    **CARDS,
    "deaf": served("deaf", "top_p", "seed", "max_completion_tokens"),
    "warm": served("warm", "temperature"),
    "searching": served("searching", "beams"),
    "own": ModelCard(name="own", engine="my.engines:open"),
}
#: Two conditions with all but the decoding off.
BARE = "{prompt: false, memory: false}"


def asking(**changes: str) -> Study:
    return parse_study(written(**changes), path=Path("study.yaml"), cards=KNOWN, survey=SURVEY)


def test_an_ablation_of_the_decoding_is_refused_where_a_model_takes_none() -> None:
    with pytest.raises(StudyError) as refused:
        asking(models="[human, deaf]", conditions="[def, def-without-memory, def-without-config, none]")
    assert str(refused.value) == (
        "condition def-without-config: expected models that take a temperature or beams, by which it differs from "
        "def, got 'deaf', which would be asked the same in both"
    )


@pytest.mark.parametrize("model", ["tiny-model", "warm", "own"])
def test_it_is_a_study_where_some_of_the_decoding_is_taken(model: str) -> None:
    assert len(asking(models=f"[{model}]", conditions="[def, def-without-config]").conditions) == 2


def test_beams_alone_tell_conditions_apart_where_sampling_is_fixed() -> None:
    changes = {"conditions": "[def, def-without-config]", "decoding": "{do_sample: true}"}
    assert len(asking(models="[searching]", **changes).conditions) == 2
    with pytest.raises(StudyError, match=r"expected models that take beams, by which it differs from def, got 'warm'"):
        asking(models="[warm]", **changes)


@pytest.mark.parametrize(("preset", "same"), [("paper", True), ("code", False)])
def test_the_order_of_options_is_the_one_that_the_preset_gives(preset: str, same: bool) -> None:
    """`none` has the survey's; where nothing is said the paper's preset has that too, and the code's shuffles."""
    changes = {"models": "[deaf]", "preset": preset, "conditions": f"{{bare: {BARE}, none: }}"}
    if not same:
        assert len(asking(**changes).conditions) == 2
        return
    with pytest.raises(StudyError, match=r"condition none: .* differs from bare, got 'deaf'"):
        asking(**changes)


def test_a_model_that_cannot_realise_an_ablation_is_not_added_to_its_run(database: Database, tmp_path: Path) -> None:
    cards = tmp_path / "cards.toml"
    cards.write_text('[deaf]\nengine = "openai"\nmodel = "m"\nbase_url = "http://localhost/v1"\ntakes = []\n')
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_MODELS": str(cards)})
    study = asking(models="[human]", conditions="[def, def-without-config]")
    with pytest.raises(StudyError, match=r"condition def-without-config: .* got 'deaf'"):
        runs.enqueue(settings, database, replace(study, models=("human", "deaf")), extend=True)


@pytest.mark.parametrize("model", ["refuser", "claude-haiku-5-5"])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_study_that_weighs_options_is_refused_where_a_model_gives_no_probabilities(
    tmp_path: Path, verb: str, model: str
) -> None:
    """Exit code 2 before there is a database; such a run could never be finished."""
    study, home = tmp_path / "study.yaml", tmp_path / "home"
    study.write_text(
        f"name: weighing\nsurvey: wvs7\nquestions: [Q1]\ncultures: [us]\nmodels: [human, {model}]\n"
        "conditions: [def, first-token]\n"
    )
    done = CliRunner().invoke(main, (verb, str(study)), env={"DEFSURVEY_HOME": str(home)})
    assert (done.exit_code, home.exists()) == (2, False)
    assert "condition first-token: expected models that give probabilities" in done.output
    assert f"got {model!r}" in done.output


@pytest.mark.parametrize(("model", "said"), [("refuser", "respondent refuser"), ("mute", 'structured = "none"')])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_replies_are_held_to_options_where_every_model_can_be(tmp_path: Path, verb: str, model: str, said: str) -> None:
    """Steps that others read are written freely, so that a study of these alone may name any model."""
    study, home, cards = tmp_path / "study.yaml", tmp_path / "home", tmp_path / "cards.toml"
    cards.write_text('[mute]\nengine = "openai"\nmodel = "m"\nbase_url = "http://localhost/v1"\nstructured = "none"\n')
    text = f"name: bare\nsurvey: wvs7\nquestions: [Q1]\ncultures: [us]\nmodels: [human, {model}]\nreply: choice\n"
    environment = {"DEFSURVEY_HOME": str(home), "DEFSURVEY_MODELS": str(cards)}
    study.write_text(f"{text}conditions: [def, ccsv-single]\n")
    done = CliRunner().invoke(main, (verb, str(study)), env=environment)
    assert (done.exit_code, home.exists()) == (2, False)
    assert "reply: choice: expected models that can be held to options" in done.output
    assert f"got {model!r}, whose card says {said}" in done.output
    study.write_text(f"{text}conditions: [ccsv-single]\n")
    assert CliRunner().invoke(main, ("plan", str(study)), env=environment).exit_code == 0


def card(base_url: str | None = None, **fields: object) -> ModelCard:
    return ModelCard(name="m", engine="openai", model="m", base_url=base_url, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base_url", "billed"),
    [
        (None, True),
        ("http://8.8.8.8:8000/v1", True),
        ("http://127.0.0.1:8000/v1", False),
        ("http://10.1.2.3/v1", False),
        ("http://100.64.0.9:8000/v1", False),
        ("http://vllm:8000/v1", False),
        ("http://GPU.local:8000/v1", False),
    ],
)
@pytest.mark.parametrize("key", [None, "SOME_KEY"])
def test_whoever_is_asked_beyond_the_own_network_sends_a_bill(
    base_url: str | None, key: str | None, billed: bool
) -> None:
    assert is_billed(card(base_url, key=key)) == billed
    assert not is_billed(ModelCard(name="m", hub="org/m"))


def test_a_server_that_is_billed_needs_prices_where_there_is_a_budget() -> None:
    """One that asks for no money elsewhere is given prices of 0."""
    cards = {"m": card("https://openrouter.ai/api/v1", key="SOME_KEY")}
    with pytest.raises(StudyError, match="budget: expected models with prices on their cards: m has none, got 5"):
        check_prices(5.0, ["m"], cards)
    check_prices(None, ["m"], cards)
    check_prices(5.0, ["m"], {"m": card("https://gpu.example.org/v1", input_price=0.0, output_price=0.0)})
