import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner

import runtime
from runtime.bundles import bundle, manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install, remove, rollback
from runtime.bundles.task import encode_task
from runtime.cli import main
from runtime.errors import TaskError
from runtime.storage.files import sha256
from runtime.storage.locks import exclusive
from tests.runtime.helpers import answers, newer, tree, under


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


def test_an_installed_task_answers_as_numpy_says_and_the_others_as_before(mixed, frame, write_task):
    before = answers(mixed.path, frame)
    for name, source in (("a-z", "a-c"), ("a-d", "a-d")):
        task = under(newer(mixed.tasks[source]), name)
        mixed.tasks[name] = task
        entry = install(mixed.path, write_task(task))
        assert (entry.id, entry.file.sha256) == (name, sha256(encode_task(task)))
    assert Bundle.open(mixed.path).tasks == (*before, "a-z")
    after = answers(mixed.path, frame)
    for name in ("a-b", "a-c", "a-e", "a-f"):
        np.testing.assert_array_equal(after[name], before[name])
    assert not np.allclose(after["a-d"], before["a-d"])
    preprocess = Bundle.open(mixed.path).preprocess
    for name in ("a-z", "a-d"):
        pixels = runtime.frames.preprocess.preprocess_batch([frame], preprocess(name))
        np.testing.assert_allclose(after[name], mixed.logits(name, pixels)[0], rtol=1e-4, atol=1e-3)


def test_rollback_swaps_the_two_versions_and_twice_changes_nothing(world, frame, write_task):
    original, first = tree(world.path), answers(world.path, frame)
    task = newer(world.tasks["a-c"])
    install(world.path, write_task(task))
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


def test_a_task_installed_after_its_removal_keeps_the_removed_one_as_former(world, write_task):
    old = Bundle.open(world.path).entry("a-b")
    remove(world.path, "a-b")
    new = install(world.path, write_task(newer(world.tasks["a-b"])))
    assert Bundle.open(world.path).manifest.former == (old,)
    assert rollback(world.path, "a-b") == old
    assert Bundle.open(world.path).manifest.former == (new,)


def test_only_the_last_version_is_kept_and_older_files_go(world, write_task):
    count = len(tree(world.path))
    for seed in range(4):
        install(world.path, write_task(newer(world.tasks["a-b"], seed)))
    assert len(tree(world.path)) == count + 1
    (former,) = Bundle.open(world.path).manifest.former
    assert former.file.sha256 == sha256(encode_task(newer(world.tasks["a-b"], 2)))
    remove(world.path, "a-b")
    assert len(tree(world.path)) == count
    assert {r.path for r in Bundle.open(world.path).manifest.files()} == (
        tree(world.path).keys() - {manifest.NAME}
    )


def test_installing_what_is_there_changes_no_byte_and_mends_a_damaged_file(world, write_task):
    file = write_task(world.tasks["a-b"])
    before = tree(world.path)
    inode = (world.path / manifest.NAME).stat().st_ino
    install(world.path, file)
    assert tree(world.path) == before
    assert (world.path / manifest.NAME).stat().st_ino == inode
    own = world.path / Bundle.open(world.path).entry("a-b").file.path
    own.write_bytes(b"x" * own.stat().st_size)
    install(world.path, file)
    assert tree(world.path) == before


def test_an_old_file_that_cannot_be_removed_is_no_error_and_goes_with_the_next_writer(
    world, write_task, monkeypatch, caplog
):
    tasks = [newer(world.tasks["a-b"], seed) for seed in range(3)]
    install(world.path, write_task(tasks[0]))
    first = world.path / Bundle.open(world.path).manifest.former[0].file.path
    assert first.is_file()
    unlink = type(first).unlink

    def refuse(file, missing_ok=False):
        if file == first:
            raise PermissionError(1, "Operation not permitted", str(file))
        unlink(file, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(type(first), "unlink", refuse)
        entry = install(world.path, write_task(tasks[1]))
    assert Bundle.open(world.path).entry("a-b") == entry
    assert entry.file.sha256 == sha256(encode_task(tasks[1]))
    assert first.is_file() and first.name in caplog.text
    install(world.path, write_task(tasks[2]))
    assert not first.exists()


def test_an_export_over_a_bundle_keeps_no_former_versions(world, write_task):
    install(world.path, write_task(newer(world.tasks["a-b"])))
    bundle.write(world.path, **world.parts)
    opened = Bundle.open(world.path)
    assert opened.manifest.former == ()
    assert len(tree(world.path)) == 1 + len(opened.manifest.files())


def test_an_export_that_fails_leaves_former_versions(world, write_task, monkeypatch):
    install(world.path, write_task(newer(world.tasks["a-b"])))
    before = tree(world.path)
    # The old version is a file of the new bundle too, and the new manifest cannot be written.
    monkeypatch.setattr(manifest, "encode", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bundle.write(world.path, **world.parts)
    assert tree(world.path) == before


def test_the_values_of_the_base_are_not_read(world, write_task, tmp_path):
    path = world.path / Bundle.open(world.path).manifest.tensors.path
    content = path.read_bytes()
    path.write_bytes(content[:-400] + bytes(400))  # a session would refuse these
    install(world.path, write_task(under(world.tasks["a-b"], "a-z")))
    assert "a-z" in Bundle.open(world.path).tasks


def test_a_session_that_runs_keeps_its_tasks_and_a_new_one_sees_the_change(
    world, frame, write_task
):
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        before = session.predict(frame).logits
        install(world.path, write_task(newer(world.tasks["a-c"])))
        session.switch("a-b")
        session.switch("a-c")
        np.testing.assert_array_equal(session.predict(frame).logits, before)
    assert not np.allclose(answers(world.path, frame)["a-c"], before)


def test_writers_wait_for_each_other_and_lose_no_change(world, write_task):
    files = [write_task(under(world.tasks["a-b"], f"n-{i}"), f"{i}.safetensors") for i in range(24)]
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


def test_an_install_and_an_export_wait_for_the_lock(world, write_task):
    done = []
    changes = (
        lambda: install(world.path, write_task(newer(world.tasks["a-b"]))),
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


def test_the_command_line_installs_shows_rolls_back_and_removes(world, write_task):
    file = write_task(newer(world.tasks["a-b"]))
    version, old = sha256(file.read_bytes())[:12], sha256(encode_task(world.tasks["a-b"]))[:12]
    result = run("install", file, "--bundle", world.path)
    assert result.output == (
        f"installed  a-b: alpha -> target 0, {version}, a former version is kept\n"
    )
    assert old in line_of(world.path, "a-b") and line_of(world.path, "a-c").endswith(" -")
    assert "checked   7 files, all intact" in run("info", world.path, "--check").output
    result = run("rollback", "a-b", "--bundle", world.path)
    assert result.output == f"restored   a-b: alpha -> target 0, {old}\n"
    assert version in line_of(world.path, "a-b")
    result = run("remove", "a-b", "--bundle", world.path)
    assert result.output == "removed    a-b: alpha -> target 0, kept for a rollback\n"
    assert "removed   a-b; uda-runtime rollback" in run("info", world.path).output


def line_of(path, task):
    lines = run("info", path).output.splitlines()
    return next(line for line in lines if line.startswith(f"{task} "))
