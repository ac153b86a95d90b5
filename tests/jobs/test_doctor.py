"""The doctor: what is wrong is said in one line with its remedy, nothing is changed, and nothing secret is shown."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from click.testing import CliRunner, Result

from defsurvey.jobs import doctor
from defsurvey.jobs.broker import BrokerUnavailable, EmbeddedBroker
from defsurvey.jobs.cli.main import main
from defsurvey.jobs.doctor import BAD, NOTE, OK
from defsurvey.jobs.settings import Settings
from defsurvey.storage.database import Database
from defsurvey.storage.schema import HEAD
from tests.jobs.small_study import CARDS, change
from tests.storage.postgres import postgres_server

ASK_HUB = doctor._hub  #: what asks a hub, which most tests put something else in place of


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DEFSURVEY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(doctor, "_hub", lambda: (False, lambda _repository: ""))


@pytest.fixture
def examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DEFSURVEY_HOME", str(tmp_path))

    def call(*words: str, **environment: str) -> Result:
        return CliRunner().invoke(main, ["doctor", *words], env=environment)

    return call


def findings(result: Result) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}


def test_a_fresh_machine_is_well_and_stays_untouched(tmp_path: Path) -> None:
    home = tmp_path / "home"
    result = CliRunner().invoke(main, ["doctor"], env={"DEFSURVEY_HOME": str(home)})
    assert result.exit_code == 0, result.output
    names = [line[6:20].strip() for line in result.stdout.splitlines()]
    expected = ["program", "database", "broker", "disk", "model cache", "libraries", "GPU", "bitsandbytes", "model hub"]
    assert [name for name in names if name != "key"] == expected
    assert f"SQLite, {home / 'defsurvey.db'} is made by the first run" in result.stdout
    assert not home.exists()


def test_a_program_reads_the_same(examined: Callable[..., Result], database: Database) -> None:
    """An existing database tells its kind and its schema; SQLite's clock is this machine's and gets no line."""
    del database
    result = examined("--json")
    found = findings(result)
    assert (result.exit_code, json.loads(result.stdout)["well"]) == (0, True)
    assert found["schema"] == {"name": "schema", "state": OK, "said": f"revision {HEAD}", "remedy": ""}
    assert found["database"]["said"].startswith("SQLite 3.")
    assert "database clock" not in found


@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_a_schema_of_another_version(examined: Callable[..., Result], database: Database, revision: str) -> None:
    change(database, f"UPDATE alembic_version SET version_num = '{revision}'")
    result = examined("--json")
    schema = findings(result)["schema"]
    assert (result.exit_code, schema["state"]) == (1, BAD)
    assert schema["said"] == f"revision {revision}; this version works with {HEAD}"
    assert schema["remedy"]


@pytest.mark.parametrize(
    ("database", "broker"),
    [
        ("postgresql://me:qxzvjk@127.0.0.1:1/db?password=qxzvjk", "redis://127.0.0.1:1/0?password=qxzvjk"),
        ("postgresql://me:qxz@vjk@127.0.0.1:1/db", "redis://:1/qxzvjk@127.0.0.1:1/0"),
        ("postgresql://me:qxzvjk@127.0.0.1:port/db?password=qxzvjk", "redis://:qxz#vjk@127.0.0.1:1/0"),
        ("mysql://me:qxzvjk@x/y", "redis://127.0.0.1:1/0"),
    ],
)
def test_what_does_not_answer_is_named_without_its_password(
    examined: Callable[..., Result], database: str, broker: str
) -> None:
    """Wherever that stands, or with signs in it that end a password; the other findings are there all the same."""
    result = examined(DEFSURVEY_DATABASE_URL=database, DEFSURVEY_BROKER_URL=broker)
    assert result.exit_code == 1
    bad = [line for line in result.stdout.splitlines() if line.startswith("bad")]
    assert [line[:20] for line in bad] == ["bad   database      ", "bad   broker        "]
    assert bad[0].endswith((" -> start it, or set DEFSURVEY_DATABASE_URL", " unset it for a file of this machine"))
    assert not any(piece in result.output for piece in ("qxz", "vjk"))
    assert "disk" in result.stdout


def test_a_file_that_is_no_database(examined: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "defsurvey.db").write_text("a letter to my aunt, longer than a header\n" * 20)
    result = examined("--json")
    assert (result.exit_code, findings(result)["database"]["state"]) == (1, BAD)
    assert "not a database" in findings(result)["database"]["said"]


def test_a_postgresql_server_without_a_schema(examined: Callable[..., Result]) -> None:
    with postgres_server() as socket:
        found = findings(examined("--json", DEFSURVEY_DATABASE_URL=f"postgresql://postgres@/postgres?host={socket}"))
    assert found["database"]["said"].startswith("PostgreSQL 1")
    assert (found["schema"]["state"], found["database clock"]["state"]) == (NOTE, OK)
    assert "defsurvey migrate" in found["schema"]["remedy"]


def test_clocks_that_are_off() -> None:
    assert doctor.clock_finding("clock", 1.0).state == OK
    assert doctor.clock_finding("clock", 60.0).said.startswith("60 s ahead of this machine's")
    behind = doctor.clock_finding("clock", -3600.0)
    assert (behind.state, behind.said.partition(" this")[0]) == (NOTE, "3600 s behind")


def test_a_broker_is_asked_how_it_keeps_messages(
    examined: Callable[..., Result], running_broker: EmbeddedBroker, client: redis.Redis
) -> None:
    def said() -> dict[str, str]:
        found = findings(examined("--json", DEFSURVEY_BROKER_URL=running_broker.url))
        assert found["broker clock"]["state"] == OK
        return found["broker"]

    assert said()["state"] == OK
    for option, worse, usual in (("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")):
        client.config_set(option, worse)
        try:
            assert said()["remedy"] == f"CONFIG SET {option} {usual}"
        finally:
            client.config_set(option, usual)


def test_the_embedded_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)})
    (started,) = doctor._broker(settings)
    assert started.said.startswith("embedded, started when it is needed")
    with EmbeddedBroker(tmp_path):
        (runs,) = doctor._broker(settings)
    assert runs.said == f"embedded, runs under {tmp_path}"

    def refused() -> str:
        raise BrokerUnavailable("no broker: install valkey-server")

    monkeypatch.setattr(doctor, "server_program", refused)
    (none,) = doctor._broker(settings)
    assert (none.state, "valkey-server" in none.remedy) == (BAD, True)


@pytest.mark.parametrize(("free", "state"), [(10**8, BAD), (10**9, NOTE), (10**11, OK)])
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "not" / "yet")})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free))
    home, cache = doctor._disks(settings)
    assert (home.state, cache.state) == (state, state)
    assert ("DEFSURVEY_HOME" in home.remedy, "DEFSURVEY_CACHE" in cache.remedy) == (state != OK, state != OK)
    assert f"{free / 1e9:.1f} GB free" in home.said


def test_a_home_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "file" / "home")})
    home, _cache = doctor._disks(settings)
    assert (home.state, home.said) == (BAD, f"{tmp_path / 'file'} is not a folder")


@pytest.mark.parametrize(
    ("driver", "torch", "state", "words"),
    [
        ([], (None, []), OK, "none: --device auto is the CPU"),
        (["A100, 550.1"], ("12.8", ["A100"]), OK, "1 usable (CUDA 12.8): A100, 550.1; --device auto is cuda:0"),
        (["A100, 40 GiB, 550.1"], (None, []), NOTE, "install torch's CUDA build"),
        (["A100, 40 GiB, 440.1"], ("12.8", []), NOTE, "update the driver to one for CUDA 12.8"),
        ([], ("12.8", ["A100", "A100"]), OK, "2 usable (CUDA 12.8): A100, A100"),
    ],
)
def test_a_gpu_as_driver_and_torch_see_it(
    driver: list[str], torch: tuple[str | None, list[str]], state: str, words: str
) -> None:
    found = doctor.gpu(driver=driver, torch=torch)
    assert found.state == state
    assert words in str(found)


def test_four_bits_take_a_gpu() -> None:
    without = doctor.four_bits(usable=False)
    assert (without.state, without.remedy) == (NOTE, "a GPU, or a smaller model")
    assert without.said.endswith(", and no GPU: models whose cards say 4 bits cannot be loaded")
    assert doctor.four_bits(usable=True).state == OK


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        ("", OK, "all 2 models may be fetched"),
        ("gated", NOTE, "agree at huggingface.co/here/tiny-model and set HF_TOKEN"),
        ("absent", NOTE, "not to be found: tiny-model, plain-model"),
        ("silent", NOTE, "the hub does not answer"),
    ],
)
def test_access_to_the_hub(answer: str, state: str, words: str) -> None:
    found = doctor.gated(CARDS, True, lambda _repository: answer)
    assert (found.state, found.said.partition(";")[0]) == (state, "token found")
    assert words in str(found)


def test_a_key_is_told_to_be_there_and_never_shown(
    examined: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    (missing,) = [line for line in examined().stdout.splitlines() if " key " in line]
    assert missing.startswith("note  key             ANTHROPIC_API_KEY missing -> ")
    assert "/run/secrets/anthropic-api-key" in missing
    result = examined(ANTHROPIC_API_KEY="sk-ant-very-secret-indeed")
    (present,) = [line for line in result.stdout.splitlines() if " key " in line]
    assert present == "ok    key             ANTHROPIC_API_KEY present"
    assert "secret-indeed" not in result.output


def test_a_model_file_that_cannot_be_read(examined: Callable[..., Result], tmp_path: Path) -> None:
    result = examined("--json", DEFSURVEY_MODELS=str(tmp_path / "none.toml"))
    assert (result.exit_code, findings(result)["model cards"]["state"]) == (1, BAD)


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the library's name
        status, code = {
            "/api/models/here/open/auth-check": (200, ""),
            "/api/models/here/gated/auth-check": (403, "GatedRepo"),
            "/api/models/here/absent/auth-check": (404, "RepoNotFound"),
        }.get(self.path, (500, ""))
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("repository", "answer"),
    [
        ("here/open", ""),
        ("here/gated", "gated"),
        ("here/absent", "absent"),
        ("here/broken", "silent"),
        ("away", "silent"),
    ],
)
def test_what_a_hub_answers(hub: str, repository: str, answer: str) -> None:
    """A missing agreement is not the same as a missing repository; a hub that is not there is no traceback."""
    _token, ask = ASK_HUB("http://127.0.0.1:1" if repository == "away" else hub)
    assert ask(repository) == answer
