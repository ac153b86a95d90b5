"""Signs of life, the verbs that containers ask, and what Flower, Prometheus and Grafana are shown."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from celery import Celery
from click.testing import CliRunner
from sqlalchemy import text

from defsurvey.jobs.broker import EmbeddedBroker, client_of
from defsurvey.jobs.cli.main import main, told
from defsurvey.jobs.daemons import serving
from defsurvey.jobs.daemons import startup as health
from defsurvey.jobs.daemons.reconciler import Reconciler
from defsurvey.jobs.daemons.startup import DatabaseUnavailable, Pulse, migrate_when_up, open_database
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.hosts import host
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.schema import HEAD
from defsurvey.workers.runner.lease import Leases

HOST = socket.gethostname()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})


@pytest.fixture
def defsurvey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    for name in [name for name in os.environ if name.startswith("DEFSURVEY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEFSURVEY_HOME", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, list(arguments))
        return done.exit_code, done.output

    return call


def test_health_on_the_command_line(settings: Settings, defsurvey: Callable[..., tuple[int, str]]) -> None:
    pulse = Pulse(settings, "worker")
    assert defsurvey("healthy", "worker") == (1, f"worker on {HOST}: no sign of life yet\n")
    pulse.beat()
    said = f"worker on {HOST}: last sign of life 0 s ago (at most 30 s are healthy)\n"
    assert defsurvey("healthy", "worker") == (0, said)
    os.utime(pulse.path, (time.time() - 31, time.time() - 31))
    assert defsurvey("healthy", "worker")[0] == 1
    pulse.end()
    assert defsurvey("healthy", "worker") == (1, f"worker on {HOST}: no sign of life yet\n")


def test_a_worker_beats_for_as_long_as_it_has_a_database(settings: Settings, database: Database) -> None:
    pulse = Pulse(settings, "worker")
    leases = Leases(Ledger(database, owner=f"{host()}:7:aa", ttl=0.3), on_beat=pulse.beat)
    leases.start()
    _await_beat(pulse, since=0.0)
    _await_beat(pulse, since=pulse.path.stat().st_mtime)
    database.write(lambda connection: connection.execute(text("ALTER TABLE worker RENAME TO away")))
    time.sleep(0.3)
    stopped = pulse.path.stat().st_mtime
    time.sleep(0.5)
    assert pulse.path.stat().st_mtime == stopped
    database.write(lambda connection: connection.execute(text("ALTER TABLE away RENAME TO worker")))
    _await_beat(pulse, since=stopped)
    leases.stop()


def test_a_pulse_that_cannot_be_written_ends_nobody(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    (settings.home / "pulse").write_text("a file where the folder should be")
    pulse = Pulse(settings, "reporter")
    pulse.beat()
    assert "pulse: " in caplog.text


def test_a_reconciler_beats_only_when_a_pass_went_through(
    settings: Settings, database: Database, app: Celery, client: redis.Redis
) -> None:
    pulse = Pulse(settings, "reconciler")
    nobody = client_of(f"redis+socket://{settings.home}/nobody.sock")
    with pytest.raises(redis.ConnectionError):
        Reconciler(database=database, app=app, broker=nobody, on_pass=pulse.beat).reconcile()
    assert pulse.age() is None
    Reconciler(database=database, app=app, broker=client, on_pass=pulse.beat).reconcile()
    assert pulse.age() is not None


def test_a_reporter_beats_for_as_long_as_it_has_a_broker(settings: Settings) -> None:
    pulse = Pulse(settings, "reporter")
    with EmbeddedBroker(settings.home) as broker:
        environment = {**os.environ, "DEFSURVEY_HOME": str(settings.home), "DEFSURVEY_BROKER_URL": broker.url}
        reporter = subprocess.Popen([sys.executable, "-m", "defsurvey", "reporter"], env=environment)
        try:
            _await_beat(pulse, since=0.0)
            _await_beat(pulse, since=pulse.path.stat().st_mtime)
            broker.stop()
            time.sleep(health.BEAT_SECONDS)
            stopped = pulse.path.stat().st_mtime
            time.sleep(2 * health.BEAT_SECONDS)
            assert pulse.path.stat().st_mtime == stopped
            broker.ensure()
            _await_beat(pulse, since=stopped)
        finally:
            reporter.terminate()
            reporter.wait(20)


def _await_beat(pulse: Pulse, *, since: float) -> None:
    until = time.monotonic() + 30
    while not (pulse.path.exists() and pulse.path.stat().st_mtime > since):
        assert time.monotonic() < until, "no beat"
        time.sleep(0.05)


def test_migrate_brings_an_empty_database_up_to_date(defsurvey: Callable[..., tuple[int, str]]) -> None:
    assert defsurvey("migrate") == (0, f"database schema: {HEAD}\n")
    assert defsurvey("migrate") == (0, f"database schema: {HEAD}\n")


def test_migrate_waits_for_a_database_that_is_still_starting(settings: Settings) -> None:
    blocked = settings.home / "defsurvey.db"
    blocked.mkdir()
    threading.Timer(0.5, blocked.rmdir).start()
    assert migrate_when_up(settings, patience=20) == HEAD


def test_migrate_gives_up_on_a_database_that_does_not_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_DATABASE_URL": "postgresql://me:sesame@127.0.0.1:1/db"}
    monkeypatch.setattr("defsurvey.jobs.daemons.startup.LOOK_SECONDS", 0.05)
    with pytest.raises(DatabaseUnavailable, match=r"database postgresql://me:\*\*\*@127\.0\.0\.1:1/db: .*refused"):
        migrate_when_up(Settings.from_environment(environment), patience=0.4)
    assert caplog.text.count("waiting up to 0 s: database postgresql://me:***@127.0.0.1:1/db") == 1
    assert "sesame" not in caplog.text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me@127.0.0.1:1/db?password=sesame", "database postgresql://me@127.0.0.1:1/db?***: "),
        ("postgresql://me:open@sesame@127.0.0.1:1/db", "database postgresql://***: "),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path, url: str, told: str) -> None:
    """Wherever in its URL that stands; where no piece of it can be in the driver's words, they are repeated."""
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_DATABASE_URL": url})
    with pytest.raises(DatabaseUnavailable) as caught:
        open_database(settings)
    assert str(caught.value).startswith(told)
    assert ("refused" in str(caught.value)) == ("sesame@" not in url)
    assert not any(piece in str(caught.value) for piece in ("sesame", "open"))


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
