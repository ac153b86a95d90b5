"""A tiny random model of each architecture that a bundled card names, with a tokenizer that knows its special tokens.

The templates are those that the models were published with, reduced to what an interview uses: no tools, no images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

#: One token per character: those of ASCII, and the signs that the byte-level alphabet has for blank and line break.
ALPHABET = [chr(code) for code in range(33, 127)] + ["\u0120", "\u010a"]

_LLAMA_3 = (
    "{% for message in messages %}{{ '<|begin_of_text|>' if loop.first else '' }}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{{ '[INST] ' + message.content + ' [/INST]' if message.role == 'user' else message.content + eos_token + ' ' }}"
    "{% endfor %}"
)
_QWEN_3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
_OLMO_2 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content }}"
    "{{ eos_token if message.role == 'assistant' else '' }}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
_PHI_4 = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '<|im_sep|>' + message.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """An architecture with the parts of a tokenizer that its prompts need."""

    architecture: str  #: the library's name, without ``Config`` and ``ForCausalLM``
    settings: Mapping[str, Any] = field(default_factory=dict)  #: what its configuration has beside the usual sizes
    template: str | None = None  #: the tokenizer's own
    special: tuple[str, ...] = ()  #: tokens of its own, beside those that begin and end
    begin: str | None = "<s>"
    adds: tuple[str, ...] | None = None  #: what the vendor's tokenizer puts before every text; None: what begins
    end: str = "</s>"
    prompt: str = ""  #: of the conversation "Hi." "Hello." "And?", written out by hand

    @property
    def added(self) -> tuple[str, ...]:
        """The tokens that its tokenizer puts before every text."""
        if self.adds is not None:
            return self.adds
        return () if self.begin is None else (self.begin,)


#: By the name of the bundled card.
FAMILIES: dict[str, Family] = {
    "wizardlm-13b-v1-2": Family(
        architecture="Llama",
        prompt="<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions. "
        "USER: Hi. ASSISTANT: Hello.</s>USER: And? ASSISTANT:",
    ),
    "mistral-7b-instruct-v0-1": Family(
        architecture="Mistral",
        settings={"sliding_window": 16},
        template=_MISTRAL,
        prompt="<s>[INST] Hi. [/INST]Hello.</s> [INST] And? [/INST]",
    ),
    "dolphin-2-2-1-mistral-7b": Family(
        architecture="Mistral",
        settings={"sliding_window": 16},
        special=("<|im_start|>", "<|im_end|>"),
        prompt="<|im_start|>system\nYou are Dolphin, a helpful AI assistant.<|im_end|>\n"
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama-3-8b": Family(
        architecture="Llama", begin="<|begin_of_text|>", end="<|end_of_text|>", prompt="Hi.\n\nHello.\n\nAnd?\nAnswer: "
    ),
    "llama-3-8b-instruct": Family(
        architecture="Llama",
        template=_LLAMA_3,
        begin="<|begin_of_text|>",
        end="<|end_of_text|>",
        special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        prompt="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "dolphin-2-9-1-llama-3-8b": Family(
        architecture="Llama",
        begin="<|begin_of_text|>",
        end="<|end_of_text|>",
        special=("<|im_start|>", "<|im_end|>"),
        prompt="<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen3-8b": Family(
        architecture="Qwen3",
        settings={"head_dim": 8},
        template=_QWEN_3,
        begin=None,
        end="<|im_end|>",
        special=("<|im_start|>",),
        prompt="<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    "smollm3-3b": Family(
        architecture="SmolLM3",
        settings={"no_rope_layers": [1, 0]},
        begin=None,
        end="<|im_end|>",
        special=("<|im_start|>",),
        prompt="<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face.<|im_end|>\n"
        "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nHello.<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
    ),
    "olmo-2-7b-instruct": Family(
        architecture="Olmo2",
        template=_OLMO_2,
        begin="<|endoftext|>",
        adds=(),
        end="<|endoftext|>",
        special=("<|user|>", "<|assistant|>"),
        prompt="<|endoftext|><|user|>\nHi.\n<|assistant|>\nHello.<|endoftext|>\n<|user|>\nAnd?\n<|assistant|>\n",
    ),
    "phi-4": Family(
        architecture="Phi3",
        template=_PHI_4,
        begin="<|endoftext|>",
        adds=(),
        end="<|im_end|>",
        special=("<|im_start|>", "<|im_sep|>"),
        prompt="<|im_start|>user<|im_sep|>Hi.<|im_end|><|im_start|>assistant<|im_sep|>Hello.<|im_end|>"
        "<|im_start|>user<|im_sep|>And?<|im_end|><|im_start|>assistant<|im_sep|>",
    ),
}


FAMILIES |= {
    "llama3-chinese-8b-instruct": FAMILIES["llama-3-8b-instruct"],
    "mixtral-8x7b-instruct-v0-1": replace(
        FAMILIES["mistral-7b-instruct-v0-1"],
        architecture="Mixtral",
        settings={"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
}


def write_family(folder: Path, family: Family, *, width: int = 32) -> Path:
    """Write a random model of so wide layers, and its tokenizer, in the hub's layout; returns the folder."""
    import torch
    import transformers

    tokenizer = write_tokenizer(folder, family)
    make_config: Callable[..., Any] = getattr(transformers, f"{family.architecture}Config")
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.4,  # wide enough that no two continuations are nearly alike
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    config = make_config(**sizes, **family.settings)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = getattr(transformers, f"{family.architecture}ForCausalLM")(config)
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, family: Family) -> Any:
    """Write the tokenizer alone: a character is a token, and so is each of the family's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    named = (family.begin, family.end, *family.added, *family.special)
    special = list(dict.fromkeys([token for token in named if token]))
    vocabulary = {token: number for number, token in enumerate([*special, *ALPHABET])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if family.added:
        single, added = " ".join([*family.added, "$A"]), [(token, vocabulary[token]) for token in family.added]
        made.post_processor = processors.TemplateProcessing(single=single, special_tokens=added)
    own: dict[str, Any] = {"additional_special_tokens": list(family.special)} if family.special else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=family.begin, eos_token=family.end, **own)
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(folder)
    return tokenizer
