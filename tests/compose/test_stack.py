"""From `up` to a report, on a real engine; what is seen of it meanwhile, over TLS too, and what a wrong set-up says."""

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compose.conftest import STUDY
from tests.compose.stack import PATIENCE, ROOT, SECRETS, Stack, account, free_port, wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

DAEMONS = ("reconciler", "reporter", "judge", "worker-cpu", "worker-api")


def test_everything_is_up_and_healthy(stack: Stack) -> None:
    lines = stack.compose("ps", "--all", "--format", "json").stdout.splitlines()
    services = {service["Service"]: service for service in map(json.loads, lines)}
    assert services.pop("migrate")["ExitCode"] == 0
    assert {name: service["Health"] for name, service in services.items()} == dict.fromkeys(
        ("redis", "postgres", *DAEMONS), "healthy"
    )


def test_no_process_is_root_and_none_has_a_capability(stack: Stack) -> None:
    """Seen from within each container: who runs, with which rights, and whether the root can be written to."""
    for service in ("redis", "postgres", *DAEMONS):
        script = "cat /proc/[0-9]*/status; touch /written 2>/dev/null && echo written; true"
        seen = stack.compose("exec", "--no-TTY", service, "sh", "-c", script).stdout
        lines = [line.split() for line in seen.splitlines()]
        owners = {number for line in lines if line and line[0] == "Uid:" for number in line[1:]}
        rights = {line[1] for line in lines if line and line[0] == "CapEff:"}
        assert "0" not in owners, service
        assert rights == {"0" * 16}, service
        assert "written" not in seen, service


def test_ports_listen_on_this_machine_alone(stack: Stack) -> None:
    for service in ("redis", "postgres", *DAEMONS):
        bound = stack.inspect(service)["NetworkSettings"]["Ports"] or {}
        hosts = {binding["HostIp"] for bindings in bound.values() for binding in bindings or []}
        assert hosts <= {"127.0.0.1"}, service


def test_passwords_are_seen_by_nobody_who_inspects(stack: Stack) -> None:
    passwords = [file.read_text().strip() for file in stack.secrets.glob("*-password")]
    assert len(passwords) == 2
    for service in ("redis", "postgres", "migrate", *DAEMONS):
        settings = json.dumps(stack.inspect(service))
        log = stack.compose("logs", service).stdout
        assert not [word for word in passwords if word in settings or word in log], service


def test_a_study_ends_in_a_report_on_this_machine(stack: Stack) -> None:
    """Enqueued from a container, worked on by the worker, and the report belongs to this machine's user."""
    assert stack.cli("enqueue", "studies/quick.yaml", "--name", "quick").stdout == "quick\n"
    ended = stack.finish("quick")
    assert (ended["planned"], ended["answered"]) == (120, 120)
    assert ended["report"] == "/home/defsurvey/reports/quick/report.html"
    report = stack.results / "quick" / "report.html"
    assert "</html>" in report.read_text()
    assert (report.stat().st_uid, report.stat().st_gid) == account()
    assert stack.cli("report", "quick").stdout.splitlines()[0] == ended["report"]


def test_everything_is_still_there_after_down_and_up(stack: Stack) -> None:
    """Containers and network go, volumes and the results stay; what is enqueued afterwards is worked on."""
    stack.cli("enqueue", "studies/quick.yaml", "--name", "before")
    status = stack.finish("before")
    answers = stack.export("before")
    stack.compose("down")
    assert stack.compose("ps", "--all", "--quiet").stdout == ""
    stack.up()
    now = stack.status("before")
    assert {**now, "rate_per_second": 0} == {**status, "rate_per_second": 0}
    assert stack.export("before") == answers
    stack.cli("enqueue", "studies/quick.yaml", "--name", "after")
    assert stack.finish("after")["answered"] == 120


def test_two_workers_share_a_run(stack: Stack, undisturbed: Callable[[str], str]) -> None:
    stack.up("--scale", "worker-cpu=2", "--no-recreate")
    try:
        stack.cli("enqueue", "studies/slow.yaml", "--name", "shared")
        ended = stack.finish("shared")
    finally:
        stack.up("--scale", "worker-cpu=1", "--no-recreate")
    assert ended["planned"] == ended["answered"] == 320
    assert stack.export("shared") == undisturbed("shared")
    header, *rows = stack.export("shared", "--telemetry", "--format", "jsonl").splitlines()
    workers = {json.loads(row)["worker"].split(":")[0] for row in (header, *rows)}
    assert len(workers) == 2


def test_a_wrong_password_is_said_in_words(stack: Stack, tmp_path: Path) -> None:
    wrong = _secrets(tmp_path, "wrong")
    arguments = ("run", "--rm", "--no-deps", "--no-TTY", "migrate", "migrate", "--patience", "2")
    done = stack.compose(*arguments, check=False, settings=wrong)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("defsurvey: database postgresql://defsurvey:***@postgres:5432/defsurvey")
    assert 'password authentication failed for user "defsurvey"' in last


def test_a_missing_secret_is_named(image: str, tmp_path: Path) -> None:
    del image
    stack = Stack(
        project="defsurvey-test-secret",
        folder=tmp_path / "stack",
        settings={"POSTGRES_PORT": free_port(), "REDIS_PORT": free_port()},
    )
    stack.prepare()
    (stack.secrets / "postgres-password").unlink()
    try:
        done = stack.compose("up", "--detach", "--wait", check=False)
    finally:
        stack.compose("down", "--volumes")
    assert done.returncode != 0
    assert str(stack.secrets / "postgres-password") in done.stderr


def test_an_empty_secret_is_named(stack: Stack, tmp_path: Path) -> None:
    empty = _secrets(tmp_path, "")
    done = stack.compose("run", "--rm", "--no-deps", "--no-TTY", "migrate", check=False, settings=empty)
    assert done.returncode == 2
    assert "expected a password in /run/secrets/postgres-password, got an empty file" in done.stderr


def test_a_missing_key_makes_the_worker_ill_that_needs_it_and_no_other(stack: Stack) -> None:
    """Its log names the file into which the key belongs; the worker without keys leaves the model alone."""
    study = (stack.studies / "quick.yaml").read_text().replace("human", "claude-haiku-5-5")
    (stack.studies / "api.yaml").write_text(study)
    done = stack.cli("enqueue", "studies/api.yaml", "--name", "api")
    assert "no key here for claude-haiku-5-5" in done.stderr
    needed = "model claude-haiku-5-5: file /run/secrets/anthropic-api-key: expected a key"
    try:
        wait_for(lambda: [line for line in _log(stack, "worker-api") if needed in line], "its complaint", 60)
        assert any("left to workers that have a key" in line for line in _log(stack, "worker-cpu"))
        assert stack.inspect("worker-cpu")["State"]["Health"]["Status"] == "healthy"
    finally:
        stack.cli("cancel", "api")
        stack.compose("restart", "worker-api")
    stack.await_health("worker-api")


def test_no_container_sees_a_key_that_it_does_not_need(stack: Stack) -> None:
    for service in ("reconciler", "reporter", "worker-cpu"):
        assert "api-key" not in stack.compose("exec", "--no-TTY", service, "ls", "/run/secrets").stdout
    assert "anthropic-api-key" in stack.compose("exec", "--no-TTY", "judge", "ls", "/run/secrets").stdout


def test_a_daemon_that_is_frozen_becomes_unhealthy(stack: Stack) -> None:
    daemon = "$(cat /proc/1/task/1/children)"  # of the init process
    stack.compose("exec", "--no-TTY", "reconciler", "sh", "-c", f"kill -STOP {daemon}")

    def ill() -> bool:
        return bool(stack.inspect("reconciler")["State"]["Health"]["Status"] == "unhealthy")

    try:
        wait_for(ill, "an unhealthy reconciler", 2 * PATIENCE)
    finally:
        stack.compose("exec", "--no-TTY", "reconciler", "sh", "-c", f"kill -CONT {daemon}")
    stack.await_health("reconciler")


def test_a_results_folder_that_cannot_be_written_to_is_said_in_words(stack: Stack) -> None:
    """The reporter goes on, its log names the file; once the folder is writable again, the report is there."""
    stack.results.chmod(0o555)
    try:
        stack.cli("enqueue", "studies/quick.yaml", "--name", "unwritable")
        wait_for(lambda: stack.status("unwritable")["state"] == "finished", "the run's end", 60)
        said = wait_for(
            lambda: [line for line in _log(stack, "reporter") if "report of unwritable: " in line], "its complaint", 60
        )
        assert "Permission denied: '/home/defsurvey/reports/unwritable'" in said[0]
        assert stack.inspect("reporter")["RestartCount"] == 0
    finally:
        stack.results.chmod(0o755)
    assert stack.finish("unwritable", patience=150)["report"] is not None


@pytest.mark.timeout(1800)
def test_the_demo_runs_on_a_real_model(stack: Stack) -> None:
    planned = json.loads(stack.cli("plan", "examples/demo.yaml", "--json").stdout)["planned"]
    stack.cli("enqueue", "examples/demo.yaml")
    ended = stack.finish("demo", patience=1500)
    assert ended["planned"] == planned
    assert ended["failed"] == 0
    assert (stack.results / "demo" / "report.html").is_file()
    kept = stack.compose("exec", "--no-TTY", "worker-cpu", "sh", "-c", "find /models -type f -size +50M").stdout
    assert kept.strip()


def _secrets(folder: Path, text: str) -> dict[str, str]:
    folder.chmod(0o755)
    for name in SECRETS:
        (folder / name).write_text(text)
    return {"SECRETS_DIR": str(folder)}


def _log(stack: Stack, service: str) -> list[str]:
    return stack.compose("logs", "--no-log-prefix", service).stdout.splitlines()


def _certify(folder: Path) -> None:
    command = ["make", "--silent", "compose-tls", f"SECRETS_DIR={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def encrypted(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
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
    encrypted.cli("enqueue", "studies/quick.yaml", "--name", "encrypted")
    assert encrypted.finish("encrypted")["answered"] == 120
    remote = "pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL"
    asked = f"SELECT bool_and(ssl), count(*) > 1 FROM {remote}"
    psql = ("psql", "--username", "defsurvey", "--tuples-only", "--no-align", "--command", asked)
    assert encrypted.compose("exec", "--no-TTY", "postgres", *psql).stdout.strip() == "t|t"
    plain = "redis-cli -h redis ping 2>&1; true"
    assert "PONG" not in encrypted.compose("exec", "--no-TTY", "redis", "sh", "-c", plain).stdout


def test_a_server_of_another_authority_is_refused(encrypted: Stack, tmp_path: Path) -> None:
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
    # the broker alone is foreign
    own = ("--env", "DEFSURVEY_DATABASE_URL=", "--env", "DEFSURVEY_DATABASE_PASSWORD_FILE=")
    reconciled = encrypted.compose(*run, *own, "reconciler", check=False, settings=other)
    assert reconciled.returncode == 1
    assert "broker rediss://" in reconciled.stderr
    assert "certificate verify failed" in reconciled.stderr


#: Asks the worker's metrics from within its own container, where no other program could.
_SCRAPE = "from urllib.request import urlopen; print(urlopen('http://{host}:9464/metrics').read().decode())"


def _metrics(stack: Stack, service: str, host: str = "127.0.0.1") -> dict[str, float]:
    said = stack.compose("exec", "--no-TTY", service, "python", "-c", _SCRAPE.format(host=host)).stdout
    return {name: float(value) for name, value in re.findall(r"(?m)^([a-z]\S*) (\S+)$", said)}


def test_the_metrics_of_every_worker_answer(stack: Stack) -> None:
    stack.cli("enqueue", "studies/quick.yaml", "--name", "measured")
    stack.finish("measured")
    after = _metrics(stack, "reporter", "worker-cpu")
    assert after["defsurvey_database_up"] == 1
    assert after['defsurvey_model_resident{model="human"}'] == 1
    assert after['defsurvey_answers_total{model="human",state="answered"}'] >= 120
    assert _metrics(stack, "reporter", "worker-api")["defsurvey_leases"] == 0


def test_flower_answers_and_sees_the_workers(stack: Stack) -> None:
    stack.up("flower")
    try:
        address = f"http://127.0.0.1:{stack.settings['FLOWER_PORT']}"
        stack.cli("enqueue", "studies/quick.yaml", "--name", "watched")
        stack.finish("watched")

        def seen() -> bool:
            with urllib.request.urlopen(f"{address}/metrics") as answer:
                said = answer.read().decode()
            return 'type="task-succeeded"' in said

        wait_for(seen, "Flower to have counted tasks", 60)
        with urllib.request.urlopen(f"{address}/workers?json=1") as answer:
            workers = json.loads(answer.read())["data"]
        assert len([worker for worker in workers if worker["status"]]) >= 2
        bindings = stack.inspect("flower")["NetworkSettings"]["Ports"].values()
        assert {binding["HostIp"] for ports in bindings for binding in ports or []} == {"127.0.0.1"}
        password = (stack.secrets / "redis-password").read_text().strip()
        assert password not in stack.compose("logs", "flower").stdout
    finally:
        stack.compose("rm", "--stop", "--force", "flower")


def test_prometheus_asks_every_worker_and_answers_the_dashboard(stack: Stack) -> None:
    """What it is told to ask is up; every expression of the dashboard gives figures while a run is under way."""
    if stack.compose("pull", "--policy", "missing", "prometheus", check=False).returncode:
        pytest.skip("the image prom/prometheus is neither here nor to be had from a registry")
    dashboard = json.loads((ROOT / "deploy/monitoring/grafana/dashboards/defsurvey.json").read_text())
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])}
    assert len(asked) > 20
    # a scripted respondent decodes nothing, and no worker here has a GPU
    awaited = {expression for expression in asked if not re.search("defsurvey_(batch|device)_", expression)}
    study = (stack.studies / "slow.yaml").read_text().replace("participants: 32", "participants: 150")
    (stack.studies / "long.yaml").write_text(study)  # takes longer than Prometheus leaves between its questions
    stack.up("flower", "prometheus")

    def up() -> bool:
        targets = _ask_prometheus(stack, "targets")["activeTargets"]
        seen = Counter(target["labels"]["job"] for target in targets if target["health"] == "up")
        return seen == {"defsurvey": 2, "celery": 1}

    def all_have_spoken() -> bool:
        awaited.difference_update([expression for expression in awaited if _figures(stack, expression)])
        return not awaited

    try:
        wait_for(up, "both workers and Flower to be seen", PATIENCE)
        stack.cli("enqueue", "studies/long.yaml", "--name", "observed")
        wait_for(all_have_spoken, "figures for the whole dashboard", PATIENCE)
        stack.finish("observed")
        for expression in asked:  # those without figures are well formed too
            _figures(stack, expression)
    finally:
        stack.compose("rm", "--stop", "--force", "flower", "prometheus")
    assert not awaited


def _figures(stack: Stack, expression: str) -> list[Any]:
    question = urllib.parse.urlencode({"query": expression.replace("$__rate_interval", "1m")})
    return list(_ask_prometheus(stack, f"query?{question}")["result"])


def _ask_prometheus(stack: Stack, question: str) -> dict[str, Any]:
    address = f"http://127.0.0.1:{stack.settings['PROMETHEUS_PORT']}/api/v1/{question}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return dict(json.loads(answer.read())["data"])


def test_the_doctor_finds_a_stack_well(stack: Stack) -> None:
    said = json.loads(stack.cli("doctor", "--json").stdout)
    found = {finding["name"]: finding for finding in said["findings"]}
    assert said["well"]
    for name in ("database", "schema", "broker", "database clock", "broker clock", "disk", "model cache"):
        assert found[name]["state"] == "ok", found[name]
    assert found["broker"]["said"].endswith("append-only file on")


def test_a_worker_whose_model_cannot_be_loaded_is_ill_and_not_started_again_and_again(stack: Stack) -> None:
    study = (stack.studies / "quick.yaml").read_text().replace("human", "hollow")
    (stack.studies / "hollow.yaml").write_text(study)
    restarts = stack.inspect("worker-cpu")["RestartCount"]
    stack.cli("enqueue", "studies/hollow.yaml", "--name", "hollow")
    try:
        health = "the worker to be ill"
        wait_for(lambda: stack.inspect("worker-cpu")["State"]["Health"]["Status"] == "unhealthy", health, 2 * PATIENCE)
        state = stack.inspect("worker-cpu")
        assert (state["State"]["Status"], state["RestartCount"]) == ("running", restarts)
        log = stack.compose("logs", "--no-log-prefix", "worker-cpu").stdout
        assert "model hollow" in log
        assert log.count("stays idle and unhealthy") == 1
    finally:
        stack.cli("cancel", "hollow")
        stack.compose("restart", "worker-cpu")
    stack.await_health("worker-cpu")
    stack.cli("enqueue", "studies/quick.yaml", "--name", "mended")
    assert stack.finish("mended")["answered"] == 120
