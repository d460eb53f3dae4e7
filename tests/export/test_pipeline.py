import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from adapt import clip as clips
from adapt.artifact import Artifact, load_merged
from adapt.evaluate import predict
from export import graph as graphs
from export.images import sample
from export.pipeline import export_bundle, verify_bundle
from runtime.bundle import Bundle
from runtime.errors import (
    BaseModelError,
    ConfigError,
    DataError,
    FormatError,
    StorageError,
    TaskError,
    VerifyError,
)
from runtime.preprocess import preprocess, read_image
from runtime.session import Session
from tests.export.helpers import CLASSES, save_base


def artifact(world, task="p-a"):
    return world.artifacts / "my-objects" / task / "cmkd-rst" / "artifact.safetensors"


def expected_logits(path, pixels):
    """Adapt's own path in PyTorch."""
    found = Artifact.load(path)
    clip = clips.load(found.config["model"], found.config["pretrained"])
    encoder, head = load_merged(clip, found), found.build_head()
    return predict(lambda images: head(encoder(images)), pixels, 8).numpy()


def left_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


@pytest.mark.parametrize("tasks", [("p-a", "c-r"), ("a-c",)])
def test_bundle_answers_as_pytorch_does_on_image_files(world, tmp_path, tasks):
    paths = [artifact(world, task) for task in tasks]
    export_bundle(paths, tmp_path / "out.bundle", images=world.images)
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
    (row,) = export_bundle([artifact(world)], tmp_path / "out.bundle", images=world.images)
    report = Bundle.open(tmp_path / "out.bundle").manifest.report["p-a"]
    assert report == row.as_dict()
    assert (report["images"], report["labelled"], report["agreement"]) == (36, 36, 1.0)
    assert report["accuracy_torch"] == report["accuracy_engine"]
    assert report["survival"]["fp32"] == 1.0 > report["survival"]["fp16"]
    assert report["density"] == Artifact.load(artifact(world)).density
    assert report["distance_base"] > 100 * report["distance_merged"] > 0


def test_fp16_bundle_is_half_as_large_and_agrees(world, tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16"):
        out = tmp_path / precision
        (row,) = export_bundle([artifact(world)], out, precision=precision, images=world.images)
        assert row.comparison.agreement >= 0.98
        assert Bundle.open(out).manifest.precision == precision
        sizes[precision] = Bundle.open(out).manifest.tensors.bytes
    assert 0.49 < sizes["fp16"] / sizes["fp32"] < 0.52


def test_exporting_again_gives_the_same_files(world, tmp_path):
    contents = []
    for name in ("first", "second"):
        export_bundle([artifact(world)], tmp_path / name, images=world.images)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        contents.append({p.relative_to(tmp_path / name): p.read_bytes() for p in files})
    assert contents[0] == contents[1]


def test_tasks_of_one_kind_share_their_graphs(world, tmp_path):
    paths = [artifact(world, task) for task in ("p-a", "c-r")]
    export_bundle(paths, tmp_path / "out.bundle", images=world.images)
    manifest = Bundle.open(tmp_path / "out.bundle").manifest
    assert len(manifest.heads) == 1 and len(manifest.tasks) == 2


def test_baked_file_needs_nothing_of_ours(world, tmp_path):
    export_bundle([artifact(world)], tmp_path / "out.bundle", images=world.images, baked=True)
    assert left_in(tmp_path) == ["out-p-a.onnx", "out.bundle"]
    session = onnxruntime.InferenceSession(
        tmp_path / "out-p-a.onnx", providers=["CPUExecutionProvider"]
    )
    facts = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(facts["classes"])) == CLASSES
    assert json.loads(facts["preprocess"])["size"] == 32
    assert json.loads(facts["task"])["id"] == "p-a"
    assert [i.name for i in session.get_inputs()] == ["pixels"]
    assert session.get_outputs()[0].shape == ["batch", 3]
    onnx.checker.check_model(onnx.load(tmp_path / "out-p-a.onnx"), full_check=True)
    pixels = sample(Artifact.load(artifact(world)), world.images).pixels
    (found,) = session.run(["logits"], {"pixels": np.array(pixels)})
    assert np.abs(found - expected_logits(artifact(world), pixels)).max() <= 1e-4


def test_weights_too_large_for_one_onnx_file_are_refused(world, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "_MAX_FILE", 1_000_000)
    with pytest.raises(BaseModelError, match="do not fit into one ONNX file.*fp16"):
        export_bundle([artifact(world)], tmp_path / "o", images=world.images, baked=True)
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
        export_bundle([path], out, precision="fp16", images=world.images, baked=True)
    assert left_in(tmp_path) == before
    (row,) = export_bundle([path], out, images=world.images)
    assert row.comparison.agreement == 1.0


def test_failed_verification_leaves_the_old_bundle(world, tmp_path):
    out = tmp_path / "out.bundle"
    export_bundle([artifact(world)], out, images=world.images)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(VerifyError):
        export_bundle(
            [too_small_for_fp16(world, tmp_path)], out, precision="fp16", images=world.images
        )
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_two_bases_are_refused(world, tmp_path):
    paths = [artifact(world, "p-a"), artifact(world, "a-c")]
    with pytest.raises(BaseModelError, match="'a-c'.*demo-vit32.*'p-a'.*demo-rn32.*two bundles"):
        export_bundle(paths, tmp_path / "out.bundle", images=world.images)
    assert left_in(tmp_path) == []


def test_wrong_base_is_refused(world, tmp_path):
    other = save_base("demo-rn32", tmp_path / "other.safetensors", seed=9)
    with pytest.raises(BaseModelError, match="these weights hash to .*--pretrained"):
        export_bundle([artifact(world)], tmp_path / "o", images=world.images, pretrained=str(other))
    assert left_in(tmp_path) == ["other.safetensors"]


def test_base_that_moved_is_found_with_pretrained(world, tmp_path):
    home, moved = tmp_path / "home.safetensors", tmp_path / "moved.safetensors"
    shutil.copy(world.base("demo-rn32"), home)
    path = world.train("p-a", pretrained=home, root=tmp_path / "artifacts")
    home.rename(moved)
    with pytest.raises(BaseModelError, match="home.safetensors"):
        export_bundle([path], tmp_path / "o", images=world.images)
    export_bundle([path], tmp_path / "o", images=world.images, pretrained=str(moved))


def test_same_task_twice_is_refused(world, tmp_path):
    other = world.train("p-a", seed=5, root=tmp_path / "artifacts", variant="cmkd")
    with pytest.raises(TaskError, match="two artifacts are of task 'p-a'.*cmkd-rst.*/cmkd"):
        export_bundle([artifact(world), other], tmp_path / "o", images=world.images)


def test_bundle_without_tasks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one task"):
        export_bundle([], tmp_path / "o")


def test_without_images_nothing_is_exported(world, tmp_path):
    with pytest.raises(DataError, match="no images to verify task 'p-a' on.*--images.*'a'"):
        export_bundle([artifact(world)], tmp_path / "o")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        export_bundle([artifact(world)], tmp_path / "o", images=tmp_path / "empty")
    assert left_in(tmp_path) == ["empty"]


def test_damaged_artifact_is_refused(world, tmp_path):
    content = bytearray(artifact(world).read_bytes())
    content[-5] ^= 1
    (tmp_path / "artifact.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="altered"):
        export_bundle([tmp_path / "artifact.safetensors"], tmp_path / "o", images=world.images)


def test_out_that_is_a_file_is_refused(world, tmp_path):
    (tmp_path / "o").write_text("mine")
    with pytest.raises(StorageError, match="cannot write"):
        export_bundle([artifact(world)], tmp_path / "o", images=world.images)
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
    (row,) = export_bundle([artifact(world)], tmp_path / "o", images=tmp_path / "mine")
    assert row.comparison.accuracy_torch is None and row.comparison.labelled == 0


def test_verifying_again_finds_the_same_numbers(world, tmp_path):
    rows = export_bundle(
        [artifact(world), artifact(world, "c-r")], tmp_path / "o", images=world.images
    )
    again = verify_bundle(tmp_path / "o", (), world.artifacts, images=world.images)
    assert [row.comparison for row in again] == [row.comparison for row in rows]
    (one,) = verify_bundle(tmp_path / "o", ("c-r",), world.artifacts, images=world.images)
    assert one.comparison == rows[1].comparison


def test_verifying_against_a_retrained_artifact_fails(world, tmp_path):
    export_bundle([artifact(world)], tmp_path / "o", images=world.images)
    world.train("p-a", seed=7, root=tmp_path / "artifacts")
    with pytest.raises(VerifyError, match="exported from another artifact"):
        verify_bundle(tmp_path / "o", (), tmp_path / "artifacts", images=world.images)
