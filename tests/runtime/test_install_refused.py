"""What install, remove and rollback refuse, and that nothing on the disk changes then."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import runtime
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install, remove, rollback
from runtime.bundles.task import encode_task
from runtime.cli import main
from runtime.errors import FormatError, StorageError, TaskError
from runtime.storage import checksummed
from tests.runtime.conftest import head
from tests.runtime.helpers import answers, as_schema_1, newer, tree, under


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


def refused(path, file, error, message):
    before = tree(path)
    with pytest.raises(error, match=message) as caught:
        install(path, file)
    assert tree(path) == before
    assert "\n" not in str(caught.value)


def rehashed(task, schema=2, **changes):
    """Return a task file with another document and a matching digest."""
    content = checksummed.read(Path("x"), "uda-task", 2, features=(), content=encode_task(task))
    document = {**content.document, "requires": [], "optional": {}, **changes}
    return checksummed.encode("uda-task", schema, document, content.tensors)


def test_a_file_of_another_base_precision_or_graph_is_refused(
    world, make_world, write_task, tmp_path
):
    task = world.tasks["a-b"]
    other = make_world("other.bundle", seed=7)
    refused(
        world.path, write_task(other.tasks["a-b"]), FormatError, "patches base .*this bundle holds"
    )
    half = {name: array.astype(np.float16) for name, array in world.base.items()}
    low = runtime.storage.digest.tensors_sha256(half)
    file = write_task(replace(task, base_sha256=low, patch={}))
    refused(world.path, file, FormatError, "this bundle's base and precision")
    refused(
        world.path,
        write_task(replace(task, encoder="1" * 64)),
        FormatError,
        "is task 'a-b' of the method .*, which needs another encoder than the tasks of",
    )
    probe = write_task(replace(task, head="2" * 64, method="linear_probe"))
    message = (
        rf"is task 'a-b' of the method linear_probe, which needs another head than the tasks of "
        rf"'{re.escape(str(world.path))}' \({task.method}\) have; export that bundle again, with "
        "--task a-b=linear_probe beside its other tasks"
    )
    refused(world.path, probe, FormatError, message)


def test_a_file_that_does_not_fit_its_head_or_encoder_is_refused(mixed, write_task):
    task = mixed.tasks["a-b"]
    extra = {**task.head_tensors, "bias": np.zeros(2, np.float32)}
    file = write_task(replace(task, head_tensors=extra))
    refused(
        mixed.path, file, FormatError, r"\['bias', 'weight'\] for its head, expected \['weight'"
    )
    nan = {"weight": np.full_like(task.head_tensors["weight"], np.nan)}
    file = write_task(replace(task, head_tensors=nan))
    refused(mixed.path, file, FormatError, "'weight' is not finite")
    prompted = mixed.tasks["a-c"]
    file = write_task(replace(prompted, tokens={}))
    refused(mixed.path, file, FormatError, "brings tokens 'prompts.0' as nothing")
    big = {name: sparse for name, sparse in task.patch.items()}
    sparse = big["first.weight"]
    big["first.weight"] = replace(sparse, indices=sparse.indices + np.uint32(10**6))
    file = write_task(replace(task, patch=big))
    refused(mixed.path, file, FormatError, rf"^'{re.escape(str(file))}': .*which has 900; the file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: rehashed(t, schema=3), "uda-task schema 3, this version reads 1 to 2"),
        (lambda t: rehashed(t, schema=True), "uda-task schema True, this version reads 1 to 2"),
        (lambda t: rehashed(t, schema=1), "unknown key 'optional'"),
        (lambda t: rehashed(t, requires=["depth"]), "requires the feature 'depth', which this"),
        (lambda t: rehashed(t, requires=["b", "a"]), "'requires' must be a sorted list"),
        (lambda t: rehashed(t, requires=["A b"]), "'requires' must be a sorted list"),
        (lambda t: rehashed(t, requires="depth"), "'requires' must be a sorted list"),
        (lambda t: rehashed(t, requires=None), "'requires' must be a sorted list"),
        (lambda t: rehashed(t, optional=[1]), "'optional' must be an object"),
        (lambda t: rehashed(t, optional={"a": nested(16)}), "at most 16 levels deep"),
        (lambda t: rehashed(t, info={**info(t), "id": "../../a-b"}), "not a task id"),
        (lambda t: rehashed(t, info={**info(t), "id": "/a-b"}), "not a task id"),
        (lambda t: rehashed(t, info={**info(t), "id": "a-" + "b" * 300}), "not a task id"),
        (lambda t: rehashed(t, info={**info(t), "source": "\x1b[2J"}), "is not a name"),
        (lambda t: encode_task(t)[:-1], "damaged"),
        (lambda t: encode_task(t)[:-1] + b"\x00", "was altered: its digest does not match"),
        (lambda t: b"", "damaged"),
        (lambda t: b"PK\x03\x04" + bytes(1000), "damaged"),
    ],
)
def test_a_damaged_or_hostile_task_file_is_refused(world, tmp_path, content, message):
    file = tmp_path / "hostile.safetensors"
    file.write_bytes(content(world.tasks["a-b"]))
    refused(world.path, file, FormatError, message)


def nested(depth):
    return [nested(depth - 1)] if depth else []


def info(task):
    own = task.info
    return {
        "id": own.id,
        "dataset": own.dataset,
        "source": own.source,
        "target": own.target,
        "classes": list(own.classes),
    }


def test_every_flipped_byte_of_a_task_file_is_refused(world, tmp_path, write_task):
    task = newer(world.tasks["a-b"])
    content, file = encode_task(task), tmp_path / "flipped.safetensors"
    before, rng = tree(world.path), np.random.default_rng(0)
    for position in rng.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(FormatError):
            install(world.path, file)
    assert tree(world.path) == before


def test_a_missing_file_or_bundle_is_one_sentence_and_makes_nothing(world, tmp_path, write_task):
    refused(world.path, tmp_path / "nothing", FormatError, "cannot read .*nothing")
    refused(world.path, tmp_path, FormatError, "cannot read")
    nowhere = tmp_path / "no.bundle"
    for change in (
        lambda: install(nowhere, write_task(world.tasks["a-b"])),
        lambda: remove(nowhere, "a-b"),
        lambda: rollback(nowhere, "a-b"),
    ):
        with pytest.raises(FormatError, match="does not exist"):
            change()
    assert not nowhere.exists()


def test_what_cannot_be_removed_or_rolled_back_is_said(world, write_task):
    before = tree(world.path)
    for change, message in (
        (lambda: remove(world.path, "x-y"), "unknown task 'x-y'; available: a-b, a-c, a-d"),
        (lambda: rollback(world.path, "x-y"), "unknown task 'x-y'"),
        (
            lambda: rollback(world.path, "a-b"),
            "no former version of task 'a-b'; `uda-runtime install` keeps",
        ),
    ):
        with pytest.raises(TaskError, match=message):
            change()
    assert tree(world.path) == before
    for task in ("a-b", "a-c"):
        remove(world.path, task)
    with pytest.raises(TaskError, match="'a-d' is the only task of .*; install another first"):
        remove(world.path, "a-d")


def test_a_damaged_former_version_does_not_come_back(world, write_task):
    install(world.path, write_task(newer(world.tasks["a-b"])))
    (former,) = Bundle.open(world.path).manifest.former
    (world.path / former.file.path).write_bytes(b"x" * former.file.bytes)
    before = tree(world.path)
    with pytest.raises(FormatError, match="was altered"):
        rollback(world.path, "a-b")
    assert tree(world.path) == before


def test_a_bundle_of_schema_1_takes_tasks_that_fit_a_neighbours_head(world, frame, write_task):
    as_schema_1(world.path)
    extra = {**world.tasks["a-b"].head_tensors, "bias": np.zeros(2, np.float32)}
    refused(
        world.path,
        write_task(replace(world.tasks["a-b"], head_tensors=extra)),
        FormatError,
        r"expected \['weight'\]",
    )
    install(world.path, write_task(under(world.tasks["a-b"], "a-z")))
    after = answers(world.path, frame)
    np.testing.assert_array_equal(after["a-z"], after["a-b"])


def test_a_head_that_nobody_knows_takes_no_task(mixed, write_task):
    heads = [head("linear"), head("affine", True, known=False)]
    parts = {**mixed.parts, "heads": heads, "tasks": [mixed.tasks["a-b"]]}
    bundle.write(mixed.path, **parts)
    file = write_task(mixed.tasks["a-d"])
    refused(mixed.path, file, FormatError, "nothing in .* says what the head of")


def test_a_system_without_locks_is_a_clear_error_and_changes_nothing(
    world, write_task, monkeypatch
):
    file, before = write_task(newer(world.tasks["a-b"])), tree(world.path)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    for change in (
        lambda: install(world.path, file),
        lambda: remove(world.path, "a-b"),
        lambda: bundle.write(world.path, **world.parts),
    ):
        with pytest.raises(StorageError, match="no file locks; work on Linux or macOS"):
            change()
    assert {n: c for n, c in tree(world.path).items() if n != ".lock"} == before


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
from runtime.cli import main
main(["install", sys.argv[2], "--bundle", sys.argv[1]])
"""


@pytest.mark.parametrize("limit", [4, 100, 3000])
def test_a_full_disk_leaves_the_bundle_as_it_was(make_world, write_task, limit):
    world = make_world("toy.bundle", tasks=8)  # its manifest has more than 3,000 bytes
    file = write_task(newer(world.tasks["a-b"]))
    before = tree(world.path)
    done = subprocess.run(
        [sys.executable, "-c", FULL, world.path, file, str(limit)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write"), done.stderr
    assert tree(world.path) == before


def test_the_command_line_refuses_in_one_line(world, tmp_path):
    (tmp_path / "bad").write_bytes(b"no task")
    for args in (
        ("install", tmp_path / "bad", "--bundle", world.path),
        ("install", tmp_path / "none", "--bundle", world.path),
        ("rollback", "a-b", "--bundle", world.path),
        ("remove", "x-y", "--bundle", world.path),
    ):
        result = run(*args)
        assert result.exit_code == 1
        assert result.output.startswith("error: ") and result.output.count("\n") == 1
