"""What a loaded model is taken for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import Gemma3Config, LlamaConfig

from defsurvey.workers.engines.transformers import loading


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (LlamaConfig(max_position_embeddings=32), 32),
        (Gemma3Config(text_config={"max_position_embeddings": 64}), 64),  # of text and images
        (SimpleNamespace(get_text_config=SimpleNamespace), 7),  # positions without a limit
    ],
)
def test_the_window_is_the_texts(config: object, window: int) -> None:
    """Of a model of more than text too; where the configuration has none, the tokenizer's."""
    assert loading._window(config, SimpleNamespace(model_max_length=7)) == window
