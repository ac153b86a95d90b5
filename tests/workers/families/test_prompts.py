"""How a conversation is put before a model: templates of our own, and special tokens exactly once."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from defsurvey.storage.runs.run import Decoding
from defsurvey.workers.engines.base import Message, Request
from defsurvey.workers.engines.openai import open_openai
from defsurvey.workers.engines.transformers.core.prompt import encode_prompt, own_templates, render_prompt
from defsurvey.workers.models import ModelCard, find_card, read_cards
from tests.workers.api.server import Got, Reply, chat, serving
from tests.workers.families.tiny_families import FAMILIES, Family, write_tokenizer

FIRST = Message(role="user", content="你好")
SECOND = (Message(role="assistant", content="您好！"), Message(role="user", content="再见"))
SYSTEM = Message(role="system", content="Be brief.")
#: Families of the cards behind a server, as their publishers' own code behaves.
SERVED: Mapping[str, Family] = {
    "chatglm2-6b": Family(architecture="", begin=None, adds=("[gMASK]", "sop")),
    "baichuan2-13b-chat": Family(architecture="", adds=(), special=("<reserved_106>", "<reserved_107>")),
}
#: Whether a vendor's tokenizer adds a token that we have not seen; what it adds is what the model gets.
UNSEEN = {"smollm3-3b": replace(FAMILIES["smollm3-3b"], begin="<|begin_of_text|>")}


def asked(*messages: Message) -> Request:
    return Request(messages=messages, decoding=Decoding(max_new_tokens=8), seed=1, reply_start="Answer: ")


REQUEST = asked(FIRST, *SECOND)


@pytest.mark.parametrize(
    ("template", "name", "messages", "text"),
    [
        (
            "baichuan2",
            "baichuan2-13b-chat",
            (SYSTEM, FIRST, *SECOND),
            "Be brief.<reserved_106>你好<reserved_107>您好！<reserved_106>再见<reserved_107>",
        ),
        (
            "chatglm2",
            "chatglm2-6b",
            (SYSTEM, FIRST, *SECOND),
            "Be brief.\n\n[Round 1]\n\n问：你好\n\n答：您好！\n\n[Round 2]\n\n问：再见\n\n答：",
        ),
        (
            "llama3",
            "llama-3-8b-instruct",
            (SYSTEM, FIRST),
            (
                "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\n你好<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        ),
        ("vicuna", "wizardlm-13b-v1-2", (SYSTEM, FIRST), "<s>Be brief. USER: 你好 ASSISTANT:"),
        (
            "smollm3",
            "smollm3-3b",
            (SYSTEM, FIRST),
            (
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n"
                "<|im_start|>assistant\n<think>\n\n</think>\n"
            ),
        ),
    ],
)
def test_a_template_of_our_own_is_rendered_literally(
    tmp_path: Path, template: str, name: str, messages: tuple[Message, ...], text: str
) -> None:
    tokenizer: Any = write_tokenizer(tmp_path, (FAMILIES | SERVED)[name])
    assert render_prompt(tokenizer, template, asked(*messages), answer_prefix=False) == text
    assert render_prompt(tokenizer, template, asked(*messages), answer_prefix=True) == text + "Answer: "


def test_a_template_that_refuses_a_conversation_says_why(tmp_path: Path) -> None:
    tokenizer: Any = write_tokenizer(tmp_path, FAMILIES["mistral-7b-instruct-v0-1"])
    with pytest.raises(ValueError, match="chat template tokenizer refuses the messages: roles must alternate"):
        render_prompt(tokenizer, "tokenizer", asked(FIRST, FIRST), answer_prefix=False)


def first_of(family: Family) -> tuple[str, ...]:
    """What a prompt has to begin with: what the tokenizer adds, or its own template writes."""
    written = family.begin is not None and family.prompt.startswith(family.begin)
    return (str(family.begin),) if written else family.added


def assert_once(tokenizer: Any, ids: list[int], first: tuple[str, ...]) -> None:
    """The prompt begins with these tokens and holds them nowhere else, but for one that ends a turn as well."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tuple(tokens[: len(first)]) == first
    assert not set(tokens[len(first) :]) & set(first) - {tokenizer.eos_token}
    assert tokens[len(first)] != tokenizer.bos_token


def test_every_card_behind_a_server_of_ones_own_is_looked_at() -> None:
    assert {name for name, card in read_cards().items() if card.engine == "openai"} == set(SERVED)


@pytest.mark.parametrize(("name", "family"), [*FAMILIES.items(), *UNSEEN.items()])
def test_special_tokens_arrive_once_in_process(tmp_path: Path, name: str, family: Family) -> None:
    card, tokenizer = find_card(name, read_cards()), write_tokenizer(tmp_path, family)
    options = card.template_options
    text = render_prompt(tokenizer, card.chat_template, REQUEST, answer_prefix=card.answer_prefix, options=options)
    assert_once(tokenizer, encode_prompt(tokenizer, card.chat_template, text), first_of(family))


@pytest.mark.parametrize("name", SERVED)
def test_special_tokens_arrive_once_behind_a_server(tmp_path: Path, name: str) -> None:
    tokenizer = write_tokenizer(tmp_path, SERVED[name])
    assert_once(tokenizer, _seen_by_the_model(find_card(name, read_cards()), tokenizer), SERVED[name].added)


def _seen_by_the_model(card: ModelCard, tokenizer: Any) -> list[int]:
    """The prompt that a model behind vLLM sees: special tokens are added where the request asks for them alone."""
    seen: list[list[int]] = []

    def behave(got: Got, _before: int) -> Reply:
        told = {"chat_template": own_templates()[card.chat_template], "tokenize": False, "add_generation_prompt": True}
        text = tokenizer.apply_chat_template(got.body["messages"], **told)
        seen.append(tokenizer(text, add_special_tokens=got.body.get("add_special_tokens", False))["input_ids"])
        return chat("Answer: 2")

    with serving(behave) as server:
        engine = open_openai(card.model_copy(update={"base_url": f"{server.url}/v1"}))
        try:
            assert engine.submit(REQUEST).result(20).text == "Answer: 2"
        finally:
            engine.close()
    return seen[0]
