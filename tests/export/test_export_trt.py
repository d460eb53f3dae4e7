"""`uda-export trt`, on a machine without a GPU: engines of every method, read back and compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from export.cli import main
from export.graphs.baked import baked_graph
from runtime.backends.trt.library import library
from runtime.bundles.bundle import Bundle
from runtime.cli import main as runtime_main
from tests.rtx import NEEDS_RTX

pytestmark = NEEDS_RTX


def invoke(world, *arguments):
    paths = ("--artifacts", world.artifacts, "--images", world.images, "--max-images", 3)
    return CliRunner().invoke(main, ["trt", *map(str, (*arguments, *paths))])


def sidecars(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    return {f"{each['stem']} {each['recipe']['platform']['generation']}": each for each in found}


def test_one_command_writes_the_bundle_and_the_engines_of_every_target(world, tmp_path):
    out = tmp_path / "demo.bundle"
    found = invoke(
        world,
        *("--task", "p-a", "--task", "c-r", "--out", out, "--precision", "fp16"),
        *("--target", "sm86,sm89", "--profile", "server", "--baked"),
    )
    assert found.exit_code == 0, found.output
    assert f"wrote {out} (fp16, verified against PyTorch)" in found.output
    assert str(library()) in found.output
    made = sidecars(out / "engines")
    stems = ("encoder", "head-bn-ln-linear", "baked-p-a", "baked-c-r")
    assert made.keys() == {f"{stem} sm{number}" for stem in stems for number in (86, 89)}
    for name, each in made.items():
        plan = out / "engines" / f"{name_of(out, each)}"
        assert plan.stat().st_size == each["plan"]["bytes"]
        assert each["recipe"]["profile"]["name"] == "server" and not each["tested"]
        tensors = {tensor["name"]: tensor for tensor in each["tensors"]}
        if name.startswith("baked"):
            assert {n: t["shape"] for n, t in tensors.items()} == {
                "pixels": [-1, 32, 32, 3],
                "logits": [-1, 3],
            }
        elif name.startswith("encoder"):
            layout = Bundle.open(out).layout()
            assert tensors.keys() - {"pixels", "features"} == layout.keys()
            for spec in layout.values():
                assert tensors[spec.name]["dtype"] == spec.dtype
                assert tuple(tensors[spec.name]["shape"]) == spec.shape
    assert (tmp_path / "demo-p-a.onnx").is_file()


def name_of(out: Path, sidecar: dict) -> str:
    start = sidecar["plan"]["sha256"][:16]
    (path,) = (out / "engines").glob(f"*-{start}.plan")
    return path.name


def test_without_a_gpu_and_targets_the_bundle_is_written_and_the_way_on_is_told(
    world, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = invoke(world, "--task", "p-a")
    assert found.exit_code == 0, found.output
    assert Bundle.open("p-a.bundle").tasks == ("p-a",), "called after its first task"
    first, last = found.stdout.splitlines()[-2:]
    assert first.startswith("no engine was built: ") and "device cpu" not in first
    assert last == "on the device, run: uda-runtime build p-a.bundle"
    assert not Path("p-a.bundle/engines").exists()


def test_the_way_on_has_the_profile_and_says_what_it_does_not_build(world, tmp_path):
    out = tmp_path / "of shops.bundle"
    found = invoke(world, "--task", "p-a", "--out", out, "--profile", "server", "--baked")
    assert found.exit_code == 0, found.output
    assert "run: uda-runtime build 'of shops.bundle' --profile server\n" in found.stdout
    last = found.stdout.splitlines()[-1]
    assert last.startswith(
        "uda-runtime build makes no --baked engines: run uda-export trt"
    ) and last.endswith("of shops-<task>.onnx")


def test_without_a_gpu_too_a_profile_that_takes_no_task_is_refused(world, tmp_path):
    spans = {"batch": {"min": 1, "opt": 1, "max": 1}, "classes": {"min": 2, "opt": 2, "max": 2}}
    (tmp_path / "small.json").write_text(json.dumps({"name": "small", **spans}))
    profile = ("--profile", tmp_path / "small.json")
    found = invoke(world, "--task", "p-a", "--out", tmp_path / "o", *profile)
    assert found.exit_code == 1 and "'p-a' has 3 classes, engines of profile 'sm" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "sm87"), "cannot build for 'sm87'; available: sm80"),
        (("--target", "sm86", "--device", "cuda:1"), "leave one of them out"),
        (("--target", "sm86", "--engines", "/dev/null/x"), "cannot write '/dev/null/x"),
        (("--engines", ""), "the folder of engines must have a name, found ''"),
        (("--device", "gpu"), "engines are built on a GPU, found device 'gpu'"),
        (("--device", "cuda:99"), "driver"),
        (("--profile", "fast"), "unknown profile 'fast'"),
        (("--compiler", "torch-tensorrt"), "makes engines of --baked"),
        (("--compiler", "torch-tensorrt", "--baked"), "pip install '.[torch-tensorrt]'"),
        (("--compiler", "torch-tensorrt", "--baked", "--target", "sm86"), "leave --target out"),
        (("--compiler", "torch-tensorrt", "--baked", "--device", "cuda:1"), "for the first GPU"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_written(
    world, tmp_path, arguments, message
):
    found = invoke(world, "--task", "p-a", "--out", tmp_path / "o", *arguments)
    assert found.exit_code == 1 and message in found.stderr
    assert found.stderr.count("\n") == 1 and not any(tmp_path.iterdir())


def test_a_baked_graph_has_the_tasks_own_values(world, tmp_path):
    """The engine's constants are the merged weights: ONNX Runtime says the same with them."""
    import onnxruntime

    from runtime.sessions.session import Session
    from tests.export.helpers import random_pixels

    out = tmp_path / "demo.bundle"
    assert invoke(world, "--task", "p-a", "--out", out).exit_code == 0
    graph = baked_graph(Bundle.open(out), "p-a")
    session = onnxruntime.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
    pixels = random_pixels(4, 32)
    (found,) = session.run(["logits"], {"pixels": pixels, **graph.baked})
    with Session.open(out) as want:
        np.testing.assert_allclose(found, want.infer(pixels), rtol=1e-4, atol=1e-5)


def test_build_makes_the_engines_that_the_strategy_engines_opens(world, tmp_path):
    out = tmp_path / "demo.bundle"
    assert invoke(world, "--task", "p-a", "--task", "c-r", "--out", out).exit_code == 0
    arguments = ["build", str(out), "--target", "sm86", "--strategy", "engines"]
    found = CliRunner().invoke(runtime_main, arguments)
    assert found.exit_code == 0, found.output
    made = sidecars(out / "engines")
    assert made.keys() == {"encoder-p-a sm86", "encoder-c-r sm86", "head-bn-ln-linear sm86"}
    names = [tensor["name"] for tensor in made["encoder-p-a sm86"]["tensors"]]
    assert names == ["pixels", "features"]
    assert made["encoder-p-a sm86"]["recipe"]["weights"] is not None
