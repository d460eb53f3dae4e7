"""Model configurations of the user's own: what is taken of them, and what is refused by name."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapt.artifacts.artifact import Artifact
from adapt.clip import model as base_models
from adapt.data import DomainPair
from adapt.methods.zero_shot import ZeroShot
from adapt.settings.architectures import image_size
from adapt.settings.layers import resolve
from adapt.settings.model_config import Architecture
from adapt.training.train import train
from runtime.errors import BaseModelError, ConfigError, FormatError
from runtime.models import BACKGROUND
from runtime.storage import checksummed
from tests.adapt.architectures import model_cfg, write

REFUSED: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "timm": (
        ("vision_cfg", "timm_model_name"),
        "vit_base",
        "timm's.*expected open_clip's",
    ),
    "hub text": (
        ("text_cfg", "hf_model_name"),
        "roberta",
        "text tower of the hub's.*expected open_clip's own",
    ),
    "captions": (("multimodal_cfg",), {"width": 8}, "'multimodal_cfg' is .* not supported"),
    "pooling": (("vision_cfg", "pool_type"), "avg", "'vision_cfg.pool_type' is 'avg'"),
    "unknown": (("vision_cfg", "widht"), 24, "unknown field 'vision_cfg.widht'"),
    "text for a number": (("embed_dim",), "16", "'embed_dim' must be a whole number, found '16'"),
    "bool for a number": (
        ("text_cfg", "layers"),
        True,
        "'layers' must be a whole number, found true",
    ),
    "huge": (("vision_cfg", "width"), 10**9, "'width' must be in 1..16384, found 1000000000"),
    "zero": (("vision_cfg", "patch_size"), 0, "'patch_size' must be in 1..32, found 0"),
    "heads": (("vision_cfg", "head_width"), 7, "'width' must be a multiple of head_width"),
    "vocabulary": (("text_cfg", "vocab_size"), 64, "'vocab_size' must be 49408, found 64"),
    "no square": (
        ("vision_cfg", "image_size"),
        [32, 64],
        "'image_size' must be a whole number, found \\[32, 64",
    ),
    "stages": (("vision_cfg", "layers"), [1, 1, 1], "'layers' must be 4 numbers in 1..256"),
    "no tower": (("vision_cfg",), 3, "'vision_cfg': expected an object, found int"),
    "ratio": (("text_cfg", "mlp_ratio"), float("inf"), "is not JSON: it holds Infinity"),
}


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(model_cfg("vit"))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return document


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_exported_and_run_is_refused_by_name(
    name: str, tmp_path: Path
) -> None:
    path, value, message = REFUSED[name]
    (tmp_path / "m.json").write_text(json.dumps(changed(path, value)))
    with pytest.raises(BaseModelError, match=f"m.json'.*{message}"):
        Architecture.read(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[" * 60_000, "is not JSON|expected an object"),
        (b"\xff", "is not JSON"),
        (b" " * (1 << 16) + b"1", "larger than the 64 kB"),
        (b"{}", "'vision_cfg' is missing"),
        (b'{"model_cfg": {}, "x": 1}', "unknown field 'x'"),
        (
            json.dumps({"model_cfg": model_cfg("vit"), "preprocess_cfg": {"std": 1e-320}}).encode(),
            "'std' three in",
        ),
    ],
)
def test_a_file_that_holds_no_configuration_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(BaseModelError, match=message):
        Architecture.read(tmp_path / "m.json")


def test_a_missing_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="No such file.*--set model=FILE.json"):
        Architecture.read(tmp_path / "m.json")
    os.mkfifo(tmp_path / "pipe.json")  # opening it would wait for a writer
    with pytest.raises(BaseModelError, match="not a regular file"):
        Architecture.read(tmp_path / "pipe.json")
    with pytest.raises(BaseModelError, match="cannot read .* null byte"):
        Architecture.read(tmp_path / "\0.json")


def test_an_architecture_is_its_content_whatever_the_file_is_called(tmp_path: Path) -> None:
    config, _ = write(tmp_path, "vit")
    found = Architecture.read(config)
    document = json.loads(config.read_text())
    document["model_cfg"]["vision_cfg"]["mlp_ratio"] = 4  # the default
    (tmp_path / "b.json").write_text(json.dumps(document, indent=1))
    assert Architecture.read(tmp_path / "b.json") == found
    other = replace(found, vision=replace(found.vision, head_width=12))  # weights of equal shapes
    assert other.name != found.name and found.name.startswith("vit-")


def test_the_file_says_image_size_interpolation_and_pixels(tmp_path: Path) -> None:
    config, weights = write(tmp_path, "resnet")
    given = [f"model={config}", f"pretrained={weights}"]
    settings = resolve(ZeroShot.Config, "folder", "zero_shot", given)
    assert (settings.config.train_size, settings.config.interpolation) == (37, "bilinear")
    assert (
        settings.sources["train_size"] == f"base model {config}" and image_size(str(config)) == 32
    )
    clip = base_models.load(str(config), str(weights))
    assert (clip.mean, clip.std) == ((0.4,) * 3, (0.3,) * 3) and clip.dim == 16
    assert clip.text_features(["a cup"]).shape == (1, 16)


@pytest.mark.parametrize("pretrained", ["openai", "demo"])
def test_an_architecture_without_its_weights_is_refused(pretrained: str, tmp_path: Path) -> None:
    config, _ = write(tmp_path, "vit")
    with pytest.raises(BaseModelError, match=f"'{pretrained}' is not a weights file.*pretrained="):
        base_models.load(str(config), pretrained)


def test_a_huge_architecture_takes_no_memory_before_its_weights_fit(tmp_path: Path) -> None:
    config, weights = write(tmp_path, "vit")
    huge = changed(("vision_cfg",), {"image_size": 32, "width": 16384, "layers": 256})
    config.write_text(json.dumps(huge))  # 3 TB
    with pytest.raises(
        BaseModelError, match=r"hold 8\d\d,\d{3} numbers, the architecture has 8\d\d,"
    ):
        base_models.load(str(config), str(weights))


@pytest.fixture
def trained(pair: DomainPair, tmp_path: Path) -> Path:
    config, weights = write(tmp_path, "vit")
    settings = ZeroShot.Config(model=str(config), pretrained=str(weights), train_size=37)
    return train("zero_shot", pair, settings, out=tmp_path).path


def test_another_architecture_under_the_same_name_is_another_base(
    trained: Path, pair: DomainPair, tmp_path: Path
) -> None:
    settings = ZeroShot.Config(**Artifact.load(trained).config)
    again = train("zero_shot", pair, settings, out=tmp_path, resume=True)
    assert again.path == trained
    document = changed(("vision_cfg", "head_width"), 12)  # the weights fit it just as well
    Path(settings.model).write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="was trained with other base weights; add --restart"):
        train("zero_shot", pair, settings, out=tmp_path, resume=True)


def test_an_artifact_whose_architecture_was_altered_is_refused(trained: Path) -> None:
    features = {BACKGROUND, "architecture"}

    def rehash(change: Any) -> None:
        file = checksummed.read(trained, "uda-artifact", 2, features=features)
        document = dict(file.document)
        requires = change(document) or file.requires
        parts = checksummed.extended(document, file.tensors, requires, file.optional, {})
        trained.write_bytes(checksummed.encode("uda-artifact", 2, *parts))

    whole = trained.read_bytes()
    assert Artifact.load(trained).requires == ("architecture", "background")
    for change, message in {
        lambda d: d["architecture"]["model_cfg"].update(quick_gelu=True): "has the digest",
        lambda d: d["architecture"]["model_cfg"].update(embed_dim=-1): "'embed_dim' must be in",
        lambda d: d.update(architecture=None): "goes with the feature",
        lambda d: d["base"].update(architecture="ViT-B-16"): "the base is ViT-B-16, but the",
        lambda d: ("background",): "goes with the feature",
    }.items():
        rehash(change)
        with pytest.raises(FormatError, match=message):
            Artifact.load(trained)
        trained.write_bytes(whole)
