import dataclasses
import math
import random

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, _build_vision_tower
from safetensors import safe_open
from safetensors.numpy import save as save_numpy
from safetensors.torch import save_file

from adapt import clip as clips
from adapt.artifact import Artifact
from adapt.clip import encoder_tensors
from adapt.config import TrainConfig
from adapt.demo.weights import architecture
from adapt.heads import CosineHead, TaskHead, head_tensors
from adapt.merge import load_merged, merged
from adapt.methods.cmkd import CMKDConfig
from adapt.store import FILE
from runtime import patch, sealed
from runtime.digest import tensors_sha256
from runtime.errors import BaseModelError, FormatError, UdaError
from runtime.spec import BaseModel, Preprocess, TaskInfo

CLASSES = ("cup", "key", "lamp")
TASK = TaskInfo("p-a", "demo-objects", "product", "art", CLASSES)
METRICS = {
    "last": {
        "epoch": 2,
        "accuracy": 75.0,
        "mean_per_class": 75.0,
        "per_class": {"cup": 50.0, "key": 100.0, "lamp": None},
    },
    "oracle_best": {"epoch": 1, "accuracy": 87.5},
    "density": 0.01,
    "held_out": True,
    "test_images": 8,
    "data": dict.fromkeys(("source", "target", "test"), "0" * 64),
}
PROMPTS = tuple(f"an image of a {name}" for name in CLASSES)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    for name in ("demo-rn32", "demo-vit32"):
        torch.manual_seed(0)
        save_file(CLIP(**architecture(name)).state_dict(), folder / f"{name}.safetensors")
    return folder


def load(name, files):
    return clips.load(name, str(files / f"{name}.safetensors"))


def train(encoder, seed=0, share=0.01):
    """Change some entries of every parameter, as RST leaves it, and of nothing else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            chosen = torch.rand(parameter.shape, generator=generator) < share
            steps = torch.randn(parameter.shape, generator=generator) * 1e-5
            parameter += torch.where(chosen, steps, torch.zeros(()))


def make(base, seed=0, head=None, **changes):
    reference = encoder_tensors(base.visual)
    train(base.visual, seed)
    torch.manual_seed(seed)
    arguments = {
        "task": TASK,
        "method": "cmkd",
        "preprocess": base.preprocess(),
        "prompts": PROMPTS,
        "config": dataclasses.asdict(CMKDConfig(lr=3e-4, rst=True)),
        "seed": seed,
        "metrics": METRICS,
        **changes,
    }
    return Artifact.of(
        base.info, reference, base.visual, head or TaskHead(96, len(CLASSES)), **arguments
    )


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
    artifact = Artifact.of(
        base.info,
        encoder_tensors(base.visual),
        base.visual,
        TaskHead(96, 3),
        task=TASK,
        method="source_only",
        preprocess=base.preprocess(),
        prompts=PROMPTS,
        config=dataclasses.asdict(TrainConfig()),
        seed=0,
        metrics=METRICS,
    )
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
    with pytest.raises(BaseModelError, match="not the base any more"):
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
        prompts=tuple(f"a photo of a class {i}" for i in range(65)),
        config=dataclasses.asdict(CMKDConfig()),
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


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / FILE
    make(load("demo-rn32", files)).save(path)
    return path.read_bytes()


def test_an_artifact_flipped_at_any_bit_is_refused(written, tmp_path):
    random.seed(0)
    path = tmp_path / FILE
    header = int.from_bytes(written[:8], "little") + 8
    places = [random.randrange(header) for _ in range(150)]  # where parsers live
    places += [random.randrange(len(written)) for _ in range(100)] + list(range(8))
    for place in places:
        content = bytearray(written)
        content[place] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        with pytest.raises(UdaError) as caught:
            Artifact.load(path)
        assert FILE in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 5000, -1])
def test_a_truncated_artifact_is_refused(keep, written, tmp_path):
    (tmp_path / FILE).write_bytes(written[:keep])
    with pytest.raises(FormatError, match=FILE):
        Artifact.load(tmp_path / FILE)


def test_a_longer_artifact_is_refused(written, tmp_path):
    (tmp_path / FILE).write_bytes(written + b"\0")
    with pytest.raises(FormatError, match=FILE):
        Artifact.load(tmp_path / FILE)


def test_a_missing_artifact_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.safetensors"):
        Artifact.load(tmp_path / "nowhere.safetensors")


def reseal(written, tmp_path, change, kind="uda-artifact", schema=1):
    """Return a file whose digest is right and whose content someone chose."""
    path = tmp_path / FILE
    path.write_bytes(written)
    file = sealed.read(path, "uda-artifact", 1)
    document, tensors = file.document, dict(file.tensors)
    change(document, tensors)
    path.write_bytes(sealed.seal(kind, schema, document, tensors))
    return path


def test_another_kind_and_another_schema_are_refused(written, tmp_path):
    with pytest.raises(FormatError, match="not a uda-artifact file.*'uda-task'"):
        Artifact.load(reseal(written, tmp_path, lambda d, t: None, kind="uda-task"))
    with pytest.raises(FormatError, match="schema 2, this version reads 1"):
        Artifact.load(reseal(written, tmp_path, lambda d, t: None, schema=2))


def test_a_plain_safetensors_file_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(save_numpy({"x": np.ones(3)}))
    with pytest.raises(FormatError, match=FILE):
        Artifact.load(tmp_path / FILE)


def setter(*path, value):
    def change(document, tensors):
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def without(key):
    return lambda document, tensors: document.pop(key)


def with_tensor(name, function):
    def change(document, tensors):
        tensors[name] = function(tensors[name])

    return change


def spoiled(value):
    def change(array):
        array = array.copy()
        array.reshape(-1)[0] = value
        return array

    return with_tensor("head.linear.weight", change)


def with_entry(index=None, value=None):
    """Rewrite the first tensor of the residual."""

    def change(document, tensors):
        name, (_, *shape) = next(iter(document["residual"].items()))
        size = math.prod(shape)
        index_ = size if index == "size" else index or 0
        sparse = patch.SparseTensor(
            np.array([index_], np.uint32), np.array([1.0 if value is None else value], np.float32)
        )
        _, packed = patch.encode({name: sparse})
        document["residual"] = {name: [1, *shape]}
        tensors.update(packed)

    return change


def with_row(row):
    return lambda document, tensors: document["residual"].update({"conv1.weight": row})


def renamed(document, tensors):
    name = max(document["residual"])
    document["residual"]["z" + name] = document["residual"].pop(name)


def reshaped(document, tensors):
    document["residual"]["conv1.weight"][1:] = [100_000]


HOSTILE = {
    "no classes": (setter("task", "classes", value=[]), "needs 2 to"),
    "one class": (setter("task", "classes", value=["cup"]), "needs 2 to"),
    "a class twice": (
        setter("task", "classes", value=["cup", "cup", "key"]),
        "names a class twice",
    ),
    "a class too many": (setter("task", "classes", value=[*CLASSES, "x"]), "must be equal"),
    "a class that is a number": (setter("task", "classes", value=["cup", "key", 3]), "must be str"),
    "a prompt too few": (setter("prompts", value=["a", "b"]), "must be equal"),
    "path in the id": (setter("task", "id", value="../../etc-passwd"), "no task id"),
    "dots in the id": (setter("task", "id", value="..-.."), "no task id"),
    "absolute id": (setter("task", "id", value="/a-b"), "no task id"),
    "newline in the id": (setter("task", "id", value="a-b\n"), "no task id"),
    "path in the data set": (setter("task", "dataset", value="../x"), "cannot name a data set"),
    "hidden data set": (setter("task", "dataset", value=".ssh"), "cannot name a data set"),
    "path in the method": (setter("method", value="a/b"), "cannot name a data set or a method"),
    "unknown head": (setter("head", value="mlp"), "unknown head kind"),
    "head of another kind": (setter("head", value="cosine"), "needs a tensor 'weight'"),
    "head with nan": (spoiled(np.nan), "'linear.weight' holds a value that is not finite"),
    "head with infinity": (spoiled(np.inf), "not finite"),
    "head in double": (with_tensor("head.ln.bias", lambda a: a.astype(np.float64)), "float64"),
    "head of another size": (
        with_tensor("head.ln.bias", lambda a: a[:-1]),
        "head tensor 'ln.bias'",
    ),
    "head without a tensor": (lambda d, t: t.pop("head.bn.bias"), "missing or an extra tensor"),
    "residual with nan": (with_entry(value=np.nan), "holds a value that is not finite"),
    "residual past the end": (with_entry(index="size"), "which has"),
    "residual far past the end": (with_entry(index=2**32 - 2), "which has"),
    "residual without gaps": (lambda d, t: t.pop("patch.gaps"), "lacks its tensor 'patch.gaps'"),
    "residual without values": (lambda d, t: t.pop("patch.values.float32"), "lacks its tensor"),
    "residual that is noise": (with_tensor("patch.gaps", lambda a: a[::-1].copy()), "damaged"),
    "count of billions": (with_row([4_000_000_000, 8]), "changes 4000000000 of 8"),
    "negative count": (with_row([-1, 8]), "changes -1"),
    "count of another tensor": (with_row([7, 8]), "does not hold"),
    "empty row": (with_row([]), "lacks its number of entries"),
    "row of text": (with_row("12"), "must be a list"),
    "row with text": (with_row(["a"]), "must be int"),
    "impossible shape": (with_row([1, 0, -3]), "impossible shape"),
    "huge shape": (with_row([1, 2**31, 2**31]), "impossible shape"),
    "table of numbers": (setter("residual", value=[1, 2]), "'residual' must be a mapping"),
    "no parameters": (setter("parameters", value=0), "cannot have 0 parameters"),
    "no digest": (setter("base", "sha256", value="abc"), "no SHA-256"),
    "image of no size": (setter("preprocess", "size", value=0), "outside 8..4096"),
    "std of zero": (setter("preprocess", "std", value=[1, 1, 0]), "std above 0"),
    "seed of text": (setter("seed", value="0"), "'seed' must be int"),
    "unknown key": (setter("extra", value=1), "unknown key 'extra'"),
    "missing key": (without("base"), "key 'base' is missing"),
    "task of text": (setter("task", value="a-b"), "'task': expected a mapping"),
    "config of text": (setter("config", value="x"), "'config' must be a mapping"),
    "empty config": (setter("config", value={}), "config: key 'amp' is missing; train"),
    "setting of another type": (setter("config", "lr", value="fast"), "'lr' must be float"),
    "setting out of range": (setter("config", "holdout", value=2), "'holdout' must be in"),
    "unknown setting": (setter("config", "x", value=1), "config: unknown key 'x'"),
    "unknown method": (setter("method", value="dann"), "unknown method 'dann'; known .*; train"),
    "config of another method": (setter("method", value="source_only"), "unknown key 'lambda1'"),
    "empty metrics": (setter("metrics", value={}), "metrics: key 'last' is missing"),
    "metrics of a list": (setter("metrics", "last", value=[1]), "'last': expected a mapping"),
    "accuracy of text": (setter("metrics", "last", "accuracy", value="x"), "must be float"),
    "accuracy above all": (setter("metrics", "last", "accuracy", value=101), "in 0..100"),
    "half an accuracy": (setter("metrics", "oracle_best", "accuracy", value=None), "or none is"),
    "no data digests": (setter("metrics", "data", value={}), "key 'source' is missing"),
    "a digest of text": (setter("metrics", "data", "test", value="x"), "no SHA-256"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_artifact_with_a_right_digest_is_refused(name, written, tmp_path):
    change, message = HOSTILE[name]
    path = reseal(written, tmp_path, change)
    with pytest.raises(FormatError, match=message) as caught:
        Artifact.load(path)
    assert FILE in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reshaped, "changes 'conv1.weight'.*the base has"),
        (renamed, "changes 'z.*the base has None"),
    ],
)
def test_an_artifact_that_lies_about_its_base_is_refused(change, message, written, files, tmp_path):
    read = Artifact.load(reseal(written, tmp_path, change))
    with pytest.raises(FormatError, match=message):
        merged(load("demo-rn32", files), read)


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
    arguments = {
        "task": TASK,
        "method": "cmkd",
        "preprocess": base.preprocess(),
        "prompts": PROMPTS,
    }
    with pytest.raises(FormatError, match=r"'conv1\.weight' holds a value that is not finite"):
        Artifact.of(
            base.info,
            reference,
            base.visual,
            TaskHead(96, 3),
            **arguments,
            config=dataclasses.asdict(CMKDConfig()),
            seed=0,
            metrics=METRICS,
        )


def test_any_safetensors_reader_opens_an_artifact(written, tmp_path):
    (tmp_path / FILE).write_bytes(written)
    with safe_open(tmp_path / FILE, framework="numpy") as file:
        assert file.get_tensor("head.linear.weight").shape == (3, 96)
        assert file.get_tensor("patch.gaps").dtype == np.uint8
