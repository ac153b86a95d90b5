"""What dies in the middle of work, on a real engine: every planned answer is there afterwards, the same as without."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compose.stack import PATIENCE, Stack, docker, free_port, wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

STOP_SECONDS = 15.0  #: seconds within which a worker ends once it is told to (compose.yaml gives it 30)


@pytest.fixture
def survives(stack: Stack, undisturbed: Callable[[str], str]) -> Callable[..., dict[str, Any]]:
    def check(run: str, fault: Callable[[], object]) -> dict[str, Any]:
        stack.cli("enqueue", "studies/slow.yaml", "--name", run)
        before = stack.in_flight(run, least=20)
        fault()
        ended = stack.finish(run)
        assert before["remaining"] > 0
        assert ended["planned"] == ended["answered"] == 320
        assert stack.export(run) == undisturbed(run)
        return before

    return check


def test_a_worker_container_that_is_killed(stack: Stack, survives: Callable[..., dict[str, Any]]) -> None:
    def kill() -> None:
        docker("kill", "--signal", "KILL", stack.container("worker-cpu"))
        assert stack.inspect("worker-cpu")["State"]["Status"] == "exited"
        stack.up()

    survives("killed-container", kill)


def test_a_worker_process_that_dies_is_started_again(stack: Stack, survives: Callable[..., dict[str, Any]]) -> None:
    restarts = stack.inspect("worker-cpu")["RestartCount"]

    def kill() -> None:
        worker = "$(cat /proc/1/task/1/children)"  # of the init process, which hands its end on
        stack.compose("exec", "--no-TTY", "worker-cpu", "sh", "-c", f"kill -9 {worker}", check=False)
        wait_for(lambda: stack.inspect("worker-cpu")["RestartCount"] > restarts, "a restart", 30)

    survives("killed-process", kill)
    stack.await_health("worker-cpu")


def test_a_worker_that_is_told_to_stop(stack: Stack, survives: Callable[..., dict[str, Any]]) -> None:
    def stop() -> None:
        since = time.monotonic()
        stack.compose("stop", "worker-cpu")
        assert time.monotonic() - since < STOP_SECONDS
        assert stack.inspect("worker-cpu")["State"]["ExitCode"] == 0
        stack.up()

    survives("stopped", stop)


def test_a_broker_that_is_lost_with_its_volume(stack: Stack, survives: Callable[..., dict[str, Any]]) -> None:
    def lose() -> None:
        docker("kill", "--signal", "KILL", stack.container("redis"))
        stack.compose("rm", "--force", "redis")
        docker("volume", "rm", f"{stack.project}_redis")
        stack.up()

    survives("lost-broker", lose)


def test_a_database_that_is_restarted(stack: Stack, survives: Callable[..., dict[str, Any]]) -> None:
    def restart() -> None:
        stack.compose("restart", "postgres")
        stack.await_health("postgres")
        docker("kill", "--signal", "KILL", stack.container("postgres"))
        time.sleep(3)
        stack.up()

    survives("restarted-database", restart)
    stack.await_health("worker-cpu")


def test_a_full_database_volume(
    image: str, stack: Stack, undisturbed: Callable[[str], str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The database says so, and counts as ill; with room again all goes on by itself, and no answer is lost."""
    who = ("run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "id", "postgres")
    uid, gid = (stack.compose(*who, option).stdout.strip() for option in ("-u", "-g"))
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size=128m,uid={uid},gid={gid},mode=0700"}
    override = tmp_path / "small.json"
    override.write_text(json.dumps({"volumes": {"postgres": {"driver_opts": options}}}))
    ports = {"POSTGRES_PORT": free_port(), "REDIS_PORT": free_port()}
    small = Stack(
        project=f"{stack.project}-small",
        folder=tmp_path / "stack",
        settings={**stack.settings, **ports},
        overrides=[override],
    )
    small.prepare()
    shutil.copytree(stack.studies, small.studies, dirs_exist_ok=True)
    request.addfinalizer(lambda: small.compose("--profile", "*", "down", "--volumes", "--timeout", "5"))
    small.compose("create", "postgres")
    volume = f"{small.project}_postgres:/held"
    # a volume in memory is there only while a container holds it, and a full database may end
    holder = docker(
        "run", "--detach", "--init", "--user", "0", "--volume", volume, "--entrypoint", "sleep", image, "900"
    )
    request.addfinalizer(lambda: docker("rm", "--force", holder.strip()))
    small.up()
    small.cli("enqueue", "studies/slow.yaml", "--name", "full")
    small.in_flight("full", least=20)
    docker("exec", holder.strip(), "sh", "-c", "cat /dev/zero >/held/filler 2>/dev/null; true")

    health = "the database to be ill"
    wait_for(lambda: small.inspect("postgres")["State"]["Health"]["Status"] == "unhealthy", health, PATIENCE)
    assert "the volume is full: 0 KB are left" in small.inspect("postgres")["State"]["Health"]["Log"][-1]["Output"]
    assert small.status("full")["remaining"] > 0
    said = small.compose("logs", "--no-log-prefix", "worker-cpu", "postgres").stdout
    assert "No space left on device" in said
    docker("exec", holder.strip(), "rm", "/held/filler")
    ended = small.finish("full", patience=2 * PATIENCE)
    assert ended["planned"] == ended["answered"] == 320
    assert small.export("full") == undisturbed("full")
