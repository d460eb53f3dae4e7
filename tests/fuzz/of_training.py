"""The readers of training: artifacts, checkpoints, settings, weights, caches and lists.

Longer than most files: each kind of file needs whole ones to start from.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from adapt.artifacts.artifact import FEATURES, KIND, OLDEST, SCHEMA, Artifact
from adapt.clip import demo_weights, weights
from adapt.data import cache, contents, digit_files, drawn
from adapt.data.base import ImageSet
from adapt.evaluation import predictions, spot_check
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.methods.parts import features
from adapt.optim import rst
from adapt.optim.averaging import WeightAverage
from adapt.optim.optimization import Optimization
from adapt.report.runs import ReportedRun
from adapt.report.tasks import without_evaluation
from adapt.report.write import write
from adapt.settings import layers, model_config, text
from adapt.sweep import results
from adapt.training import checkpoint
from runtime.inventory import lists
from runtime.storage import checksummed
from tests.adapt.conftest import make_clip
from tests.adapt.digit_originals import write_mnist, write_svhn, write_usps
from tests.adapt.steps import METRICS, TASK
from tests.fuzz.damage import damage
from tests.fuzz.reading import Damage, Draw, Reader, from_file, rehash_checksummed, rehash_json

ROOT = Path(__file__).parents[2]
TRAINED = ROOT / "tests/fixtures/549a19a/trained/street/day-night"
UNFINISHED = ROOT / "tests/fixtures/549a19a/unfinished/street/day-night/cmkd-fixmatch-rst"
ODD = (
    "[" * 500,
    "&a [*a, *a]",
    "!!timestamp x",
    "!!int ''",
    "!!bool x",
    "1:1.5",
    "{<<: {lr: 1}}",
    "2001-12-14",
    "0x",
    "!!binary x",
    "? [1]",
    "1e999",
    ".nan",
    "'\\ud83d'",
    "!!python/object:os.system x",
    "9" * 5000,
    "0x" + "f" * 5000,
)
"""Values of YAML that parsers stumble over."""


def readers(place: Path) -> list[Reader]:
    """Return the readers of training.

    Args:
        place: Empty folder for the files that are read.
    """
    torch.set_num_threads(1)  # a fork would wait for the threads of its parent
    artifacts = [path.read_bytes() for path in sorted(TRAINED.glob("*/artifact.safetensors"))]
    architectures = [p.read_bytes() for p in sorted(demo_weights.ARCHITECTURES.values())]
    demo = demo_weights.WEIGHTS["demo-rn32"].read_bytes()
    return [
        Reader(
            "artifact",
            artifacts,
            from_file(place / "artifact", Artifact.load),
            rehash_checksummed(KIND, SCHEMA, FEATURES, OLDEST),
            len(demo),
        ),
        _checkpoint(place / "checkpoint"),
        _settings(place / "settings"),
        Reader(
            "option",
            [b"lr=3e-6", b"prompt='a photo of a {}'", b"model=ViT-B-16", b"rst=true"],
            lambda content: text.override(content.decode(errors="surrogateescape")),
        ),
        Reader(
            "model configuration",
            architectures,
            from_file(place / "m.json", model_config.Architecture.read),
            rehash_json,
        ),
        *_weights(place),
        Reader(
            "demo weights",
            [demo],
            from_file(place / "demo", lambda file: demo_weights.load_state_dict("demo-rn32", file)),
        ),
        *_caches(place),
        Reader(
            "list of images",
            [b"day/cup/1.jpg 0\nday/key/2.png 1\n", "tag/\u00fc b.jpg\t3\n".encode()],
            from_file(place / "l.txt", lists.read_lines),
        ),
        _spot_check(place / "spot"),
        _metrics(place / "run"),
        *_pages(place / "pages"),
        *_digits(place),
    ]


def _checkpoint(folder: Path) -> Reader:
    folder.mkdir()
    clip = make_clip("resnet")
    config = CMKDConfig(rst=True, rst_threshold=1e-4, train_size=36)
    method = CMKD(clip, tuple(f"a {name}" for name in TASK.classes), config)
    projection = rst.over(method.encoder, config)
    optimization = Optimization(method.parameter_groups(), config, projection, method.optimizer)
    average = WeightAverage(method, optimization)
    for optimizer in optimization._optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    average.add()
    rows = [json.loads(line) for line in (UNFINISHED / "metrics.jsonl").read_text().splitlines()]
    progress = checkpoint.Progress(5, tuple(rows), {"source": 1.5}, 3, 0.5, {}, average.epochs)
    identity = {
        "method": "cmkd",
        "task": asdict(TASK),
        "config": asdict(config),
        "base": asdict(clip.info),
        "data": METRICS["data"],
        "guides": [],
    }
    file = folder / checkpoint.FILE
    checkpoint.save(file, identity, progress, method, optimization, average)
    # As a file has them: lists for tuples.
    return Reader(
        "checkpoint",
        [file.read_bytes()],
        from_file(
            file, lambda path: checkpoint.load(path, identity, method, optimization, average)
        ),
        rehash_checksummed(
            checkpoint.KIND, checkpoint.SCHEMA, checkpoint.FEATURES, checkpoint.OLDEST
        ),
    )


def _settings(folder: Path) -> Reader:
    shutil.copytree(ROOT / "configs/base_models", folder / "base_models")
    (folder / "cmkd").mkdir()
    shutil.copy(ROOT / "configs/cmkd/paper.yaml", folder / "cmkd")
    seeds = [path.read_bytes() for path in sorted((ROOT / "configs/cmkd").glob("*.yaml"))]
    seeds = [seed for seed in seeds if b"demo" not in seed]

    def odd(content: bytes, draw: Draw) -> bytes:
        lines = content.decode().splitlines()
        at = int(draw.integers(len(lines) + 1))
        key = str(draw.choice(["lr", "tasks", "presets", "extends", "model", "x"]))
        lines.insert(at, f"{key}: {draw.choice(ODD)}")
        return damage("\n".join(lines).encode(), draw) if at % 2 else "\n".join(lines).encode()

    return Reader(
        "settings",
        seeds,
        from_file(
            folder / "cmkd/d.yaml", lambda _: layers.resolve(CMKDConfig, "d", "cmkd", folder=folder)
        ),
        odd,
    )


def _weights(place: Path) -> list[Reader]:
    model = make_clip("vit")._model
    state = model.state_dict()
    pickled = io.BytesIO()
    torch.save({"state_dict": state}, pickled)
    seeds = {".safetensors": save(state), ".pt": pickled.getvalue()}

    def read(path: Path) -> None:
        weights.fill(model, weights.read(path).state, str(path))

    return [
        Reader(f"weights in a {suffix[1:]} file", [seed], from_file(place / f"w{suffix}", read))
        for suffix, seed in seeds.items()
    ]


def _pixels(place: Path, suffix: str, rehash: Damage | None = None) -> Reader:
    """Return the reader of one of the two files of cached pixels."""
    (place / "images").mkdir(parents=True)
    paths = tuple(place / "images" / f"{number}.png" for number in range(3))
    for number, path in enumerate(paths):
        Image.fromarray(np.full((20, 20, 3), 40 * number, np.uint8)).save(path)
        os.utime(path, (1, 1))
    images = ImageSet(paths, np.zeros(3, np.int64), ("x",), "x")

    def pixels() -> cache.Pixels:
        os.environ["UDA_CACHE"] = str(place / "cache")
        return cache.pixels(images, 16)

    file = (place / "cache/pixels" / pixels().key).with_suffix(suffix)
    name = "cached pixels" if suffix == ".bin" else "index of cached pixels"
    read = from_file(file, lambda _: np.asarray(pixels().images))
    return Reader(name, [file.read_bytes()], read, rehash)


def _caches(place: Path) -> list[Reader]:
    """Return the readers of caches, which are made again where they are damaged."""
    document = {"base": "0" * 64, "shape": [4, 8], "pixels": "k"}
    rows = np.eye(4, 8, dtype=np.float32)
    known = checksummed.encode(
        contents.KIND,
        contents.SCHEMA,
        {"folder": "/x"},
        {
            "names": np.frombuffer(b"a\0b", np.uint8),
            "states": np.zeros((2, 4), np.uint64),
            "sums": np.zeros((2, contents.WIDTH), np.uint8),
        },
    )
    (place / "drawn").mkdir()
    return [
        _pixels(place / "pixels", ".bin"),
        _pixels(place / "index", ".safetensors", rehash_checksummed(cache.KIND, cache.SCHEMA)),
        Reader(
            "cached features",
            [checksummed.encode(features.KIND, features.SCHEMA, document, {"features": rows})],
            from_file(place / "features", lambda file: features._read(file, document)),
            rehash_checksummed(features.KIND, features.SCHEMA),
        ),
        _predictions(place / "predictions"),
        Reader(
            "cached digests",
            [known],
            from_file(place / "contents", lambda file: contents._load(file, "/x")),
            rehash_checksummed(contents.KIND, contents.SCHEMA),
        ),
        Reader(
            "drawn data set",
            [b'{"sha256": "0", "contents": "0"}'],
            from_file(place / "drawn" / drawn.DONE, lambda file: drawn._whole(file.parent)),
            rehash_json,
        ),
    ]


def _spot_check(folder: Path) -> Reader:
    for name in (spot_check.UNSORTED, spot_check.SORTED, spot_check.NONE):
        (folder / name).mkdir(parents=True)
    manifest = {
        "kind": "uda-spot-check",
        "schema": 1,
        "task": asdict(TASK),
        "population": 3,
        "digest": METRICS["data"]["source"],
        "held_out": True,
        "seed": 0,
        "images": [],
    }
    return Reader(
        "spot check",
        [json.dumps(manifest).encode()],
        from_file(folder / spot_check.MANIFEST, lambda file: spot_check.collect(file.parent)),
        rehash_json,
    )


def _metrics(folder: Path) -> Reader:
    folder.mkdir()
    shutil.copy(TRAINED / "zero_shot/artifact.safetensors", folder)
    job: Any = SimpleNamespace(
        path=folder / "artifact.safetensors", task="day-night", config=SimpleNamespace(seed=0)
    )

    def read(_: Path) -> None:
        found = results.read(job, "accuracy")
        for epoch in results.EPOCHS if found else ():
            found.figure(epoch, "accuracy", "classes", "cup")

    def rehash(content: bytes, draw: Draw) -> bytes:
        return b"\n".join(rehash_json(line, draw) for line in content.splitlines())

    seeds = [(UNFINISHED / "metrics.jsonl").read_bytes()]
    return Reader("metrics", seeds, from_file(folder / "metrics.jsonl", read), rehash)


def _pages(folder: Path) -> list[Reader]:
    """Return the readers of a report: whatever of a run is accepted can be shown."""

    def page(file: Path) -> None:
        run = ReportedRun.read(file.with_name("artifact.safetensors"))
        write(folder / "page.html", [without_evaluation([run])])

    def rehash(content: bytes, draw: Draw) -> bytes:
        return b"\n".join(rehash_json(line, draw) for line in content.splitlines())

    artifacts = [path.read_bytes() for path in sorted(TRAINED.glob("*/artifact.safetensors"))]
    history = (UNFINISHED / "metrics.jsonl").read_bytes()
    for name in ("of-artifact", "of-history"):
        (folder / name).mkdir(parents=True)
        (folder / name / "metrics.jsonl").write_bytes(history)
        (folder / name / "artifact.safetensors").write_bytes(artifacts[0])
    return [
        Reader(
            "artifact of a page",
            artifacts,
            from_file(folder / "of-artifact" / "artifact.safetensors", page),
            rehash_checksummed(KIND, SCHEMA, FEATURES, OLDEST),
            share=0.3,
        ),
        Reader(
            "history of a page",
            [history],
            from_file(folder / "of-history" / "metrics.jsonl", page),
            rehash,
            share=0.3,
        ),
    ]


def _predictions(file: Path) -> Reader:
    test: Any = SimpleNamespace(positions=np.arange(4))
    tensors = {
        "classes": np.array([[0, 1]] * 4, np.int64),
        "scores": np.full((4, 2), 0.5, np.float32),
    }
    kind, schema = predictions.KIND, predictions.SCHEMA
    return Reader(
        "cached predictions",
        [checksummed.encode(kind, schema, {"infomax": 0.5}, tensors)],
        from_file(file, lambda path: predictions._read(path, test, 2)),
        rehash_checksummed(kind, schema),
    )


def _digits(place: Path) -> list[Reader]:
    """Return the readers of MNIST's, USPS's and SVHN's own files."""
    found = []
    for name, write_all in (("mnist", write_mnist), ("usps", write_usps), ("svhn", write_svhn)):
        folder = place / name
        folder.mkdir()
        write_all(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        read: Callable[..., object] = getattr(digit_files, name)
        if name == "mnist":
            images = next(path for path in files if "train-images" in path.name)
            labels = next(path for path in files if "train-labels" in path.name)
            own = from_file(images, lambda file, labels=labels: digit_files.mnist(file, labels))
            seeds = [images.read_bytes()]
        else:
            own, seeds = from_file(files[0], read), [files[0].read_bytes()]
        # MATLAB's files are read in a process of their own.
        share = 0.02 if name == "svhn" else 1.0
        found.append(Reader(f"{name}'s images", seeds, own, share=share))
    return found
