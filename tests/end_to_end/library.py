"""Four models that take a while to open, and note in files what they were used for.

A card names them as ``tests.end_to_end.library:open_slowly``. In the folder ``LIBRARY_FOLDER``:

``loads``  a line for every model opened: process, model
``most``   a line for every model closed: the most requests that it had under way at once
``fatal``  name of the model whose opening ends the process, once
"""

import os
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, Request
from defsurvey.workers.engines.scripted import ScriptedEngine
from defsurvey.workers.models import ModelCard, find_card, read_cards

FOLDER = "LIBRARY_FOLDER"
MODELS = ("alder", "birch", "cedar", "elm")
ROOM = 3  #: how many requests a model has room for
OPENING_SECONDS = 0.3
REPLY_SECONDS = 0.02


class Slow:
    at_once = ROOM

    def __init__(self, card: ModelCard, survey: Survey, folder: Path) -> None:
        self._folder, self._name = folder, card.name
        self._respondent = ScriptedEngine(find_card("human", read_cards()), survey)
        self._lock = threading.Lock()
        self._now = self._most = 0

    def submit(self, request: Request) -> Future[Completion]:
        with self._lock:
            self._now += 1
            self._most = max(self._most, self._now)
        time.sleep(REPLY_SECONDS)
        with self._lock:
            self._now -= 1
        return self._respondent.submit(request)

    def describe(self) -> dict[str, str]:
        return {"weights": self._name}

    def close(self) -> None:
        note(self._folder / "most", f"{self._name} {self._most}")
        self._respondent.close()


def open_slowly(card: ModelCard, *, survey: Survey, device: str) -> Slow:
    folder = Path(os.environ[FOLDER])
    note(folder / "loads", f"{os.getpid()} {card.name}")
    time.sleep(OPENING_SECONDS)
    fatal = folder / "fatal"
    if fatal.exists() and fatal.read_text() == card.name:
        fatal.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return Slow(card, survey, folder)


def note(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(line + "\n")
