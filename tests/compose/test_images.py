"""What the image holds and what compose.yaml asks for: nobody is root, nothing is open, no secret and no compiler."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compose.stack import ROOT, Stack, docker

pytestmark = [pytest.mark.compose, pytest.mark.timeout(3600)]

#: Programs that only build: none may be in an image that runs.
BUILD_TOOLS = ("gcc", "cc", "g++", "clang", "make", "cmake", "ninja", "ld", "git", "curl", "wget")


def _config(folder: Path, *profiles: str, override: Path | None = None) -> dict[str, Any]:
    stack = Stack(project="defsurvey-test", folder=folder, overrides=(override,) if override else ())
    options = [part for profile in profiles for part in ("--profile", profile)]
    done = stack.compose(*options, "config", "--format", "json")
    assert "variable is not set" not in done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("profiles", [(), ("gpu",), ("cli",), ("monitoring",), ("gpu", "cli", "monitoring")])
def test_every_profile_is_valid(profiles: tuple[str, ...], tmp_path: Path) -> None:
    """Compose takes the file whatever is chosen, without a warning, and every service is as closed as the others."""
    services = _config(tmp_path, *profiles)["services"]
    assert {"redis", "postgres", "migrate", "worker-cpu", "worker-api"} <= services.keys()
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["init"], name
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert int(service["mem_limit"]) >= 1 << 30, name
        assert service["pids_limit"] == 2048, name
        assert service["logging"]["options"] == {"max-file": "5", "max-size": "10m"}, name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name


def test_each_gpu_has_a_worker_of_its_own(tmp_path: Path) -> None:
    services = _config(tmp_path, "gpu")["services"]
    workers = {name: service for name, service in services.items() if name.startswith("worker-gpu-")}
    assert workers.keys() == {"worker-gpu-0", "worker-gpu-1"}
    for name, service in workers.items():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == [name.removeprefix("worker-gpu-")]
        assert device["capabilities"] == ["gpu"]
        assert service["command"][:3] == ["worker", "--device", "cuda:0"]
        assert service["build"]["target"] == "cuda"


def test_the_overrides_of_the_documentation_are_valid(tmp_path: Path) -> None:
    """A third GPU; the first machine of several; a worker on another, which waits for nothing that is not here."""
    install, scaling = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("install", "scaling"))
    blocks = [
        block
        for text in (install, scaling)
        for block in re.findall(r"(?ms)^```yaml\n(.*?)^```", text)
        if "services:" in block
    ]
    files = [tmp_path / f"{number}.yaml" for number in range(3)]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block.replace("file: compose.yaml", f"file: {ROOT / 'compose.yaml'}"))
    third, first, elsewhere = (_config(tmp_path, "gpu", override=file)["services"] for file in files)
    (device,) = third["worker-gpu-2"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["2"]
    assert [port["host_ip"] for port in first["postgres"]["ports"]] == ["10.0.0.1"]
    for name in ("worker-cpu", "worker-gpu-0", "worker-gpu-1"):
        service = elsewhere[name]
        assert "@10.0.0.1:15432/" in service["environment"]["DEFSURVEY_DATABASE_URL"], name
        assert service["environment"]["DEFSURVEY_BROKER_PASSWORD_FILE"] == "/run/secrets/redis-password", name
        assert not service.get("depends_on"), name


def test_tls_reaches_every_service_of_the_program(tmp_path: Path) -> None:
    override = ROOT / "deploy" / "compose.tls.yaml"
    services = _config(tmp_path, "gpu", "cli", "monitoring", override=override)["services"]
    plain = _config(tmp_path, "gpu", "cli", "monitoring")["services"]
    for name, service in services.items():
        given = service.get("environment") or {}
        assert given.keys() >= (plain[name].get("environment") or {}).keys(), name
        urls = {variable: url for variable, url in given.items() if variable.endswith("_URL")}
        assert all("sslmode=verify-full" in url or url.startswith("rediss://") for url in urls.values()), name
        assert not urls or "tls-ca" in {secret["source"] for secret in service["secrets"]}, name


def test_every_knob_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert {line[1:].partition("=")[0] for line in lines if re.match("#[A-Z].*=", line)} == asked


def test_the_image_runs_as_nobody_special(image: str) -> None:
    identity, written = _sh(image, "id -u; touch /opt/defsurvey/x 2>/dev/null && echo written || echo refused").split()
    assert (identity, written) == ("1000", "refused")


def test_the_image_has_no_build_tool_and_no_cache(image: str) -> None:
    found = _sh(image, f"for tool in {' '.join(BUILD_TOOLS)}; do command -v $tool; done; true", user="0")
    assert found == ""
    caches = "/root/.cache /var/lib/apt/lists /source /wheels /dist"
    assert _sh(image, f"find {caches} -type f 2>/dev/null; true", user="0") == ""


def test_the_image_holds_what_it_runs_and_nothing_else_of_ours(image: str) -> None:
    packages = "/opt/defsurvey/lib/python3.*/site-packages"
    rooms = _sh(image, f"cd {packages} && ls -d defsurvey/*/").split()
    assert {"defsurvey/jobs/", "defsurvey/reports/", "defsurvey/storage/", "defsurvey/workers/"} <= set(rooms)
    other = "jobs workers storage reports tests secrets .git .env"
    assert _sh(image, f"cd {packages} && ls -d {other} 2>/dev/null; true") == ""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).lower()
    environment = json.loads(docker("inspect", "--format", "{{json .Config.Env}}", image))
    for word in ("password=", "token=", "api_key="):
        assert word not in history
        assert not [entry for entry in environment if word in entry.lower()]


def _sh(image: str, script: str, *, user: str | None = None) -> str:
    account = ["--user", user] if user else []
    command = ["docker", "run", "--rm", "--network", "none", *account, "--entrypoint", "sh", image, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
