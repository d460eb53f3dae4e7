"""`requires` and `optional`: what later versions add, and what this one makes of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import runtime
from runtime.bundles import bundle, manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install, remove, rollback
from runtime.bundles.task import encode_task
from runtime.cli import main
from runtime.errors import FormatError
from runtime.storage import checksummed
from runtime.storage.files import sha256
from tests.runtime.helpers import answers, as_schema_2, newer, rewrite, smuggle, tree, under

STATISTICS = {"means": np.arange(6, dtype=np.float32)}
OPTIONAL = {"statistics": {"count": 3, "note": "from a later version"}, "canary": [1.5, None]}


def entry(body, task):
    return next(e for e in body["tasks"] if e["id"] == task)


def test_a_bundle_that_requires_an_unknown_feature_is_refused_by_name(world):
    rewrite(world.path, lambda body: body.update(requires=["depth", "night-vision"], depth={}))
    with pytest.raises(FormatError, match="requires the feature 'depth', which .* update uda-edge"):
        Bundle.open(world.path)


def test_a_task_that_requires_an_unknown_feature_leaves_the_others_alone(world, frame, write_task):
    before = answers(world.path, frame)
    smuggle(world.path, replace(world.tasks["a-c"], requires=("depth",)))
    rewrite(world.path, lambda body: entry(body, "a-c").update(requires=["depth"]))
    with runtime.Session.open(world.path) as session:
        assert session.tasks == ("a-b", "a-c", "a-d")
        with pytest.raises(FormatError, match="task 'a-c' of .* requires the feature 'depth'"):
            session.switch("a-c")
        np.testing.assert_array_equal(session.predict(frame, "a-b").logits, before["a-b"])
    install(world.path, write_task(under(world.tasks["a-b"], "a-z")))
    kept = next(e for e in Bundle.open(world.path).manifest.tasks if e.id == "a-c")
    assert kept.requires == ("depth",)
    remove(world.path, "a-c")
    with pytest.raises(FormatError, match="requires the feature 'depth'"):
        rollback(world.path, "a-c")


def test_a_task_whose_file_and_entry_disagree_on_features_is_refused(world):
    smuggle(world.path, replace(world.tasks["a-c"], requires=("depth",)))
    with runtime.Session.open(world.path) as session, pytest.raises(FormatError, match="'depth'"):
        session.switch("a-c")


def test_optional_members_of_a_task_come_back_and_change_no_label(world, frame, write_task):
    before = answers(world.path, frame)
    task = replace(world.tasks["a-b"], optional=OPTIONAL, optional_tensors=STATISTICS)
    install(world.path, write_task(task))
    after = answers(world.path, frame)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    opened = Bundle.open(world.path)
    found = opened.task("a-b", opened.layout())
    assert found.optional == OPTIONAL and found.head_tensors.keys() == task.head_tensors.keys()
    np.testing.assert_array_equal(found.optional_tensors["means"], STATISTICS["means"])
    assert encode_task(found) == encode_task(task)  # nothing of it is lost on the way


def test_optional_members_of_a_bundle_and_their_files_survive_a_change_of_tasks(world, write_task):
    content = b"whatever a later version keeps here"
    name = f"optional/whitening-{sha256(content)[:16]}.safetensors"
    (world.path / "optional").mkdir()
    (world.path / name).write_bytes(content)
    (world.path / f"optional/old-{'0' * 16}.json").write_bytes(b"{}")
    file = {"path": name, "bytes": len(content), "sha256": sha256(content)}
    members = {"statistics": {"whitening": [file], "dim": 512}, "stamp": "x"}
    rewrite(world.path, lambda body: body.update(optional=members))
    install(world.path, write_task(newer(world.tasks["a-b"])))
    remove(world.path, "a-c")
    rollback(world.path, "a-c")
    checked = CliRunner().invoke(main, ["info", str(world.path), "--check"])
    assert checked.exit_code == 0 and "schema 3, requires no feature" in checked.output
    (world.path / name).write_bytes(content[::-1])
    damaged = CliRunner().invoke(main, ["info", str(world.path), "--check"])
    assert damaged.exit_code == 1 and "was altered" in damaged.output
    body = json.loads((world.path / manifest.NAME).read_text())["body"]
    assert body["optional"] == members
    assert {n for n in tree(world.path) if n.startswith("optional/")} == {name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("requires"), "'requires' must be a sorted list"),
        (lambda b: b.pop("optional"), "'optional' must be an object"),
        (lambda b: b.update(requires=["b", "a"]), "'requires' must be a sorted list"),
        (lambda b: b.update(requires=["a"] * 2), "'requires' must be a sorted list"),
        (lambda b: b.update(requires=["\x1b[2J"]), "'requires' must be a sorted list"),
        (lambda b: b.update(requires=[f"f{i:03}" for i in range(65)]), "at most 64 feature names"),
        (lambda b: b.update(optional=[]), "'optional' must be an object"),
        (lambda b: b.update(schema=3), "unknown key 'schema'"),
        (lambda b: b["tasks"][0].update(requires=[1]), r"'requires'\[0\] must be text"),
        (lambda b: b["tasks"][0].update(requires=["X"]), "'requires' must be a sorted list"),
        (
            lambda b: b.update(optional={"a": {"path": "../x", "bytes": 1, "sha256": "0" * 64}}),
            "is not a path inside a bundle",
        ),
        (
            lambda b: b.update(optional={"a": [{"path": "x", "bytes": 1, "sha256": "0"}]}),
            "is not a SHA-256",
        ),
        (
            lambda b: b.update(optional={"a": b["tasks"][0]["file"]}),
            "names the file 'tasks/.*, expected one in 'optional/'",
        ),
        (lambda b: b["tasks"][0].pop("requires"), "a task lacks 'requires'"),
    ],
)
def test_a_malformed_extension_is_refused(world, change, message):
    rewrite(world.path, change)
    with pytest.raises(FormatError, match=message) as caught:
        Bundle.open(world.path)
    assert str(world.path) in str(caught.value)


def test_members_of_schema_3_in_an_older_manifest_are_refused(world):
    as_schema_2(world.path)
    Bundle.open(world.path)
    good = (world.path / manifest.NAME).read_bytes()
    for change in (
        lambda b: b.update(requires=[]),
        lambda b: b.update(optional={}),
        lambda b: b["tasks"][0].update(requires=[]),
    ):
        (world.path / manifest.NAME).write_bytes(good)
        rewrite(world.path, change, schema=2)
        with pytest.raises(FormatError, match="of schema 2 has keys of schema 3"):
            Bundle.open(world.path)


def test_schema_2_leaves_optional_members_out_and_refuses_required_features(world, frame):
    before = answers(world.path, frame)
    tasks = [
        replace(task, optional=OPTIONAL, optional_tensors=STATISTICS)
        for task in world.tasks.values()
    ]
    bundle.write(world.path, **{**world.parts, "tasks": tasks}, schema=2)
    document = json.loads((world.path / manifest.NAME).read_text())
    assert document["schema"] == 2 and not {"requires", "optional"} & document["body"].keys()
    assert all("requires" not in task for task in document["body"]["tasks"])
    for file in (world.path / "tasks").iterdir():
        found = checksummed.read(file, "uda-task", 1)  # which an earlier version reads
        assert not any(name.startswith("optional") for name in found.tensors)
    for name, logits in answers(world.path, frame).items():
        np.testing.assert_array_equal(logits, before[name])
    tasks[0] = replace(tasks[0], requires=("depth",))
    kept = tree(world.path)
    with pytest.raises(FormatError, match="requires the feature 'depth', but task files of sch"):
        bundle.write(world.path, **{**world.parts, "tasks": tasks}, schema=2)
    assert tree(world.path) == kept


def test_a_bundle_of_schema_2_stays_one_until_it_takes_a_task_of_schema_2(world, write_task):
    as_schema_2(world.path)
    remove(world.path, "a-c")
    assert Bundle.open(world.path).manifest.schema == 2
    install(world.path, write_task(replace(newer(world.tasks["a-b"]), schema=1)))
    assert Bundle.open(world.path).manifest.schema == 2
    install(world.path, write_task(newer(world.tasks["a-d"])))
    assert Bundle.open(world.path).manifest.schema == 3


def test_an_impossible_extension_is_not_written(world):
    for changes in (
        {"requires": ("No Feature",)},
        {"optional": {"deep": json.loads("[" * 17 + "]" * 17)}},
        {"optional": {"deep": [{"mean": float("nan")}]}},
    ):
        with pytest.raises(FormatError):
            encode_task(replace(world.tasks["a-b"], **changes))


def test_a_number_that_is_not_finite_is_no_optional_member(world, write_task):
    path = write_task(world.tasks["a-b"])
    file = checksummed.read(path, "uda-task", 2, features=(), content=path.read_bytes())
    members = {"requires": [], "optional": {"canary": [float("inf")]}}
    dumps = json.dumps  # which writes NaN and infinities unless it is told not to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "dumps", lambda *a, **k: dumps(*a, **{**k, "allow_nan": True}))
        checksummed.write(path, "uda-task", 2, {**file.document, **members}, file.tensors)
    with pytest.raises(FormatError, match="it holds Infinity, which is not JSON"):
        install(world.path, path)
