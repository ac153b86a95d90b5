"""Flower on our broker: workers and tasks, as Celery tells of them."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from defsurvey.jobs.daemons.serving import broker_url, log_to_stderr
from defsurvey.jobs.queue.celery_app import make_app
from defsurvey.jobs.settings import Settings

#: Seconds after which a worker that has gone is shown no more: each start of one has a name, and series, of its own.
FORGOTTEN_AFTER = 3600


class FlowerMissing(RuntimeError):
    """Flower is not installed."""


def flower(settings: Settings, *, address: tuple[str, int]) -> None:
    """Show the queue until told to stop.

    Args:
        settings: which broker.
        address: host and port where it is shown.

    Raises:
        FlowerMissing: the extra ``monitoring`` is not installed.
        jobs.queue.broker.BrokerUnavailable: there is no broker.
    """
    if find_spec("flower") is None:
        raise FlowerMissing("Flower is not installed: .venv/bin/pip install -e '.[monitoring]', in the clone")
    log_to_stderr()
    logging.getLogger("flower.inspector").setLevel(logging.ERROR)  # workers take no remote control, questions included
    app = make_app(broker_url(settings), visibility_timeout=settings.visibility_timeout)
    host, port = address
    forget = f"--purge_offline_workers={FORGOTTEN_AFTER}"
    app.start(["flower", f"--address={host}", f"--port={port}", forget, "--conf=/dev/null"])
