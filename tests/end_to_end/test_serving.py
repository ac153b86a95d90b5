"""A worker as a service: Prometheus reads what it does, and what a new start cannot mend does not go round for ever."""

import re
import resource
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.jobs.daemons.startup import ILL_AFTER_SECONDS
from defsurvey.jobs.system import UNAVAILABLE
from tests.end_to_end.machine import PLANNED, STUDY, Machine, ended, free_port, wait_until

ROOT = Path(__file__).parents[2]
DAEMONS = ("reconciler", "reporter", "judge", "worker-cpu", "worker-api", "worker-gpu-0", "worker-gpu-1")


def _scrape(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, ConnectionError):
        return {}
    return {name: float(value) for name, value in re.findall(r"(?m)^([a-z]\S*) (\S+)$", "\n".join(lines))}


def test_prometheus_sees_a_real_worker_at_work(machine: Machine) -> None:
    machine.set_latency(0.25)
    machine.type("enqueue", "study.yaml")
    port = free_port()
    worker = machine.start("worker", "--concurrency", "3", "--metrics", str(port), "--events")
    reconciler = machine.start("reconciler")
    seen: dict[str, float] = {}

    def at_work() -> bool:  # participants are taken first, then their model is opened
        seen.update(_scrape(port))
        return seen.get("defsurvey_leases") == 3 and seen.get('defsurvey_model_resident{model="citizen"}') == 1

    wait_until(at_work, "three participants in flight")
    assert seen['defsurvey_backlog_participants{model="citizen"}'] == 7
    assert seen['defsurvey_backlog_answers{model="citizen"}'] == 56
    assert seen["defsurvey_database_up"] == 1
    answered = 'defsurvey_answers_total{model="citizen",state="answered"}'
    wait_until(lambda: _scrape(port).get(answered) == PLANNED, "every answer")
    seen = _scrape(port)
    assert (seen["defsurvey_leases"], seen["defsurvey_fenced_writes_total"]) == (0, 0)
    assert seen["defsurvey_model_loads_total"] == 1
    machine.stop(worker, reconciler)
    assert _scrape(port) == {}


def test_models_whose_key_is_elsewhere_are_enqueued_and_left_to_others(machine: Machine) -> None:
    """On a broker that is named; on one machine alone the key has to be there, and nothing is enqueued without it."""
    served = '\n[served]\nengine = "openai"\nmodel = "some"\nbase_url = "http://127.0.0.1:1/v1"\nkey = "MARKED_KEY"\n'
    with (machine.folder / "cards.toml").open("a") as cards:
        cards.write(served)
    machine.write_study(STUDY.replace("[citizen]", "[served, citizen]"))
    alone = machine.type("enqueue", "study.yaml")
    assert alone.returncode == 2
    assert "model served: there is no key: set MARKED_KEY" in alone.stderr
    with EmbeddedBroker(machine.home) as broker:
        named = {"DEFSURVEY_BROKER_URL": broker.url}
        enqueued = machine.type("enqueue", "study.yaml", **named)
        assert (enqueued.returncode, enqueued.stdout) == (0, "small\n")
        assert "no key here for served: the workers that ask them need one" in enqueued.stderr
        worker = machine.start("worker", **named)
        assert ", served\n" in _read_until(worker, "left to workers that have a key for them: ")
        wait_until(lambda: machine.answers() == PLANNED, "the answers of the model that needs no key")
        machine.stop(worker)


def _check() -> list[str]:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    checks = {services[name]["healthcheck"]["test"][1] for name in DAEMONS}
    assert {services[name]["healthcheck"]["test"][0] for name in DAEMONS} == {"CMD-SHELL"}
    (check,) = checks
    limit = f"-mmin -{ILL_AFTER_SECONDS / 60:g} "
    assert limit in check
    return ["sh", "-c", check.replace("$$", "$").replace(limit, "-mmin -0.1 ")]  # 6 s, for want of time


def test_a_container_s_check_is_cheap_and_sees_a_daemon_that_is_stopped(machine: Machine) -> None:
    """Shell alone; a worker that is frozen is ill, and well again when it goes on; one that has ended is not well."""
    check, environment = _check(), machine.environment()

    def well() -> bool:
        return subprocess.run(check, env=environment, capture_output=True).returncode == 0

    assert not well()
    worker = machine.start("worker")
    wait_until(well, "a sign of life")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert well()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.1
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: not well(), "the frozen worker to be ill", seconds=15)
    worker.send_signal(signal.SIGCONT)
    wait_until(well, "a sign of life again")
    machine.stop(worker)
    assert not well()


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def test_a_worker_whose_model_cannot_be_loaded_stays_ill_instead_of_ending(machine: Machine) -> None:
    machine.write_study(STUDY.replace("citizen", "empty"))
    machine.type("enqueue", "study.yaml")
    worker = machine.start("worker", "--stay")
    reconciler = machine.start("reconciler")
    said = _read_until(worker, "stays idle and unhealthy")
    assert "model empty" in said
    assert worker.poll() is None
    health = machine.type("healthy", "worker")
    assert (health.returncode, "no sign of life" in health.stderr) == (1, True)
    worker.send_signal(signal.SIGTERM)
    assert ended(worker).returncode == UNAVAILABLE
    machine.stop(reconciler)
