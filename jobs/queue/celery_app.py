"""The Celery app and every broker option, in one place.

Messages are hints and SQL is the truth (docs/architecture.md), so there is no result backend,
and what does not work on the thread pool (time limits, revocation by termination, autoscaling,
soft shutdown) is left off.
"""

from __future__ import annotations

import ssl

from celery import Celery

#: Task names, by which producers send without importing the tasks.
SIMULATE = "defsurvey.simulate_participant"
REPORT = "defsurvey.build_report"
JUDGE = "defsurvey.judge_answers"
#: Queue of report tasks.
REPORTS_QUEUE = "reports"
#: Queue of judging tasks; whoever builds reports serves it too.
JUDGE_QUEUE = "judge"
#: Seconds for which a daemon asks the broker at a time: neither the end of a process nor a further queue interrupts it.
POLLING_SECONDS = 0.1
#: A queue that nothing is ever sent to: what a worker listens on until it knows its model.
IDLE_QUEUE = "idle"


def simulate_queue(model: str) -> str:
    """The queue of a model's participants."""
    return f"simulate.{model}"


def report_failure_key(run: str) -> str:
    """The broker's key under which a reporter tells why a run's report cannot be built."""
    return f"defsurvey:report-failure:{run}"


def make_app(broker_url: str, *, visibility_timeout: float = 3600.0) -> Celery:
    """A Celery app on a broker, ``redis://...`` or ``redis+socket://...``.

    After ``visibility_timeout`` seconds an unacknowledged message is delivered again, and the claim in SQL makes the
    second delivery do nothing.
    """
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
