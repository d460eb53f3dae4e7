"""The readers of monitoring: what tasks and bundles carry for it, and what it keeps on a disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime import DriftMonitor, Harvester, Prediction
from runtime.errors import FormatError
from runtime.models import Preprocess
from runtime.monitoring import confidence, harvested, routing, statistics, whitening
from runtime.monitoring.confidence import Calibration
from runtime.monitoring.fit import base_limits, task_statistics
from runtime.monitoring.gaussian import unit
from runtime.monitoring.statistics import TaskStatistics
from runtime.monitoring.table import RoutingTable, place
from runtime.monitoring.whitening import Whitening
from runtime.storage import checksummed
from tests.fuzz.damage import damage_json
from tests.fuzz.reading import Draw, Reader, from_file, rehash_checksummed, rehash_json

SIZE, CLASSES = 12, ("cup", "key", "dog")
KIND = "member"


def readers(place: Path) -> list[Reader]:
    """Return the readers of monitoring.

    Args:
        place: Empty folder for the files that are read.
    """
    features = 2 + np.random.default_rng(0).standard_normal((80, SIZE))
    rows, predicted = unit(features), np.arange(80) % 3
    own = task_statistics(rows, predicted, 3)
    own = replace(own, base_drift=base_limits(rows, predicted, 3))
    seen = list(_predictions(features, own))
    calibration = Calibration(1.5, 64)
    return [
        *_routing(rows, place / "whitening"),
        _member(statistics.MEMBER, own.document(), own.tensors(), _Watch(seen)),
        _member(confidence.MEMBER, calibration.document(), {}, _calibrate),
        _drift(place / "gate.json", seen),
        _harvest(place, seen),
    ]


def _predictions(features: np.ndarray, own: TaskStatistics) -> Iterator[Prediction]:
    for number, row in enumerate(features.astype(np.float32)):
        logits = np.zeros(3, np.float32)
        logits[number % 3] = number % 2 + 1
        yield Prediction("a-b", CLASSES, logits, row, own)


def _member(
    name: str,
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    use: Callable[[dict[str, Any], dict[str, np.ndarray]], object],
) -> Reader:
    """Return the reader of an optional member of a task, which `use` reads and uses."""

    def read(content: bytes) -> None:
        file = checksummed.read(Path("task"), KIND, 1, content=content)
        if use(dict(file.document), dict(file.tensors)) is None:
            raise FormatError("another version, which is ignored")

    seed = checksummed.encode(KIND, 1, {name: document}, tensors)
    return Reader(f"{name} of a task", [seed], read, rehash_checksummed(KIND, 1))


def _routing(rows: np.ndarray, path: Path) -> list[Reader]:
    """Return the readers of what routes frames to tasks."""
    shared = whitening.fit([rows])
    own = routing.fit(rows, shared)

    def put(document: dict[str, Any], tensors: dict[str, np.ndarray]) -> object:
        found = routing.read(document, tensors)
        if found is not None:
            table = RoutingTable(shared, {"a-b": (place("a-b", found, shared), Preprocess(32))})
            assert np.isfinite(table.scores(rows[:, None])).all()
        return found

    def whiten(content: bytes) -> None:
        found = Whitening.decode(content, path)
        assert np.isfinite((found.apply(unit(np.ones((1, found.size)))) ** 2).sum())

    return [
        Reader(
            "whitening",
            [shared.encode()],
            whiten,
            rehash_checksummed(whitening.KIND, whitening.SCHEMA),
        ),
        _member(routing.MEMBER, own.document(), dict(own.tensors()), put),
    ]


class _Watch:
    """Reads statistics, and watches frames with them."""

    def __init__(self, seen: list[Prediction]) -> None:
        self.features = np.stack([prediction.features for prediction in seen])
        self.seen = seen

    def __call__(self, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> object:
        found = statistics.read(document, tensors, len(CLASSES))
        if found is None:
            return None
        found.check_size(SIZE)
        novelty, affinity = found.novelty(self.features), found.affinity(self.features)
        assert ((novelty >= 0) & (novelty <= 1)).all() and np.isfinite(affinity).all()
        assert np.isfinite(found.gaussian.whitened(unit(self.features))).all()
        found.known(self.features, 0.01)
        for limits in filter(None, (found.drift, found.base_drift)):
            assert 0 <= limits.rise(0.5, 1.0, 2) <= 1
        return found


def _calibrate(document: dict[str, Any], _: dict[str, np.ndarray]) -> object:
    found = confidence.read(document)
    if found is not None:
        assert np.isfinite(found.probabilities(np.array([1e4, 0, -1e4]))).all()
    return found


def _drift(path: Path, seen: list[Prediction]) -> Reader:
    """Return the reader of a monitor's state, which goes on from it."""
    monitor = DriftMonitor(every=2)
    for prediction in seen:
        monitor.see(prediction)
    monitor.save(path)

    def read(path: Path) -> None:
        found = DriftMonitor.load(path)
        assert 0 <= found.see(seen[0]).level <= 1
        found.save(path)

    return Reader("state of a monitor", [path.read_bytes()], from_file(path, read), rehash_json)


def _harvest(place: Path, seen: list[Prediction]) -> Reader:
    """Return the reader of a harvest's manifest, which looks for the images and goes on."""
    folder = place / "gate"
    frames = np.random.default_rng(1).integers(0, 256, (len(seen), 8, 8, 3), np.uint8)
    with Harvester(folder, every=1) as harvester:
        for frame, prediction in zip(frames, seen, strict=True):
            harvester.offer(frame, prediction, wait=True)
    manifest = folder / harvested.MANIFEST
    content = manifest.read_bytes()
    names = sorted(path.name for path in folder.glob("*/*.png"))

    def read(path: Path) -> None:
        harvested.is_harvest(folder)
        for entry in harvested.read(folder):
            harvested.find(folder, entry, harvested.sorted_classes(folder))
        Harvester(folder, images=4 * len(names), days=9e5).close()
        assert sorted(path.name for path in folder.glob("*/*.png")) == names

    def rehash(content: bytes, draw: Draw) -> bytes:
        lines = content.splitlines()
        for _ in range(int(draw.integers(1, 3))):
            row = int(draw.integers(len(lines)))
            kind = int(draw.integers(4))
            if kind == 0:
                lines.append(lines[row])
            elif kind == 1:
                lines.append(json.dumps({"removed": str(draw.choice(["..", *names]))}).encode())
            else:
                lines[row] = json.dumps(damage_json(json.loads(lines[row]), draw)).encode()
        return b"\n".join(lines) + b"\n"

    return Reader("manifest of a harvest", [content], from_file(manifest, read), rehash, share=0.3)
