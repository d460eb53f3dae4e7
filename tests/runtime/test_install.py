import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import runtime
from runtime import bundle, manifest, sealed
from runtime.bundle import Bundle
from runtime.cli import main
from runtime.errors import FormatError, StorageError, TaskError
from runtime.files import sha256
from runtime.install import install, remove, rollback
from runtime.locks import exclusive
from runtime.task import encode_task
from tests.runtime.helpers import rewrite, tree


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a task to a file outside of any bundle."""

    def put(task, name="new.safetensors"):
        (tmp_path / name).write_bytes(encode_task(task))
        return tmp_path / name

    return put


def newer(task, seed=3):
    """Return another version of a task: other classes' weights, same everything else."""
    rng = np.random.default_rng(seed)
    head = {n: rng.standard_normal(a.shape).astype("f4") for n, a in task.head_tensors.items()}
    return replace(task, head_tensors=head)


def under(task, name):
    return replace(task, info=replace(task.info, id=name))


def answers(path, frame):
    """Return every task's logits, each from a session of its own."""
    found = {}
    for task in Bundle.open(path).tasks:
        with runtime.Session.open(path) as session:
            session.switch(task)
            found[task] = session.predict(frame).logits
    return found


def test_an_installed_task_answers_as_numpy_says_and_the_others_as_before(mixed, frame, write):
    before = answers(mixed.path, frame)
    for name, source in (("a-z", "a-c"), ("a-d", "a-d")):
        task = under(newer(mixed.tasks[source]), name)
        mixed.tasks[name] = task
        entry = install(mixed.path, write(task))
        assert (entry.id, entry.file.sha256) == (name, sha256(encode_task(task)))
    assert Bundle.open(mixed.path).tasks == (*before, "a-z")
    after = answers(mixed.path, frame)
    for name in ("a-b", "a-c", "a-e", "a-f"):
        np.testing.assert_array_equal(after[name], before[name])
    assert not np.allclose(after["a-d"], before["a-d"])
    preprocess = Bundle.open(mixed.path).preprocess
    for name in ("a-z", "a-d"):
        pixels = runtime.preprocess.preprocess_batch([frame], preprocess(name))
        np.testing.assert_allclose(after[name], mixed.logits(name, pixels)[0], rtol=1e-4, atol=1e-3)


def test_rollback_swaps_the_two_versions_and_twice_changes_nothing(world, frame, write):
    original, first = tree(world.path), answers(world.path, frame)
    task = newer(world.tasks["a-c"])
    install(world.path, write(task))
    installed, second = tree(world.path), answers(world.path, frame)
    assert [entry.id for entry in Bundle.open(world.path).manifest.former] == ["a-c"]
    assert installed.keys() > original.keys()
    assert rollback(world.path, "a-c").file.sha256 == sha256(encode_task(world.tasks["a-c"]))
    back = answers(world.path, frame)
    rollback(world.path, "a-c")
    assert tree(world.path) == installed
    for name in first:
        np.testing.assert_array_equal(back[name], first[name])
    assert not np.allclose(first["a-c"], second["a-c"])


def test_a_removed_task_is_unknown_until_rollback_brings_it_back(world, frame):
    before = answers(world.path, frame)
    remove(world.path, "a-b")
    assert Bundle.open(world.path).tasks == ("a-c", "a-d")
    with runtime.Session.open(world.path) as session:
        with pytest.raises(TaskError, match="unknown task 'a-b'"):
            session.switch("a-b")
    rollback(world.path, "a-b")
    assert Bundle.open(world.path).tasks == ("a-c", "a-d", "a-b")
    assert Bundle.open(world.path).manifest.former == ()
    for name, logits in answers(world.path, frame).items():
        np.testing.assert_array_equal(logits, before[name])


def test_a_task_installed_after_its_removal_keeps_the_removed_one_as_former(world, write):
    old = Bundle.open(world.path).entry("a-b")
    remove(world.path, "a-b")
    new = install(world.path, write(newer(world.tasks["a-b"])))
    assert Bundle.open(world.path).manifest.former == (old,)
    assert rollback(world.path, "a-b") == old
    assert Bundle.open(world.path).manifest.former == (new,)


def test_only_the_last_version_is_kept_and_older_files_go(world, write):
    count = len(tree(world.path))
    for seed in range(4):
        install(world.path, write(newer(world.tasks["a-b"], seed)))
    assert len(tree(world.path)) == count + 1
    (former,) = Bundle.open(world.path).manifest.former
    assert former.file.sha256 == sha256(encode_task(newer(world.tasks["a-b"], 2)))
    remove(world.path, "a-b")
    assert len(tree(world.path)) == count
    assert {r.path for r in Bundle.open(world.path).manifest.files()} == (
        tree(world.path).keys() - {manifest.NAME}
    )


def test_installing_what_is_there_changes_no_byte_and_mends_a_damaged_file(world, write):
    file = write(world.tasks["a-b"])
    before = tree(world.path)
    inode = (world.path / manifest.NAME).stat().st_ino
    install(world.path, file)
    assert tree(world.path) == before
    assert (world.path / manifest.NAME).stat().st_ino == inode
    own = world.path / Bundle.open(world.path).entry("a-b").file.path
    own.write_bytes(b"x" * own.stat().st_size)
    install(world.path, file)
    assert tree(world.path) == before


def test_an_export_over_a_bundle_keeps_no_former_versions(world, write):
    install(world.path, write(newer(world.tasks["a-b"])))
    bundle.write(world.path, **world.parts)
    opened = Bundle.open(world.path)
    assert opened.manifest.former == ()
    assert len(tree(world.path)) == 1 + len(opened.manifest.files())


def test_an_export_that_fails_leaves_former_versions(world, write, monkeypatch):
    install(world.path, write(newer(world.tasks["a-b"])))
    before = tree(world.path)
    # The old version is a file of the new bundle too, and the new manifest cannot be written.
    monkeypatch.setattr(manifest, "encode", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bundle.write(world.path, **world.parts)
    assert tree(world.path) == before


def refused(path, file, error, message):
    before = tree(path)
    with pytest.raises(error, match=message) as caught:
        install(path, file)
    assert tree(path) == before
    assert "\n" not in str(caught.value)


def resealed(task, schema=1, **changes):
    """Return a well sealed task file whose document says something else."""
    content = sealed.parse(encode_task(task), Path("x"), "uda-task", 1)
    document = {**content.document, **changes}
    return sealed.seal("uda-task", schema, document, content.tensors)


def test_a_file_of_another_base_precision_or_graph_is_refused(world, make_world, write, tmp_path):
    task = world.tasks["a-b"]
    other = make_world("other.bundle", seed=7)
    refused(world.path, write(other.tasks["a-b"]), FormatError, "patches base .*this bundle holds")
    half = {name: array.astype(np.float16) for name, array in world.base.items()}
    low = runtime.digest.tensors_sha256(half)
    file = write(replace(task, base_sha256=low, patch={}))
    refused(world.path, file, FormatError, "this bundle's base and precision")
    refused(
        world.path,
        write(replace(task, encoder="1" * 64)),
        FormatError,
        "encoder graph 111111111111, which .* does not have; export the whole bundle again",
    )
    refused(world.path, write(replace(task, head="2" * 64)), FormatError, "head graph 2222")


def test_a_file_that_does_not_fit_its_head_or_encoder_is_refused(mixed, write):
    task = mixed.tasks["a-b"]
    extra = {**task.head_tensors, "bias": np.zeros(2, np.float32)}
    file = write(replace(task, head_tensors=extra))
    refused(mixed.path, file, FormatError, r"\['bias', 'weight'\] for its head, needed \['weight'")
    nan = {"weight": np.full_like(task.head_tensors["weight"], np.nan)}
    file = write(replace(task, head_tensors=nan))
    refused(mixed.path, file, FormatError, "'weight' is not finite")
    prompted = mixed.tasks["a-c"]
    file = write(replace(prompted, tokens={}))
    refused(mixed.path, file, FormatError, "brings tokens 'prompts.0' as nothing")
    big = {name: sparse for name, sparse in task.patch.items()}
    sparse = big["first.weight"]
    big["first.weight"] = replace(sparse, indices=sparse.indices + np.uint32(10**6))
    refused(mixed.path, write(replace(task, patch=big)), FormatError, "which has 900; the file is")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: resealed(t, schema=2), "uda-task schema 2, this version reads 1"),
        (lambda t: resealed(t, info={**info(t), "id": "../../a-b"}), "no task id"),
        (lambda t: resealed(t, info={**info(t), "id": "/a-b"}), "no task id"),
        (lambda t: resealed(t, info={**info(t), "id": "a-" + "b" * 300}), "no task id"),
        (lambda t: resealed(t, info={**info(t), "source": "\x1b[2J"}), "is no name"),
        (lambda t: encode_task(t)[:-1], "damaged"),
        (lambda t: encode_task(t)[:-1] + b"\x00", "was altered: its digest does not match"),
        (lambda t: b"", "damaged"),
        (lambda t: b"PK\x03\x04" + bytes(1000), "damaged"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused(world, tmp_path, content, message):
    file = tmp_path / "hostile.safetensors"
    file.write_bytes(content(world.tasks["a-b"]))
    refused(world.path, file, FormatError, message)


def info(task):
    own = task.info
    return {
        "id": own.id,
        "dataset": own.dataset,
        "source": own.source,
        "target": own.target,
        "classes": list(own.classes),
    }


def test_every_flipped_byte_of_a_task_file_is_refused_or_carries_nothing(world, tmp_path, write):
    task = newer(world.tasks["a-b"])
    content, file = encode_task(task), tmp_path / "flipped.safetensors"
    before, rng = tree(world.path), np.random.default_rng(0)
    for place in rng.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(FormatError):
            install(world.path, file)
    assert tree(world.path) == before


def test_a_missing_file_or_bundle_is_one_sentence_and_makes_nothing(world, tmp_path, write):
    refused(world.path, tmp_path / "nothing", FormatError, "cannot read .*nothing")
    refused(world.path, tmp_path, FormatError, "cannot read")
    nowhere = tmp_path / "no.bundle"
    for change in (
        lambda: install(nowhere, write(world.tasks["a-b"])),
        lambda: remove(nowhere, "a-b"),
        lambda: rollback(nowhere, "a-b"),
    ):
        with pytest.raises(FormatError, match="is no bundle"):
            change()
    assert not nowhere.exists()


def test_what_cannot_be_removed_or_rolled_back_is_said(world, write):
    before = tree(world.path)
    for change, message in (
        (lambda: remove(world.path, "x-y"), "unknown task 'x-y'; .* has a-b, a-c, a-d"),
        (lambda: rollback(world.path, "x-y"), "unknown task 'x-y'"),
        (lambda: rollback(world.path, "a-b"), "no former version of task 'a-b'.*runtime remove"),
    ):
        with pytest.raises(TaskError, match=message):
            change()
    assert tree(world.path) == before
    for task in ("a-b", "a-c"):
        remove(world.path, task)
    with pytest.raises(TaskError, match="'a-d' is the only task of .*; install another first"):
        remove(world.path, "a-d")


def test_a_damaged_former_version_does_not_come_back(world, write):
    install(world.path, write(newer(world.tasks["a-b"])))
    (former,) = Bundle.open(world.path).manifest.former
    (world.path / former.file.path).write_bytes(b"x" * former.file.bytes)
    before = tree(world.path)
    with pytest.raises(FormatError, match="was altered"):
        rollback(world.path, "a-b")
    assert tree(world.path) == before


def test_a_bundle_of_schema_1_takes_tasks_that_fit_a_neighbours_head(world, frame, write):
    def strip(body):
        del body["former"]
        for head in body["heads"]:
            del head["tensors"]

    rewrite(world.path, strip, schema=1)
    extra = {**world.tasks["a-b"].head_tensors, "bias": np.zeros(2, np.float32)}
    refused(
        world.path,
        write(replace(world.tasks["a-b"], head_tensors=extra)),
        FormatError,
        r"needed \['weight'\]",
    )
    install(world.path, write(under(world.tasks["a-b"], "a-z")))
    after = answers(world.path, frame)
    np.testing.assert_array_equal(after["a-z"], after["a-b"])


def test_a_head_that_nobody_knows_takes_no_task(mixed, write):
    parts = {**mixed.parts, "tasks": [mixed.tasks["a-b"]]}
    bundle.write(mixed.path, **parts)
    file = write(mixed.tasks["a-d"])
    refused(mixed.path, file, FormatError, "nothing in .* says what the head of")


def test_the_values_of_the_base_are_not_read(world, write, tmp_path):
    path = world.path / Bundle.open(world.path).manifest.tensors.path
    content = path.read_bytes()
    path.write_bytes(content[:-400] + bytes(400))  # a session would refuse these
    install(world.path, write(under(world.tasks["a-b"], "a-z")))
    assert "a-z" in Bundle.open(world.path).tasks


def test_a_session_that_runs_keeps_its_tasks_and_a_new_one_sees_the_change(world, frame, write):
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        before = session.predict(frame).logits
        install(world.path, write(newer(world.tasks["a-c"])))
        session.switch("a-b")
        session.switch("a-c")
        np.testing.assert_array_equal(session.predict(frame).logits, before)
    assert not np.allclose(answers(world.path, frame)["a-c"], before)


def test_writers_wait_for_each_other_and_lose_no_change(world, write):
    files = [write(under(world.tasks["a-b"], f"n-{i}"), f"{i}.safetensors") for i in range(24)]
    failed = []

    def work(mine):
        for file in mine:
            try:
                install(world.path, file)
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(files[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert set(Bundle.open(world.path).tasks) == {*world.tasks, *(f"n-{i}" for i in range(24))}
    assert not (world.path / ".lock").exists()


def test_an_install_and_an_export_wait_for_the_lock(world, write):
    done = []
    changes = (
        lambda: install(world.path, write(newer(world.tasks["a-b"]))),
        lambda: bundle.write(world.path, **world.parts),
    )
    for number, change in enumerate(changes):
        with exclusive(world.path / ".lock"):
            before = tree(world.path)
            waiter = threading.Thread(target=lambda run=change: done.append(run()))
            waiter.start()
            time.sleep(0.2)
            assert len(done) == number and tree(world.path) == before
            assert Bundle.open(world.path).tasks == tuple(world.tasks)  # a reader does not wait
        waiter.join(10)
        assert len(done) == number + 1


def test_a_system_without_locks_is_a_clear_error_and_changes_nothing(world, write, monkeypatch):
    file, before = write(newer(world.tasks["a-b"])), tree(world.path)
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
def test_a_full_disk_leaves_the_bundle_as_it_was(make_world, write, limit):
    world = make_world("toy.bundle", tasks=8)  # its manifest has more than 3,000 bytes
    file = write(newer(world.tasks["a-b"]))
    before = tree(world.path)
    done = subprocess.run(
        [sys.executable, "-c", FULL, world.path, file, str(limit)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write"), done.stderr
    assert tree(world.path) == before


def test_the_command_line_installs_shows_rolls_back_and_removes(world, write):
    file = write(newer(world.tasks["a-b"]))
    version, old = sha256(file.read_bytes())[:12], sha256(encode_task(world.tasks["a-b"]))[:12]
    result = run("install", file, "--bundle", world.path)
    assert result.output == (
        f"installed  a-b: alpha -> target 0, {version}, a former version is kept\n"
    )
    assert old in line_of(world.path, "a-b") and line_of(world.path, "a-c").endswith(" -")
    assert "checked   7 files, all whole" in run("info", world.path, "--check").output
    result = run("rollback", "a-b", "--bundle", world.path)
    assert result.output == f"restored   a-b: alpha -> target 0, {old}\n"
    assert version in line_of(world.path, "a-b")
    result = run("remove", "a-b", "--bundle", world.path)
    assert result.output == "removed    a-b: alpha -> target 0, kept for a rollback\n"
    assert "removed   a-b; uda-runtime rollback" in run("info", world.path).output


def line_of(path, task):
    lines = run("info", path).output.splitlines()
    return next(line for line in lines if line.startswith(f"{task} "))


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
