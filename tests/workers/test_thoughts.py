"""Thoughts: what a model thinks before it replies is neither read nor remembered, and cuts nothing short."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defsurvey.jobs.study.study import BUILT_IN_CONDITIONS
from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.workers.engines.base import Completion, FinishReason, Request
from defsurvey.workers.engines.transformers.engine import TransformersEngine
from defsurvey.workers.engines.transformers.loading import LoadedModel
from defsurvey.workers.engines.transformers.thoughts import decode_reply, special_marks, thought_begun
from defsurvey.workers.models import ModelCard
from defsurvey.workers.simulation.answer_parser import Reading, is_settled, read, spoken
from tests.workers.engine.test_generate import _generate, _request
from tests.workers.families.tiny_families import Family, write_tokenizer
from tests.workers.test_answers import CASES, QUESTIONS
from tests.workers.test_baselines import Asked, Noted, _interview
from tests.workers.test_settled import CUT

FAMILY = QUESTIONS["family"]
REPLY = "Answer: 1\nExplanation: Family comes first. Always."
THOUGHTS = [
    "<think>\nSo I should write:\nAnswer: 2\nHmm, no, family first.\n</think>\n\n",
    "I should weigh: rather important fits.\n</think>\n\n",  # the prompt has begun it
    "<think>\n\n</think>\n\n",
    "<think>I close with </think> when I am done: not 2.</think>",
    "<thinking>As an AI language model I have no family.</thinking>\n",
    "[THINK]Rather important, or not?[/THINK]",
    "<|channel|>analysis<|message|>Answer: 2 or 3?<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>analysis<|message|>Answer: 2 or 3?assistant<|channel|>final<|message|>",
]


def _read(text: str, reply: Reply = Reply.FULL, finish: FinishReason = FinishReason.STOP) -> Reading:
    return read(text, finish, FAMILY, FAMILY.codes, "en", reply)


@pytest.mark.parametrize("reply", list(Reply))
@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_reply_behind_thoughts_is_read_as_it_is_alone(thought: str, reply: Reply) -> None:
    """State, choice and memory are those of the reply; nothing of the thoughts is left."""
    assert _read(thought + REPLY, reply) == _read(REPLY, reply)
    assert _read(thought + "1", reply) == _read("1", reply)


@pytest.mark.parametrize("reply", list(Reply))
@pytest.mark.parametrize("finish", [FinishReason.LENGTH, FinishReason.STOP])
@pytest.mark.parametrize(
    "text",
    [
        "<think>\nOkay. The format is 'Answer: 1' and so on. Let me think about it. Many would say very important",
        "Answer: <think>\n1 or 2",
        "[THINK]Rather important",
        "<|channel|>analysis<|message|>Answer: 2",
        "<think>No.</think>\n<think>Answer: 1",
    ],
)
def test_a_thought_that_never_ends_is_no_answer(text: str, finish: FinishReason, reply: Reply) -> None:
    """Whatever it names, and for whichever reason the model ended there."""
    reading = _read(text, reply, finish)
    assert (reading.state, reading.choices, reading.remembered) == (AnswerState.UNPARSABLE, (), None)
    assert reading.reason == "cut off while thinking"


@given(st.text(max_size=200).filter(lambda text: not set("<[") & set(text)))
@settings(max_examples=100, deadline=None)
def test_a_text_without_marks_says_all_of_itself(text: str) -> None:
    """As every hand-written completion does, so that it is read as ever."""
    assert spoken(text) == (text, False)


def test_completions_without_thoughts_say_all_of_themselves() -> None:
    """Those written by hand, as ever."""
    for case in CASES:
        assert spoken(case.text) == (case.text, False)


@pytest.mark.parametrize("reply", CUT)
def test_no_reply_is_cut_amid_a_thought(reply: Reply) -> None:
    """Where the thought is over it is cut where it would be without, however long the thought was."""

    def cut(text: str) -> str | None:
        return next((text[:n] for n in range(len(text)) if is_settled(text[:n], FAMILY, FAMILY.codes, reply)), None)

    alone = cut(REPLY)
    assert alone is not None
    thought = f"<think>\n{REPLY}\nRequest: And? {'Let me see. ' * 200}"
    assert cut(thought) is None
    assert cut(f"{thought}</think>\n{REPLY}") == f"{thought}</think>\n{alone}"


class Thinking(Asked):
    """A scripted respondent that thinks before it replies, or is cut off meanwhile."""

    def __init__(self, *, ends: bool) -> None:
        super().__init__()
        self._end = "Enough.</think>\n" if ends else None

    def submit(self, request: Request) -> Future[Completion]:
        """The reply behind a thought."""
        completion = super().submit(request).result()
        told = "" if self._end is None else self._end + completion.text
        future: Future[Completion] = Future()
        future.set_result(replace(completion, text=f"<think>\nPerson 1: 4\nAnswer: Draft 5, Answer: 3.\n{told}"))
        return future


@pytest.mark.parametrize("name", ["ccsv-single", "ccsv-list"])
def test_steps_of_an_answer_pass_on_no_thoughts(name: str) -> None:
    """Prompts and answers are those of one who never thinks; what is kept stays whole."""
    condition = BUILT_IN_CONDITIONS[name]
    silent, thinking, notes = Asked(), Thinking(ends=True), Noted()
    plain, thought = (_interview(condition, engine, kept) for engine, kept in ((silent, Noted()), (thinking, notes)))
    assert [request.messages for request in thinking.requests] == [request.messages for request in silent.requests]
    for one, other in zip(plain, thought, strict=True):
        assert [a.choices for a in one.answers] == [a.choices for a in other.answers]
    assert all(step.completion.startswith("<think>") for step in notes.steps)


@pytest.mark.parametrize("name", ["ccsv-single", "ccsv-list"])
def test_steps_that_are_cut_off_while_thinking_answer_nothing(name: str) -> None:
    """Every slot says why."""
    for step in _interview(BUILT_IN_CONDITIONS[name], Thinking(ends=False), Noted()):
        for answer in step.answers:
            assert (answer.state, answer.reason) == (AnswerState.UNPARSABLE, "cut off while thinking")


@pytest.mark.parametrize(
    ("prompt", "begun"),
    [
        ("<|Assistant|><think>\n", "<think>\n"),
        ("[/INST][THINK]", "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("Think between <think> and </think>.\n[assistant] ", ""),
        ("[assistant] ", ""),
    ],
)
def test_a_prompt_begins_a_thought_only_at_its_end(prompt: str, begun: str) -> None:
    """Instructions may speak of marks, and a thought that is ended at once is a way to have none."""
    assert thought_begun(prompt) == begun


@pytest.mark.parametrize("prefix", [False, True])
def test_a_thought_that_the_prompt_began_is_part_of_the_reply(
    tiny_card: ModelCard, tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, prefix: bool
) -> None:
    """Its text shows that it is one, also to the question whether it will do, and the model goes on behind the mark."""
    template = tiny_loaded.tokenizer.chat_template + "{{ '<think>\\n' }}"
    monkeypatch.setattr(tiny_loaded.tokenizer, "chat_template", template)
    engine = TransformersEngine(tiny_card.model_copy(update={"answer_prefix": prefix}), tiny_loaded)
    request = _request(start="Answer: ")
    seen: list[str] = []
    reply = engine.submit(replace(request, enough=lambda text: bool(seen.append(text)))).result()
    engine.close()
    begun = "<think>\n" + ("Answer: " if prefix else "")
    assert reply.text == begun + _generate(
        tiny_loaded, f"[user] How are you?\n[assistant] {begun}", request.decoding, 11
    )
    assert seen
    assert all(text.startswith(begun) for text in seen)


def test_marks_are_kept_where_they_are_special_tokens(tmp_path: Path) -> None:
    """No other special token is, and where marks are ordinary tokens nothing changes."""
    special = ("<|channel|>", "<|message|>", "<|end|>")
    tokenizer: Any = write_tokenizer(tmp_path, Family(architecture="", special=special))
    text = "<|channel|>analysis<|message|>2?<|end|><|channel|>final<|message|>1<|end|>"
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    marks = special_marks(tokenizer)
    assert len(marks) == 2
    assert decode_reply(tokenizer, tokens, marks) == text.replace("<|end|>", "")
    assert decode_reply(tokenizer, tokens[:0], marks) == ""
    plain: Any = write_tokenizer(tmp_path / "plain", Family(architecture="", special=()))
    assert special_marks(plain) == frozenset()
    said = plain("<think>no</think>1", add_special_tokens=False)["input_ids"]
    assert decode_reply(plain, said, frozenset()) == plain.decode(said, skip_special_tokens=True)
