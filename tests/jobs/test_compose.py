"""What compose.yaml gives to whom, read without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
#: Whoever may open a model: workers, the reporter, which judges, and the command line.
OPENING = [name for name in SERVICES if name.startswith("worker-") or name in ("reporter", "cli")]


@pytest.mark.parametrize("name", OPENING)
def test_whoever_opens_a_model_has_what_it_takes(name: str) -> None:
    """The weights that others fetched, a place for more, the user's own cards, and every key where it is looked for."""
    service, worker = SERVICES[name], SERVICES["worker-cpu"]
    assert {"models:/models", "${STUDIES_DIR:-./studies}:/work/studies:ro"} <= set(service["volumes"])
    assert set(service["secrets"]) >= set(worker["secrets"])
    assert service["environment"] == worker["environment"]
    assert service["environment"]["HF_TOKEN_PATH"] == "/run/secrets/hf-token"


@pytest.mark.parametrize("name", [name for name in SERVICES if name.startswith("worker-")])
def test_no_worker_is_given_an_empty_list_of_models(name: str) -> None:
    """It would refuse it: a variable that is not set leaves the option out, or has a default."""
    before, given, after = str(SERVICES[name]["command"]).partition("--models ")
    variable, _, default = after.removeprefix("${").partition(":-")
    assert not given or before.endswith(f"${{{variable}:+") or not default.startswith("}")
