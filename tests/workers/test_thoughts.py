"""Thoughts that a model of this machine thinks before it replies are part of its text, however they are marked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from defsurvey.workers.engines.transformers import opening
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.core.prompt import decode_reply, special_marks, thought_begun
from defsurvey.workers.models import ModelCard
from tests.workers.engine.test_engine import _generate, _question
from tests.workers.families.tiny_families import Family, write_tokenizer


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
    engine = opening.serve(tiny_card.model_copy(update={"answer_prefix": prefix}), opening.in_memory(tiny_loaded))
    request = _question(start="Answer: ")
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
