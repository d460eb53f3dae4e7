"""Commands to kill, each with the folder that it starts from and what must stay whole in it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from adapt.artifacts.artifact import Artifact
from adapt.cli import main as adapt
from export.cli import main as export
from runtime.backends.trt.store import store_of
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import encode_task
from runtime.cli import main as runtime
from runtime.errors import FormatError
from runtime.monitoring import harvested
from runtime.monitoring.fit import task_statistics
from runtime.monitoring.harvest import Harvester
from runtime.prediction import Prediction
from runtime.storage.files import sha256
from tests.adapt.conftest import draw
from tests.adapt.digit_originals import write_mnist, write_usps
from tests.runtime.conftest import _make_world

TASKS = {"day-night": ("day", "night"), "night-day": ("night", "day")}
BUNDLE = "x.bundle"
TINY = (
    *("model=demo-rn32", "pretrained=demo", "batch_size=4", "epochs=2", "iterations=1"),
    *("lr=1e-3", "train_size=36", "eval_batch_size=16", "prompt=a photo of a {}."),
)


@dataclass(frozen=True)
class Command:
    """A command, as people type it in a folder."""

    share: int
    """Kills of 500."""
    start: str
    """Name of the folder to copy and to work in; it stays as it is."""
    program: click.Command
    arguments: tuple[str, ...]
    state: Callable[[Path], Any]
    """Function that reads what must be whole, and returns the versions that it finds."""

    def __call__(self) -> None:
        """Run in the working folder; raises SystemExit if the command fails."""
        try:
            self.program(list(self.arguments))
        except SystemExit as end:
            if end.code:
                raise


_ONE = ("onnx", "--task", "day-night", "--out", BUNDLE, "--baked", "--max-images", "4")


def prepare(root: Path, start: str) -> None:
    """Make the folder that a command starts from, and images.

    Args:
        root: Folder to make them in.
        start: Name of the folder.
    """
    (root / start).mkdir(exist_ok=True)
    if not (root / "images").exists():
        for domain, tint in (("day", 60), ("night", 10)):
            draw(root / "images", domain, tint, count=3)
        write_mnist(root / "digits" / "mnist")
        write_usps(root / "digits" / "usps")
    if start == "device":
        _device(root / start)
    elif start == "watched":
        # Without what was held out, which tells what a sure frame is, another number would be kept.
        _call(_harvest, ("gate", "--frames", "125"), root / start)
    elif start != "empty":
        for task in TASKS:
            _call(adapt, _train(root, task, "zero_shot", "--restart"), root / start)
    if start == "exported":
        _call(export, _ONE, root / start)


def commands(root: Path) -> dict[str, Command]:
    """Return the commands by name.

    Args:
        root: Folder in which `prepare` makes what they need.
    """
    images, digits = str(root / "images"), str(root / "digits")
    tiny = (*_settings(), "--rst", "--density", "0.1%")  # a dense residual is slow to compress
    sweep = ("sweep", "--dataset", "digits", "--data", digits, "--tasks", "m-u")
    built = ("build", BUNDLE, "--target", "sm86", "--profile", "server")
    check = ("data", "check", "--data", images, "--json", "check.json")
    return {
        "export": Command(
            80, "exported", export, (*_ONE, "--task", "night-day", "--precision", "fp16"),
            _bundle,
        ),
        "build": Command(80, "device", runtime, built, _engines),
        "train": Command(
            80, "trained", adapt,
            _train(root, "day-night", "zero_shot", "--restart", "--set", "seed=1"), _artifacts,
        ),
        "resumed train": Command(
            80, "empty", adapt, (*_train(root, "day-night", "cmkd", "--resume"), *tiny),
            _artifacts,
        ),
        "sweep": Command(
            50, "empty", adapt,
            (*sweep, "--seeds", "0", *tiny, "--method", "source_only", "--threads", "1"),
            _artifacts,
        ),
        "data check": Command(
            30, "empty", adapt, (*check, "--report", "check.html"), lambda work: None
        ),
        "install": Command(
            80, "device", runtime, ("install", "new.safetensors", "--bundle", BUNDLE),
            _bundle,
        ),
        "harvest": Command(
            20, "watched", _harvest, ("gate", "--frames", "30", "--seed", "1"), _images
        ),
    }  # fmt: skip


def _settings() -> tuple[str, ...]:
    return tuple(part for setting in TINY for part in ("--set", setting))


def _train(root: Path, task: str, method: str, *more: str) -> tuple[str, ...]:
    source, target = TASKS[task]
    own = ("--data", str(root / "images"), "--source", source, "--target", target)
    fixed = ("train", *own, "--method", method, "--no-baselines")
    return (*fixed, *_settings(), *more)


def _call(program: click.Command, arguments: tuple[str, ...], folder: Path) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        program(list(arguments), standalone_mode=False)
    finally:
        os.chdir(before)


def _device(folder: Path) -> None:
    """Write a bundle with engines, and a task to install into it."""
    world = _make_world(folder / BUNDLE, tasks=2)
    task = world.tasks["a-b"]
    head = {name: np.ones_like(array) for name, array in task.head_tensors.items()}
    content = encode_task(replace(task, head_tensors=head))
    (folder / "new.safetensors").write_bytes(content)
    _call(runtime, ("build", BUNDLE, "--target", "sm86", "--profile", "orin"), folder)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--frames", type=int)
@click.option("--seed", type=int, default=0)
def _harvest(folder: Path, frames: int, seed: int) -> None:
    """Harvest frames of a drawn camera; every second prediction is sure."""
    draw = np.random.default_rng(seed)
    own = task_statistics(draw.normal(1, 0.3, (40, 8)), np.arange(40) % 2, 2)
    with Harvester(folder, every=1) as harvester:
        for number in range(frames):
            frame = draw.integers(0, 256, (24, 32, 3), np.uint8)
            logits = np.array([5 * (number % 2), 0], np.float32)
            features = draw.normal(1, 0.3, 8).astype(np.float32)
            seen = Prediction("day-night", ("cup", "key"), logits, features, own)
            harvester.offer(frame, seen, wait=True)


def _images(work: Path) -> Any:
    """Read every image of a harvest, and return its part."""
    folder = work / "gate"
    found = {}
    for entry in harvested.read(folder):
        there = harvested.find(folder, entry, ())
        if there is not None:  # a line comes before its image
            path, part = there
            if sha256(path.read_bytes()) != entry.sha256:
                raise FormatError(f"'{path}' is damaged")
            found[entry.file] = part
    return sorted(found.items())


def _bundle(work: Path) -> Any:
    """Read everything in a bundle."""
    bundle = Bundle.open(work / BUNDLE)
    weights = bundle.weights()
    for ref in bundle.manifest.graphs():
        bundle.graph(ref)
    for entry in (*bundle.manifest.tasks, *bundle.manifest.former):
        weights.prepare(bundle.read(entry, weights.layout).patch)
    return [(entry.id, entry.file.sha256) for entry in bundle.manifest.tasks]


def _engines(work: Path) -> Any:
    """Read every engine, and return the profile of each; a whole bundle has all of one profile."""
    store = store_of(work / BUNDLE, None)
    found = [store.read(path) for path in sorted(store.folder.glob("*.json"))]
    for engine in found:
        store.plan(engine)
    return [(engine.stem, engine.recipe.profile.name) for engine in found]


def _artifacts(work: Path) -> Any:
    """Read every artifact, and return the digests of the files."""
    found = {}
    for path in sorted(work.rglob("artifact.safetensors")):
        Artifact.load(path)
        found[str(path.relative_to(work))] = sha256(path.read_bytes())
    return found


def use(work: Path) -> None:
    """Put the caches, temporary files and working folder of this process into a folder."""
    for name, variable in (("tmp", "TMPDIR"), ("cache", "UDA_CACHE")):
        (work / name).mkdir(exist_ok=True)
        os.environ[variable] = str(work / name)
    tempfile.tempdir = None
    os.chdir(work)
    sys.stdin = open(os.devnull)  # noqa: SIM115 (until the process ends)
