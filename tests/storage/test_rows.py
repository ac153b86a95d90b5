"""From nouns to columns and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from defsurvey.storage.database import Database
from defsurvey.storage.runs import store
from defsurvey.storage.runs.ledger import Ledger
from defsurvey.storage.runs.rows import digest, flat
from defsurvey.storage.runs.run import (
    Condition,
    UsedDecoding,
)
from defsurvey.storage.text import storable
from tests.storage.small_run import DRAWS, USED, answer, claimed, started
from tests.storage.what_is_there import answers_of

NUL, LONE = "before\x00after", "half \ud83d of a sign"


@pytest.mark.parametrize(
    "noun",
    [
        Condition(name="mine", prompt=False, config=False, memory=True, option_order=None),
        replace(DRAWS, region=None),
        USED,
        UsedDecoding(num_beams=None, do_sample=None, temperature=None, top_p=None, max_new_tokens=None),
    ],
)
def test_plain_nouns_survive_json(noun: Condition | UsedDecoding) -> None:
    """What is unknown stays unknown."""
    assert type(noun)(**json.loads(json.dumps(flat(noun)))) == noun


def test_equal_replies_have_equal_digests() -> None:
    """White space at the ends does not count, everything else does; a digest fits 64 bits with a sign."""
    texts = ["yes", "Yes", "yes.", "y es", "", "是", NUL, LONE]
    digests = [digest(text) for text in texts]
    assert digest("  yes\n") == digests[0] == -3336744714449159534  # digests are stored: they must not change
    assert len(set(digests)) == len(texts)
    assert all(-(2**63) <= value < 2**63 for value in digests)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("plain", "plain"), ("是 🙂\n", "是 🙂\n"), (NUL, "before␀after"), (LONE, "half ? of a sign"), ("", "")],
)
def test_text_is_kept_as_far_as_any_database_can(text: str, kept: str) -> None:
    """Nothing that can be kept is changed; what cannot is shown to have been there."""
    assert storable(text) == kept


def test_a_reply_that_no_database_can_keep_does_not_stop_the_run(database: Database, ledger: Ledger) -> None:
    """NUL and half a surrogate pair, wherever a model's text may end, are committed on both databases alike."""
    first, _ = started(database)
    held = claimed(ledger, first)
    ledger.checkpoint(held, answer(held, 0, completion=NUL, remembered=LONE, reason=NUL), (0,))
    ledger.checkpoint(held, answer(held, 1, completion=LONE, remembered=None), (0,))
    kept = [(said.completion, said.remembered, said.reason) for said in answers_of(database, first)]
    assert kept == [("before␀after", "half ? of a sign", "before␀after"), ("half ? of a sign", None, "")]
    assert store.recall(database, first, (0,)) == {0: "half ? of a sign"}
