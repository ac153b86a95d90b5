"""Engines that rephrase by rule: for tests, named in a model card by their functions."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from defsurvey.storage.runs.run import UsedDecoding
from defsurvey.storage.surveys.survey import Survey
from defsurvey.workers.engines.base import Completion, Engine, FinishReason, Request
from defsurvey.workers.models import ModelCard

USED = UsedDecoding(num_beams=1, do_sample=True, temperature=1.0, top_p=1.0, max_new_tokens=256)
#: A file to which every request adds a line, where the environment names one.
COUNTED = "PARAPHRASER_REQUESTS"


class Paraphraser(Engine):
    """Replies with what a function makes of the prompt; None: the engine gives up.

    What the function raises is raised by ``submit``; ``late``: is of the request's future.
    """

    def __init__(
        self, reply: Callable[[str], str | None], finish: FinishReason = FinishReason.STOP, *, late: bool = False
    ) -> None:
        self.requests: list[Request] = []
        self.reply, self.finish, self.late = reply, finish, late

    def submit(self, request: Request) -> Future[Completion]:
        self.requests.append(request)
        if COUNTED in os.environ:
            with Path(os.environ[COUNTED]).open("a") as file:
                file.write("one\n")
        future: Future[Completion] = Future()
        try:
            text = self.reply(request.messages[-1].content)
        except Exception as error:
            if not self.late:
                raise
            future.set_exception(error)
            return future
        if text is None:
            future.set_result(Completion(text="", finish=FinishReason.ERROR, used=USED, error="the server is gone"))
        else:
            future.set_result(Completion(text=text, finish=self.finish, used=USED))
        return future

    def describe(self) -> dict[str, str]:
        return {}


def question_in(prompt: str) -> str:
    return next(line for line in prompt.splitlines() if line.startswith(("Question: ", "题目："))).partition(
        ": " if "Question: " in prompt else "："
    )[2]


def new_wording(prompt: str) -> str:
    """The question behind one more word than the wordings that the prompt knows."""
    known = prompt.rstrip().splitlines()
    mark = next(number for number, line in enumerate(known) if line.startswith(("Wordings", "已有")))
    number = len(known) - mark - 1
    begins = ("Well, ", "So, ", "And, ", "Now, ") if "Question: " in prompt else ("那么，", "好，", "再问，", "请问，")
    return f"{begins[number - 1]}{question_in(prompt)}"


def open_good(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    return Paraphraser(new_wording)


def open_parrot(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    return Paraphraser(question_in)


def open_broken(card: ModelCard, *, survey: Survey, device: str) -> Engine:
    return Paraphraser(lambda prompt: None)
