"""`uda-runtime info` over engines: told of them without a GPU, and without TensorRT."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.backends.trt.builder import Options
from runtime.backends.trt.engine_file import EngineFile, PlanFile, Platform, Recipe
from runtime.backends.trt.graphs import baked_graphs, graphs_of
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.store import store_of
from runtime.bundles.bundle import Bundle
from runtime.cli import main
from runtime.storage.files import sha256

ROOT = Path(__file__).parents[2]
ORIN = Platform("tensorrt", "10.3.0.30", "sm87", "Orin (nvgpu)", "12.6", None)
SM86 = Platform("tensorrt_rtx", "1.7.1.116", "sm86", gpu=None, cuda=None, driver=None)


def info(*arguments, code=0):
    found = CliRunner().invoke(main, ["info", *map(str, arguments)], catch_exceptions=False)
    assert found.exit_code == code, found.output
    return found


def put(path, stem, graph, platform=ORIN, weights=None, profile="orin", tested=True) -> EngineFile:
    """Put what could be an engine into a bundle; nobody here can tell that it is none."""
    plan = f"machine code of {stem}".encode() * 1000
    recipe = Recipe(graph, weights, platform, PROFILES[profile], Options())
    own = PlanFile(len(plan), sha256(plan))
    engine = EngineFile(stem, recipe.key, recipe, (), own, 1.5, tested)
    store_of(path, None).install(engine, plan)
    return engine


@pytest.fixture
def engines(world):
    """Two weight-free engines of the bundle, one with constants and one of another bundle."""
    encoder, head = graphs_of(Bundle.open(world.path))
    return [
        put(world.path, "encoder", encoder.sha256),
        put(world.path, "encoder-a-b", encoder.sha256, weights="1" * 64),
        put(world.path, "head-linear", head.sha256, SM86, profile="server", tested=False),
        put(world.path, "head-old", "2" * 64, SM86),
    ]


def rows(output):
    return [line.split() for line in output.splitlines() if line.startswith(("encoder", "head-"))]


def test_every_engine_is_told_with_what_it_fits(world, engines):
    output = info(world.path).stdout
    assert f"engines   4 in {world.path / 'engines'}\n" in output
    orin, rtx = ["tensorrt", "10.3.0.30", "Orin", "(nvgpu)", "sm87"], ["tensorrt_rtx", "1.7.1.116"]
    sizes = [[f"{e.plan.bytes / 1000:.1f}", "kB"] for e in engines]
    contents = [e.recipe.content[:8] for e in engines]
    assert rows(output) == [
        ["encoder", contents[0], *sizes[0], *orin, "orin", "passed"],
        ["encoder-a-b", contents[1], *sizes[1], *orin, "orin", "passed"],
        ["head-linear", contents[2], *sizes[2], *rtx, "any", "sm86", "server", "not", "run"],
        [
            *("head-old", contents[3], *sizes[3], *rtx, "any", "sm86", "orin", "passed"),
            *("not", "of", "this", "bundle"),
        ],
    ]
    assert "digest" not in output


def test_a_check_reads_every_engine(world, engines):
    output = info(world.path, "--check").stdout
    assert [row.count("right") for row in rows(output)] == [1, 1, 1, 1]
    plan = store_of(world.path, None).path(engines[1])
    plan.write_bytes(b"M" + plan.read_bytes()[1:])
    found = info(world.path, "--check", code=1)
    assert [row.count("wrong") for row in rows(found.stdout)] == [0, 1, 0, 0]
    hint = f"run: uda-runtime build {world.path}"
    # Of the Orin's own engines none has another profile, so a build keeps it.
    assert f"damaged   '{plan}' was altered; {hint} --strategy engines\n" in found.stdout
    folder = world.path / "engines"
    assert found.stderr == (
        f"error: 1 of 4 engines in '{folder}' are damaged, see above; build them again\n"
    )
    assert "damaged" not in info(world.path).stdout, "without it, plans are not read"


def test_a_plan_that_is_missing_or_of_another_size_is_told_without_a_check(world, engines):
    store = store_of(world.path, None)
    plans, hint = [store.path(e) for e in engines], f"run: uda-runtime build {world.path}"
    plans[0].write_bytes(b"short")
    plans[1].unlink()
    plans[2].write_bytes(plans[2].read_bytes() + b"x")
    plans[3].unlink()
    plans[3].mkdir()
    sizes = [e.plan.bytes for e in engines]
    assert [line for line in info(world.path).stdout.splitlines() if "damaged" in line] == [
        f"damaged   '{plans[0]}' has 5 bytes, expected {sizes[0]}; {hint}",
        f"damaged   '{plans[1]}' is missing; {hint} --strategy engines",
        f"damaged   '{plans[2]}' has {sizes[2] + 1} bytes, expected {sizes[2]}; {hint} "
        "--target sm86 --profile server",
        f"damaged   '{plans[3]}' is a folder, expected a file of machine code; {hint} "
        "--target sm86 --profile orin",
    ]


def test_a_damaged_description_names_the_command_that_builds_its_engine(world, engines, tmp_path):
    put(world.path, "baked-a-b", "3" * 64)
    for path in (world.path / "engines").glob("*.json"):
        path.write_text("{")
    (world.path / "engines").rename(tmp_path / "e")
    found = info(world.path, "--engines", tmp_path / "e").stdout.splitlines()
    start = f"run: uda-runtime build {world.path} --engines {tmp_path / 'e'}"
    hints = [line.rpartition("; ")[2] for line in found if line.startswith("damaged")]
    assert sorted(hints) == [
        "run again the uda-export trt --baked that built it",
        start,
        f"{start} --strategy engines",
        *[f"{start} --target sm86"] * 2,
    ]


def test_what_describes_no_engine_is_named_in_a_line_and_only_ours_is_damage(world, engines):
    folder = world.path / "engines"
    (folder / "notes.json").write_text('{"to": "do"}')
    (folder / "\x1b[2Jred.json").write_bytes(b"\xff")
    (folder / "folder.json").mkdir()
    (folder / "readme.txt").write_text("not looked at")
    found = info(world.path, "--check")
    lines = found.stdout.splitlines()
    assert lines[-3:] == [
        "other     '\\x1b[2Jred.json' is not an engine",
        "other     'folder.json' is not an engine",
        "other     'notes.json' is not an engine",
    ]
    path = folder / f"{engines[0].slot}.json"
    path.write_bytes(path.read_bytes()[:200])
    for found in (info(world.path), info(world.path, "--check", code=1)):
        assert len(rows(found.stdout)) == 3
        (line,) = [line for line in found.stdout.splitlines() if line.startswith("damaged")]
        assert line.startswith(f"damaged   '{path}' is damaged: ")


def test_a_description_of_another_version_or_with_another_digest_is_damage(world, engines):
    path = world.path / "engines" / f"{engines[0].slot}.json"
    content = path.read_text()
    for old, new, reason in [
        ('"schema": 2', '"schema": 3', "has schema 3; this version reads 2"),
        ("10.3.0.30", "10.4.0.30", "was altered: its digest does not match"),
    ]:
        path.write_text(content.replace(old, new))
        found = info(world.path, "--check", code=1)
        hint = f"{reason}; run: uda-runtime build {world.path}\n"
        assert hint in found.stdout and len(rows(found.stdout)) == 3


def test_a_check_tells_constants_of_a_former_version_of_a_task(world, engines):
    graph = next(baked_graphs(Bundle.open(world.path)))
    put(world.path, graph.stem, graph.sha256, weights=graph.weights())
    text = "of no task's values as they are now"
    assert text not in info(world.path).stdout, "the whole base would have to be read"
    lines = [line for line in info(world.path, "--check").stdout.splitlines() if text in line]
    assert [line.split()[:2] for line in lines] == [["encoder-a-b", engines[1].recipe.content[:8]]]
    put(world.path, "baked-a-b", "3" * 64, weights="4" * 64)
    assert info(world.path, "--check").stdout.count(text) == 1, "no bundle holds its graph"


def test_why_an_engine_has_not_run_is_told(world, engines):
    assert info(world.path).stdout.endswith(
        "\n\nnot run: there was no such GPU where they were built; a build on one tests them\n"
    )
    for path in (world.path / "engines").glob("head-linear*"):
        path.unlink()
    assert "not run" not in info(world.path).stdout


def test_a_bundle_without_engines_says_nothing_of_them(world, tmp_path):
    assert "engine" not in info(world.path, "--check").stdout
    (world.path / "engines").mkdir()
    assert "engine" not in info(world.path).stdout
    found = info(world.path, "--engines", tmp_path / "nowhere")
    assert found.stdout.splitlines()[-1] == f"engines   none in {tmp_path / 'nowhere'}"


def test_engines_may_lie_elsewhere(world, engines, tmp_path):
    (world.path / "engines").rename(tmp_path / "e")
    assert not rows(info(world.path).stdout)
    assert len(rows(info(world.path, "--engines", tmp_path / "e").stdout)) == 4
    (tmp_path / "file").touch()
    found = info(world.path, "--engines", tmp_path / "file" / "x", code=1)
    assert "cannot read" in found.stderr and found.stderr.count("\n") == 1


def test_neither_tensorrt_nor_cuda_bindings_are_needed(world, engines):
    code = (
        "import sys\n"
        "missing = 'tensorrt', 'tensorrt_rtx', 'cuda', 'cuda.bindings', 'onnxruntime', 'torch'\n"
        "sys.modules.update(dict.fromkeys(missing))\n"
        "from runtime.cli import main\n"
        "main(['info', '--check', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, world.path], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(done.stdout)) == 4 and "runs here" not in done.stdout


def test_two_gpus_of_one_generation_have_an_engine_each(world, engines):
    """Also where the name of one begins with that of the other, and that one is built again."""
    graph, names = engines[0].recipe.graph, ("RTX 4070", "RTX 4070 Ti")
    for name in (*names, names[0]):
        put(world.path, "encoder", graph, dataclasses.replace(ORIN, gpu=name))
    output = info(world.path, "--check").stdout
    assert len(rows(output)) == 6 and "damaged" not in output
    assert all(f"{name} sm87" in output for name in names)
