"""Artifact files that are damaged, or that someone wrote to do harm."""

import math
import random

import numpy as np
import pytest
from safetensors.numpy import save as save_numpy

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import merged
from adapt.artifacts.store import FILE
from runtime import patch
from runtime.errors import FormatError, UdaError
from runtime.storage import checksummed
from tests.adapt.artifacts import CLASSES, bases, load, make


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / FILE
    make(load("demo-rn32", files)).save(path)
    return path.read_bytes()


def test_an_artifact_flipped_at_any_bit_is_refused(written, tmp_path):
    random.seed(0)
    path = tmp_path / FILE
    header = int.from_bytes(written[:8], "little") + 8
    positions = [random.randrange(header) for _ in range(150)]  # where parsers live
    positions += [random.randrange(len(written)) for _ in range(100)] + list(range(8))
    for position in positions:
        content = bytearray(written)
        content[position] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        with pytest.raises(UdaError) as caught:
            Artifact.load(path)
        assert FILE in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 5000, -1])
def test_a_truncated_artifact_is_refused(keep, written, tmp_path):
    (tmp_path / FILE).write_bytes(written[:keep])
    with pytest.raises(FormatError, match=FILE):
        Artifact.load(tmp_path / FILE)


def test_a_longer_artifact_is_refused(written, tmp_path):
    (tmp_path / FILE).write_bytes(written + b"\0")
    with pytest.raises(FormatError, match=FILE):
        Artifact.load(tmp_path / FILE)


def test_a_missing_artifact_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"nowhere\.safetensors"):
        Artifact.load(tmp_path / "nowhere.safetensors")


def rehash(written, tmp_path, change, kind="uda-artifact", schema=2):
    """Return a file whose digest is right and whose content someone chose."""
    path = tmp_path / FILE
    path.write_bytes(written)
    file = checksummed.read(path, "uda-artifact", 2, features=())
    document = {**file.document, "requires": [], "optional": dict(file.optional)}
    tensors = dict(file.tensors)
    change(document, tensors)
    path.write_bytes(checksummed.encode(kind, schema, document, tensors))
    return path


def test_another_kind_and_another_schema_are_refused(written, tmp_path):
    with pytest.raises(FormatError, match="not a uda-artifact file.*'uda-task'"):
        Artifact.load(rehash(written, tmp_path, lambda d, t: None, kind="uda-task"))
    with pytest.raises(FormatError, match="schema 3, this version reads 1 to 2"):
        Artifact.load(rehash(written, tmp_path, lambda d, t: None, schema=3))


def test_a_plain_safetensors_file_is_refused(tmp_path):
    (tmp_path / FILE).write_bytes(save_numpy({"x": np.ones(3)}))
    with pytest.raises(FormatError, match=FILE):
        Artifact.load(tmp_path / FILE)


def setter(*path, value):
    def change(document, tensors):
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = value

    return change


def without(key):
    return lambda document, tensors: document.pop(key)


def with_tensor(name, function):
    def change(document, tensors):
        tensors[name] = function(tensors[name])

    return change


def spoiled(value):
    def change(array):
        array = array.copy()
        array.reshape(-1)[0] = value
        return array

    return with_tensor("head.linear.weight", change)


def with_entry(index=None, value=None):
    """Rewrite the first tensor of the residual."""

    def change(document, tensors):
        name, (_, *shape) = next(iter(document["residual"].items()))
        size = math.prod(shape)
        index_ = size if index == "size" else index or 0
        sparse = patch.SparseTensor(
            np.array([index_], np.uint32), np.array([1.0 if value is None else value], np.float32)
        )
        _, packed = patch.encode({name: sparse})
        document["residual"] = {name: [1, *shape]}
        tensors.update(packed)

    return change


def with_row(row):
    return lambda document, tensors: document["residual"].update({"conv1.weight": row})


def renamed(document, tensors):
    name = max(document["residual"])
    document["residual"]["z" + name] = document["residual"].pop(name)


def reshaped(document, tensors):
    document["residual"]["conv1.weight"][1:] = [100_000]


HOSTILE = {
    "no classes": (setter("task", "classes", value=[]), "needs 2 to"),
    "one class": (setter("task", "classes", value=["cup"]), "needs 2 to"),
    "a class twice": (
        setter("task", "classes", value=["cup", "cup", "key"]),
        "names a class twice",
    ),
    "a class too many": (setter("task", "classes", value=[*CLASSES, "x"]), "must be equal"),
    "a class that is a number": (
        setter("task", "classes", value=["cup", "key", 3]),
        "must be text",
    ),
    "a prompt too few": (setter("prompts", value=["a", "b"]), "must be equal"),
    "path in the id": (setter("task", "id", value="../../etc-passwd"), "not a task id"),
    "dots in the id": (setter("task", "id", value="..-.."), "not a task id"),
    "absolute id": (setter("task", "id", value="/a-b"), "not a task id"),
    "newline in the id": (setter("task", "id", value="a-b\n"), "not a task id"),
    "path in the data set": (setter("task", "dataset", value="../x"), "cannot name a data set"),
    "hidden data set": (setter("task", "dataset", value=".ssh"), "cannot name a data set"),
    "path in the method": (setter("method", value="a/b"), "unknown method 'a/b'"),
    "unknown head": (setter("head", value="mlp"), "unknown head kind"),
    "head of another kind": (setter("head", value="cosine"), "needs a tensor 'weight'"),
    "head with nan": (spoiled(np.nan), "'linear.weight' holds a value that is not finite"),
    "head with infinity": (spoiled(np.inf), "not finite"),
    "head in double": (with_tensor("head.ln.bias", lambda a: a.astype(np.float64)), "float64"),
    "head of another size": (
        with_tensor("head.ln.bias", lambda a: a[:-1]),
        "head tensor 'ln.bias'",
    ),
    "head without a tensor": (lambda d, t: t.pop("head.bn.bias"), "missing or an extra tensor"),
    "residual with nan": (with_entry(value=np.nan), "holds a value that is not finite"),
    "residual past the end": (with_entry(index="size"), "which has"),
    "residual far past the end": (with_entry(index=2**32 - 2), "which has"),
    "residual without gaps": (lambda d, t: t.pop("patch.gaps"), "lacks its tensor 'patch.gaps'"),
    "residual without values": (lambda d, t: t.pop("patch.values.float32"), "lacks its tensor"),
    "residual that is noise": (with_tensor("patch.gaps", lambda a: a[::-1].copy()), "damaged"),
    "count of billions": (with_row([4_000_000_000, 8]), "changes 4000000000 of 8"),
    "negative count": (with_row([-1, 8]), "changes -1"),
    "count of another tensor": (with_row([7, 8]), "does not hold"),
    "empty row": (with_row([]), "lacks its number of entries"),
    "row of text": (with_row("12"), "must be a list"),
    "row with text": (with_row(["a"]), "must be a whole number"),
    "impossible shape": (with_row([1, 0, -3]), "impossible shape"),
    "huge shape": (with_row([1, 2**31, 2**31]), "impossible shape"),
    "table of numbers": (setter("residual", value=[1, 2]), "'residual' must be a mapping"),
    "no parameters": (setter("parameters", value=0), "cannot have 0 parameters"),
    "no digest": (setter("base", "sha256", value="abc"), "not a SHA-256"),
    "another background": (setter("preprocess", "background", value="grey"), "background"),
    "image of no size": (setter("preprocess", "size", value=0), "outside 8..4096"),
    "background without its feature": (
        setter("preprocess", "background", value="white"),
        "background 'white' does not go with",
    ),
    "unknown background": (setter("preprocess", "background", value="red"), "must be one of white"),
    "std of zero": (setter("preprocess", "std", value=[1, 1, 0]), "std above 0"),
    "seed of text": (setter("seed", value="0"), "'seed' must be a whole number"),
    "unknown key": (setter("extra", value=1), "unknown key 'extra'"),
    "missing key": (without("base"), "key 'base' is missing"),
    "task of text": (setter("task", value="a-b"), "'task': expected a mapping"),
    "config of text": (setter("config", value="x"), "'config' must be a mapping"),
    "setting of another type": (setter("config", "lr", value="fast"), "'lr' must be a number"),
    "setting out of range": (setter("config", "holdout", value=2), "'holdout' must be in"),
    "unknown setting": (
        setter("config", "x", value=1),
        "made with the setting 'x' = 1, which this version",
    ),
    "unknown method": (
        setter("method", value="dann"),
        "unknown method 'dann'; available: .*; update",
    ),
    "config of another method": (setter("method", value="source_only"), "the setting 'lambda1' = "),
    "unknown feature": (setter("requires", value=["depth"]), "requires the feature 'depth'"),
    "optional of a list": (setter("optional", value=[]), "'optional' must be an object"),
    "empty metrics": (setter("metrics", value={}), "metrics: key 'last' is missing"),
    "metrics of a list": (setter("metrics", "last", value=[1]), "'last': expected a mapping"),
    "accuracy of text": (setter("metrics", "last", "accuracy", value="x"), "must be a number"),
    "accuracy above all": (setter("metrics", "last", "accuracy", value=101), "in 0..100"),
    "half an accuracy": (setter("metrics", "oracle_best", "accuracy", value=None), "known or none"),
    "no data digests": (setter("metrics", "data", value={}), "key 'source' is missing"),
    "a digest of text": (setter("metrics", "data", "test", value="x"), "not a SHA-256"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_artifact_with_a_right_digest_is_refused(name, written, tmp_path):
    change, message = HOSTILE[name]
    path = rehash(written, tmp_path, change)
    with pytest.raises(FormatError, match=message) as caught:
        Artifact.load(path)
    assert FILE in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reshaped, "changes 'conv1.weight'.*the base has"),
        (renamed, "changes 'z.*the base has None"),
    ],
)
def test_an_artifact_that_lies_about_its_base_is_refused(change, message, written, files, tmp_path):
    read = Artifact.load(rehash(written, tmp_path, change))
    with pytest.raises(FormatError, match=message):
        merged(load("demo-rn32", files), read)
