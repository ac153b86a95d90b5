"""Engines that answer by a hash chain, and ways in which they go wrong.

A reply is chosen by a hash over every message of the prompt and the seed, and names that hash in
its explanation. Remembered answers are part of the prompt, so that each reply hangs on those
before it: an answer that was lost, doubled or shown in another order changes all that follow.

A card names them as ``tests.chaos.engines:chain``. What they are to do is read from files in the
folder ``CHAOS_FOLDER``, at each request, so that a test can change it while workers run:

``latency``  seconds that each reply takes
``poison``   seed, culture and question at which the process ends, as ``poison_line`` writes it
``hang``     while it is there, the first process that is asked anything takes it and never answers again
``calls``    written by the engines: ``asked`` or ``said``, process, hash
"""

import hashlib
import json
import os
from concurrent.futures import Future
from pathlib import Path

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.engines.scripted import Delay, answer
from defsurvey.workers.models import ModelCard

FOLDER = "CHAOS_FOLDER"
EXIT_POISONED = 86  #: exit status of a process that a poisoned question ended


def link(request: Request) -> str:
    said = [[message.role, message.content] for message in request.messages]
    body = json.dumps([said, request.seed], ensure_ascii=False).encode()
    return hashlib.sha256(body).hexdigest()[:16]


def reply_to(request: Request) -> str:
    asked = request.asked
    assert asked is not None
    code = asked.shown[int(link(request), 16) % len(asked.shown)]
    chosen, _, _ = answer(asked, (code,), 0).rpartition("\n")
    explanation = "解释：" if asked.language == "zh" else "Explanation: "
    return f"{chosen}\n{explanation}{link(request)}."


def poison_line(seed: int, culture: str, question: str) -> str:
    return f"{seed} {culture} {question}"


class Chain:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._delay = Delay()

    def submit(self, request: Request) -> Future[Completion]:
        self._note("asked", request)
        used = UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None)
        completion = Completion(text=reply_to(request), finish=FinishReason.STOP, used=used)
        future = self._delay.after(float(self._read("latency") or 0), completion)
        future.add_done_callback(lambda done: None if done.cancelled() else self._note("said", request))
        return future

    def describe(self) -> dict[str, str]:
        return {"weights": "chain"}

    def close(self) -> None:
        self._delay.close()

    def _read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text() if file.exists() else ""

    def _note(self, what: str, request: Request) -> None:
        with (self._folder / "calls").open("ab", buffering=0) as calls:  # one write: lines of processes do not mix
            calls.write(f"{what} {os.getpid()} {link(request)}\n".encode())


class Poisonable(Chain):
    def submit(self, request: Request) -> Future[Completion]:
        asked = request.asked
        assert asked is not None
        if self._read("poison") == poison_line(request.seed, asked.culture, asked.question.id):
            self._note("asked", request)
            with (self._folder / "injected").open("a") as file:
                file.write("poison\n")
            os._exit(EXIT_POISONED)
        return super().submit(request)


class Hanging(Chain):
    _hung = False

    def submit(self, request: Request) -> Future[Completion]:
        if not self._hung:
            try:
                (self._folder / "hang").unlink()
            except FileNotFoundError:
                return super().submit(request)
            self._hung = True
        self._note("asked", request)
        return Future()


def chain(card: ModelCard, *, survey: Survey, device: str) -> Chain:
    return Chain(Path(os.environ[FOLDER]))


def poisonable(card: ModelCard, *, survey: Survey, device: str) -> Chain:
    return Poisonable(Path(os.environ[FOLDER]))


def hanging(card: ModelCard, *, survey: Survey, device: str) -> Chain:
    return Hanging(Path(os.environ[FOLDER]))
