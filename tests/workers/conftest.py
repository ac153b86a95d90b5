"""Surveys and models that the tests of this room share."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.schema import migrate
from defsurvey.storage.surveys.survey import Group, Option, Question, ReferenceDistribution, Survey
from defsurvey.workers.engines.transformers import opening
from defsurvey.workers.engines.transformers.core.engine import TransformersEngine
from defsurvey.workers.engines.transformers.core.loaded import LoadedModel
from defsurvey.workers.engines.transformers.loading import load_model
from defsurvey.workers.engines.transformers.weights import find_weights
from defsurvey.workers.models import ModelCard, find_card, read_cards
from tests.workers.citizens import DIVORCE, FAMILY, QUALITIES, SURVEY
from tests.workers.tiny import write_tiny_model

REPOSITORY = Path(__file__).parents[2]


#: One more to choose from, and one more that may be chosen.
MORE_QUALITIES = replace(
    QUALITIES, options=(*QUALITIES.options, Option(code=5, label={"en": "Faith", "zh": "信仰"})), max_choices=3
)


def _reference(question: Question, culture: str, *shares: float) -> ReferenceDistribution:
    codes = dict(zip(question.codes, shares, strict=True))
    return ReferenceDistribution(question=question.id, culture=culture, group=Group.ALL, shares=codes, n=2000)


@pytest.fixture(scope="session")
def small_survey() -> Survey:
    """Three questions, answered in the United States, and the first also in China."""
    references = (
        _reference(FAMILY, "us", 0.5, 0.3, 0.15, 0.05),
        _reference(FAMILY, "cn", 0.1, 0.2, 0.3, 0.4),
        _reference(MORE_QUALITIES, "us", 0.9, 0.75, 0.55, 0.2, 0.1),
        _reference(DIVORCE, "us", 0.2, 0.6, 0.2, *7 * [0.0]),
    )
    return replace(SURVEY, cultures=(), questions=(FAMILY, MORE_QUALITIES, DIVORCE), references=references)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path / 'x.db'}", threads=8, synchronous="off") as opened:
        migrate(opened)
        yield opened


@pytest.fixture(scope="session")
def one_thread() -> None:
    """One thread for the test's own calls of torch: several that share their cores with others spin, and crawl."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_card(tiny_folder: Path) -> ModelCard:
    return ModelCard(name="tiny", path=tiny_folder, dtype="float32")


@pytest.fixture(scope="session")
def tiny_loaded(one_thread: None, tiny_card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(tiny_card, find_weights(tiny_card, tmp_path_factory.mktemp("cache")), device="cpu")


@pytest.fixture
def tiny_engine(tiny_card: ModelCard, tiny_loaded: LoadedModel) -> Iterator[TransformersEngine]:
    engine = opening.serve(tiny_card, opening.in_memory(tiny_loaded), threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def models_cache() -> Path:
    """Where the real model is kept between test runs, so that it is fetched once."""
    return Path(os.environ.get("DEFSURVEY_CACHE") or REPOSITORY / ".defsurvey" / "models")


@pytest.fixture(scope="session")
def smollm_card() -> ModelCard:
    return find_card("smollm2-135m-instruct", read_cards())


@pytest.fixture(scope="session")
def smollm_loaded(one_thread: None, smollm_card: ModelCard, models_cache: Path) -> LoadedModel:
    return load_model(smollm_card, find_weights(smollm_card, models_cache), device="cpu")


@pytest.fixture(scope="session")
def smollm_engine(smollm_card: ModelCard, smollm_loaded: LoadedModel) -> Iterator[TransformersEngine]:
    engine = opening.serve(smollm_card, opening.in_memory(smollm_loaded), threads=1)
    yield engine
    engine.close()
