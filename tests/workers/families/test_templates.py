"""Templates of our own for models that are not loaded here, and conversations that a template does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import Message, Request
from defsurvey.workers.engines.transformers.prompt import render_prompt
from tests.workers.families.tiny_families import FAMILIES, Family, write_tokenizer

BAICHUAN2 = Family(architecture="", special=("<reserved_106>", "<reserved_107>"))
CHATGLM2 = Family(architecture="", begin=None)
FIRST = Message(role="user", content="你好")
SECOND = (Message(role="assistant", content="您好！"), Message(role="user", content="再见"))
SYSTEM = Message(role="system", content="Be brief.")


def asked(*messages: Message) -> Request:
    """A request with these messages."""
    return Request(messages=messages, decoding=Decoding(), seed=1, reply_start="Answer: ")


@pytest.mark.parametrize(
    ("template", "family", "messages", "text"),
    [
        ("baichuan2", BAICHUAN2, (FIRST,), "<reserved_106>你好<reserved_107>"),
        (
            "baichuan2",
            BAICHUAN2,
            (SYSTEM, FIRST, *SECOND),
            "Be brief.<reserved_106>你好<reserved_107>您好！<reserved_106>再见<reserved_107>",
        ),
        ("chatglm2", CHATGLM2, (FIRST,), "[Round 1]\n\n问：你好\n\n答："),
        (
            "chatglm2",
            CHATGLM2,
            (FIRST, *SECOND),
            "[Round 1]\n\n问：你好\n\n答：您好！\n\n[Round 2]\n\n问：再见\n\n答：",
        ),
        ("chatglm2", CHATGLM2, (SYSTEM, FIRST), "Be brief.\n\n[Round 1]\n\n问：你好\n\n答："),
        (
            "llama3",
            FAMILIES["llama-3-8b-instruct"],
            (SYSTEM, FIRST),
            (
                "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\n你好<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        ),
        ("vicuna", FAMILIES["wizardlm-13b-v1-2"], (SYSTEM, FIRST), "<s>Be brief. USER: 你好 ASSISTANT:"),
        (
            "smollm3",
            FAMILIES["smollm3-3b"],
            (SYSTEM, FIRST),
            (
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n"
                "<|im_start|>assistant\n<think>\n\n</think>\n"
            ),
        ),
    ],
)
def test_a_template_of_our_own_is_rendered_literally(
    tmp_path: Path, template: str, family: Family, messages: tuple[Message, ...], text: str
) -> None:
    """As the publishers' own code puts a conversation together."""
    tokenizer: Any = write_tokenizer(tmp_path, family)
    assert render_prompt(tokenizer, template, asked(*messages), answer_prefix=False) == text
    assert render_prompt(tokenizer, template, asked(*messages), answer_prefix=True) == text + "Answer: "


def test_a_template_that_refuses_a_conversation_says_why(tmp_path: Path) -> None:
    """Mistral's asks for turns that alternate; the message names the template and what it said."""
    tokenizer: Any = write_tokenizer(tmp_path, FAMILIES["mistral-7b-instruct-v0-1"])
    with pytest.raises(ValueError, match="chat template tokenizer refuses the messages: roles must alternate"):
        render_prompt(tokenizer, "tokenizer", asked(FIRST, FIRST), answer_prefix=False)
