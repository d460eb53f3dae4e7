import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.bundles import bundle, manifest
from runtime.bundles.bundle import Bundle
from runtime.errors import FormatError, StorageError, UdaError
from runtime.storage.files import sha256
from tests.runtime.conftest import head
from tests.runtime.helpers import read_everything, rewrite, smuggle, tree


def test_what_was_written_is_read_back(world):
    opened = Bundle.open(world.path)
    weights = opened.weights()
    for name, array in world.base.items():
        assert weights[name].tobytes() == array.tobytes()
    for task, want in world.tasks.items():
        got = opened.task(task, weights.layout)
        assert got.info == want.info
        assert got.head_tensors["weight"].tobytes() == want.head_tensors["weight"].tobytes()
        assert got.patch.keys() == want.patch.keys()
        for name, sparse in want.patch.items():
            assert got.patch[name].indices.tobytes() == sparse.indices.tobytes()
            assert got.patch[name].values.tobytes() == sparse.values.tobytes()


def test_writing_the_same_parts_twice_gives_the_same_bytes(world, make_world):
    assert tree(world.path) == tree(make_world("again.bundle").path)


def test_a_new_bundle_replaces_the_old_one_and_leaves_no_old_files(world, make_world, frame):
    make_world("toy.bundle", tasks=1, seed=9)
    assert len(list((world.path / "tasks").iterdir())) == 1
    assert len(list((world.path / "base").iterdir())) == 1
    read_everything(world.path)


def test_every_flipped_byte_is_found(world):
    rng = np.random.default_rng(0)
    for name, content in tree(world.path).items():
        positions = rng.choice(len(content), min(40, len(content)), replace=False)
        for position in positions:
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            (world.path / name).write_bytes(damaged)
            if name == manifest.NAME and json_equal(content, damaged):
                continue  # white space outside of strings carries nothing
            with pytest.raises(UdaError):
                read_everything(world.path)
        (world.path / name).write_bytes(content)
    read_everything(world.path)


def json_equal(one: bytes, two: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(two)
    except ValueError:
        return False


def test_every_truncated_or_missing_file_is_found(world):
    for name, content in tree(world.path).items():
        for keep in (0, 1, len(content) // 2, len(content) - 1):
            (world.path / name).write_bytes(content[:keep])
            if name == manifest.NAME and json_equal(content, content[:keep]):
                continue  # only the last line's end is gone
            with pytest.raises(UdaError):
                read_everything(world.path)
        (world.path / name).unlink()
        with pytest.raises(UdaError):
            read_everything(world.path)
        (world.path / name).write_bytes(content)


def test_a_link_that_leads_out_of_the_bundle_is_refused(world, tmp_path):
    (file,) = (world.path / "tasks").glob("a-b-*")
    outside = tmp_path / "outside"
    outside.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(outside)
    opened = Bundle.open(world.path)
    with pytest.raises(FormatError, match="is a link out of the bundle"):
        opened.task("a-b", opened.weights().layout)


def test_a_task_under_another_name_is_refused(world):
    def swap(body):
        one, two = body["tasks"][:2]
        one["file"], two["file"] = two["file"], one["file"]

    rewrite(world.path, swap)
    opened = Bundle.open(world.path)
    with pytest.raises(FormatError, match="is not the file of task 'a-b'"):
        opened.task("a-b", opened.weights().layout)


def test_a_task_of_another_base_is_refused(world, make_world):
    other = make_world("other.bundle", seed=7)
    (file,) = (other.path / "tasks").glob("a-b-*")
    content = file.read_bytes()
    (world.path / "tasks" / file.name).write_bytes(content)

    def point(body):
        entry = body["tasks"][0]["file"]
        entry.update(path=f"tasks/{file.name}", bytes=len(content), sha256=sha256(content))

    rewrite(world.path, point)
    opened = Bundle.open(world.path)
    with pytest.raises(FormatError, match="patches base"):
        opened.task("a-b", opened.weights().layout)


def test_a_claimed_class_count_that_the_head_does_not_have_is_found(world, make_world, frame):
    task = world.parts["tasks"][0]
    classes = (*task.info.classes, "one too many")
    tasks = [replace(task, info=replace(task.info, classes=classes))]
    heads = [head("linear", known=False)]  # one that is known tells when it is written
    bundle.write(world.path, **{**world.parts, "heads": heads, "tasks": tasks})
    with runtime.Session.open(world.path) as session:
        with pytest.raises(FormatError, match="has 3 classes, its head returned shape"):
            session.predict(frame)


def test_a_task_without_a_tensor_of_its_head_is_refused_when_written_and_when_read(world, tmp_path):
    first, second, third = world.parts["tasks"]
    bad = replace(second, head_tensors={})
    with pytest.raises(FormatError, match=r"'a-c' brings \[\] for its head, expected \['weight'\]"):
        bundle.write(tmp_path / "new", **{**world.parts, "tasks": [first, bad, third]})
    assert not (tmp_path / "new").exists()
    smuggle(world.path, bad)
    opened = Bundle.open(world.path)
    with pytest.raises(FormatError, match=r"'a-c' brings \[\] for its head, expected \['weight'\]"):
        opened.task("a-c", opened.weights().layout)


def test_the_layout_is_read_without_the_weights(world):
    opened = Bundle.open(world.path)
    assert opened.layout() == opened.weights().layout
    file = world.path / opened.manifest.tensors.path
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"\xff" * 4)  # values, which nobody reads here
    assert opened.layout()["first.bias"].shape == (300,)
    file.write_bytes(content[:-4])
    with pytest.raises(FormatError, match="bytes, expected"):
        opened.layout()


def test_a_bundle_opens_without_its_tasks_files(world):
    shutil.rmtree(world.path / "tasks")
    with runtime.Session.open(world.path) as session:
        assert session.tasks == tuple(world.tasks)
        with pytest.raises(FormatError, match="no longer exists; .*refresh or open it again"):
            session.switch("a-b")


def test_a_base_value_that_is_not_finite_is_not_written(world, tmp_path):
    bad = {**world.base, "first.bias": np.full(300, np.nan, np.float32)}
    with pytest.raises(FormatError, match="'first.bias' holds a value that is not finite"):
        bundle.write(tmp_path / "new.bundle", **{**world.parts, "tensors": bad})
    assert not (tmp_path / "new.bundle").exists()


def test_a_task_for_another_base_is_not_written(world, tmp_path):
    task = replace(world.parts["tasks"][0], base_sha256="0" * 64)
    with pytest.raises(FormatError, match="another base"):
        bundle.write(tmp_path / "new.bundle", **{**world.parts, "tasks": [task]})
    assert not (tmp_path / "new.bundle").exists()


WRITE = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from conftest import _make_world
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from runtime.errors import StorageError
try:
    _make_world(Path({path!r}), tasks={tasks}, seed=11)
except StorageError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize("limit", [10, 13_000])
def test_a_disk_that_takes_no_more_leaves_the_old_bundle_as_it_was(world, limit):
    before = tree(world.path)
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    code = WRITE.format(here=str(here), limit=limit, path=str(world.path), tasks=40)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    assert "cannot write" in done.stdout
    assert tree(world.path) == before


def test_a_disk_that_takes_no_more_leaves_no_new_bundle(tmp_path):
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    code = WRITE.format(here=str(here), limit=500, path=str(tmp_path / "x.bundle"), tasks=2)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_a_storage_error(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        bundle.write(tmp_path / "file" / "x.bundle", **world.parts)


def test_a_folder_of_other_files_is_never_written_into(world, tmp_path):
    folder = tmp_path / "mine"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"'thesis.txt'.*is not a bundle; choose another folder"):
        bundle.write(folder, **world.parts)
    assert tree(folder) == {"tasks/thesis.txt": b"years of work"}


def test_what_a_killed_writer_left_is_no_obstacle(world):
    whole = tree(world.path)
    (world.path / manifest.NAME).unlink()
    for left in (".manifest.json.abc.tmp", ".lock", "tasks/.a-b-0123456789abcdef.x.tmp"):
        (world.path / left).write_text("{")
    bundle.write(world.path, **world.parts)
    assert tree(world.path) == whole


@pytest.mark.parametrize("folder", ["base", "graphs", "tasks"])
def test_a_folder_that_is_a_link_is_never_written_through(world, tmp_path, folder):
    outside = tmp_path / "outside"
    (world.path / folder).rename(outside)
    (world.path / folder).symlink_to(outside)
    (outside / "old-0123456789abcdef.onnx").write_text("a leftover by its name")
    before = tree(outside)
    with pytest.raises(StorageError, match="is a link"):
        bundle.write(world.path, **{**world.parts, "tasks": world.parts["tasks"][:1]})
    assert tree(outside) == before


def test_files_of_others_inside_a_bundle_survive_a_rewrite(world):
    (world.path / "tasks" / "notes.txt").write_text("mine")
    (world.path / "tasks" / "a-x-0123456789abcdef.safetensors").write_text(
        "left by a killed writer"
    )
    bundle.write(world.path, **world.parts)
    assert (world.path / "tasks" / "notes.txt").read_text() == "mine"
    assert not (world.path / "tasks" / "a-x-0123456789abcdef.safetensors").exists()


def test_a_path_that_is_too_long_is_no_bundle(tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        Bundle.open(tmp_path / ("x" * 300))
