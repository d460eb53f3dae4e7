"""Engines built for the GPU of this machine: a stand-in's builder over the emulated driver."""

import dataclasses
import io
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.backends.trt.device import platform_of
from runtime.backends.trt.graphs import graphs_of
from runtime.backends.trt.library import library as installed
from runtime.backends.trt.library import logger
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.sets import build_all
from runtime.backends.trt.store import store_of
from runtime.bundles.bundle import Bundle
from runtime.cli import main
from runtime.cuda.driver import driver as cuda_driver
from runtime.errors import FormatError
from tests.runtime.conftest import SIZE
from tests.runtime.cuda import stand_in_builder

ORIN = PROFILES["orin"]
NODES = ["f", "m", "h", "hb", "r", "features", "logits"]
"""Of the two graphs of a bundle."""


@pytest.fixture(autouse=True)
def tensorrt(driver, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in_builder)
    for cached in (installed, logger):
        cached.cache_clear()
    stand_in_builder.measured.clear()
    yield
    for cached in (installed, logger):
        cached.cache_clear()


def built(path, **options):
    """Build the engines of a bundle; return them, and what was measured for it."""
    stand_in_builder.measured.clear()
    rows = list(build_all(Bundle.open(path), None, ORIN, **options))
    return [row.engine for row in rows], list(stand_in_builder.measured)


def forget_engines(path):
    for file in (path / "engines").glob("*-*.json"):
        file.unlink()


def test_what_can_run_here_is_tested_and_answers_as_the_bundle_says(world, device):
    engines, _ = built(world.path)
    assert [engine.tested for engine in engines] == [True, True]
    assert {engine.recipe.platform for engine in engines} == {platform_of(device)}
    pixels = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    with runtime.Session.open(world.path, backend="trt", device="cuda") as session:
        session.switch("a-c")
        np.testing.assert_allclose(session.infer(pixels), world.logits("a-c", pixels), rtol=1e-4)


def test_what_was_measured_once_is_kept_and_used(world, device):
    assert built(world.path)[1] == NODES
    timing = store_of(world.path, None).timing(platform_of(device))
    kept = timing.read_bytes()
    forget_engines(world.path)
    assert built(world.path)[1] == [], "all of it is in the timing cache"
    assert timing.read_bytes() == kept
    forget_engines(world.path)
    timing.unlink()
    assert built(world.path)[1] == NODES and timing.read_bytes() == kept


def test_graphs_share_what_was_measured(mixed):
    """The encoder with tokens begins like the one without; its Relu reads another sum."""
    _, measured = built(mixed.path)
    assert len(graphs_of(Bundle.open(mixed.path))) == 4
    assert [measured.count(name) for name in ("f", "m", "h", "hb")] == [1, 1, 1, 1]
    assert measured.count("r") == 2


@pytest.mark.parametrize(
    "content", [b"", b"damaged", b'{"gpu": "Emulated GPU 7", "known": []}', b"\xff" * 99]
)
def test_a_timing_cache_that_does_not_fit_is_replaced(world, device, content):
    built(world.path)
    timing = store_of(world.path, None).timing(platform_of(device))
    kept = timing.read_bytes()
    forget_engines(world.path)
    timing.write_bytes(content)
    assert built(world.path)[1] == NODES
    assert timing.read_bytes() == kept


def test_each_driver_has_a_timing_cache_of_its_own(world, device):
    store, here = store_of(world.path, None), platform_of(device)
    others = [{"driver": "1.2"}, {"cuda": "12.6"}, {"gpu": "A10"}, {"version": "10.3.0"}]
    paths = {store.timing(dataclasses.replace(here, **other)) for other in others}
    assert len(paths | {store.timing(here)}) == 5


def invoke(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_a_build_is_for_the_gpu_that_is_named_and_a_session_there_opens_it(
    world, monkeypatch, tmp_path
):
    monkeypatch.setenv("EMULATED_GPUS", "2")
    found = invoke("build", world.path, "--device", "cuda:1")
    assert found.exit_code == 0 and found.stdout.count("Emulated GPU 1 sm87  ") == 2
    assert found.stdout.count(" passed ") == 2 and "not run" not in found.stdout
    (image := tmp_path / "x.png").write_bytes(picture())
    command = ("predict", world.path, image, "--task", "a-b", "--backend", "trt", "--device")
    there, here = invoke(*command, "cuda:1"), invoke(*command, "cuda")
    assert there.exit_code == 0 and "class" in there.stdout
    assert here.exit_code == 1 and here.stderr.rstrip().endswith(f"uda-runtime build {world.path}")
    assert "is for tensorrt 10.16.1.11 on Emulated GPU 1 (sm87)" in here.stderr


def test_what_a_session_wants_names_its_gpu(world, monkeypatch, tmp_path):
    monkeypatch.setenv("EMULATED_GPUS", "2")
    built(world.path, device="cuda:1")
    for plan in (world.path / "engines").glob("encoder*.plan"):
        plan.write_bytes(b"x" + plan.read_bytes()[1:])
    with pytest.raises(FormatError) as error:
        runtime.Session.open(world.path, backend="trt", device="cuda:1")
    assert str(error.value).endswith(f"run: uda-runtime build {world.path} --device cuda:1")


def test_a_gpu_that_is_not_there_is_one_error(world):
    found = invoke("build", world.path, "--device", "cuda:7")
    assert found.exit_code == 1 and found.stderr.startswith(
        "error: device 'cuda:7' not found: the driver shows 1 GPU, numbered from 0; check"
    )
    assert found.stderr.count("\n") == 1 and not (world.path / "engines").exists()
    none = invoke("build", world.path, "--target", "sm86")
    assert none.exit_code == 1 and "available: the GPU of its machine; build on" in none.stderr


def test_without_its_package_a_build_names_the_package(world, monkeypatch):
    cuda_driver.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    found = invoke("build", world.path)
    cuda_driver.cache_clear()
    assert found.exit_code == 1 and found.stderr.count("\n") == 1
    assert "found no GPU to build for: a GPU needs the package" in found.stderr
    assert "run: pip install '.[cuda]'" in found.stderr


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(content, "png")
    return content.getvalue()


def test_info_tells_which_engines_run_here_and_leaves_the_gpu_alone(world, device, driver):
    engines, _ = built(world.path)
    store, here = store_of(world.path, None), platform_of(device)
    own = engines[0].recipe
    other = dataclasses.replace(own, platform=dataclasses.replace(here, driver="1.2"))
    foreign = dataclasses.replace(own, platform=dataclasses.replace(here, gpu="NVIDIA A10"))
    for recipe in (other, foreign):
        plan = store.plan(engines[0])
        store.install(dataclasses.replace(engines[0], recipe=recipe, key=recipe.key), plan)
    contexts = driver.counts("cuDevicePrimaryCtxRetain", "cuStreamCreate")
    found = invoke("info", world.path)
    assert driver.counts("cuDevicePrimaryCtxRetain", "cuStreamCreate") == contexts
    assert found.exit_code == 0 and f", and here is {here}" in found.stdout
    rows = [line.split() for line in found.stdout.splitlines() if "sm87  " in line]
    # The one of another driver has taken the place of the first.
    assert [(row[0], row[-1]) for row in rows] == [
        ("encoder", "no"),
        ("encoder", "no"),
        ("head-linear", "yes"),
    ]
    (world.path / "engines" / f"{engines[0].slot}.json").unlink()
    built(world.path)
    assert invoke("info", world.path).stdout.count(" yes\n") == 2
