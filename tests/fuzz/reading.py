"""A reader to fuzz, and how content behind a digest is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.storage import checksummed
from tests.fuzz.damage import damage, damage_json

Draw = np.random.Generator
Damage = Callable[[bytes, Draw], bytes]


@dataclass(frozen=True)
class Reader:
    """A reader of files from outside."""

    name: str
    seeds: Sequence[bytes]
    """Whole files that it accepts."""
    read: Callable[[bytes], object]
    """Reads a file of this content; must return or raise a `UdaError`."""
    rehash: Damage | None = None
    """Damages what lies behind a digest, and makes the digest right."""
    base: int = 0
    """Bytes of the base that the file belongs to, which justify memory as well."""

    share: float = 1.0
    """Loads of this reader for each of another one; few where a load starts a process."""

    def damaged(self, draw: Draw) -> bytes:
        """Return a damaged copy of a seed, half of them with a right digest."""
        seed = self.seeds[int(draw.integers(len(self.seeds)))]
        rehashed = self.rehash is not None and draw.random() < 0.5
        return self.rehash(seed, draw) if rehashed and self.rehash else damage(seed, draw)


def from_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """Return a reader of content for a reader of paths."""

    def write_and_read(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return write_and_read


def rehash_json(content: bytes, draw: Draw) -> bytes:
    """Damage a JSON document that has no digest."""
    return json.dumps(damage_json(json.loads(content), draw)).encode()


def rehash_checksummed(
    kind: str, schema: int, features: Collection[str] | None = None, oldest: int | None = None
) -> Damage:
    """Return the function that damages a checksummed file's document or one of its tensors."""

    def rehash(content: bytes, draw: Draw) -> bytes:
        file = checksummed.read(
            Path("seed"), kind, schema, oldest=oldest, features=features, content=content
        )
        document: dict[str, Any] = dict(file.document)
        if features is not None and file.schema > 1:
            document |= {"requires": list(file.requires), "optional": dict(file.optional)}
        tensors = dict(file.tensors)
        for _ in range(int(draw.integers(1, 3))):
            if draw.random() < 0.6 or not tensors:
                changed = damage_json(document, draw)
                document = changed if isinstance(changed, dict) else document
            else:
                _damage_tensor(tensors, draw)
        return checksummed.encode(kind, file.schema, document, tensors)

    return rehash


def _damage_tensor(tensors: dict[str, Any], draw: Draw) -> None:
    name = str(draw.choice(sorted(tensors)))
    array = tensors[name]
    kind = int(draw.integers(6))
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[f"{name}.x" if draw.random() < 0.5 else "surprise"] = array
    elif kind == 2:
        tensors[name] = array.reshape(-1)
    elif kind == 3:
        tensors[name] = array.astype(str(draw.choice(["u1", "i8", "f2", "f8", "?"])))
    elif kind == 4:
        tensors[name] = array.reshape((1,) * int(draw.integers(1, 30)) + array.shape)
    else:
        flat = np.frombuffer(damage(array.tobytes(), draw), np.uint8)
        width = array.dtype.itemsize
        tensors[name] = flat[: len(flat) // width * width].view(array.dtype)
        if tensors[name].size == array.size:
            tensors[name] = tensors[name].reshape(array.shape)
