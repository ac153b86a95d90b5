"""Where the finding is said stands in which language each culture was asked, and which weights answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from defsurvey.reports.analysis import analyse
from defsurvey.reports.contents import page
from tests.reports.synthetic import human, results

GGUF = {"weights": "/mine/model.gguf", "weights_format": "GGUF", "dtype": "float32", "quantisation": "none"}
TYPED = GGUF | {"weights_type": "Q4_K_M"}
SAFE = {"weights": "hub a/b", "weights_format": "safetensors", "dtype": "bfloat16", "quantisation": "none"}


@pytest.mark.parametrize(
    ("languages", "said"),
    [
        (("en", "en"), "The United States was asked in English; China was asked in English, not in its own language"),
        (("en", "zh"), "The United States was asked in English; China was asked in Chinese."),
        (("zh", "zh"), "The United States was asked in Chinese, not in its own language, English; China was asked in"),
    ],
)
def test_the_language_of_each_culture_is_said(languages: tuple[str, str], said: str) -> None:
    """A culture that was not asked in its own language is named with the language it was asked in."""
    made = results([("m", culture, "def", human) for culture in ("us", "cn")])
    cells = tuple(replace(cell, language=language) for cell, language in zip(made.run.cells, languages, strict=True))
    whole = page(analyse(replace(made, run=replace(made.run, cells=cells))))
    assert whole.sentences[0].startswith(said)


@pytest.mark.parametrize(
    ("described", "said", "provenance"),
    [
        (TYPED, "4-bit weights (GGUF, Q4_K_M), dequantised to float32", ""),
        (TYPED | {"weights_type": "F16"}, "", "not quantised (GGUF), held in float32"),
        (SAFE, "", "not quantised (safetensors), held in bfloat16"),
        (SAFE | {"quantisation": "nf4"}, "weights made 4-bit (NF4) while loading, computed in bfloat16", ""),
        (SAFE | {"published_in": "fp8"}, "weights published in fp8, computed in bfloat16", ""),
        ({"engine": "openai", "model": "m"}, "", ""),
    ],
    ids=["typed", "full GGUF", "full", "nf4", "fp8", "server"],
)
def test_quantised_weights_are_said(described: Mapping[str, str], said: str, provenance: str) -> None:
    """Beside the finding where they are quantised, in provenance always; nowhere is a 4-bit file called unquantised."""
    whole = page(analyse(replace(results([("m", "us", "def", human)]), engines={"m": described})))
    assert (f"m answered from {said}." in whole.sentences[0]) is bool(said)
    assert ("answered from" in whole.sentences[0]) is bool(said)
    (section,) = [section for section in whole.sections if section.anchor == "provenance"]
    terms = {term.name: term.value for term in section.terms}
    assert terms.get("Weights of m", "") == said or provenance == terms["Weights of m"]
    assert "quantisation: none" not in terms["Model m"]
