import dataclasses

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import _build_vision_tower
from safetensors import safe_open

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_merged, merged
from adapt.artifacts.run import RunDescription
from adapt.artifacts.store import FILE
from adapt.clip import model as clips
from adapt.clip.model import encoder_tensors
from adapt.methods.cmkd import CMKDConfig
from adapt.methods.heads import CosineHead, TaskHead, head_tensors
from adapt.settings.config import TaskHeadConfig, TrainConfig
from runtime import patch
from runtime.errors import BaseModelError, FormatError
from runtime.models import BaseModel, Preprocess, TaskInfo
from runtime.storage import checksummed
from runtime.storage.digest import tensors_sha256
from tests.adapt.artifacts import METRICS, PROMPTS, TASK, bases, load, make, train


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def artifact(files):
    return make(load("demo-rn32", files))


@pytest.mark.parametrize("name", ["demo-rn32", "demo-vit32"])
def test_merging_gives_the_trained_encoder_bit_for_bit(name, files, tmp_path):
    base = load(name, files)
    make(base).save(tmp_path / FILE)
    trained = encoder_tensors(base.visual)
    read, fresh = Artifact.load(tmp_path / FILE), load(name, files)
    got = merged(fresh, read)
    assert got.keys() == trained.keys()
    assert all(got[n].tobytes() == trained[n].tobytes() for n in trained)
    module = load_merged(fresh, read)
    assert tensors_sha256(encoder_tensors(module)) == tensors_sha256(trained)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(module(images), base.visual(images))


def test_merging_twice_is_merging_once_and_leaves_the_base_alone(files, artifact):
    fresh = load("demo-rn32", files)
    first, second = merged(fresh, artifact), merged(fresh, artifact)
    again = patch.merge(first, artifact.residual)
    assert tensors_sha256(first) == tensors_sha256(second) == tensors_sha256(again)
    assert tensors_sha256(encoder_tensors(fresh.visual)) == fresh.info.sha256
    assert tensors_sha256(first) != fresh.info.sha256


def test_a_round_trip_keeps_everything(artifact, tmp_path):
    artifact.save(tmp_path / FILE)
    read = Artifact.load(tmp_path / FILE)
    arrays = ("residual", "head_tensors")
    for field in dataclasses.fields(Artifact):
        if field.name not in arrays:
            assert getattr(read, field.name) == getattr(artifact, field.name), field.name
    for name, sparse in artifact.residual.items():
        assert np.array_equal(read.residual[name].indices, sparse.indices)
        assert read.residual[name].values.tobytes() == sparse.values.tobytes()
    for name, array in artifact.head_tensors.items():
        assert read.head_tensors[name].tobytes() == array.tobytes()
    assert torch.__version__.startswith(read.versions["torch"])


def test_a_head_comes_back_as_it_was(files, tmp_path):
    base = load("demo-rn32", files)
    head = CosineHead.of(base.text_features(PROMPTS), base.logit_scale)
    make(base, head=head, method="zero_shot", config=dataclasses.asdict(TrainConfig())).save(
        tmp_path / FILE
    )
    read = Artifact.load(tmp_path / FILE)
    features = torch.randn(4, 96)
    assert read.head == "cosine"
    assert torch.equal(read.build_head()(features), head(features))


def test_density_counts_parameters_and_not_buffers(files):
    base = load("demo-rn32", files)
    reference = encoder_tensors(base.visual)
    artifact = make(base)
    now = dict(base.visual.named_parameters())
    changed = sum(int((now[n].detach().numpy() != reference[n]).sum()) for n in now)
    assert artifact.density == changed / sum(p.numel() for p in now.values())
    assert 0.005 < artifact.density < 0.015


def test_an_untouched_encoder_has_an_empty_residual(files, tmp_path):
    base = load("demo-vit32", files)
    config = dataclasses.asdict(TaskHeadConfig(background="drop"))
    run = RunDescription(TASK, "source_only", base.preprocess(), PROMPTS, config, seed=0)
    reference = encoder_tensors(base.visual)
    artifact = Artifact.of(run, base.info, reference, base.visual, TaskHead(96, 3), METRICS)
    artifact.save(tmp_path / FILE)
    read = Artifact.load(tmp_path / FILE)
    assert (read.residual, read.density) == ({}, 0.0)
    assert tensors_sha256(merged(base, read)) == base.info.sha256


def test_another_base_is_refused_with_both_names_and_digests(files, artifact):
    other = load("demo-vit32", files)
    with pytest.raises(BaseModelError) as caught:
        merged(other, artifact)
    for info in (other.info, artifact.base):
        assert f"{info.architecture}/{info.pretrained} (sha256 {info.sha256[:12]}" in str(
            caught.value
        )
    with pytest.raises(BaseModelError):
        load_merged(other, artifact)


def test_the_same_weights_under_another_activation_are_another_base(files):
    artifact = make(load("demo-vit32", files))
    other = clips.load("demo-vit32-quickgelu", str(files / "demo-vit32.safetensors"))
    assert other.info.sha256 == artifact.base.sha256
    with pytest.raises(BaseModelError, match="on demo-vit32/.*this base is demo-vit32-quickgelu/"):
        merged(other, artifact)


def test_an_encoder_that_was_trained_in_place_is_no_base_any_more(files):
    base = load("demo-rn32", files)
    artifact = make(base)
    with pytest.raises(BaseModelError, match="has changed since it was loaded"):
        merged(base, artifact)


def test_a_reference_that_is_not_the_bases_is_refused(files):
    base = load("demo-rn32", files)
    train(base.visual)
    with pytest.raises(BaseModelError, match="before training changes them"):
        make(base)


@pytest.mark.parametrize(
    ("name", "published", "most"), [("ViT-B-16", 51_700, 5.5), ("RN50", 35_700, 5.5)]
)
def test_an_artifact_takes_at_most_5_5_bytes_per_changed_weight(name, published, most, tmp_path):
    # Published: Office-Home, 12 tasks, 1.02 M numbers (ViT-B/16) and 1.23 M (RN50), heads included.
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = _build_vision_tower(
            config["embed_dim"], open_clip.CLIPVisionCfg(**config["vision_cfg"])
        )
    rng = np.random.default_rng(0)
    parameters = dict(tower.named_parameters())
    total = sum(p.numel() for p in parameters.values())
    assert total == {"ViT-B-16": 86_192_640, "RN50": 38_316_896}[name]
    residual = {}
    for key, p in parameters.items():
        count = rng.binomial(p.numel(), published / total)
        if count:
            indices = np.sort(rng.choice(p.numel(), count, replace=False)).astype(np.uint32)
            base = rng.normal(0, 0.02, count).astype(np.float16).astype(np.float32)
            step = rng.choice([-1, 1], count) * (1e-6 + rng.exponential(1e-6, count))
            residual[key] = patch.SparseTensor(indices, base + step.astype(np.float32))
    head = TaskHead(config["embed_dim"], 65)
    artifact = Artifact(
        task=TaskInfo(
            "a-c", "office-home", "Art", "Clipart", tuple(f"class {i}" for i in range(65))
        ),
        method="cmkd",
        base=BaseModel(f"{name}-quickgelu", "openai", "0" * 64),
        preprocess=Preprocess(224),
        residual=residual,
        shapes={key: tuple(parameters[key].shape) for key in residual},
        parameters=total,
        head=head.kind,
        head_tensors=head_tensors(head),
        tokens={},
        prompts=tuple(f"a photo of a class {i}" for i in range(65)),
        config=dataclasses.asdict(CMKDConfig(background="drop")),
        seed=0,
        metrics=METRICS,
        versions={"python": "3.11.7", "torch": "2.14.1"},
    )
    artifact.save(tmp_path / FILE)
    changed = patch.size(residual)
    head_bytes = sum(array.nbytes for array in artifact.head_tensors.values())
    per_weight = ((tmp_path / FILE).stat().st_size - head_bytes) / changed
    assert changed == pytest.approx(published, rel=0.02)
    assert per_weight <= most
    assert Artifact.load(tmp_path / FILE).density == changed / total


def test_a_head_for_another_encoder_is_refused(files):
    base = load("demo-rn32", files)
    artifact = make(base, head=TaskHead(64, 3))
    with pytest.raises(FormatError, match="takes 64 features, the encoder gives 96"):
        merged(load("demo-rn32", files), artifact)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), np.float32(1)])
def test_metrics_and_versions_that_are_no_json_write_nothing(value, artifact, tmp_path):
    for change in ({"metrics": {**METRICS, "density": value}}, {"versions": {"torch": value}}):
        with pytest.raises(FormatError, match="'density' must be|plain, finite values"):
            dataclasses.replace(artifact, **change).save(tmp_path / "deep" / FILE)
        assert not (tmp_path / "deep" / FILE).exists()


def test_a_diverged_encoder_writes_nothing(files):
    base = load("demo-rn32", files)
    with torch.no_grad():
        reference = encoder_tensors(base.visual)
        base.visual.conv1.weight[0, 0, 0, 0] = float("nan")
    config = dataclasses.asdict(CMKDConfig(background="drop"))
    run = RunDescription(TASK, "cmkd", base.preprocess(), PROMPTS, config, seed=0)
    with pytest.raises(FormatError, match=r"'conv1\.weight' holds a value that is not finite"):
        Artifact.of(run, base.info, reference, base.visual, TaskHead(96, 3), METRICS)


def test_an_artifact_requires_its_background_and_one_without_has_the_keys_of_before(
    files, tmp_path, monkeypatch
):
    for background in ("drop", "white"):
        base = load("demo-rn32", files)
        file = tmp_path / f"{background}.safetensors"
        make(base, preprocess=base.preprocess(background=background)).save(file)
        found = checksummed.read(file, "uda-artifact", 2, features={"background"})
        dropped = background == "drop"
        assert found.requires == (() if dropped else ("background",))
        assert ("background" in found.document["preprocess"]) != dropped
        assert Artifact.load(file).preprocess.background == background
    monkeypatch.setattr("adapt.artifacts.artifact.FEATURES", frozenset())  # an earlier version
    Artifact.load(tmp_path / "drop.safetensors")
    with pytest.raises(FormatError, match="white.safetensors' requires the feature 'background'"):
        Artifact.load(tmp_path / "white.safetensors")


def test_any_safetensors_reader_opens_an_artifact(artifact, tmp_path):
    artifact.save(tmp_path / FILE)
    with safe_open(tmp_path / FILE, framework="numpy") as file:
        assert file.get_tensor("head.linear.weight").shape == (3, 96)
        assert file.get_tensor("patch.gaps").dtype == np.uint8
