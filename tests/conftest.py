"""For all tests: one cache, so that the demo's pictures are drawn once, and a live Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when a test imports onnxruntime


@pytest.fixture(scope="session", autouse=True)
def uda_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep `$UDA_CACHE` if the user has one, so that its pictures are checked and reused."""
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("UDA_CACHE"):
            cache = tmp_path_factory.mktemp("cache")
            if os.environ.get("PYTEST_XDIST_WORKER"):
                # What one worker has drawn the others take.
                drawn = tmp_path_factory.getbasetemp().parent / "drawn"
                drawn.mkdir(exist_ok=True)
                (cache / "demo").symlink_to(drawn)
            patch.setenv("UDA_CACHE", str(cache))
        yield Path(os.environ["UDA_CACHE"])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can get to, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session", autouse=True)
def live_interrupt() -> None:
    """Hear Ctrl-C: a shell starts what runs in the background with it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
