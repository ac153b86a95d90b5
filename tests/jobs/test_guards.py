"""Celery options that must stay as they are: each that is named here was found to lose or double work otherwise."""

import json
import ssl

import pytest
import redis
from celery import Celery
from kombu.exceptions import ContentDisallowed

from defsurvey.jobs.broker import IDLE_QUEUE, SIMULATE, make_app, simulate_queue
from defsurvey.jobs.daemons.tasks import register_simulation
from defsurvey.workers.runner.daemon import serve
from tests.jobs.stages import stage_that_is_never_asked


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("result_backend", None),  # SQL is the truth: nobody waits for a result
        ("task_ignore_result", True),
        ("task_acks_late", True),  # a message outlives the worker that took it
        ("task_reject_on_worker_lost", True),
        ("worker_prefetch_multiplier", 1),  # no worker hoards what another could do
        ("task_time_limit", None),  # without effect on threads: a false promise
        ("task_soft_time_limit", None),
        ("worker_autoscaler", "celery.worker.autoscale:Autoscaler"),  # the class; --autoscale is never given
        ("worker_soft_shutdown_timeout", 0.0),  # hangs on threads
        ("worker_enable_soft_shutdown_on_idle", False),
        ("worker_enable_remote_control", False),  # no revocation by termination
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("broker_connection_max_retries", None),  # a worker outlives its broker's restart
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("task_default_queue", IDLE_QUEUE),
    ],
)
def test_options_that_messages_as_hints_depend_on(option: str, value: object) -> None:
    """The option has the value that the design needs."""
    assert make_app("redis://nowhere").conf[option] == value


def test_messages_come_back_after_the_visibility_timeout_that_is_asked_for() -> None:
    """The transport's own defaults would look for lost messages too seldom."""
    options = make_app("redis://nowhere", visibility_timeout=5.0).conf.broker_transport_options
    assert options == {
        "visibility_timeout": 5.0,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "polling_interval": 0.1,  # the transport's own second is waited for at every end of a process
    }


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
    """Kombu's own default is to encrypt and to trust whoever answers."""
    assert make_app(url).connection_for_read().ssl == checked


def test_the_task_itself_turns_no_guard_off() -> None:
    """A task's own options go before the app's, so that they are looked at too."""
    app = make_app("redis://nowhere")
    register_simulation(app, stage_that_is_never_asked())
    task = app.tasks[SIMULATE]
    assert (task.acks_late, task.ignore_result, task.serializer) == (True, True, "json")
    assert (task.time_limit, task.soft_time_limit) == (None, None)


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
    """Whoever can write to the broker must not be able to run code in a worker."""
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish({"args": [1]}, routing_key=IDLE_QUEUE, serializer="pickle", retry=False)
    with app.connection() as connection:
        message = connection.default_channel.basic_get(IDLE_QUEUE)
        assert message is not None
        with pytest.raises(ContentDisallowed):
            message.decode()


def test_a_message_carries_an_id_and_nothing_else(app: Celery, client: redis.Redis) -> None:
    """No prompt, key or study text passes through the broker."""
    app.send_task(SIMULATE, args=[42], queue=simulate_queue("human"), retry=False)
    (raw,) = client.lrange(simulate_queue("human"), 0, -1)  # type: ignore[misc]  # the stub knows async clients too
    message = json.loads(raw)
    assert message["content-type"] == "application/json"
    assert message["headers"]["argsrepr"] == "[42]"
    assert message["headers"]["kwargsrepr"] == "{}"
