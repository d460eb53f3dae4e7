"""`--compiler torch-tensorrt`, as far as that goes without a GPU; the rest is marked `gpu`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network
from adapt.clip import model as clips
from adapt.compute.inference import predict
from adapt.optim.grid import snap
from export.cli import main
from export.graphs.baked import baked_graph
from export.pipeline import export_bundle
from export.torch_tensorrt.compiler import RELEASE, check_compiler
from export.torch_tensorrt.deployed import Deployed, exported
from export.torch_tensorrt.engines import recipe_of
from export.triton.repository import write_repository
from export.verification.images import ImagePaths
from runtime.backends.trt.builder import Built
from runtime.backends.trt.engine_file import Platform, engine_file
from runtime.backends.trt.graphs import check
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.store import store_of
from runtime.backends.trt.tensors import Tensor
from runtime.bundles.bundle import Bundle
from runtime.errors import BackendError
from runtime.models import Preprocess
from tests.export.helpers import random_pixels
from tests.rtx import NEEDS_RTX

TASKS = {
    "vit": {"task": "a-c", "base": "demo-vit32"},
    "resnet": {"task": "p-a"},
    "vit with prompts": {
        "task": "e-k",
        "base": "demo-vit32",
        "share": 0,
        "prompts": (3, 4),
        "head": "projector-cosine",
        "variant": "ekda",
    },
    "affine head": {"task": "u-m", "base": "demo-vit32", "share": 0, "head": "affine"},
}
"""Both families, all that methods put around them."""
LIMITS = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 1e-5}
"""Largest difference from float32 arithmetic on the same values, as a share of the mean spread of
one image's logits; measured are 2e-6, 2e-3 and 2e-6."""
MEAN, STD = (0.2, 0.4, 0.6), (0.5, 0.3, 0.4)


@pytest.fixture(scope="module")
def files(world, tmp_path_factory):
    """An artifact of each kind."""
    root = tmp_path_factory.mktemp("kinds")
    return {name: world.train(**options, root=root, seed=7) for name, options in TASKS.items()}


def network(file):
    artifact = Artifact.load(file)
    return Network.of(
        clips.load(artifact.base.architecture, artifact.config["pretrained"]), artifact
    )


@pytest.mark.parametrize(
    ("name", "precision"), [*product(TASKS, ("fp32", "fp16")), ("vit", "bf16")]
)
def test_pytorchs_own_graph_takes_any_batch_and_gives_the_tasks_logits(files, name, precision):
    own = network(files[name])
    snap(own.encoder, precision)
    size = Artifact.load(files[name]).preprocess.size
    pixels = random_pixels(9, size)
    want = predict(own, pixels, 9, mean=MEAN, std=STD).numpy()
    model = Deployed(network(files[name]), Preprocess(size, mean=MEAN, std=STD), precision)
    graph = exported(model, 32).module()
    limit = LIMITS[precision] * np.ptp(want, 1).mean()
    for count in (1, 2, 9):
        with torch.no_grad():
            found = graph(torch.from_numpy(pixels[:count]))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), want[:count], atol=limit, rtol=0)


@pytest.mark.parametrize("name", ["vit with prompts", "resnet"])
def test_float16_leaves_float32_what_normalises(files, name):
    size = Artifact.load(files[name]).preprocess.size
    model = Deployed(network(files[name]), Preprocess(size), "fp16")
    types: dict[str, set[torch.dtype]] = {}
    for node in exported(model, 8).graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            given = node.all_input_nodes[0].meta["val"]
            types.setdefault(node.target.overloadpacket.__name__, set()).add(given.dtype)
    half, single = {torch.float16}, {torch.float32}
    assert types["scaled_dot_product_attention"] == half and torch.float16 in types["linear"]
    assert types["conv2d"] == half
    assert types["layer_norm" if name.startswith("vit") else "batch_norm"] == single


def put_package(folder, version, code="", monkeypatch=None):
    """Put a distribution of that name where Python looks first."""
    metadata = folder / f"torch_tensorrt-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torch-tensorrt\nVersion: {version}\n"
    )
    (folder / "torch_tensorrt").mkdir()
    (folder / "torch_tensorrt" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.skipif(
    importlib.util.find_spec("torch_tensorrt") is not None, reason="torch-tensorrt is here"
)
def test_without_the_package_the_error_says_how_to_install_it():
    with pytest.raises(BackendError, match=r"not installed; run: pip install '\.\[torch-tensorrt"):
        check_compiler(())


def test_another_release_is_refused_before_anything_is_written(world, tmp_path, monkeypatch):
    (tmp_path / "packages").mkdir()
    put_package(tmp_path / "packages", "2.8.0", monkeypatch=monkeypatch)
    out = tmp_path / "o"
    options = ["--task", "p-a", "--out", out, "--baked", "--compiler", "torch-tensorrt"]
    paths = ["--artifacts", world.artifacts, "--images", world.images]
    found = CliRunner().invoke(main, ["trt", *map(str, (*options, *paths))])
    assert found.exit_code == 1 and found.stderr.count("\n") == 1
    assert f"2.8.0, expected 2.14, which fits PyTorch {torch.__version__}" in (found.stderr)
    assert not out.exists()


def test_without_a_gpu_the_error_names_the_other_compiler(tmp_path, monkeypatch):
    put_package(tmp_path, "2.14.1", "raise AssertionError('imported')", monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="needs a GPU that PyTorch can use.*leave --compiler"):
        check_compiler(())


@NEEDS_RTX
def test_a_package_that_cannot_be_imported_is_one_clear_error(tmp_path, monkeypatch):
    code = "raise OSError('libtorchtrt.so: undefined symbol:\\n  _ZN3c10')"
    put_package(tmp_path, "2.14.0", code, monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BackendError) as caught:
        check_compiler(())
    assert str(caught.value).startswith(
        "cannot import torch-tensorrt 2.14.0: libtorchtrt.so: undefined symbol: _ZN3c10; pip"
    )


def test_the_extra_asks_for_the_release_that_fits_our_pytorch():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert f"torch-tensorrt=={RELEASE}.*" in extras["torch-tensorrt"]
    assert f"torch=={RELEASE}.*" in extras["adapt"]


def test_triton_takes_the_engine_for_the_tasks_own(world, tmp_path):
    """What is made here stands where TensorRT's own engine of the task would."""
    path = find_and_export(world, tmp_path)
    bundle, store = Bundle.open(path), store_of(path, None)
    machine = Platform("tensorrt", "11.1.0.106", "sm86", "NVIDIA A10", "13.0", "580.82.07")
    graph = baked_graph(bundle, "p-a")
    recipe = recipe_of(graph, machine, PROFILES["server"], "2.14.0")
    engine = engine_file(graph.stem, recipe, Built(b"plan", (), 1.0, None), tested=True)
    store.install(engine, b"plan")
    written = write_repository(bundle, tmp_path / "models", ["p-a"], 8, store)
    assert not written.notes and [m.name for m in written.models] == ["p-a", "p-a-trt"]


def find_and_export(world, tmp_path):
    path = tmp_path / "demo.bundle"
    (file,) = world.artifacts.glob("*/p-a/*/*")
    export_bundle([file], path, images=ImagePaths(world.images), max_images=3)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The compiler's edition for TensorRT-RTX, which builds without a GPU."""
    folder = tmp_path_factory.mktemp("package")
    wanted = [f"torch-tensorrt-rtx=={RELEASE}.*", "dllist", "psutil"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "pip failed").splitlines()[-1]
        pytest.skip(f"pip cannot fetch {wanted[0]}: {reason}; the compiler itself is not tried")
    return folder


@NEEDS_RTX
def test_the_compiler_makes_engines_that_take_pixels_and_give_logits(
    world, files, package, tmp_path
):
    """Its converters know every operator of both families; the plan is built for sm86."""
    cases = {"resnet": "fp32", "vit with prompts": "fp16"}
    arguments = [f"{files[name]}={precision}" for name, precision in cases.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.export.without_gpu", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(package), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(cases)
    graph = baked_graph(Bundle.open(find_and_export(world, tmp_path)), "p-a")
    for each in found:
        check(graph, [Tensor(**{**t, "shape": tuple(t["shape"])}) for t in each["tensors"]])
        assert each["flags"] == [] and each["bytes"] > 1 << 20


@pytest.mark.gpu
@pytest.mark.skipif(
    importlib.util.find_spec("torch_tensorrt") is None, reason="needs torch-tensorrt"
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_command_makes_engines_that_agree_with_pytorch(world, tmp_path, precision):
    out = tmp_path / "demo.bundle"
    options = ["--task", "p-a", "--task", "c-r", "--out", out, "--precision", precision]
    paths = ["--artifacts", world.artifacts, "--images", world.images]
    wanted = [*options, *paths, "--baked", "--compiler", "torch-tensorrt"]
    for verdict in ("agrees with PyTorch on", "kept"):
        found = CliRunner().invoke(main, ["trt", *map(str, wanted)])
        assert found.exit_code == 0, found.output
        assert f"baked-p-a: {verdict}" in found.output
    made = [json.loads(path.read_bytes()) for path in (out / "engines").glob("baked-*.json")]
    assert {each["stem"] for each in made} == {"baked-p-a", "baked-c-r"}
    for each in made:
        assert each["recipe"]["options"]["compiler"].startswith("torch-tensorrt 2.14")
        assert {tensor["name"] for tensor in each["tensors"]} == {"pixels", "logits"}
