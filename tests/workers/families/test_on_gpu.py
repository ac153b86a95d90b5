"""Weights in four bits where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from defsurvey.workers.engines.base import FinishReason
from defsurvey.workers.engines.opening import open_engine
from defsurvey.workers.models import ModelCard
from tests.workers.citizens import SURVEY
from tests.workers.families.test_families import interview_request
from tests.workers.families.tiny_families import FAMILIES, write_family


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["wizardlm-13b-v1-2", "mixtral-8x7b-instruct-v0-1"])
def test_four_bits_answer_on_a_gpu(name: str, tmp_path: Path) -> None:
    """Dense layers and a mixture's experts are made 4 bits on the device and serve every request in one batch."""
    folder = write_family(tmp_path, FAMILIES[name], width=64)
    card = ModelCard(name=name, path=folder, quantisation="nf4", chat_template="chatml")
    engine = open_engine(card, survey=SURVEY, device="cuda", cache=tmp_path)
    completion = engine.submit(interview_request(SURVEY, card)).result(timeout=120)
    description = engine.describe()
    engine.close()
    assert completion.finish is not FinishReason.ERROR, completion.error
    assert (description["quantisation"], description["dtype"]) == ("nf4", "bfloat16")
    assert description["device"].startswith("cuda")
    assert description["batching"] == "continuous"
