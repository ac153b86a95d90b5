"""A message that cannot be acknowledged does not keep a worker from taking others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue

from defsurvey.jobs.broker import EmbeddedBroker
from defsurvey.workers.runner.daemon import ForgetUnacknowledged


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[tuple[EmbeddedBroker, Consumer, Any]]:
    """A broker, a consumer that may take one message and has taken it, and that message."""
    broker = EmbeddedBroker(tmp_path)
    broker.ensure()
    taken: list[Any] = []
    with Connection(broker.url) as connection:
        channel = connection.channel()
        consumer = Consumer(channel, [Queue("q", routing_key="q")], accept=["json"])
        consumer.on_message = taken.append
        consumer.qos(prefetch_count=1)
        consumer.consume()
        with connection.Producer() as producer:
            for number in range(2):
                producer.publish({"number": number}, routing_key="q")
        connection.drain_events(timeout=5)
        assert not channel.qos.can_consume()
        yield broker, consumer, taken[0]
        channel.qos._delivered.clear()
    broker.stop()


def kill(broker: EmbeddedBroker) -> None:
    """kill -9 the broker's server."""
    os.kill(int((broker.folder / "server.lock").read_text()), signal.SIGKILL)
    while broker.alive():
        pass


def begin(consumer: Consumer) -> None:
    """What Celery does with the step when it has connected."""
    step = ForgetUnacknowledged.__new__(ForgetUnacknowledged)
    step.start(SimpleNamespace(task_consumer=consumer))


def test_an_acknowledgement_that_fails_gives_its_place_to_another(consumer: Any) -> None:
    """The error is told as before, and the next message can be taken."""
    broker, taking, message = consumer
    begin(taking)
    kill(broker)
    with pytest.raises(taking.channel.connection.client.connection_errors):
        message.ack()
    assert taking.channel.qos.can_consume()


def test_a_message_given_back_that_cannot_be_is_forgotten_too(consumer: Any) -> None:
    """Rejecting for the queue fails like acknowledging."""
    broker, taking, message = consumer
    begin(taking)
    kill(broker)
    with pytest.raises(taking.channel.connection.client.connection_errors):
        message.reject(requeue=True)
    assert taking.channel.qos.can_consume()


def test_without_the_step_the_place_is_lost(consumer: Any) -> None:
    """The control, and the reason: when kombu does better, the step can go."""
    broker, taking, message = consumer
    kill(broker)
    with pytest.raises(taking.channel.connection.client.connection_errors):
        message.ack()
    assert not taking.channel.qos.can_consume()


def test_an_acknowledgement_that_works_is_left_alone(consumer: Any) -> None:
    """The broker is told, once."""
    broker, taking, message = consumer
    begin(taking)
    message.ack()
    assert taking.channel.qos.can_consume()
    with broker.client() as client:
        assert client.exists("unacked") == 0
