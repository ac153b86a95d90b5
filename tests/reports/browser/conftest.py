"""One browser for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.reports.browser.chromium import Chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(profile=tmp_path_factory.mktemp("profile")) as started:
        yield started
