"""What 549a19a wrote stays of use: open, resume, evaluate, export, predict, install, roll back.

The files, and what that commit made of them, lie in `tests/fixtures/549a19a`. Merged weights and
patches must be equal bit for bit, labels equal, logits within 1e-4 of their spread.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import field, make_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, merged
from adapt.cli import main as adapt_main
from adapt.clip import model as base_models
from adapt.compute.inference import predict
from adapt.data import load_folders
from adapt.data.cache import pixels
from adapt.training.train import train
from export.cli import main as export_main
from export.contents import make_contents
from export.sources import Source
from runtime.bundles import install
from runtime.bundles.bundle import Bundle
from runtime.cli import main as runtime_main
from runtime.errors import ConfigError
from runtime.storage.digest import tensors_sha256

HERE = Path(__file__).parent / "fixtures/549a19a"
EXPECTED = json.loads((HERE / "expected.json").read_text())
METHODS = sorted(EXPECTED.keys() - {"resumed"})
"""Those that there were; later ones have nothing to open here."""
UNFINISHED = "street/day-night/cmkd-fixmatch-rst"
with np.load(HERE / "expected.npz") as arrays:
    LOGITS = {name: arrays[name] for name in arrays.files}


def artifact_of(method: str, root: Path = HERE / "trained") -> Path:
    return root / "street/day-night" / EXPECTED[method]["variant"] / "artifact.safetensors"


def agree(found: np.ndarray, needed: np.ndarray) -> None:
    spread = needed.max() - needed.min()
    assert found.shape == needed.shape
    assert (found.argmax(-1) == needed.argmax(-1)).all()
    assert np.abs(found - needed).max() <= 1e-4 * spread


@pytest.fixture
def street(cache: Path, tmp_path: Path) -> Path:
    shutil.copytree(HERE / "street", tmp_path / "street")
    return tmp_path / "street"


@pytest.fixture
def cache(uda_cache: Path) -> Path:
    return uda_cache


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shutil.copytree(HERE / "bundle", tmp_path / "street.bundle")
    return tmp_path / "street.bundle"


def frames(street: Path) -> list[np.ndarray]:
    paths = load_folders(street, "day", "night").test.paths
    return [np.asarray(Image.open(path)) for path in paths]


def run(command: object, *args: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def check(path: Path, expected: dict[str, str], logits: np.ndarray, images: np.ndarray) -> None:
    artifact = Artifact.load(path)
    clip = base_models.load(artifact.config["model"], "demo")
    network = Network.of(clip, artifact)
    found = predict(network, images, 64, mean=clip.mean, std=clip.std).numpy()
    agree(found, logits)
    if "merged" in expected:
        assert tensors_sha256(merged(clip, artifact)) == expected["merged"]
        task = make_contents(
            clip, [Source.read(path)], "fp32", lambda what, done, total: None
        ).tasks[0]
        parts = {f"{n}.indices": p.indices for n, p in task.patch.items()}
        parts |= {f"{n}.values": p.values for n, p in task.patch.items()}
        assert tensors_sha256(parts) == expected["patch"]


@pytest.mark.parametrize("method", METHODS)
def test_an_artifact_opens_merges_and_classifies(method, street):
    config = Artifact.load(artifact_of(method)).config
    test = load_folders(street, "day", "night").test
    images = pixels(test, 32, config["resize"], config["interpolation"]).images
    check(artifact_of(method), EXPECTED[method], LOGITS[method], images)


@pytest.mark.parametrize("method", METHODS)
def test_an_artifact_is_exported_and_runs(method, street, tmp_path):
    out = tmp_path / "new.bundle"
    variant = EXPECTED[method]["variant"]
    run(
        *(export_main, "onnx", "--task", f"day-night={variant}", "--out", out),
        *("--artifacts", HERE / "trained", "--images", street / "night"),
    )
    with runtime.Session.open(out, threads=1) as session:
        found = np.stack([session.predict(f, "day-night").logits for f in frames(street)])
    agree(found, LOGITS[method])
    run(export_main, "verify", out, "--artifacts", HERE / "trained", "--images", street / "night")


def test_every_variant_is_evaluated_together(street):
    output = run(
        *(adapt_main, "eval", "--data", street, "--source", "day", "--target", "night"),
        *("--artifacts", HERE / "trained"),
    )
    assert all(EXPECTED[method]["variant"] in output for method in METHODS)


def test_an_unfinished_run_goes_on_to_the_same_end(street, tmp_path):
    out = tmp_path / "runs"
    shutil.copytree(HERE / "unfinished", out)
    # The settings as its owner gave them; the checkpoint has them all.
    expected, logits = EXPECTED["resumed"], LOGITS["resumed"]
    pair = load_folders(street, "day", "night")
    selected = Artifact.load(out / UNFINISHED / "selected.safetensors")
    config = methods.get("cmkd").Config(**selected.config)
    done = train("cmkd", pair, config, out=out, resume=True)
    assert [row["epoch"] for row in _rows(out)] == [1, 2]
    images = pixels(pair.test, 32, config.resize, config.interpolation).images
    # Training adds up in another order on another processor, so weights need not be equal bits.
    check(done.path, {"variant": expected["variant"]}, logits, images)
    again = train("cmkd", pair, config, out=out, resume=True)  # already trained
    assert again.path.read_bytes() == done.path.read_bytes()


def _rows(out: Path) -> list[dict[str, object]]:
    text = (out / UNFINISHED / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_finished_run_is_left_alone(street, tmp_path):
    """What 549a19a trained is known as trained: adding settings makes nothing train again."""
    out = tmp_path / "runs"
    shutil.copytree(HERE / "trained", out)
    path = artifact_of("cmkd", out)
    before = path.read_bytes()
    config = methods.get("cmkd").Config(**Artifact.load(path).config)
    pair = load_folders(street, "day", "night")
    train("cmkd", pair, config, out=out, resume=True)
    assert path.read_bytes() == before
    # It had no setting for transparency, and dropped it: today's default is another run.
    with pytest.raises(ConfigError, match=r"trained with background drop \(now white\)"):
        train("cmkd", pair, replace(config, background="white"), out=out, resume=True)
    assert path.read_bytes() == before


def test_an_unfinished_run_is_not_resumed_on_other_pixels(street, tmp_path):
    out = tmp_path / "runs"
    shutil.copytree(HERE / "unfinished", out)
    selected = Artifact.load(out / UNFINISHED / "selected.safetensors")
    config = methods.get("cmkd").Config(**{**selected.config, "background": "white"})
    with pytest.raises(ConfigError, match="made with background drop .now white"):
        train("cmkd", load_folders(street, "day", "night"), config, out=out, resume=True)


def test_a_bundle_opens_predicts_and_rolls_back(street, bundle):
    def answers(task):
        with runtime.Session.open(bundle, threads=1) as session:
            return np.stack([session.predict(f, task).logits for f in frames(street)])

    assert Bundle.open(bundle).manifest.schema == 2
    for task in ("day-night", "night-day"):
        agree(answers(task), LOGITS[f"bundle.{task}"])
    run(runtime_main, "rollback", "day-night", "--bundle", bundle)
    agree(answers("day-night"), LOGITS["bundle.former"])
    run(runtime_main, "rollback", "day-night", "--bundle", bundle)
    agree(answers("day-night"), LOGITS["bundle.day-night"])
    assert "day-night" in run(runtime_main, "info", bundle, "--check")
    assert Bundle.open(bundle).manifest.schema == 2  # still what its device reads


def test_a_bundle_takes_a_task_of_today_and_back(street, bundle, tmp_path):
    out = tmp_path / "new.bundle"
    run(
        *(export_main, "onnx", "--task", "day-night=cmkd-fixmatch-rst", "--out", out),
        *("--artifacts", HERE / "trained", "--images", street / "night", "--precision", "fp16"),
    )
    (file,) = (out / "tasks").iterdir()
    former = Bundle.open(bundle).entry("day-night")
    entry = install.install(bundle, file)
    assert Bundle.open(bundle).manifest.schema == 3 and entry != former
    with runtime.Session.open(bundle, threads=1) as session:
        found = np.stack([session.predict(f, "day-night").logits for f in frames(street)])
    agree(found, LOGITS["bundle.day-night"])


def test_a_bundle_of_schema_2_is_written_byte_for_byte_as_549a19a_did(street, tmp_path):
    out = tmp_path / "old.bundle"
    run(
        *(export_main, "onnx", "--task", "day-night=cmkd-fixmatch-rst", "--schema", "2"),
        *("--artifacts", HERE / "trained", "--images", street / "night", "--precision", "fp16"),
        *("--out", out),
    )
    body, theirs = (
        json.loads((folder / "manifest.json").read_text()) for folder in (out, HERE / "bundle")
    )
    assert body["schema"] == theirs["schema"] == 2
    assert body["body"].keys() == theirs["body"].keys()
    (task,) = body["body"]["tasks"]
    (same,) = [t for t in theirs["body"]["tasks"] if t["id"] == "day-night"]
    assert task == same  # its file's name, size and digest included
    content = (HERE / "bundle" / task["file"]["path"]).read_bytes()
    assert (out / task["file"]["path"]).read_bytes() == content


FIELDS = {
    "adapt/settings/config.py": ("class TrainConfig:", "    later: int = 5\n"),
    "adapt/settings/methods.py": (
        "class CMKDConfig(TaskHeadConfig):",
        "    further: float = 0.5\n",
    ),
}


def test_a_new_field_in_a_patched_copy_changes_no_file_and_breaks_no_fixture(street, tmp_path):
    """Every shipped file loads, every artifact opens and the run resumes, with two more fields."""
    root = Path(__file__).parents[1]
    for name in ("adapt", "configs"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("export", "runtime"):
        (tmp_path / name).symlink_to(root / name)
    for name, (start_of, line) in FIELDS.items():
        text = (tmp_path / name).read_text()
        start = text.index('"""', text.index('"""', text.index(start_of)) + 3) + 3
        (tmp_path / name).write_text(f"{text[:start]}\n\n{line}{text[start:]}")
    shutil.copytree(HERE / "unfinished", tmp_path / "runs")
    done = subprocess.run(
        [sys.executable, "-c", PATCHED, HERE, street, tmp_path / "runs"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    settings = {path for path in (root / "configs").glob("*/*.yaml") if path.stem != "paper"}
    settings -= set((root / "configs/base_models").iterdir())
    assert done.stdout.split() == [str(len(settings)), str(len(METHODS)), "2"]


PATCHED = """
import dataclasses, sys
from pathlib import Path
from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.data import load_folders
from adapt.settings.layers import resolve, shipped
from adapt.training.train import train

here, street, runs = map(Path, sys.argv[1:])
names = [p for p in shipped().glob("*/*.yaml") if p.parent.name in methods.METHODS]
names = [p for p in names if p.stem != "paper"]
for path in names:
    cls = methods.get(path.parent.name).Config
    assert resolve(cls, path.stem, path.parent.name).config.later == 5
files = sorted((here / "trained").rglob("artifact.safetensors"))
found = [Artifact.load(path) for path in files]
assert all(a.config["later"] == 5 for a in found)
(selected,) = runs.rglob("selected.safetensors")
config = methods.get("cmkd").Config(**Artifact.load(selected).config)
assert (config.later, config.further) == (5, 0.5)
done = train("cmkd", load_folders(street, "day", "night"), config, out=runs, resume=True)
print(len(names), len(found), done.artifact.metrics["last"]["epoch"])
"""


def test_a_new_field_in_a_subclass_breaks_no_artifact(monkeypatch):
    cls = methods.get("cmkd")
    larger = make_dataclass(
        "Larger", [("later", int, field(default=5))], bases=(cls.Config,), frozen=True
    )
    monkeypatch.setattr(cls, "Config", larger)
    assert Artifact.load(artifact_of("cmkd")).config["later"] == 5
