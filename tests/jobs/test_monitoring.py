"""Flower shows our queue; the files for Prometheus and Grafana fit what workers show and what Compose starts."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery import Celery

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.jobs.cli.main import told
from defsurvey.jobs.daemons import serving
from defsurvey.jobs.settings import Settings

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
#: Metrics that are not ours: Prometheus's own, every client's, and Flower's.
FOREIGN = {"up", "process_resident_memory_bytes", "flower_events_total"}


def _get(address: str) -> str:
    try:
        with urllib.request.urlopen(address) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def test_flower_shows_the_queue_and_counts_its_events(
    tmp_path: Path, running_broker: EmbeddedBroker, app: Celery
) -> None:
    """A real process: it answers a browser, a health check and Prometheus, and ends when it is told to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_BROKER_URL": running_broker.url}
    command = [sys.executable, "-m", "defsurvey", "flower", "--address", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as flower:
        try:
            until = time.monotonic() + 30
            while _get(f"http://127.0.0.1:{port}/healthcheck") != "OK":
                assert time.monotonic() < until, "no answer"
                time.sleep(0.1)
            assert "flower" in _get(f"http://127.0.0.1:{port}/").lower()
            with app.connection_for_write() as connection:
                events = app.events.Dispatcher(connection, hostname="here", enabled=True)
                while 'flower_worker_online{worker="here"} 1.0' not in _get(f"http://127.0.0.1:{port}/metrics"):
                    events.send("worker-heartbeat", freq=2.0)
                    assert time.monotonic() < until, "no event"
                    time.sleep(0.1)
        finally:
            flower.terminate()
    assert flower.returncode == 0


def test_without_flower_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda _: None)
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    with pytest.raises(serving.FlowerMissing, match=r"\.venv/bin/pip install -e '\.\[monitoring\]'") as missing:
        serving.flower(settings, address=("127.0.0.1", 5555))
    assert told(missing.value, None) == (1, str(missing.value))


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    """Every name in an expression is in the table of docs/monitoring.md, and no panel lies on another."""
    dashboard = json.loads((MONITORING / "grafana" / "dashboards" / "defsurvey.json").read_text())
    documented = set(re.findall(r"(?m)^\| `(defsurvey_\w+)`", (ROOT / "docs" / "monitoring.md").read_text()))
    known = documented | FOREIGN | {"defsurvey_answer_seconds_bucket"}
    places = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
        for target in panel["targets"]:
            asked = set(re.findall(r"\b((?:defsurvey|flower|process)_\w+|up)\b", target["expr"]))
            assert asked, target["expr"]
            assert asked <= known, asked - known
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        places |= cells


def test_prometheus_asks_the_services_that_compose_starts() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ours, celery = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = ours["dns_sd_configs"]
    assert set(found["names"]) == {name for name in services if name.startswith("worker-")}
    for name in found["names"]:
        assert f"--metrics 0.0.0.0:{found['port']} --events --stay" in services[name]["command"], name
    ((flower,),) = [config["targets"] for config in celery["static_configs"]]
    assert flower == f"flower:{services['flower']['command'][-1].rpartition(':')[2]}"
