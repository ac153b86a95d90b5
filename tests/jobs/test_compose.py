"""What compose.yaml gives to whom, and what the images are built from, read without Docker."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
WORKERS = [name for name in SERVICES if name.startswith("worker-")]
#: Whoever may open a model whose weights are here: workers, the judge, and the command line.
OPENING = [*(name for name in WORKERS if name != "worker-api"), "judge", "cli"]
PASSWORDS = {"postgres-password", "redis-password"}
KEYS = {"anthropic-api-key", "openai-api-key"}


def test_whoever_opens_a_model_has_what_it_takes() -> None:
    """The weights that others fetched, a place for more, the user's own cards, and the token of the hub."""
    for service in (SERVICES[name] for name in OPENING):
        assert {"models:/models", "${STUDIES_DIR:-./studies}:/work/studies:ro"} <= set(service["volumes"])
        assert set(service["secrets"]) >= {*PASSWORDS, "hf-token"}
        assert service["environment"]["HF_TOKEN_PATH"] == "/run/secrets/hf-token"


def test_keys_of_providers_are_where_a_provider_is_asked_and_nowhere_else() -> None:
    given = {name: set(service.get("secrets", ())) - PASSWORDS for name, service in SERVICES.items()}
    assert {name: secrets for name, secrets in given.items() if secrets} == {
        "worker-api": KEYS,
        "judge": {*KEYS, "hf-token"},
        **{name: {"hf-token"} for name in ("worker-cpu", "worker-gpu-0", "worker-gpu-1", "cli")},
    }


def test_every_image_of_others_is_named_by_its_digest() -> None:
    dockerfile, example = (ROOT / "Dockerfile").read_text(), (ROOT / ".env.example").read_text()
    named = dict(re.findall(r"\$\{([A-Z]+_IMAGE):-([^}]*)\}", TEXT))
    assert named.keys() == {f"{who}_IMAGE" for who in ("PYTHON", "POSTGRES", "REDIS", "PROMETHEUS", "GRAFANA")}
    for variable, image in named.items():
        assert re.fullmatch(r"[a-z/]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", image)
        assert f"#{variable}={image}\n" in example
    assert f"ARG PYTHON_IMAGE={named['PYTHON_IMAGE']}\n" in dockerfile
    others = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert sorted(others) == sorted(f"${{{name}:-{image}}}" for name, image in named.items() if name != "PYTHON_IMAGE")


def test_the_lock_holds_what_the_project_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["monitoring"], "setuptools>=77"]
    blocks = re.split(r"(?m)^(?=[a-z])", (ROOT / "deploy" / "requirements.lock").read_text())[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not [block for block in blocks if "://" in block]
    locked = [Requirement(block.partition(" \\")[0]) for block in blocks]
    for wanted in map(Requirement, required):
        found = [one for one in locked if canonicalize_name(one.name) == canonicalize_name(wanted.name)]
        assert found, wanted
        assert all(wanted.specifier.contains(str(one.specifier).removeprefix("==")) for one in found), wanted


@pytest.mark.parametrize("name", WORKERS)
def test_no_worker_is_given_an_empty_list_of_models(name: str) -> None:
    before, given, after = str(SERVICES[name]["command"]).partition("--models ")
    variable, _, default = after.removeprefix("${").partition(":-")
    assert not given or before.endswith(f"${{{variable}:+") or not default.startswith("}")
