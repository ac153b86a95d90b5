"""A stack whose services speak TLS: a study runs through it, and a server of another authority is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.conftest import STUDY
from tests.compose.stack import ROOT, Stack, free_port

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def _certify(folder: Path) -> None:
    command = ["make", "--silent", "compose-tls", f"SECRETS_DIR={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def encrypted(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """What a scripted study needs, with deploy/compose.tls.yaml."""
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    running = Stack(
        project="defsurvey-test-tls",
        folder=folder / "stack",
        settings={"POSTGRES_PORT": free_port(), "REDIS_PORT": free_port()},
        overrides=(ROOT / "deploy" / "compose.tls.yaml",),
    )
    running.prepare()
    _certify(running.secrets)
    (running.studies / "quick.yaml").write_text(STUDY.format(model="human", participants=12))
    try:
        running.up("reconciler", "reporter", "worker-cpu")
        yield running
    finally:
        running.compose("--profile", "*", "down", "--volumes", "--timeout", "5")


def test_a_study_runs_over_tls(encrypted: Stack) -> None:
    """Database and broker are reached by TLS alone: each connection says so itself."""
    encrypted.cli("enqueue", "studies/quick.yaml", "--name", "encrypted")
    assert encrypted.finish("encrypted")["answered"] == 120
    remote = "pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
    asked = f"SELECT bool_and(ssl), count(*) > 1 FROM {remote}"
    psql = ("psql", "--username", "defsurvey", "--tuples-only", "--no-align", "--command", asked)
    assert encrypted.compose("exec", "--no-TTY", "postgres", *psql).stdout.strip() == "t|t"
    plain = "redis-cli -h redis ping 2>&1; true"
    assert "PONG" not in encrypted.compose("exec", "--no-TTY", "redis", "sh", "-c", plain).stdout


def test_a_server_of_another_authority_is_refused(encrypted: Stack, tmp_path: Path) -> None:
    """Database and broker, each in one line that names it and says why."""
    tmp_path.chmod(0o755)
    for name in ("postgres-password", "redis-password", "hf-token"):
        (tmp_path / name).write_bytes((encrypted.secrets / name).read_bytes())
    _certify(tmp_path)
    other = {"SECRETS_DIR": str(tmp_path)}
    run = ("run", "--rm", "--no-deps", "--no-TTY")
    migrated = encrypted.compose(*run, "migrate", "migrate", "--patience", "1", check=False, settings=other)
    assert migrated.returncode == 1
    assert "defsurvey: database postgresql://defsurvey:***@postgres:5432/" in migrated.stderr
    assert "certificate verify failed" in migrated.stderr
    own = (
        "--env",
        "DEFSURVEY_DATABASE_URL=",
        "--env",
        "DEFSURVEY_DATABASE_PASSWORD_FILE=",
    )  # the broker alone is foreign
    reconciled = encrypted.compose(*run, *own, "reconciler", check=False, settings=other)
    assert reconciled.returncode == 1
    assert "broker rediss://" in reconciled.stderr
    assert "certificate verify failed" in reconciled.stderr
