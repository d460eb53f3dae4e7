"""FORMAT.md holds: its bounds are the code's, and what a reader MUST refuse is refused.

Each case is a file with right digests that breaks one rule. Longer than most files, since all kinds
of files are checked against the same document.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

import runtime
from adapt.artifacts import artifact
from adapt.artifacts.artifact import Artifact
from adapt.training import checkpoint
from runtime.backends.trt import engine_file
from runtime.bundles import install, manifest
from runtime.bundles import task as tasks
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import decode_task, encode_task
from runtime.errors import FormatError, UdaError
from runtime.storage import checksummed
from runtime.storage.files import sha256
from tests.fuzz.of_runtime import _engine
from tests.fuzz.of_training import TRAINED, _checkpoint
from tests.runtime.conftest import _make_world
from tests.runtime.helpers import rewrite

TEXT = (Path(runtime.__file__).parent / "bundles/FORMAT.md").read_text()
BOUNDS = re.findall(r"^\| [^|]+ \| (\d+) \| `([a-z_.]+):([A-Z_]+)` \|$", TEXT, re.M)


def test_the_bounds_are_those_of_the_code():
    assert len(BOUNDS) == 37
    for number, module, name in BOUNDS:
        assert getattr(importlib.import_module(module), name) == int(number), name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, which each test copies; a task's file, an artifact and a checkpoint."""
    folder = tmp_path_factory.mktemp("format")
    world = _make_world(folder / "b.bundle", tasks=4, mixed=True)
    bundle = Bundle.open(world.path)
    identity, layout = bundle.manifest.tensors.sha256, bundle.layout()
    path = folder / "artifact.safetensors"

    def load(content: bytes) -> None:
        path.write_bytes(content)
        Artifact.load(path)

    return SimpleNamespace(
        path=world.path,
        tasks=world.tasks,
        kinds={
            "task": (
                tasks,
                encode_task(world.tasks["a-b"]),
                lambda content: decode_task(content, Path("x"), identity, layout),
            ),
            "artifact": (
                artifact,
                (TRAINED / "cmkd-fixmatch-rst/artifact.safetensors").read_bytes(),
                load,
            ),
            "checkpoint": (checkpoint, *_seed_of(_checkpoint(folder / "checkpoint"))),
        },
    )


def _seed_of(reader):
    return reader.seeds[0], reader.read


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made.path, tmp_path / "b.bundle"))


def raw(change):
    """Return a change of the whole manifest, the digest included."""

    def write(path: Path) -> None:
        document = json.loads((path / manifest.NAME).read_text())
        change(document)
        (path / manifest.NAME).write_text(json.dumps(document))

    return write


def body(change):
    """Return a change of the manifest's body under a right digest."""
    return lambda path: rewrite(path, change)


def first(name, **values):
    return body(lambda b: b[name][0].update(values))


def link_out(path):
    file = next((path / "tasks").iterdir())
    shutil.move(file, path.parent / "task")
    file.symlink_to(path.parent / "task")


def longer(path):
    file = path / json.loads((path / manifest.NAME).read_text())["body"]["tasks"][0]["file"]["path"]
    file.write_bytes(file.read_bytes() + b"\0")


MANIFESTS = {
    "another key beside the body": (raw(lambda d: d.update(signature="x")), "unknown key 'sig"),
    "no kind": (raw(lambda d: d.pop("kind")), "not the manifest"),
    "another kind": (raw(lambda d: d.update(kind="uda-task")), "not the manifest"),
    "no digest": (raw(lambda d: d.pop("sha256")), "digest does not match"),
    "a wrong digest": (raw(lambda d: d.update(sha256="0" * 64)), "digest does not match"),
    "no body": (raw(lambda d: d.pop("body")), "digest does not match"),
    **{
        f"schema {value!r}": (raw(lambda d, v=value: d.update(schema=v)), "this version reads 1")
        for value in (True, 1.0, 3.0, "3", 0, 4, None)
    },
    "a key of its own": (body(lambda b: b.update(x=1)), "unknown key 'x'"),
    "a key in a task": (first("tasks", x=1), "unknown key 'x'"),
    "a key in a file": (body(lambda b: b["tensors"].update(x=1)), "unknown key 'x'"),
    "a missing key": (body(lambda b: b.pop("former")), "'former' is missing"),
    "a number for a text": (first("tasks", method=1), "must be text"),
    "true for a number": (first("tasks", classes=True), "must be a whole number"),
    "an unknown feature, before others": (
        body(lambda b: b.update(requires=["x"], own=1)),
        "requires the feature 'x'",
    ),
    "features that are not sorted": (body(lambda b: b.update(requires=["b", "a"])), "sorted list"),
    "a path that leads out": (
        body(lambda b: b["tasks"][0]["file"].update(path="../x")),
        "not a path inside",
    ),
    "a link that leads out": (link_out, "a link out of the bundle"),
    "another size": (longer, "larger than|was altered"),
    "what a task's file does not say": (first("tasks", resize="crop"), "is not the file of task"),
    "tensors that a file lacks": (
        body(lambda b: b["heads"][0].update(tensors={"other": [-1, 6]})),
        "for its head, expected",
    ),
    "numbers that do not end": (body(lambda b: b.update(parameters=10**25)), "26 characters"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_bundle_that_must_be_refused_is(copy, name):
    change, message = MANIFESTS[name]
    change(copy)
    with pytest.raises(FormatError, match=message):
        opened = Bundle.open(copy)
        for task in opened.tasks:
            opened.task(task, opened.layout())


def rehash(module, content, change=lambda d, t: None, schema=None, metadata=()):
    """Return a checksummed file with a right digest over what a change leaves."""
    file = checksummed.read(
        Path("x"), module.KIND, module.SCHEMA, oldest=1, features=module.FEATURES, content=content
    )
    document, tensors = dict(file.document), dict(file.tensors)
    if file.schema > 1:
        document |= {"requires": list(file.requires), "optional": dict(file.optional)}
    document |= {"kind": module.KIND, "schema": file.schema if schema is None else schema}
    change(document, tensors)
    text = json.dumps(document, sort_keys=True)
    return save(
        tensors, {"sealed": f"{checksummed._digest(text, tensors)} {text}", **dict(metadata)}
    )


def put(**values):
    return lambda document, tensors: document.update(values)


def add(name):
    return lambda document, tensors: tensors.update({name: np.zeros(3, np.uint8)})


FILES = {
    **{
        f"schema {value!r}": ({"schema": value}, "this version reads 1 to 2")
        for value in (True, 1.0, 2.0, 3, "2", 0)
    },
    "other metadata": ({"metadata": {"other": "y"}}, "unknown metadata 'other'"),
    "another kind": ({"change": put(kind="uda-x")}, "found kind"),
    "a key of its own": ({"change": put(x=1)}, "unknown key '?x"),
    "an unknown tensor": ({"change": add("zzz")}, "unknown tensor 'zzz'"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["task", "artifact", "checkpoint"])
def test_a_checksummed_file_that_must_be_refused_is(made, kind, name):
    module, content, read = made.kinds[kind]
    read(rehash(module, content))
    how, message = FILES[name]
    with pytest.raises(FormatError, match=message):
        read(rehash(module, content, **how))


def spoil(name, value):
    def change(document, tensors):
        tensors[name] = tensors[name].copy()
        tensors[name].reshape(-1)[0] = value

    return change


def counted(by):
    def change(document, tensors):
        document["patch"][0]["count"] += by

    return change


TASKS = {
    "another base": (put(base_sha256="0" * 64), "patches base 000000000000"),
    "an unknown feature": (put(requires=["zoom"], x=1), "requires the feature 'zoom'"),
    "a background without its feature": (put(background="white"), "does not go with"),
    "the feature without a background": (put(requires=["background"]), "does not go with"),
    "optional members too deep": (
        put(optional={"a": json.loads("[" * 17 + "]" * 17)}),
        "16 levels",
    ),
    "more entries than it holds": (counted(1), "does not hold"),
    "fewer entries than it holds": (counted(-1), "does not hold|entry"),
    "more entries than the base": (counted(10**6), "the patch changes"),
    "a tensor that the base lacks": (
        lambda d, t: d["patch"][0].update(name="third.weight"),
        "which the base lacks",
    ),
    "another type than the base's": (
        lambda d, t: d["patch"][0].update(dtype="float16"),
        "which the base lacks",
    ),
    "a value that is not finite": (spoil("head.weight", np.nan), "is not finite float32"),
    "values of a type of no entry": (add("patch.values.float16"), "unknown tensor"),
    "a patch of another kind": (add("patch.mask"), "unknown tensor"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_file_that_must_be_refused_is(made, name):
    module, content, read = made.kinds["task"]
    change, message = TASKS[name]
    with pytest.raises(FormatError, match=message):
        read(rehash(module, content, change))


ARTIFACTS = {
    "a background without its feature": lambda d, t: d["preprocess"].update(background="white"),
    "the feature background alone": put(requires=["background"]),
    "an architecture without its feature": put(architecture={"sha256": "0" * 64}),
    "the feature architecture alone": put(requires=["architecture"]),
    "a setting that nobody knows": lambda d, t: d["config"].update(speed=2),
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_artifact_that_must_be_refused_is(made, name):
    module, content, read = made.kinds["artifact"]

    def change(document, tensors):
        document |= {"requires": [], "optional": {}, "schema": 2}
        ARTIFACTS[name](document, tensors)

    with pytest.raises(FormatError):
        read(rehash(module, content, change))


def test_a_residual_that_unpacks_to_gigabytes_is_refused_before(made):
    module, content, read = made.kinds["artifact"]

    def change(document, tensors):
        name = min(document["residual"])
        document["residual"][name] = [4 * 10**9, 4 * 10**9]
        document["parameters"] = 10**10

    with pytest.raises(FormatError, match="bytes of patch unpack to"):
        read(rehash(module, content, change))


def engine_json(change, key=True):
    document = json.loads(engine_file.encode(_engine()))
    change(document)
    document.pop("sha256", None)
    if key and isinstance(document.get("recipe"), dict):
        keyed = json.dumps({"schema": 2, **document["recipe"]}, sort_keys=True)
        document["key"] = sha256(keyed.encode())
    return json.dumps({**document, "sha256": engine_file._digest(document)}).encode()


ENGINES = {
    **{
        f"schema {value!r}": (engine_json(lambda d, v=value: d.update(schema=v)), "has schema")
        for value in (True, 2.0, 1, 3, "2")
    },
    "another kind": (engine_json(lambda d: d.update(kind="x")), "does not describe an engine"),
    "an unknown key": (engine_json(lambda d: d.update(x=1)), "unknown key 'x'"),
    "an unknown key in the recipe": (engine_json(lambda d: d["recipe"].update(x=1)), "unknown key"),
    "a missing key": (engine_json(lambda d: d.pop("tested")), "'tested' is missing"),
    "another key": (engine_json(lambda d: d.update(key="0" * 64), key=False), "its key is not"),
    "another digest": (
        engine_file.encode(_engine()).replace(b'"seconds": 1.5', b'"seconds": 2.5'),
        "digest does not match",
    ),
    "a plan of no bytes": (engine_json(lambda d: d["plan"].update(bytes=0)), "cannot have 0"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_a_description_of_an_engine_that_must_be_refused_is(name):
    engine_file.decode(engine_json(lambda d: None), "'x'")
    content, message = ENGINES[name]
    with pytest.raises(FormatError, match=message):
        engine_file.decode(content, "'x'")


def test_a_writer_refuses_links_for_its_folders_and_its_lock(copy, made, tmp_path):
    file = tmp_path / "task"
    file.write_bytes(encode_task(made.tasks["a-b"]))
    before = (copy / manifest.NAME).read_bytes()
    (copy / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UdaError, match="link"):
        install.remove(copy, "a-b")
    (copy / ".lock").unlink()
    shutil.move(copy / "tasks", tmp_path / "tasks")
    (copy / "tasks").symlink_to(tmp_path / "tasks")
    with pytest.raises(UdaError, match="is a link"):
        install.install(copy, file)
    assert (copy / manifest.NAME).read_bytes() == before and not (tmp_path / "elsewhere").exists()
