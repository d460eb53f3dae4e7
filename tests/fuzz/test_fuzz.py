"""Every reader refuses damaged files; 1 % of `make acceptance PART=fuzz`.

The workers see what is wrong with a reader: another error, a crash, a hang, a flood of memory.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FormatError, UdaError
from tests.fuzz import of_monitoring, of_runtime, of_training, workers
from tests.fuzz.reading import Reader


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    places = [tmp_path_factory.mktemp(name) for name in ("runtime", "training", "monitoring")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UDA_CACHE", str(places[1] / "cache"))
        yield [
            *of_runtime.readers(places[0]),
            *of_training.readers(places[1]),
            *of_monitoring.readers(places[2]),
        ]


def test_every_seed_is_accepted(readers):
    assert len({reader.name for reader in readers}) == len(readers) > 25
    for reader in readers:
        for seed in reader.seeds:
            reader.read(seed)


def test_damage_is_refused_by_every_reader(readers, tmp_path):
    found = workers.fuzz(readers, 0, tmp_path, loads=1000)
    assert {name: tally.failures for name, tally in found.items() if tally.failures} == {}
    for name, tally in found.items():
        # What a cache lacks is made again, and a page does without a history.
        made_again = "cached" in name or name in ("drawn data set", "metrics", "history of a page")
        assert tally.counts["refused"] > 5 or made_again or name == "svhn's images", name
    assert sum(sum(tally.counts.values()) for tally in found.values()) >= 1000


def test_what_lies_behind_a_digest_is_reached(readers):
    for reader in readers:
        if reader.name not in ("manifest", "task file", "artifact", "checkpoint", "install"):
            continue
        reasons = set()
        for seed in range(15):
            draw = np.random.default_rng(seed)
            content = reader.rehash(reader.seeds[0], draw)
            assert content == reader.rehash(reader.seeds[0], np.random.default_rng(seed))
            try:
                reader.read(content)
            except UdaError as error:
                reasons.add("digest does not match" in str(error))
        assert reasons == {False}, reader.name


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (lambda content: content[len(content)], "IndexError"),
        (lambda content: os.kill(os.getpid(), 11), "ended its process, status 11"),
        (lambda content: os._exit(0), "ended its process, status 0"),
        (lambda content: bytearray(200 << 20), "3 times the bytes"),
        (lambda content: time.sleep(60), "did not end within"),
        (lambda content: sum(range(10**7)), "took more than"),
    ],
)
def test_what_is_wrong_with_a_reader_is_found_and_its_file_kept(tmp_path, monkeypatch, read, why):
    if "end within" in why:
        monkeypatch.setattr(workers, "HANGS", 1.0)
    monkeypatch.setattr(workers, "SECONDS", 0.1)

    def second(content: bytes) -> None:
        if content != b"abcdef":
            read(content)
            raise FormatError("damaged")

    found = workers.fuzz([Reader("broken", [b"abcdef"], second)], 0, tmp_path, loads=1)["broken"]
    assert found.counts == {"failed": 1}
    ((reason, file),) = found.failures.items()
    assert why in reason and Path(file).read_bytes() != b"abcdef"
