"""The image, built, and one running stack for all tests of the room: each leaves it as it found it, up and healthy."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.compose.stack import ROOT, Stack, free_port

LEASE_SECONDS = "8"  #: short, so that a test need not wait a minute and a half for a dead worker's participants
CARDS = """
[slow-human]
engine = "scripted"
respondent = "human"
latency_seconds = 0.25

[hollow]
path = "hollow"
"""
STUDY = """
name: small
survey: wvs7
questions: [Q7, Q29, Q45, Q57, Q150]
cultures: [us, cn]
language: en
models: [{model}]
conditions: [def]
participants: {participants}
seed: 7
"""


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built as compose.yaml says; gives its name.

    ``WHEELS_DIR`` names a folder with a wheel of torch that goes before PyTorch's index.
    """
    folder = tmp_path_factory.mktemp("build")
    overrides = []
    if "WHEELS_DIR" in os.environ:
        contexts = {"additional_contexts": {"wheels": os.environ["WHEELS_DIR"]}}
        overrides.append(folder / "wheels.json")
        overrides[0].write_text(json.dumps({"services": {"migrate": {"build": contexts}}}))
    Stack(project="defsurvey-test", folder=folder, overrides=overrides).compose("build", "migrate", timeout=3600)
    return "defsurvey:cpu"


@pytest.fixture(scope="session")
def stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "DEFSURVEY_LEASE_SECONDS": LEASE_SECONDS,
        "DEFSURVEY_MODELS": "/work/studies/models.toml",
        "FLOWER_PORT": free_port(),
        "POSTGRES_PORT": free_port(),
        "PROMETHEUS_PORT": free_port(),
        "REDIS_PORT": free_port(),
        "WORKER_CONCURRENCY": "8",
    }
    folder = tmp_path_factory.mktemp("stack")
    folder.chmod(0o755)
    running = Stack(project=f"defsurvey-test-{os.getpid()}", folder=folder / "stack", settings=settings)
    running.prepare()
    (running.studies / "models.toml").write_text(CARDS)
    (running.studies / "hollow").mkdir()  # there is a folder, and no weights in it
    (running.studies / "quick.yaml").write_text(STUDY.format(model="human", participants=12))
    (running.studies / "slow.yaml").write_text(STUDY.format(model="slow-human", participants=32))
    try:
        running.up()
        yield running
    finally:
        running.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.fixture(scope="session")
def undisturbed(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What a run of the slow study exports when nothing happens to it: the same study on this machine, without Docker.

    The function takes the name of the run that it is to be compared with.
    """
    home = tmp_path_factory.mktemp("undisturbed")
    environment = {"PATH": os.environ["PATH"], "DEFSURVEY_HOME": str(home)}
    environment["DEFSURVEY_MODELS"] = str(stack.studies / "models.toml")

    def defsurvey(*arguments: str) -> str:
        command = [sys.executable, "-m", "defsurvey", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    defsurvey("run", str(stack.studies / "slow.yaml"), "--name", "undisturbed", "--concurrency", "64")
    rows = defsurvey("export", "undisturbed")
    return lambda run: rows.replace("undisturbed,", f"{run},")
