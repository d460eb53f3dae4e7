import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_base, load_merged, survival
from adapt.clip import model as clips
from adapt.clip.demo_weights import ARCHITECTURES, architecture
from adapt.compute.inference import predict
from export.graphs import plain
from export.pipeline import export_bundle, verify_bundle
from export.record import Survival, TaskRecord
from export.sources import Source, check_together
from export.verification.images import ImagePaths, sample
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import Task
from runtime.errors import (
    BaseModelError,
    ConfigError,
    DataError,
    FormatError,
    StorageError,
    TaskError,
    VerifyError,
)
from runtime.frames.preprocess import preprocess, read_image
from runtime.memory import blocked
from runtime.models import TaskInfo
from runtime.sessions.session import Session
from tests.export.helpers import CLASSES, save_base


def artifact(world, task="p-a"):
    return world.artifacts / "my-objects" / task / "cmkd-rst" / "artifact.safetensors"


def expected_logits(path, pixels, adapted=True):
    """Adapt's own path in PyTorch, with the adapted encoder or the base's."""
    found = Artifact.load(path)
    clip = clips.load(found.config["model"], found.config["pretrained"])
    encoder, head = load_merged(clip, found) if adapted else clip.visual, found.build_head()
    return predict(
        lambda images: head(encoder(images)), pixels, 8, mean=clip.mean, std=clip.std
    ).numpy()


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("tasks", [("p-a", "c-r"), ("a-c",)])
def test_bundle_answers_as_pytorch_does_on_image_files(world, tmp_path, tasks):
    paths = [artifact(world, task) for task in tasks]
    export_bundle(paths, tmp_path / "out.bundle", images=ImagePaths(world.images))
    files = sorted(world.images.glob("*/*.png"))
    with Session.open(tmp_path / "out.bundle", threads=1) as session:
        for task, path in [*zip(tasks, paths, strict=True)] * 2:
            session.switch(task)
            spec = Artifact.load(path).preprocess
            frames = [read_image(file) for file in files]
            expected = expected_logits(path, np.stack([preprocess(f, spec) for f in frames]))
            found = np.stack([p.logits for p in session.predict_batch(frames)])
            assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected, -1).mean()
            assert session.predict(frames[0]).label == CLASSES[expected[0].argmax()]


def test_report_in_the_bundle_holds_what_was_measured(world, tmp_path):
    (row,) = export_bundle(
        [artifact(world)], tmp_path / "out.bundle", images=ImagePaths(world.images)
    )
    report = Bundle.open(tmp_path / "out.bundle").manifest.report["p-a"]
    assert report == row.as_dict()
    assert (report["images"], report["labelled"], report["agreement"]) == (36, 36, 1.0)
    assert report["accuracy_torch"] == report["accuracy_engine"]
    assert report["survival"]["fp32"] == 1.0 > report["survival"]["fp16"]
    found = Artifact.load(artifact(world))
    assert report["survival"] == survival(load_base(found), found)  # what a report shows
    assert report["density"] == Artifact.load(artifact(world)).density
    assert report["distance_base"] > 100 * report["distance_merged"] > 0


def test_fp16_bundle_is_half_as_large_and_its_report_is_what_numpy_counts(world, tmp_path):
    reports, sizes = {}, {}
    for precision in ("fp32", "fp16"):
        out = tmp_path / precision
        export_bundle([artifact(world)], out, precision=precision, images=ImagePaths(world.images))
        manifest = Bundle.open(out).manifest
        assert manifest.precision == precision
        reports[precision], sizes[precision] = manifest.report["p-a"], manifest.tensors.bytes
    assert 0.49 < sizes["fp16"] / sizes["fp32"] < 0.52

    pictures = sample(Artifact.load(artifact(world)), world.images)
    with Session.open(tmp_path / "fp16", threads=1) as session:
        found = session.infer(pictures.pixels)
    expected = expected_logits(artifact(world), pictures.pixels)
    unadapted = expected_logits(artifact(world), pictures.pixels, adapted=False)
    top, right = found.argmax(1), expected.argmax(1)
    report = reports["fp16"]
    assert report["agreement"] == np.mean(top == right)
    assert report["accuracy_engine"] == pytest.approx(100 * np.mean(top == pictures.labels))
    assert report["accuracy_torch"] == pytest.approx(100 * np.mean(right == pictures.labels))
    assert report["max_difference"] == pytest.approx(np.abs(found - expected).max(), rel=0.02)
    assert report["distance_merged"] == pytest.approx(np.abs(found - expected).mean(), rel=0.02)
    assert report["distance_base"] == pytest.approx(np.abs(found - unadapted).mean(), rel=0.02)
    assert report["spread"] == pytest.approx(np.ptp(expected, 1).mean(), rel=1e-4)
    assert report["max_difference"] > 10 * reports["fp32"]["max_difference"]


def test_exporting_again_gives_the_same_files(world, tmp_path):
    contents = []
    for name in ("first", "second"):
        export_bundle([artifact(world)], tmp_path / name, images=ImagePaths(world.images))
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        contents.append({p.relative_to(tmp_path / name): p.read_bytes() for p in files})
    assert contents[0] == contents[1]


def test_tasks_of_one_kind_share_their_graphs(world, tmp_path):
    paths = [artifact(world, task) for task in ("p-a", "c-r")]
    export_bundle(paths, tmp_path / "out.bundle", images=ImagePaths(world.images))
    manifest = Bundle.open(tmp_path / "out.bundle").manifest
    assert len(manifest.heads) == 1 and len(manifest.tasks) == 2


def test_baked_file_needs_nothing_of_ours(world, tmp_path):
    export_bundle(
        [artifact(world)], tmp_path / "out.bundle", images=ImagePaths(world.images), baked=True
    )
    assert left_in(tmp_path) == ["out-p-a.onnx", "out.bundle"]
    session = onnxruntime.InferenceSession(
        tmp_path / "out-p-a.onnx", providers=["CPUExecutionProvider"]
    )
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["classes"])) == CLASSES
    assert json.loads(metadata["preprocess"])["size"] == 32
    assert json.loads(metadata["task"])["id"] == "p-a"
    assert [i.name for i in session.get_inputs()] == ["pixels"]
    assert session.get_outputs()[0].shape == ["batch", 3]
    onnx.checker.check_model(onnx.load(tmp_path / "out-p-a.onnx"), full_check=True)
    pixels = sample(Artifact.load(artifact(world)), world.images).pixels
    (found,) = session.run(["logits"], {"pixels": np.array(pixels)})
    assert np.abs(found - expected_logits(artifact(world), pixels)).max() <= 1e-4


def test_weights_too_large_for_one_onnx_file_are_refused(world, tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "_MAX_FILE", 1_000_000)
    with pytest.raises(BaseModelError, match="do not fit into one ONNX file.*fp16"):
        export_bundle(
            [artifact(world)], tmp_path / "o", images=ImagePaths(world.images), baked=True
        )
    assert left_in(tmp_path) == []


def too_small_for_fp16(world, tmp_path):
    """Return an artifact that works in float32, but whose first filters float16 flushes to zero.

    What the first layer scales down, the next two scale up again, so PyTorch's result is ordinary.
    """
    scales = {"bn1.weight": 1e-7, "bn1.bias": 1e-7, "conv2.weight": 1e4, "conv3.weight": 1e3}
    scales |= {"bn2.running_mean": 1e-3, "bn2.bias": 1e-3}
    base = save_base("demo-rn32", tmp_path / "base.safetensors", **scales)
    return world.train("p-a", pretrained=base, root=tmp_path / "artifacts")


def test_failed_verification_leaves_nothing(world, tmp_path):
    path, out = too_small_for_fp16(world, tmp_path), tmp_path / "out.bundle"
    before = left_in(tmp_path)
    with pytest.raises(VerifyError, match="'p-a' in fp16: the engine agrees .*--precision fp32"):
        export_bundle([path], out, precision="fp16", images=ImagePaths(world.images), baked=True)
    assert left_in(tmp_path) == before
    (row,) = export_bundle([path], out, images=ImagePaths(world.images))
    assert row.comparison.agreement == 1.0


def test_failed_verification_leaves_the_old_bundle(world, tmp_path):
    out = tmp_path / "out.bundle"
    export_bundle([artifact(world)], out, images=ImagePaths(world.images))
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(VerifyError):
        export_bundle(
            [too_small_for_fp16(world, tmp_path)],
            out,
            precision="fp16",
            images=ImagePaths(world.images),
        )
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_two_bases_are_refused(world, tmp_path):
    paths = [artifact(world, "p-a"), artifact(world, "a-c")]
    with pytest.raises(BaseModelError, match="'a-c'.*demo-vit32.*'p-a'.*demo-rn32.*two bundles"):
        export_bundle(paths, tmp_path / "out.bundle", images=ImagePaths(world.images))
    assert left_in(tmp_path) == []


def test_the_same_weights_under_two_activations_are_two_bases(world):
    first = Source.read(artifact(world, "p-a"))
    other = first.artifact
    other = replace(
        other,
        task=replace(other.task, id="p-c", target="clipart"),
        base=replace(other.base, architecture="demo-rn32-quickgelu"),
    )
    with pytest.raises(BaseModelError, match="'p-c'.*demo-rn32-quickgelu.*two bundles"):
        check_together([first, replace(first, artifact=other)])


def test_wrong_base_is_refused(world, tmp_path):
    other = save_base("demo-rn32", tmp_path / "other.safetensors", seed=9)
    with pytest.raises(BaseModelError, match="these weights make demo-rn32/.*--pretrained"):
        export_bundle(
            [artifact(world)],
            tmp_path / "o",
            images=ImagePaths(world.images),
            pretrained=str(other),
        )
    assert left_in(tmp_path) == ["other.safetensors"]


def test_base_that_moved_is_found_with_pretrained(world, tmp_path):
    home, moved = tmp_path / "home.safetensors", tmp_path / "moved.safetensors"
    shutil.copy(world.base("demo-rn32"), home)
    path = world.train("p-a", pretrained=home, root=tmp_path / "artifacts")
    home.rename(moved)
    with pytest.raises(BaseModelError, match="home.safetensors"):
        export_bundle([path], tmp_path / "o", images=ImagePaths(world.images))
    export_bundle([path], tmp_path / "o", images=ImagePaths(world.images), pretrained=str(moved))


def test_same_task_twice_is_refused(world, tmp_path):
    other = world.train("p-a", seed=5, root=tmp_path / "artifacts", variant="cmkd")
    with pytest.raises(TaskError, match="two artifacts are of task 'p-a'.*cmkd-rst.*/cmkd"):
        export_bundle([artifact(world), other], tmp_path / "o", images=ImagePaths(world.images))


def test_bundle_without_tasks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one task"):
        export_bundle([], tmp_path / "o")


def test_without_images_nothing_is_exported(world, tmp_path):
    with pytest.raises(DataError, match="not found for task 'p-a'; pass --images.*'a'"):
        export_bundle([artifact(world)], tmp_path / "o")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        export_bundle([artifact(world)], tmp_path / "o", images=ImagePaths(tmp_path / "empty"))
    assert left_in(tmp_path) == ["empty"]


def test_damaged_artifact_is_refused(world, tmp_path):
    content = bytearray(artifact(world).read_bytes())
    content[-5] ^= 1
    (tmp_path / "artifact.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="altered"):
        export_bundle(
            [tmp_path / "artifact.safetensors"], tmp_path / "o", images=ImagePaths(world.images)
        )


def test_out_that_is_a_file_is_refused(world, tmp_path):
    (tmp_path / "o").write_text("mine")
    with pytest.raises(StorageError, match="cannot write"):
        export_bundle([artifact(world)], tmp_path / "o", images=ImagePaths(world.images))
    assert (tmp_path / "o").read_text() == "mine" and left_in(tmp_path) == ["o"]


def test_images_are_thinned_out_evenly_and_labelled_by_their_folders(world):
    found = sample(Artifact.load(artifact(world)), world.images, limit=9)
    assert len(found.pixels) == 9 and found.available == 36
    assert np.bincount(found.labels).tolist() == [3, 3, 3]


def test_images_in_folders_of_other_names_have_no_labels(world, tmp_path):
    for number, name in enumerate(CLASSES):
        shutil.copytree(world.images / name, tmp_path / "mine" / f"folder {number}")
    found = sample(Artifact.load(artifact(world)), tmp_path / "mine")
    assert len(found.pixels) == 36 and set(found.labels.tolist()) == {-1}
    (row,) = export_bundle([artifact(world)], tmp_path / "o", images=ImagePaths(tmp_path / "mine"))
    assert row.comparison.accuracy_torch is None and row.comparison.labelled == 0


def test_partial_task_of_a_named_data_set_is_verified_on_the_classes_its_target_has(
    world, tmp_path, monkeypatch
):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    for domain in ("amazon", "dslr"):
        shutil.copytree(world.images, tmp_path / "office31" / domain / "images")
    whole = Artifact.load(artifact(world))
    named = replace(whole, task=replace(whole.task, id="a-d", dataset="office31"))
    config = {**whole.config, "partial": True, "target_classes": 2}
    with pytest.raises(DataError, match="'office31'.*pass --images.*, or the folder .* --data"):
        ImagePaths().sample(named)
    folders = ImagePaths(data=tmp_path / "office31")
    found = [folders.sample(a).labels for a in (named, replace(named, config=config))]
    assert [np.bincount(labels).tolist() for labels in found] == [[12, 12, 12], [12, 12]]


def test_verifying_again_finds_the_same_numbers(world, tmp_path):
    rows = export_bundle(
        [artifact(world), artifact(world, "c-r")], tmp_path / "o", images=ImagePaths(world.images)
    )
    again = verify_bundle(tmp_path / "o", world.artifacts, images=ImagePaths(world.images))
    assert [row.comparison for row in again] == [row.comparison for row in rows]
    (one,) = verify_bundle(
        tmp_path / "o", world.artifacts, tasks=("c-r",), images=ImagePaths(world.images)
    )
    assert one.comparison == rows[1].comparison


def test_verifying_against_a_retrained_artifact_fails(world, tmp_path):
    export_bundle([artifact(world)], tmp_path / "o", images=ImagePaths(world.images))
    world.train("p-a", seed=7, root=tmp_path / "artifacts")
    with pytest.raises(VerifyError, match="exported from another artifact"):
        verify_bundle(tmp_path / "o", tmp_path / "artifacts", images=ImagePaths(world.images))


def test_each_task_is_verified_on_its_own_folder(world, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(world.images, few)
    for file in few.glob("*/1*.png"):
        file.unlink()
    paths = [artifact(world, task) for task in ("p-a", "c-r")]
    folders = ImagePaths.parse([f"c-r={few}", str(world.images)])
    rows = export_bundle(paths, tmp_path / "o", images=folders)
    assert [row.comparison.images for row in rows] == [36, 27]
    again = verify_bundle(tmp_path / "o", world.artifacts, images=folders)
    assert [row.comparison for row in again] == [row.comparison for row in rows]


def test_folder_of_a_task_that_is_not_exported_is_refused(world, tmp_path):
    folders = ImagePaths.parse([f"x-y={world.images}"])
    with pytest.raises(TaskError, match="names unknown task 'x-y'; available: p-a"):
        export_bundle([artifact(world)], tmp_path / "o", images=folders)
    assert left_in(tmp_path) == []


def test_images_option_reads_tasks_and_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "a-c", "odd=name"):
        (tmp_path / name).mkdir()
    assert ImagePaths.parse([]) == ImagePaths()
    assert ImagePaths.parse(["a"]) == ImagePaths(Path("a"))
    assert ImagePaths.parse(["p-a=a", "a-c"]) == ImagePaths(Path("a-c"), {"p-a": Path("a")})
    assert ImagePaths.parse(["./odd=name"]) == ImagePaths(Path("odd=name"))
    assert ImagePaths.parse(["a-c=odd=name"]).own == {"a-c": Path("odd=name")}
    assert ImagePaths.parse([], Path("a")) == ImagePaths(data=Path("a"))
    for texts, message in (
        (["a", "a-c"], "every task two paths, 'a' and 'a-c'"),
        (["a-c=a", "a-c=a-c"], "task 'a-c' two paths"),
        (["a-c=b"], "'b' not found"),
        (["a-c="], "'' not found"),
        (["b"], "'b' not found"),
    ):
        with pytest.raises(ConfigError, match=message):
            ImagePaths.parse(texts)


def test_manifest_names_the_variant(world, tmp_path):
    export_bundle([artifact(world)], tmp_path / "o", images=ImagePaths(world.images))
    assert Bundle.open(tmp_path / "o").entry("p-a").method == "cmkd-rst"


@pytest.fixture
def wide(world, tmp_path, monkeypatch):
    """An artifact on a ResNet whose channels make whole blocks, which the demo's do not."""
    config = architecture("demo-rn32")
    config["vision_cfg"] |= {"width": 32, "layers": [1, 1, 1, 1]}
    (tmp_path / "wide.json").write_text(json.dumps(config))
    monkeypatch.setitem(ARCHITECTURES, "wide-rn32", tmp_path / "wide.json")
    base = save_base("wide-rn32", tmp_path / "wide.safetensors")
    return world.train("p-a", "wide-rn32", base, root=tmp_path / "artifacts")


@pytest.mark.parametrize("blocks", [True, False])
def test_blocked_graph_is_published_only_where_it_could_be_verified(
    world, wide, tmp_path, monkeypatch, blocks
):
    if not blocks:  # as on a processor that ONNX Runtime has no blocked convolutions for
        monkeypatch.setattr(blocked, "_PROBE", b"")
    there = blocked.block_size(onnxruntime) > 1
    assert not there or blocks
    export_bundle([wide], tmp_path / "o", images=ImagePaths(world.images))
    (encoder,) = Bundle.open(tmp_path / "o").manifest.encoders
    assert (encoder.blocked is not None) == there


RECORD = TaskRecord("0" * 64, "cmkd", 0.1, 0.2, Survival(1.0, 0.5, 0.1), {})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"residual": 1, "patch": 2}, "'artifact' is missing.*'uda-export onnx'"),
        ({**asdict(RECORD), "artifact": "../x"}, "not a SHA-256"),
        ({**asdict(RECORD), "variant": 3}, "'variant' must be text"),
        ({**asdict(RECORD), "survival": {"fp32": 1.0}}, "'fp16' is missing"),
        ({**asdict(RECORD), "survival": None}, "expected a mapping"),
        ({**asdict(RECORD), "density": "all"}, "'density' must be a number"),
    ],
)
def test_a_record_that_the_export_did_not_write_is_a_clear_error(record, message):
    info = TaskInfo("a-c", "toy", "a", "c", ("x", "y"))
    parts = dict.fromkeys(("base_sha256", "encoder", "head"), "0" * 64)
    parts |= {"resize": "squash", "interpolation": "bilinear"}
    parts |= {"tokens": {}, "head_tensors": {}, "patch": {}}
    task = Task(info=info, method="cmkd", **parts, record={**asdict(RECORD), "more": 1})
    assert TaskRecord.of(task) == RECORD
    with pytest.raises(FormatError, match=f"record of task 'a-c'.*{message}"):
        TaskRecord.of(replace(task, record=record))
