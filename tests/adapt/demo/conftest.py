"""One rendering of the demo data sets for the whole test session."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def demo_cache(tmp_path_factory):
    """Keep `$UDA_CACHE` if the user has one, so that its pictures are checked and reused."""
    with pytest.MonkeyPatch.context() as patch:
        if "UDA_CACHE" not in os.environ:
            patch.setenv("UDA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
