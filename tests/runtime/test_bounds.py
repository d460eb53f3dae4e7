"""Limits of files: each reader's bounds hold, before memory or time is taken."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw

import runtime
from runtime import packing, patch
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import KIND, decode_task, encode_task
from runtime.errors import FormatError, TaskError
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.storage import checksummed, json_text
from runtime.storage.files import sha256
from tests.runtime.helpers import rewrite

JSON = draw.recursive(
    draw.none() | draw.booleans() | draw.integers(-(10**18), 10**18) | draw.text(max_size=8),
    lambda inner: draw.lists(inner) | draw.dictionaries(draw.text(max_size=4), inner),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=50, deadline=None)
def test_what_json_writes_comes_back(value):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1).encode()):
        assert json_text.parse(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 21, "21 characters, expected at most 20"),
        (f"[{'9' * 10**6}]", "1000000 characters"),
        ("[" * 34 + "]" * 34, "more than 32 levels"),
        ("[" * 60_000 + "]" * 60_000, "more than 32 levels"),
        ('{"a":' * 34 + "1" + "}" * 34, "more than 32 levels"),
        (f"[{'[],' * 10**6}0]", "2000001 commas and brackets, expected at most 440536"),
        ("[NaN]", "holds NaN"),
        (b"\xff\xfe[\x00]\x00", "invalid start byte"),
    ],
)
def test_a_text_that_would_cost_more_than_its_bytes_is_refused_at_once(text, message):
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        json_text.parse(text)
    assert time.process_time() - start < 1


def test_the_largest_number_and_depth_are_taken():
    assert json_text.parse("[-9223372036854775808, 18446744073709551615]")[1] == 2**64 - 1
    json_text.parse("[" * 33 + "]" * 33)


@pytest.mark.parametrize(
    "shape", [(1,) * 9, (10**18, 10**18), (2**16, 2**16), (10**19,) * 8, (0,), (2**31, 2, 1, 2)]
)
def test_the_shape_of_a_tensor_is_bounded_before_it_is_multiplied(shape):
    with pytest.raises(ValueError, match=r"'t' has an impossible shape \(.{1,80}\)$"):
        TensorSpec("t", "float32", shape)


def test_a_manifest_of_many_encoders_or_wrong_entries_is_refused(world):
    def add(body):
        first = body["encoders"][0]
        for number in range(300):
            ref = {**first["graph"], "sha256": sha256(str(number).encode())}
            body["encoders"].append({**first, "graph": ref})

    before = (world.path / manifest.NAME).read_bytes()
    rewrite(world.path, add)
    with pytest.raises(FormatError, match="at most 256 encoders and heads each, found 301"):
        Bundle.open(world.path)
    (world.path / manifest.NAME).write_bytes(before)
    rewrite(world.path, lambda body: body.update(parameters=10**18))
    with pytest.raises(FormatError, match="entries, the manifest says 1000000000000000000"):
        runtime.Session.open(world.path)


def everywhere(size):
    """Return the table and tensors of a patch of zeros over every entry, some kB in a file."""
    table = [{"name": "w", "dtype": "float32", "count": size}]
    zeros = np.frombuffer(zlib.compress(bytes(4 * size)), np.uint8)
    return table, {patch.GAPS: zeros, f"{patch.VALUES}float32": zeros}


def test_a_patch_takes_three_times_its_base_and_nothing_where_the_task_may_not_be_so_large(world):
    size = 1_000_000
    table, tensors = everywhere(size)
    layout = {"w": TensorSpec("w", "float32", (size,))}
    tracemalloc.start()
    decoded = patch.decode(patch.read_table(table, layout), tensors, layout)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert patch.size(decoded) == size and int(decoded["w"].indices[-1]) == size - 1
    assert peak < 3 * 4 * size
    weights = Weights(np.zeros(4 * size, np.uint8), [*layout.values()])
    tracemalloc.start()
    weights.prepare(decoded)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 7 * 4 * size
    with runtime.Session.open(world.path, max_task_bytes=3) as session:
        for file in (world.path / "tasks").iterdir():
            file.unlink()  # the manifest alone says that there is no room
        for act in (session.switch, session.load, session.pin):
            with pytest.raises(TaskError, match=r"task 'a-b' takes \d+ bytes; max_task_bytes is 3"):
                act("a-b")


@pytest.mark.parametrize("extra", [b"", b"\0", zlib.compress(b"x")])
@pytest.mark.parametrize("size", [1, 7, packing._CHUNK, packing._CHUNK + 1])
def test_a_patch_holds_its_entries_and_no_byte_more(size, extra):
    table, tensors = everywhere(size)
    tensors = {n: np.concatenate([t, np.frombuffer(extra, np.uint8)]) for n, t in tensors.items()}
    layout = {"w": TensorSpec("w", "float32", (size,))}
    rows = patch.read_table(table, layout)
    if not extra:
        assert patch.decode(rows, tensors, layout)["w"].indices.tolist() == [*range(size)]
        return
    with pytest.raises(FormatError, match="does not hold"):
        patch.decode(rows, tensors, layout)


def test_a_header_larger_than_any_that_is_written_is_refused_before_it_is_read(world, tmp_path):
    (tmp_path / "file").write_bytes((2**40).to_bytes(8, "little") + b"{" * 100)
    with pytest.raises(FormatError, match="header has 1099511627776 bytes, expected 2 to 67108864"):
        checksummed.read(tmp_path / "file", KIND, 2)
    base = next((world.path / "base").iterdir())
    content = base.read_bytes()
    base.write_bytes((len(content)).to_bytes(8, "little") + content[8:])
    with pytest.raises(FormatError, match="it ends within its header"):
        Bundle.open(world.path).layout()


def test_a_task_file_with_more_entries_than_its_manifest_says_is_not_unpacked(world):
    bundle = Bundle.open(world.path)
    entry, layout = bundle.entry("a-b"), bundle.layout()
    content = encode_task(world.tasks["a-b"])
    decode_task(content, entry.file.path, bundle.manifest.tensors.sha256, layout, entry)
    with pytest.raises(FormatError, match=r"is not the file of task 'a-b'.*the manifest says 1;"):
        decode_task(
            content,
            entry.file.path,
            bundle.manifest.tensors.sha256,
            layout,
            replace(entry, changed=1),
        )
