"""`uda-runtime build`, as people call it on a machine without a GPU."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.backends.trt.build import platforms
from runtime.backends.trt.graphs import graphs_of
from runtime.backends.trt.library import library
from runtime.bundles.bundle import Bundle
from runtime.cli import main
from tests.rtx import NEEDS_RTX, ctrl_c

pytestmark = NEEDS_RTX
ROOT = Path(__file__).parents[2]


def invoke(*arguments):
    return CliRunner().invoke(main, ["build", *map(str, arguments)])


def test_build_shows_what_became_of_each_engine(world):
    found = invoke(world.path, "--target", "sm86, sm89", "--profile", "server")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0] == f"library   {library()}" and str(world.path / "engines") in found.stdout
    rows = [line.split() for line in lines if line.startswith(("encoder", "head"))]
    assert [row[0] for row in rows] == ["encoder"] * 2 + ["head-linear"] * 2
    assert [row[-3:] for row in rows] == [["not", "run", "built"]] * 4
    assert {tuple(row[5:8]) for row in rows} == {
        ("server", "any", "sm86"),
        ("server", "any", "sm89"),
    }
    assert lines[-1].startswith("not run: ") and "; " not in lines[-1]
    again = invoke(world.path, "--target", "sm86", "--profile", "server")
    assert again.stdout.count(" kept") == 2 and " built" not in again.stdout


def test_without_a_profile_a_build_keeps_that_of_the_engines_that_are_there(world):
    def built(*arguments):
        found = invoke(world.path, "--target", "sm86", *arguments)
        assert found.exit_code == 0, found.output
        lines = found.stdout.splitlines()
        rows = [line.split() for line in lines if line.startswith(("encoder", "head"))]
        return [(row[0], row[5], " ".join(row[10:])) for row in rows]

    assert built() == [("encoder", "orin", "built"), ("head-linear", "orin", "built")]
    replaced = [
        ("encoder", "server", "built, was orin"),
        ("head-linear", "server", "built, was orin"),
    ]
    assert built("--profile", "server") == replaced
    assert built() == [("encoder", "server", "kept"), ("head-linear", "server", "kept")]
    baked = [(f"encoder-a-{to}", "server", "built") for to in "bcd"]
    assert built("--strategy", "engines") == [*baked, ("head-linear", "server", "kept")]
    other = invoke(world.path, "--target", "sm89").stdout
    assert " orin " in other and "server" not in other, "there was none for this platform"
    (encoder,) = (world.path / "engines").glob("encoder-????????????????.*sm86.json")
    encoder.unlink()
    built("--profile", "orin")
    found = invoke(world.path, "--target", "sm86")
    assert found.exit_code == 1 and found.stderr.count("\n") == 1
    assert "are of the profiles orin and server; choose one with --profile" in found.stderr


def test_engines_may_lie_elsewhere(world, tmp_path):
    found = invoke(world.path, "--target", "sm86", "--engines", tmp_path / "e")
    assert found.exit_code == 0 and len(list((tmp_path / "e").glob("*.plan"))) == 2
    assert not (world.path / "engines").exists()


def test_a_profile_may_be_a_file(world, tmp_path):
    spans = {"batch": {"min": 1, "opt": 2, "max": 3}, "classes": {"min": 2, "opt": 3, "max": 4}}
    (tmp_path / "kiosk.json").write_text(json.dumps({"name": "kiosk", **spans}))
    found = invoke(world.path, "--target", "sm86", "--profile", tmp_path / "kiosk.json")
    assert found.exit_code == 0 and " kiosk " in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "sm87"), "cannot build for 'sm87'; available: sm80, sm86"),
        (("--target", "86"), "; did you mean sm86?\n"),
        (("--target", "sm86,nonsense"), "cannot build for 'nonsense'; available: sm80"),
        (("--target", ""), "--target names no GPU generation, found ''; one looks like sm86"),
        (("--target", " ,"), "--target names no GPU generation"),
        (("--target", "sm86", "--device", "cuda"), "leave one of them out"),
        (("--device", "cpu"), "engines are built on a GPU, found device 'cpu'; pass --device cuda"),
        (("--profile", "jetson"), "unknown profile 'jetson'; available: orin, server"),
        (("--target", "sm86", "--profile", "small.json"), "'a-d' has 4 classes"),
        (("--target", "sm86", "--engines", "small.json/x"), "cannot write 'small.json/x"),
        (("--engines", ""), "the folder of engines must have a name, found ''; name one, or leave"),
    ],
)
def test_a_users_error_is_one_line(world, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    spans = {"batch": {"min": 1, "opt": 1, "max": 1}, "classes": {"min": 2, "opt": 2, "max": 3}}
    (tmp_path / "small.json").write_text(json.dumps({"name": "small", **spans}))
    found = invoke(world.path, *arguments)
    assert found.exit_code == 1 and message in found.stderr
    assert found.stderr.startswith("error: ") and found.stderr.count("\n") == 1
    assert not (world.path / "engines").exists()


@pytest.mark.parametrize("device", [(), ("--device", "cuda"), ("--device", "cuda:1")])
def test_without_a_gpu_a_build_says_what_is_missing_and_what_to_do(world, no_driver, device):
    found = invoke(world.path, *device)
    assert found.exit_code == 1 and found.stderr.count("\n") == 1
    assert "a GPU needs NVIDIA's driver" in found.stderr
    assert "device cpu" not in found.stderr
    assert ("or name its GPU with --target: sm80" in found.stderr) == (not device)
    assert not (world.path / "engines").exists()


def test_a_folder_that_cannot_be_written_is_found_out_before_the_build(world):
    (world.path / "engines/.lock").mkdir(parents=True)
    found = invoke(world.path, "--target", "sm86")
    assert found.exit_code == 1 and "cannot write" in found.stderr
    assert found.stderr.count("\n") == 1, "nothing was told of a build"


def test_a_folder_with_all_that_is_wanted_may_be_one_that_can_only_be_read(world):
    assert invoke(world.path, "--target", "sm86").exit_code == 0
    (world.path / "engines/.lock").mkdir()  # nobody can lock here, so nobody can write
    again = invoke(world.path, "--target", "sm86")
    assert again.exit_code == 0 and again.stdout.count(" kept") == 2


def test_ctrl_c_ends_a_build_with_what_is_done_in_place(world):
    folder = world.path / "engines"
    with ctrl_c(lambda: any(folder.glob("*.json"))):
        found = invoke(world.path, "--target", "sm86")
    assert found.exit_code == 1
    last = found.stderr.splitlines()[-1]
    assert last.startswith("error: interrupted; what was built before is in place, run the same")
    (engine,) = [line for line in found.stdout.splitlines() if line.endswith(" built")]
    assert engine.startswith("encoder ")
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".plan"]
    again = invoke(world.path, "--target", "sm86")
    assert again.stdout.count(" kept") == again.stdout.count(" built") == 1


def test_a_terminal_sees_a_bar_that_begins_anew_with_each_engine(world):
    ours, theirs = pty.openpty()
    code = "from runtime.cli import main; main()"
    command = [sys.executable, "-c", code, "build", world.path, "--target", "sm86,sm89"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs) as run:
        os.close(theirs)
        content = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
            while chunk := os.read(ours, 4096):
                content += chunk
    os.close(ours)
    assert run.returncode == 0, content
    shown: dict[bytes, list[int]] = {}
    bars = rb"((?:encoder|head-linear) for sm[0-9]+) +\[[#-]+\] +([0-9]+)%"
    for label, percent in re.findall(bars, content):
        shown.setdefault(label, []).append(int(percent))
    assert list(shown) == [
        *(b"encoder for sm86", b"encoder for sm89", b"head-linear for sm86"),
        b"head-linear for sm89",
    ]
    for percents in shown.values():
        assert percents[0] == 0 and percents[-1] > 50
        assert percents == sorted(percents) and percents[-1] <= 100


def test_what_was_built_before_an_error_is_in_place_and_shown(world):
    graph = graphs_of(Bundle.open(world.path))[-1]
    (platform,) = platforms(["sm86"], None, "")
    in_the_way = f"{graph.stem}-{graph.sha256[:16]}.{platform.slug}.json"
    (world.path / "engines" / in_the_way).mkdir(parents=True)
    found = invoke(world.path, "--target", "sm86")
    assert found.exit_code == 1 and "cannot write" in found.stderr
    assert "encoder" in found.stdout and "head" not in found.stdout
    assert len(list((world.path / "engines").glob("encoder-*.json"))) == 1


def test_a_damaged_bundle_is_refused_before_anything_is_built(mixed):
    for file in (mixed.path / "graphs").glob("head-*.onnx"):
        file.write_bytes(b"damaged")
    found = invoke(mixed.path, "--target", "sm86")
    assert found.exit_code == 1 and "was altered" in found.stderr
    assert not (mixed.path / "engines").exists()
