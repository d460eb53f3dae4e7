"""Manifests that were altered, have a new digest, or come from another version."""

import json

import pytest

import runtime
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.install import remove
from runtime.errors import FormatError
from runtime.models import TensorSpec
from runtime.storage.files import sha256
from tests.runtime.helpers import as_schema_1, read_everything, rewrite


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret",
        "tasks/../../secret",
        "tasks//x",
        "",
        ".hidden/x",
        "a\\b",
        "tasks/.x",
        "./tasks/x",
        "tasks/./x",
    ],
)
def test_a_path_that_leads_out_of_the_bundle_is_refused(world, path):
    rewrite(world.path, lambda body: body["tasks"][0]["file"].update(path=path))
    with pytest.raises(FormatError, match="not a path inside a bundle"):
        Bundle.open(world.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.update(surprise=1), "unknown key 'surprise'"),
        (lambda b: b.pop("base"), "'base' is missing"),
        (lambda b: b.update(precision="fp8"), "must be one of fp32, fp16"),
        (lambda b: b["encoders"][0]["graph"].update(bytes="9"), "must be a whole number"),
        (lambda b: b["encoders"][0]["graph"].update(bytes=-1), "cannot have -1 bytes"),
        (lambda b: b["encoders"][0]["graph"].update(sha256="xyz"), "not a SHA-256"),
        (lambda b: b["tasks"][0]["file"].update(bytes=10**19), "cannot have 10000"),
        (lambda b: b.update(parameters=0), "a base cannot have 0 entries"),
        (lambda b: b["tasks"][0].update(changed=-1), "cannot change -1 of"),
        (lambda b: b["tasks"][1].update(changed=10**19), "'a-c' cannot change 1000"),
        (lambda b: b["tasks"][1].update(changed=10**20), "has 21 characters, expected at most 20"),
        (lambda b: b["encoders"][0].update(size=10**9), "outside 8..4096"),
        (lambda b: b["encoders"][0].update(mean=["0", 0, 0]), "must be a number"),
        (lambda b: b["encoders"][0].update(std=[1, 0, 1]), "std above 0"),
        (lambda b: b["encoders"][0].update(tokens={"x": [2**20, 2**20]}), "impossible shape"),
        (lambda b: b["encoders"][0].update(tokens={"x": [2**12, 2**13]}), "at most 16777216"),
        (lambda b: b["encoders"][0].update(tokens={"x": [4, 4, 4]}), r"tokens \(n, width\)"),
        (lambda b: b["encoders"][0].update(tokens={"x": [0, 4]}), "impossible shape"),
        (lambda b: b["encoders"][0].update(tokens={"\x1b[2J": [4, 4]}), "is not a name"),
        (lambda b: b["encoders"].append(b["encoders"][0]), "have the same graph"),
        (lambda b: b.update(encoders=[]), "needs a graph that is not in the bundle"),
        (lambda b: b["tasks"][1].update(encoder="0" * 64), "'a-c' needs a graph that is not"),
        (lambda b: b["tasks"][1].update(head="0" * 64), "'a-c' needs a graph that is not"),
        (lambda b: b["tasks"][1].update(resize="stretch"), "must be one of squash, crop"),
        (lambda b: b["heads"][0].update(kind="a\nb"), "is not a name"),
        (lambda b: b["tasks"].append(b["tasks"][0]), "same id"),
        (lambda b: b.update(tasks={}), "must be a list"),
        (lambda b: b.update(tasks=[]), "needs at least one task"),
        (lambda b: b["tasks"][0].update(id="../a-b"), "not a task id"),
        (lambda b: b["tasks"][0].update(id="a-" + "b" * 127), "not a task id"),
        (lambda b: b.pop("former"), "key 'former' is missing"),
        (lambda b: b.update(former=None), "'former' must be a list"),
        (lambda b: b.update(former=[{}]), r"'former'\[0\]: key 'id' is missing"),
        (lambda b: b.update(former=b["tasks"][:1] * 2), "same id"),
        (lambda b: b.update(former=[{**b["tasks"][0], "head": "0" * 64}]), "'a-b' needs a graph"),
        (lambda b: b.update(former=[{**b["tasks"][0], "encoder": "0" * 64}]), "needs a graph"),
        (lambda b: b.update(former=[{**b["tasks"][0], "id": "a-b/.."}]), "not a task id"),
        (lambda b: b["heads"][0].pop("tensors"), "key 'tensors' is missing"),
        (lambda b: b["heads"][0].update(tensors=["weight"]), "must be a mapping"),
        (lambda b: b["heads"][0].update(tensors={"weight": 6}), "must be a list"),
        (lambda b: b["heads"][0].update(tensors={"weight": ["K", 6]}), "must be a whole number"),
        (lambda b: b["heads"][0].update(tensors={"\x1b[2J": [6]}), "is not a name"),
        (lambda b: b["heads"][0].update(tensors={"weight": [-2, 6]}), "impossible shape"),
        (lambda b: b["heads"][0].update(tensors={"weight": [-1, 0]}), "impossible shape"),
        (lambda b: b["heads"][0].update(tensors={"weight": [-1, 2**40]}), "impossible shape"),
    ],
)
def test_a_hostile_manifest_is_refused(world, change, message):
    rewrite(world.path, change)
    with pytest.raises(FormatError, match=message):
        Bundle.open(world.path)


def test_a_manifest_of_deep_brackets_or_another_version_is_refused(world):
    file = world.path / manifest.NAME
    good = json.loads(file.read_text())
    file.write_text("[" * 100_000)
    with pytest.raises(FormatError, match="damaged"):
        Bundle.open(world.path)
    for schema in (4, 0, -1, "2", True, None, [2]):
        file.write_text(json.dumps({**good, "schema": schema}))
        with pytest.raises(FormatError, match=r"has schema .*, this version reads 1 to 3; export"):
            Bundle.open(world.path)
    file.write_text(json.dumps({**good, "kind": "other"}))
    with pytest.raises(FormatError, match="not the manifest"):
        Bundle.open(world.path)


def test_a_bundle_of_schema_1_stays_readable(mixed):
    as_schema_1(mixed.path)
    read_everything(mixed.path)
    opened = Bundle.open(mixed.path)
    assert opened.tasks == tuple(mixed.tasks) and opened.manifest.former == ()
    assert [head.tensors for head in opened.manifest.heads] == [None, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(heads={}),
        lambda b: b.update(heads=[3]),
        lambda b: b.update(former=3),
        lambda b: b.update(surprise=3),
        lambda b: b.clear(),
    ],
)
def test_a_hostile_manifest_of_schema_1_is_refused(world, change):
    as_schema_1(world.path)
    rewrite(world.path, change, schema=1)
    with pytest.raises(FormatError, match=r"must be|expected a mapping|unknown key|is missing"):
        Bundle.open(world.path)


def test_a_manifest_whose_body_is_no_mapping_is_refused(world):
    for schema in (1, 2, 3):
        document = {"kind": "uda-bundle", "schema": schema, "body": [], "sha256": sha256(b"[]")}
        (world.path / manifest.NAME).write_text(json.dumps(document))
        with pytest.raises(FormatError, match="expected a mapping"):
            Bundle.open(world.path)


def test_only_some_blocked_graphs_are_refused(mixed):
    def block_one(body):
        body["encoders"][0]["blocked"] = body["encoders"][0]["graph"]

    rewrite(mixed.path, block_one)
    with pytest.raises(FormatError, match="only some encoders"):
        Bundle.open(mixed.path)


@pytest.mark.parametrize("name", ["", "red\x1b[2Jscreen", "a\nb", "\ud800"])
def test_names_that_a_terminal_would_obey_are_refused(world, name):
    rewrite(world.path, lambda body: body["tasks"][0].update(dataset=name))
    with pytest.raises(FormatError, match="is not a name"):
        Bundle.open(world.path)


@pytest.mark.parametrize("shape", [(0,), (2**17, 2**17), (-1,)])
def test_an_impossible_shape_is_refused(shape):
    with pytest.raises(ValueError, match="impossible shape"):
        TensorSpec("t", "float32", shape)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_report_with_a_number_that_json_does_not_have_is_refused(world, number):
    file = world.path / manifest.NAME
    body = json.loads(file.read_text())["body"]
    body["report"] = {"spread": "PLACE"}
    plain = json.dumps(body, sort_keys=True, separators=(",", ":"))
    spelt = {"1e999": "Infinity"}.get(number, number)  # as Python would write what it read
    digest = sha256(plain.replace('"PLACE"', spelt).encode())
    text = json.dumps({"kind": manifest.KIND, "schema": 3, "sha256": digest, "body": body})
    file.write_text(text.replace('"PLACE"', number))
    with pytest.raises(FormatError, match="is damaged: (it holds|Out of range float values)"):
        Bundle.open(world.path)


@pytest.mark.parametrize("depth", [15, 16, 600])
def test_a_report_nested_too_deep_is_refused_before_anyone_walks_it(world, depth):
    def nest(body):
        body["report"] = {}
        for _ in range(depth):
            body["report"] = {"x": body["report"]}

    rewrite(world.path, nest)
    if depth < 16:
        assert remove(world.path, "a-b").id == "a-b"
    else:
        with pytest.raises(FormatError, match="nested more than (16|32) levels"):
            remove(world.path, "a-b")


def test_files_that_are_links_in_a_ring_are_refused(world):
    with runtime.Session.open(world.path) as session:
        (file,) = (world.path / "tasks").glob("a-b-*")
        file.unlink()
        file.symlink_to(file.name)
        with pytest.raises(FormatError, match="no longer exists"):
            session.switch("a-b")
