"""`uda-export triton`: read by Triton's own protobuf, and run from the folder as Triton would."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from google.protobuf import text_format

from adapt.artifacts.store import find
from export.cli import main
from export.graphs.baked import baked_graph
from export.pipeline import export_bundle
from export.triton.repository import verify
from export.verification.images import ImagePaths
from export.verification.plain import open_plain
from runtime.backends.trt.builder import Built, Options
from runtime.backends.trt.engine_file import Platform, Recipe, engine_file
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.store import store_of
from runtime.bundles.bundle import Bundle
from runtime.errors import VerifyError
from runtime.sessions.session import Session
from tests.export.helpers import CLASSES, random_pixels

A10 = Platform("tensorrt", "10.16.1.11", "sm86", "NVIDIA A10", "13.0", "580.82.07")
ORIN = Platform("tensorrt", "10.3.0", "sm87", "Orin (nvgpu)", "12.6", None)


@pytest.fixture(scope="module")
def messages():
    """Triton's own ModelConfig; the gRPC client around it would need grpcio."""
    files = importlib.metadata.files("tritonclient") or []
    path = next(f for f in files if str(f) == "tritonclient/grpc/model_config_pb2.py").locate()
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("triton") / "demo.bundle"
    paths = [find(world.artifacts, task, None, None) for task in ("p-a", "c-r")]
    export_bundle(paths, out, images=ImagePaths.parse((str(world.images),), None), max_images=3)
    return out


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "demo.bundle")


def invoke(*arguments):
    return CliRunner().invoke(main, ["triton", *map(str, arguments)])


def read(messages, folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(), messages.ModelConfig())


def put_plan(bundle, platform, content=b"plan of ", task="p-a"):
    """Put a plan into the bundle's store as a build on a machine with that GPU does."""
    graph, store = baked_graph(Bundle.open(bundle), task), store_of(bundle, None)
    recipe = Recipe(graph.sha256, graph.weights(), platform, PROFILES["orin"], Options())
    plan = content + platform.generation.encode()
    engine = engine_file(graph.stem, recipe, Built(plan, (), 1.0, None), tested=True)
    store.install(engine, plan)
    return plan


def test_every_task_is_a_model_that_gives_the_sessions_logits(bundle, tmp_path, messages):
    out = tmp_path / "model_repository"
    result = invoke(bundle, "--out", out, "--max-batch", 8)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["c-r", "p-a"]
    with Session.open(bundle) as session:
        for folder in out.iterdir():
            config = read(messages, folder)
            assert config.name == folder.name and config.max_batch_size == 8
            assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")
            assert config.HasField("dynamic_batching")
            (pixels,), (logits,) = config.input, config.output
            assert list(pixels.dims) == list(config.model_warmup[0].inputs["pixels"].dims)
            labels = (folder / logits.label_filename).read_text().splitlines()
            assert labels == list(CLASSES) and list(logits.dims) == [len(CLASSES)]

            (version,) = (path for path in folder.iterdir() if path.is_dir())
            assert version.name == "1"
            model = onnxruntime.InferenceSession(
                version / "model.onnx", providers=["CPUExecutionProvider"]
            )
            (given,), (found,) = model.get_inputs(), model.get_outputs()
            assert (given.name, given.type) == (pixels.name, "tensor(uint8)")
            assert pixels.data_type == messages.TYPE_UINT8
            assert given.shape == ["batch", *pixels.dims]
            assert (found.name, found.type) == (logits.name, "tensor(float)")
            assert logits.data_type == messages.TYPE_FP32
            assert found.shape == ["batch", *logits.dims]

            frames = random_pixels(
                config.max_batch_size, session.bundle.preprocess(folder.name).size
            )
            session.switch(folder.name)
            want = session.infer(frames)
            (got,) = model.run(["logits"], {"pixels": frames})
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
            (one,) = model.run(["logits"], {"pixels": frames[:1]})
            np.testing.assert_allclose(one, want[:1], rtol=1e-4, atol=1e-5)


def test_prompted_tasks_in_fp16_keep_their_tokens_and_their_way_to_resize(
    world, tmp_path, messages
):
    more = {"prompts": (2, 3), "head": "projector-cosine", "resize": "crop", "share": 0}
    root = tmp_path / "artifacts"
    path = world.train("a-c", base="demo-vit32", root=root, variant="ekda", **more)
    images = ImagePaths.parse((str(world.images),), None)
    export_bundle([path], tmp_path / "b", precision="fp16", images=images, max_images=3)
    result = invoke(tmp_path / "b", "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "r" / "a-c"
    assert "# A frame becomes pixels by: resize crop, " in (folder / "config.pbtxt").read_text()
    assert read(messages, folder).output[0].data_type == messages.TYPE_FP32
    with Session.open(tmp_path / "b") as session:
        frames = random_pixels(5, session.preprocess.size)
        want = session.infer(frames)
    found = open_plain(folder / "1" / "model.onnx")(frames)
    np.testing.assert_allclose(found, want, atol=5e-3 * np.ptp(want))


def test_plans_become_a_second_model_with_one_file_for_each_gpu(bundle, tmp_path, messages):
    out = tmp_path / "model_repository"
    plans = {"8.6": put_plan(bundle, A10), "8.7": put_plan(bundle, ORIN)}
    result = invoke(bundle, "--out", out, "--task", "p-a")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["p-a", "p-a-trt"]
    config = read(messages, out / "p-a-trt")
    assert (config.name, config.platform) == ("p-a-trt", "tensorrt_plan")
    assert config.max_batch_size == PROFILES["orin"].batch.max < 32
    assert config.cc_model_filenames.keys() == plans.keys()
    for capability, name in config.cc_model_filenames.items():
        assert (out / "p-a-trt" / "1" / name).read_bytes() == plans[capability]
    assert str(ORIN) in (out / "p-a-trt" / "config.pbtxt").read_text()
    # A former version's plans must not be served beside the new one's ONNX.
    shutil.rmtree(bundle / "engines")
    assert invoke(bundle, "--out", out, "--task", "p-a").exit_code == 0
    assert [path.name for path in out.iterdir()] == ["p-a"]


def test_plans_that_triton_cannot_run_are_left_out_and_named(bundle, tmp_path):
    put_plan(bundle, replace(A10, library="tensorrt_rtx", gpu=None, cuda=None, driver=None))
    result = invoke(bundle, "--out", tmp_path / "r")
    assert result.exit_code == 0 and "tensorrt_rtx, which Triton does not run" in result.output
    put_plan(bundle, A10, task="c-r")
    (other,) = (bundle / "engines").glob("baked-c-r*.json")
    other.rename(other.with_name(other.name.replace("c-r", "p-a")))
    result = invoke(bundle, "--out", tmp_path / "r")
    assert result.exit_code == 0 and "made from another version of task 'p-a'" in result.output
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["c-r", "p-a"]


def test_what_cannot_be_written_leaves_the_repository_as_it_was(bundle, tmp_path):
    out = tmp_path / "r"
    assert invoke(bundle, "--out", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    put_plan(bundle, A10)
    put_plan(bundle, replace(A10, gpu="NVIDIA RTX A6000"))
    result = invoke(bundle, "--out", out)
    assert result.exit_code == 1 and "tells GPUs apart by their generation" in result.stderr
    shutil.rmtree(bundle / "engines")
    assert "unknown task 'x-y'" in invoke(bundle, "--out", out, "--task", "x-y").stderr
    (bundle / "tasks").rename(bundle / "gone")
    assert invoke(bundle, "--out", out).exit_code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.glob(".*"))


def test_a_repository_behind_a_link_is_made_beside_the_repository_itself(bundle, tmp_path):
    """The disk of the link may be another one, over whose border nothing can be renamed."""
    (real := tmp_path / "disk" / "r").mkdir(parents=True)
    (links := tmp_path / "links").mkdir()
    (links / "r").symlink_to(real)
    before = links.stat().st_mtime_ns
    assert invoke(bundle, "--out", links / "r", "--task", "p-a").exit_code == 0
    assert links.stat().st_mtime_ns == before, "nothing was made here"
    assert [path.name for path in real.iterdir()] == ["p-a"]


def test_models_of_others_stay_and_are_never_replaced(bundle, tmp_path):
    out = tmp_path / "r"
    (out / "resnet").mkdir(parents=True)
    (out / "resnet" / "config.pbtxt").write_text('name: "resnet"')
    assert invoke(bundle, "--out", out, "--task", "p-a").exit_code == 0
    old = (out / "p-a" / "1" / "model.onnx").stat().st_ino
    assert invoke(bundle, "--out", out, "--task", "p-a").exit_code == 0
    assert (out / "p-a" / "1" / "model.onnx").stat().st_ino != old, "replaced"
    assert (out / "resnet" / "config.pbtxt").read_text() == 'name: "resnet"'
    (out / "c-r").mkdir()
    (out / "c-r" / "config.pbtxt").write_text('name: "c-r"')
    result = invoke(bundle, "--out", out)
    assert result.exit_code == 1 and "was not written by uda-export triton" in result.stderr
    assert (out / "c-r" / "config.pbtxt").read_text() == 'name: "c-r"'


def test_a_model_that_disagrees_with_its_bundle_is_refused(bundle, tmp_path):
    out = tmp_path / "r"
    assert invoke(bundle, "--out", out).exit_code == 0
    verify(Bundle.open(bundle), out, ["p-a", "c-r"])
    (out / "p-a").rename(out / "old")
    (out / "c-r").rename(out / "p-a")
    with pytest.raises(VerifyError, match="of task 'p-a' differs from the bundle by"):
        verify(Bundle.open(bundle), out, ["p-a"])
