"""An architecture that open_clip has no name for walks the whole pipeline, by its content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapt.artifacts.artifact import Artifact
from adapt.cli import main as adapt_main
from adapt.settings.model_config import Architecture
from export.cli import main as export_main
from runtime.cli import main as runtime_main
from tests.adapt.architectures import model_cfg, write
from tests.adapt.conftest import draw


def run(command: Any, *args: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def street(tmp_path: Path, uda_cache: Path) -> Path:
    draw(tmp_path / "street", "day", 60, count=4)
    draw(tmp_path / "street", "night", 10, count=4)
    return tmp_path / "street"


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_file_of_the_users_own_walks_the_whole_pipeline(
    kind: str, street: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    config, weights = write(here, kind)
    images = ("--data", street, "--source", "day", "--target", "night")
    for method in ("zero_shot", "linear_probe", "cmkd", "cmkd --rst", "unimos"):
        run(
            *(adapt_main, "train", *images, "--method", *method.split()),
            *("--artifacts", tmp_path / "artifacts", "--no-baselines"),
            *("--set", f"model={config}", "--set", f"pretrained={weights}", "--threads", 1),
            *("--set", "epochs=1", "--set", "iterations=2", "--set", "batch_size=4"),
        )
    path = next(tmp_path.glob("artifacts/street/day-night/cmkd-rst*/artifact.safetensors"))
    output, artifact = run(adapt_main, "inspect", path), Artifact.load(path)
    assert artifact.architecture == Architecture.read(config)
    assert artifact.base.architecture == artifact.architecture.name
    assert artifact.architecture.summary in output and artifact.architecture.name in output
    assert artifact.config["train_size"] == 37 and artifact.config["interpolation"] == "bilinear"
    assert artifact.preprocess.mean == (0.4, 0.4, 0.4)

    # On another machine: the configuration is in the artifact, the weights lie elsewhere.
    config.write_text(json.dumps(model_cfg(kind, quick_gelu=True)))
    moved = weights.rename(tmp_path / "moved.safetensors")
    artifacts = (tmp_path / "artifacts").rename(tmp_path / "elsewhere")
    given = ("--artifacts", artifacts, "--pretrained", moved)
    table = run(adapt_main, "eval", *images, *given)
    assert all(name in table for name in ("zero_shot", "linear_probe", "cmkd-rst", "unimos"))
    variants = ("cmkd-rst-d0.015", "cmkd", "unimos", "linear_probe")
    bundles = [tmp_path / f"{variant}.bundle" for variant in variants]
    for variant, bundle in zip(variants, bundles, strict=True):
        task = ("--task", f"day-night={variant}", "--out", bundle)
        assert "100.00%" in run(export_main, "onnx", *task, *given)
    run(export_main, "verify", bundles[0], *given)
    run(runtime_main, "install", next(bundles[1].glob("tasks/*")), "--bundle", bundles[0])
    frame = next(street.glob("night/cup/*.png"))
    output = run(runtime_main, "predict", bundles[0], frame)
    assert any(name in output for name in artifact.task.classes)
