"""What is seen of a running stack: its metrics, its queue, what it lacks, and a worker that cannot serve."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections import Counter
from typing import Any

import pytest

from tests.compose.stack import PATIENCE, ROOT, Stack, wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

#: Asks the worker's metrics from within its own container, where no other program could.
_SCRAPE = "from urllib.request import urlopen; print(urlopen('http://{host}:9464/metrics').read().decode())"


def _metrics(stack: Stack, service: str, host: str = "127.0.0.1") -> dict[str, float]:
    """Every sample that a worker shows, asked from a service's container."""
    said = stack.compose("exec", "--no-TTY", service, "python", "-c", _SCRAPE.format(host=host)).stdout
    return {name: float(value) for name, value in re.findall(r"(?m)^([a-z]\S*) (\S+)$", said)}


def test_the_metrics_of_every_worker_answer(stack: Stack) -> None:
    """Within the network, by the service's name, as Prometheus asks."""
    stack.cli("enqueue", "studies/quick.yaml", "--name", "measured")
    stack.finish("measured")
    after = _metrics(stack, "reporter", "worker-cpu")
    assert after["defsurvey_database_up"] == 1
    assert after['defsurvey_model_resident{model="human"}'] == 1
    assert after['defsurvey_answers_total{model="human",state="answered"}'] >= 120
    assert _metrics(stack, "reporter", "worker-api")["defsurvey_leases"] == 0


def test_flower_answers_and_sees_the_workers(stack: Stack) -> None:
    """On this machine alone; its metrics know the tasks; no password is in its log."""
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
    """What Prometheus has to say to an expression now; the dashboard's own interval is a minute here."""
    question = urllib.parse.urlencode({"query": expression.replace("$__rate_interval", "1m")})
    return list(_ask_prometheus(stack, f"query?{question}")["result"])


def _ask_prometheus(stack: Stack, question: str) -> dict[str, Any]:
    address = f"http://127.0.0.1:{stack.settings['PROMETHEUS_PORT']}/api/v1/{question}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        return dict(json.loads(answer.read())["data"])


def test_the_doctor_finds_a_stack_well(stack: Stack) -> None:
    """From the container in which a user types."""
    said = json.loads(stack.cli("doctor", "--json").stdout)
    found = {finding["name"]: finding for finding in said["findings"]}
    assert said["well"]
    for name in ("database", "schema", "broker", "database clock", "broker clock", "disk", "model cache"):
        assert found[name]["state"] == "ok", found[name]
    assert found["broker"]["said"].endswith("append-only file on")


def test_a_worker_whose_model_cannot_be_loaded_is_ill_and_not_started_again_and_again(stack: Stack) -> None:
    """It says why and stays; once the cause is gone and it is restarted, it works."""
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
