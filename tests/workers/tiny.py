"""A language model of a few thousand random weights, in the hub's layout: real code paths in milliseconds."""

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
#: Tokens that prompt and reply may have together.
WINDOW = 256


def write_tiny_model(folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, **generation_defaults: Any) -> Path:
    """Write a random two-layer Llama with one token per ASCII character; returns the folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    # Printable characters and the byte-level signs for blank and line break: a text tells which tokens it is made of.
    alphabet = [chr(code) for code in range(33, 127)] + ["\u0120", "\u010a"]
    vocabulary = {token: number for number, token in enumerate(["<begin>", "<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<begin>", eos_token="<end>")
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=WINDOW,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.6,  # wide enough that sampling does not draw every byte alike
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, **generation_defaults)
    model.save_pretrained(folder)
    return folder
