"""A run that was stopped anywhere and continued leaves the bytes of one that was not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.data import DomainPair, load_folders
from adapt.data.origin import IMAGES
from adapt.methods.cmkd import CMKDConfig
from adapt.methods.ekda import EKDAConfig
from adapt.training import checkpoint, identity
from adapt.training.train import train
from runtime.errors import ConfigError, DataError, FormatError, Interrupted, TrainingError
from runtime.storage import checksummed
from tests.adapt.forks import start

CLASSES = ("bee", "cup", "dog")
CHECKPOINT = Path("street") / "day-night" / "cmkd-rst" / "checkpoint.safetensors"


@pytest.mark.parametrize("iteration", [0, 4, 6])
def test_ctrl_c_and_resume_equal_an_uninterrupted_run(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: object, iteration: int,
) -> None:  # fmt: skip
    whole = train("cmkd", pair, rst_config, out=tmp_path / "whole")
    stop_at(iteration)
    with pytest.raises(TrainingError, match=rf"iteration {iteration + 1} of 10.*--resume"):
        train("cmkd", pair, rst_config, out=tmp_path / "cut")
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    stop_at(-1)
    resumed = train("cmkd", pair, rst_config, out=tmp_path / "cut", resume=True)
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert not (tmp_path / "cut" / CHECKPOINT).exists()


def test_ctrl_c_in_the_last_iteration_is_not_lost(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: object
) -> None:
    """What follows, such as the next run of a sweep, must not begin."""
    stop_at(9)
    with pytest.raises(Interrupted, match=r"iteration 10 of 10, everything is saved.*--resume"):
        train("cmkd", pair, rst_config, out=tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()
    stop_at(-1)
    done = train("cmkd", pair, rst_config, out=tmp_path, resume=True)
    assert done.path.parent == (tmp_path / CHECKPOINT).parent and done.path.exists()


def test_a_checkpoint_requires_the_background_of_its_pixels(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert rst_config.background == "white"
    stop_at(0)
    with pytest.raises(TrainingError):
        train("cmkd", pair, rst_config, out=tmp_path)
    file = checksummed.read(tmp_path / CHECKPOINT, "uda-checkpoint", 2, features={"background"})
    assert file.requires == ("background",)
    other = replace(rst_config, background="drop")
    with pytest.raises(ConfigError, match=r"with background white \(now drop\);"):
        train("cmkd", pair, other, out=tmp_path, resume=True)
    monkeypatch.setattr(checkpoint, "FEATURES", frozenset())  # an earlier version
    with pytest.raises(FormatError, match="requires the feature 'background'"):
        train("cmkd", pair, rst_config, out=tmp_path, resume=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"rst_density": 0.01},
        {"rst_density": 0.01, "grid": "fp16"},
        {"grid": "bf16"},
        {"grid": "bf16", "rst": False},
        {"rst_density": 0.01, "average_epochs": 2},
        {"grid": "bf16", "average_epochs": 2},
    ],
    ids=[
        *("budget", "budget on a grid", "threshold on a grid", "dense on a grid"),
        *("averaged, with a budget", "averaged on a grid"),
    ],
)
def test_budgets_and_master_weights_come_back_too(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: object,
    settings: dict[str, object],
) -> None:  # fmt: skip
    config = replace(rst_config, rst_threshold=1e-5, **settings)
    whole = train("cmkd", pair, config, out=tmp_path / "whole")
    stop_at(6)
    with pytest.raises(TrainingError, match="iteration 7 of 10"):
        train("cmkd", pair, config, out=tmp_path / "cut")
    stop_at(-1)
    resumed = train("cmkd", pair, config, out=tmp_path / "cut", resume=True)
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert 0 < whole.artifact.density <= (config.rst_density or 1)


def test_prompt_tokens_of_teacher_and_student_come_back_too(
    pair: DomainPair, tmp_path: Path, stop_at: object
) -> None:
    config = EKDAConfig(
        model="demo-vit32", pretrained="demo", teacher="demo-vit32-wide", teacher_pretrained="demo",
        batch_size=8, epochs=2, iterations=3, lr=0.02, templates="prompt", train_size=36,
    )  # fmt: skip
    whole = train("ekda", pair, config, out=tmp_path / "whole")
    stop_at(4)  # in the second epoch
    with pytest.raises(TrainingError, match="iteration 5 of 6"):
        train("ekda", pair, config, out=tmp_path / "cut")
    stop_at(-1)
    resumed = train("ekda", pair, config, out=tmp_path / "cut", resume=True)
    assert resumed.path.read_bytes() == whole.path.read_bytes()
    assert whole.artifact.tokens


def test_sigterm_saves_too(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: object
) -> None:
    stop_at(2, signal.SIGTERM)
    with pytest.raises(TrainingError, match="everything is saved"):
        train("cmkd", pair, rst_config, out=tmp_path)
    assert (tmp_path / CHECKPOINT).exists()


def test_kill_9_and_resume_equal_an_uninterrupted_run(
    pair: DomainPair, images: Path, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    config = replace(rst_config, epochs=6)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    child = start(lambda: train("cmkd", pair, config, out=cut), tmp_path / "errors.txt")
    deadline = time.monotonic() + 120
    while not (cut / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (cut / CHECKPOINT).exists() and not list(cut.rglob("artifact.safetensors"))
    resumed = train("cmkd", pair, config, out=cut, resume=True)
    expected = train("cmkd", pair, config, out=whole)
    assert resumed.path.read_bytes() == expected.path.read_bytes()
    log = (cut / CHECKPOINT).with_name("train.log").read_text()
    assert re.search(r"resumed at iteration (5|10|15|20|25) of 30", log)


@pytest.fixture
def unfinished(pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: object) -> Path:
    """The root of a run that stopped after iteration 7 of 10."""
    stop_at(6)
    with pytest.raises(TrainingError):
        train("cmkd", pair, rst_config, out=tmp_path)
    stop_at(-1)
    return tmp_path


def test_an_unfinished_run_is_not_thrown_away_unasked(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig
) -> None:
    with pytest.raises(
        ConfigError, match="unfinished run; add --resume to continue it, or --restart"
    ):
        train("cmkd", pair, rst_config, out=unfinished)
    run = train("cmkd", pair, replace(rst_config, seed=3), out=unfinished, restart=True)
    assert run.artifact.seed == 3 and not (unfinished / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("options", "changes"),
    [({}, {}), ({"resume": True}, {"lr": 2e-3}), ({"restart": True}, {"batch_size": 64})],
)
def test_a_refused_start_leaves_nothing_and_every_file_as_it_was(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig, options: dict, changes: dict
) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()}

    before, config = files(), replace(rst_config, **changes)
    with pytest.raises((ConfigError, FormatError, DataError)):
        train("cmkd", pair, config, out=unfinished, **options)
    assert files() == before
    with pytest.raises(DataError, match="batch"):
        train("cmkd", pair, replace(rst_config, batch_size=64), out=unfinished / "a" / "b")
    assert not (unfinished / "a").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("lr", 2e-3), ("seed", 1), ("epochs", 3), ("prompt", "a {}")]
)
def test_resume_refuses_other_settings_and_names_the_key(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig, key: str, value: object
) -> None:
    other = replace(rst_config, **{key: value})
    with pytest.raises(ConfigError, match=rf"made with {key} .* \(now .*--restart"):
        train("cmkd", pair, other, out=unfinished, resume=True)


def test_resume_refuses_other_images(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig
) -> None:
    fewer = pair.target.subset(pair.target.labels.nonzero()[0])
    with pytest.raises(ConfigError, match=r"made with other images or labels \(target\);"):
        train("cmkd", replace(pair, target=fewer), rst_config, out=unfinished, resume=True)


def exchange(one: Path, two: Path) -> None:
    """Exchange two files or folders, as somebody does who mends labels."""
    one.rename(one.with_name(".t"))
    two.rename(one)
    one.with_name(".t").rename(two)


@pytest.fixture
def own_images(tmp_path: Path, cache: Path) -> Path:
    """A data set of this test's own, all files of one size and time."""
    for domain, tint in (("day", 60), ("night", 10)):
        for label, name in enumerate(CLASSES):
            for number in range(9):
                noise = np.random.default_rng([tint, label, number]).integers(0, 120, (24, 24, 3))
                noise[..., label] += 60 + tint
                path = tmp_path / "street" / domain / name / f"{number}.bmp"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise.astype(np.uint8)).save(path)
                os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "street"


def mended_labels(root: Path) -> str:
    exchange(root / "day" / "bee", root / "day" / "cup")
    return "source"


def another_order(root: Path) -> str:
    exchange(root / "night" / "bee" / "0.bmp", root / "night" / "bee" / "1.bmp")
    return "target"


def another_content(root: Path) -> str:
    shutil.copy2(root / "night" / "bee" / "0.bmp", root / "night" / "cup")
    return "target"


def test_mended_labels_and_replaced_images_are_noticed(
    own_images: Path, config: CMKDConfig, tmp_path: Path, stop_at: object
) -> None:
    config = replace(config, epochs=1, iterations=2)
    finished, cut = tmp_path / "finished", tmp_path / "cut"
    pair = load_folders(own_images, "day", "night")
    run = train("cmkd", pair, config, out=finished)
    before = run.path.read_bytes()
    stop_at(0)
    with pytest.raises(TrainingError, match="iteration 1 of 2"):
        train("cmkd", pair, config, out=cut)
    stop_at(-1)
    for change in (mended_labels, another_order, another_content):
        role = change(own_images)
        pair = load_folders(own_images, "day", "night")
        for resume in (False, True):
            with pytest.raises(ConfigError, match=r"other images or labels \(.*\); add --restart"):
                train("cmkd", pair, config, out=finished, resume=resume)
        lines = rf"made with other images or labels \(.*{role}.*\); .*--restart"
        with pytest.raises(ConfigError, match=lines):
            train("cmkd", pair, config, out=cut, resume=True)
        if change is not another_content:
            change(own_images)  # back
    assert run.path.read_bytes() == before


def as_before(folder: Path) -> None:
    """Give an artifact or a checkpoint the digests that they had when they knew names alone."""

    def names(digests: dict[str, str]) -> dict[str, str]:
        return {role: digest.rpartition("names:")[2] for role, digest in digests.items()}

    for path in folder.rglob("artifact.safetensors"):
        artifact = Artifact.load(path)
        data = names(artifact.metrics["data"])
        replace(artifact, metrics={**artifact.metrics, "data": data}).save(path)
    for path in folder.rglob(checkpoint.FILE):
        file = checksummed.read(path, checkpoint.KIND, checkpoint.SCHEMA)
        file.document["identity"]["data"] = names(file.document["identity"]["data"])
        checksummed.write(path, checkpoint.KIND, checkpoint.SCHEMA, file.document, file.tensors)


def test_moved_copied_and_touched_images_do_not_stop_a_run(
    own_images: Path, config: CMKDConfig, tmp_path: Path, stop_at: object
) -> None:
    config = replace(config, epochs=1, iterations=2)
    finished, cut = tmp_path / "finished", tmp_path / "cut"
    pair = load_folders(own_images, "day", "night")
    first = train("cmkd", pair, config, out=finished)
    whole, origin = first.path.read_bytes(), first.artifact.optional[IMAGES]
    stop_at(0)
    with pytest.raises(TrainingError, match="iteration 1 of 2"):
        train("cmkd", pair, config, out=cut)
    stop_at(-1)
    for folder in (finished, cut):
        as_before(shutil.copytree(folder, folder.with_suffix(".before")))
    there = tmp_path / "elsewhere" / "street"
    shutil.copytree(own_images, there, copy_function=shutil.copyfile)  # times of now
    shutil.rmtree(own_images)
    pair = load_folders(there, "day", "night")
    for end in ("", ".before"):
        (path,) = finished.with_suffix(end).rglob("artifact.safetensors")
        stamp = path.stat().st_mtime_ns
        train("cmkd", pair, config, out=finished.with_suffix(end), resume=True)
        assert path.stat().st_mtime_ns == stamp
        resumed = train("cmkd", pair, config, out=cut.with_suffix(end), resume=True)
        found = Artifact.load(resumed.path)
        assert found.optional[IMAGES] == {**origin, "root": str(there)}
        replace(found, optional={**found.optional, IMAGES: origin}).save(resumed.path)
        assert resumed.path.read_bytes() == whole


def test_resume_refuses_another_base(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_run = identity.of_run

    def other(*args: object) -> dict[str, object]:
        found = of_run(*args)
        return {**found, "base": {**found["base"], "sha256": "0" * 64}}

    monkeypatch.setattr(identity, "of_run", other)
    with pytest.raises(ConfigError, match=r"made with other base weights;"):
        train("cmkd", pair, rst_config, out=unfinished, resume=True)


def test_a_damaged_checkpoint_is_refused(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig
) -> None:
    path = unfinished / CHECKPOINT
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match="was altered"):
        train("cmkd", pair, rst_config, out=unfinished, resume=True)
    path.write_bytes(content[:-1000])
    with pytest.raises(FormatError, match="is damaged"):
        train("cmkd", pair, rst_config, out=unfinished, resume=True)


FIRST = "optimizer.main.0.momentum_buffer"


def with_another(name: str) -> object:
    """A change that adds an optimizer tensor and says so."""

    def change(document: dict[str, list[str]], tensors: dict[str, object]) -> None:
        tensors[f"optimizer.{name}"] = tensors[FIRST]
        document["optimizer_tensors"].append(name)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # A fused step would read and write beyond a tensor that is too small.
        (lambda d, t: t.update({FIRST: t[FIRST].reshape(-1)[:1]}), r"main.0.* expected floats \("),
        (lambda d, t: t.update({FIRST: t[FIRST].astype(np.int32)}), "torch.int32"),
        (with_another("main.99999.x"), "have no tensor 'main.99999"),
        (lambda d, t: t.pop(FIRST), "lacks optimizer tensor 'main.0.momentum_buffer'"),
        (lambda d, t: t.update({f"{FIRST}2": t[FIRST]}), "has another optimizer tensor 'main.0.mo"),
        (lambda d, t: d.update(optimizer_tensors={}), "must be a list of names"),
        (lambda d, t: d["progress"].update(scale={"scale": 1.0}), r"scale needs \[\], found"),
        (lambda d, t: d["progress"].update(iteration=-1), "must be 0 or more"),
        (lambda d, t: d["progress"].update(iteration=10**9), "at iteration 1000000000 of"),
        (lambda d, t: d["progress"].update(history=[{"epoch": 1}]), "row 1 .* lacks 'accuracy'"),
        (
            lambda d, t: d["progress"]["history"].extend(d["progress"]["history"]),
            "row 2 .* has epoch 1",
        ),
        (
            lambda d, t: d["progress"]["history"][0].update(lr="x"),
            "row 1 .* has the invalid lr = 'x'",
        ),
        (
            lambda d, t: d["progress"]["history"][0].update(losses={"a": None}),
            "has the invalid losses = {'a",
        ),
        (
            lambda d, t: d["progress"]["history"][0].update(per_class=3),
            "has the invalid per_class = 3",
        ),
        (lambda d, t: d["progress"].update(history=[]), "with 0 finished epochs"),
        (lambda d, t: d.update(progress=None), "expected a mapping"),
    ],
)
def test_a_checkpoint_that_no_run_wrote_is_refused(
    unfinished: Path, pair: DomainPair, rst_config: CMKDConfig, change: object, message: str
) -> None:
    path = unfinished / CHECKPOINT
    file = checksummed.read(path, checkpoint.KIND, checkpoint.SCHEMA, features=checkpoint.FEATURES)
    document, tensors = file.document, dict(file.tensors)
    document["progress"].setdefault("history", [])
    change(document, tensors)  # type: ignore[operator]
    parts = checksummed.extended(document, tensors, file.requires, {}, {})
    checksummed.write(path, checkpoint.KIND, checkpoint.SCHEMA, *parts)
    with pytest.raises(FormatError, match=f"{message}.*start anew with --restart"):
        train("cmkd", pair, rst_config, out=unfinished, resume=True)


def test_resume_without_a_run_starts_one_and_a_finished_one_is_left_alone(
    images: Path,
    cache: Path,
    rst_config: CMKDConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = load_folders(images, "day", "night")
    first = train("cmkd", pair, rst_config, out=tmp_path, resume=True, show=True)
    assert "finished" not in capsys.readouterr().err
    stamp = first.path.stat().st_mtime_ns
    again = train("cmkd", pair, rst_config, out=tmp_path, resume=True, show=True)
    assert capsys.readouterr().err.endswith(" and images was here: nothing is trained\n")
    assert again.path.stat().st_mtime_ns == stamp
    assert again.artifact.metrics == first.artifact.metrics
    once_more = train("cmkd", pair, rst_config, out=tmp_path, show=True)
    assert "was here: it is trained again (--resume keeps it)\n" in capsys.readouterr().err
    assert once_more.path.stat().st_mtime_ns != stamp


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_run_of_other_settings_or_images_is_replaced_only_by_restart(
    images: Path, cache: Path, rst_config: CMKDConfig, tmp_path: Path, resume: bool
) -> None:
    pair = load_folders(images, "day", "night")
    first = train("cmkd", pair, rst_config, out=tmp_path)
    before = first.path.read_bytes()
    other = replace(rst_config, seed=1, lr=2e-3)
    lines = r"trained with lr 0.001 \(now 0.002\), seed 0 \(now 1\); add --restart .* another --art"
    with pytest.raises(ConfigError, match=lines):
        train("cmkd", pair, other, out=tmp_path, resume=resume)
    fewer = replace(pair, target=pair.target.subset(pair.target.labels.nonzero()[0]))
    with pytest.raises(ConfigError, match=r"other images or labels \(.*\); add --restart"):
        train("cmkd", fewer, rst_config, out=tmp_path, resume=resume)
    assert first.path.read_bytes() == before
    fresh = train("cmkd", fewer, other, out=tmp_path, restart=True)
    assert fresh.artifact.seed == 1
    assert fresh.artifact.metrics["data"] != first.artifact.metrics["data"]


def test_budgets_and_grids_lie_beside_the_plain_threshold(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    short = replace(rst_config, epochs=1, iterations=2)
    for changes in ({}, {"rst_density": 0.001}, {"grid": "fp16"}, {"rst_density": 0.1}):
        train("cmkd", pair, replace(short, **changes), out=tmp_path)
    assert sorted(store.variants(tmp_path, "street", "day-night")) == [
        "cmkd-rst", "cmkd-rst-d0.001", "cmkd-rst-d0.1", "cmkd-rst-fp16",
    ]  # fmt: skip
