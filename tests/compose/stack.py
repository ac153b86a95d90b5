"""Drives the services of compose.yaml on a real Docker engine, under a project name and folders of their own."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Files of secrets; all but the passwords may be empty.
SECRETS = ("postgres-password", "redis-password", "anthropic-api-key", "openai-api-key", "hf-token")
#: Images that stand for those of compose.yaml where no registry is reached.
IMAGES = ("PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE", "PROMETHEUS_IMAGE")
ACCOUNT = 1000  #: account that the containers run under where the tests themselves run as root
PATIENCE = 120.0  #: seconds that anything may take which takes seconds


@dataclass(frozen=True, kw_only=True)
class Stack:
    project: str  #: volumes and containers carry its name
    folder: Path  #: holds its folders of secrets, results and studies
    settings: Mapping[str, str] = field(default_factory=dict)  #: further variables, as in ``.env``
    overrides: Sequence[Path] = ()  #: further Compose files, which go before compose.yaml

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def studies(self) -> Path:
        return self.folder / "studies"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    @property
    def environment(self) -> dict[str, str]:
        """Variables for Compose: none of ``.env`` counts, and of the caller's shell only the engine and ``IMAGES``."""
        names = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", *IMAGES)
        kept = {name: os.environ[name] for name in names if name in os.environ}
        uid, gid = account()
        folders = {"RESULTS_DIR": self.results, "STUDIES_DIR": self.studies, "SECRETS_DIR": self.secrets}
        own = {name: str(value) for name, value in ({"HOST_UID": uid, "HOST_GID": gid} | folders).items()}
        return kept | own | dict(self.settings)

    def prepare(self) -> None:
        for folder, mode in ((self.results, 0o755), (self.studies, 0o755), (self.secrets, 0o700)):
            folder.mkdir(parents=True)
            folder.chmod(mode)
        shutil.chown(self.results, *account())
        password = f"{os.urandom(12).hex()}@/:%$ #'\"\\\\"  # whatever a person may choose
        for name in SECRETS:
            file = self.secrets / name
            file.write_text(f"{password}{name}\n" if name.endswith("password") else "")
            file.chmod(0o644)

    def compose(
        self, *arguments: str, check: bool = True, settings: Mapping[str, str] | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        files = [part for file in (ROOT / "compose.yaml", *self.overrides) for part in ("--file", str(file))]
        command = ["docker", "compose", "--project-name", self.project, "--env-file", os.devnull, *files, *arguments]
        environment = {**self.environment, **(settings or {})}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise AssertionError(f"{' '.join(arguments)}: {done.returncode}\n{said}")
        return done

    def up(self, *arguments: str) -> None:
        done = self.compose("up", "--detach", "--wait", "--wait-timeout", "180", *arguments, check=False)
        if done.returncode:
            said = self.compose("logs", "--tail", "20").stdout
            containers = self.compose("ps", "--all", "--quiet").stdout.split()
            states = docker("inspect", "--format", "{{.Name}} {{json .State}}", *containers)
            raise AssertionError(f"up: {done.returncode}\n{done.stderr[-2000:]}\n{states}\n{said}")

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.compose("--progress", "quiet", "run", "--rm", "--no-TTY", "cli", *arguments, check=check)

    def status(self, run: str) -> dict[str, Any]:
        done = self.compose("exec", "--no-TTY", "reporter", "defsurvey", "status", run, "--json")
        return dict(json.loads(done.stdout))

    def export(self, run: str, *options: str) -> str:
        return self.compose("exec", "--no-TTY", "reporter", "defsurvey", "export", run, *options).stdout

    def finish(self, run: str, *, patience: float = PATIENCE) -> dict[str, Any]:
        def finished() -> dict[str, Any] | None:
            now = self.status(run)
            return now if now["state"] == "finished" and now["report"] else None

        return dict(wait_for(finished, f"the end of run {run}", patience))

    def in_flight(self, run: str, *, least: int = 1) -> dict[str, Any]:
        def working() -> dict[str, Any] | None:
            now = self.status(run)
            done = now["planned"] - now["remaining"]
            return now if now["participants"]["running"] and min(done, now["remaining"]) >= least else None

        return dict(wait_for(working, f"run {run} in the middle of work", PATIENCE))

    def container(self, service: str) -> str:
        (found,) = self.compose("ps", "--all", "--quiet", service).stdout.split()
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", self.container(service)))[0])

    def await_health(self, service: str) -> None:
        wait_for(
            lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", f"a healthy {service}", PATIENCE
        )


def account() -> tuple[int, int]:
    return (os.getuid(), os.getgid()) if os.getuid() else (ACCOUNT, ACCOUNT)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def wait_for(look: Callable[[], Any], what: str, patience: float) -> Any:
    until = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < until, f"{what}: not within {patience:.0f} s"
        time.sleep(0.3)


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])
