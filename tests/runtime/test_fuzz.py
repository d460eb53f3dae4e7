"""The fuzzer damages every kind of file, and reports what a reader does but refuse or accept."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import fuzz
from runtime.bundles.bundle import Bundle
from runtime.errors import FormatError


@pytest.fixture
def targets(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    (tmp_path / "work").mkdir()
    return fuzz.targets(Bundle.open(mixed.path), tmp_path / "work")


def test_every_seed_is_accepted_and_damage_is_refused_by_every_reader(targets):
    for target in targets:
        assert [fuzz.attempt(target, seed) for seed in target.seeds] == [("accepted", "")] * len(
            target.seeds
        ), target.name
    report = fuzz.fuzz(targets, 2, np.random.default_rng(0))
    assert report["failures"] == []
    assert all(row["refused"] > 5 for row in report["rows"])


def test_what_lies_behind_a_digest_is_reached(targets):
    for target in targets:
        if target.reseal is None:
            continue
        reasons = set()
        for seed in range(40):
            draw = np.random.default_rng(seed)
            content = target.reseal(target.seeds[0], draw)
            assert content == target.reseal(target.seeds[0], np.random.default_rng(seed))
            try:
                target.read(content)
            except FormatError as error:
                reasons.add("digest" if "digest does not match" in str(error) else "content")
        assert reasons == {"content"}, target.name


def test_an_error_of_another_kind_fails_and_the_file_is_kept(tmp_path, targets):
    def read(content: bytes) -> None:
        content[len(content)]

    report = fuzz.fuzz([fuzz.Target("broken", [b"abcdef"], read)], 0.2, np.random.default_rng(0))
    (failure,) = report["failures"]
    assert "IndexError" in failure and "broken, kept as" in failure
    assert list((tmp_path / "kept").iterdir())
