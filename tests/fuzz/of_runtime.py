"""The readers of the device: bundles, tasks, graphs, base weights, engines and images."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
from PIL import Image
from safetensors.numpy import save

import runtime
from runtime.backends.ort.backend import OrtBackend
from runtime.backends.ort.libraries import onnxruntime
from runtime.backends.trt import engine_file, profile
from runtime.bundles import install, manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import FEATURES, KIND, OLDEST, SCHEMA, decode_task
from runtime.bundles.weights_file import read_weights
from runtime.frames.decode import MAX_PIXELS
from runtime.frames.preprocess import read_image
from runtime.graphs.check import Kind, check_graph
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256
from tests.fuzz.damage import damage_json
from tests.fuzz.reading import Draw, Reader, from_file, rehash_checksummed, rehash_json
from tests.fuzz.workers import TIMES
from tests.runtime.conftest import SIZE, World, _make_world

MOST_VALUES = 1 << 20
"""Most values of the inputs with which a graph is run."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def readers(place: Path) -> list[Reader]:
    """Return the device's readers.

    Args:
        place: Empty folder for the files that are read.
    """
    onnxruntime()  # imported once for all workers
    world = _make_world(place / "world.bundle", tasks=4, mixed=True)
    other = _make_world(place / "other.bundle", tasks=4, mixed=True)
    bundle = Bundle.open(world.path)
    layout, identity, path = bundle.layout(), bundle.manifest.tensors.sha256, place / "file"
    base = bundle.manifest.tensors.bytes
    tasks = [(bundle.path / entry.file.path).read_bytes() for entry in bundle.manifest.tasks]
    rehash_task = rehash_checksummed(KIND, SCHEMA, FEATURES, OLDEST)
    return [
        Reader(
            "manifest",
            [(bundle.path / manifest.NAME).read_bytes()],
            from_file(world.path / manifest.NAME, lambda _: _open(world)),
            _rehash_manifest,
            base,
        ),
        Reader(
            "task file",
            tasks,
            lambda content: decode_task(content, path, identity, layout),
            rehash_task,
            base,
        ),
        Reader(
            "install",
            tasks,
            from_file(place / "task", lambda file: install.install(other.path, file)),
            rehash_task,
            base,
        ),
        *(
            Reader(
                f"graph of {'an' if kind == 'encoder' else 'a'} {kind}",
                [bundle.graph(ref)],
                lambda content, kind=kind: _run(content, kind),
                _rehash_graph,
            )
            for ref, kind in (
                (bundle.manifest.encoders[1].graph, "encoder"),
                (bundle.manifest.heads[1].graph, "head"),
            )
        ),
        *_others(place),
    ]


def _others(place: Path) -> list[Reader]:
    """Return the readers of files that need no bundle around them."""
    tensors = {f"{n}.weight": np.full((4, n + 1), n, np.float32) for n in range(3)}
    span = {"min": 1, "opt": 4, "max": 16}
    profiles = json.dumps({"name": "k", "batch": span, "classes": span | {"min": 2}}).encode()
    return [
        Reader(
            "base weights",
            [save(tensors)],
            from_file(place / "base", lambda file: _read_weights(file, tensors_sha256(tensors))),
        ),
        Reader(
            "description of an engine",
            [engine_file.encode(_engine())],
            lambda content: engine_file.decode(content, "'file'"),
            _rehash_engine,
        ),
        Reader(
            "profile",
            [profiles],
            from_file(place / "p.json", lambda file: profile.load(str(file))),
            rehash_json,
        ),
        Reader(
            "image",
            list(_pictures()),
            from_file(place / "image", _read_image),
            base=4 * MAX_PIXELS // TIMES,  # a few bytes can be as many pixels as are allowed
        ),
    ]


def _engine() -> engine_file.EngineFile:
    platform = engine_file.Platform("tensorrt", "10.3.0", "sm87", "Orin (nvgpu)", "12.6", None)
    recipe = engine_file.Recipe(
        "1" * 64, None, platform, profile.PROFILES["orin"], engine_file.Options()
    )
    tensors = (engine_file.Tensor("pixels", True, "uint8", (-1, 32, 32, 3)),)
    plan = engine_file.PlanFile(1000, "2" * 64)
    return engine_file.EngineFile("encoder", recipe.key, recipe, tensors, plan, 1.5, True)


def _open(world: World) -> None:
    """Open a bundle by its manifest, and classify a frame under each of its tasks."""
    with runtime.Session.open(world.path, threads=1) as session:
        for task in session.tasks:
            session.predict(np.zeros((SIZE, SIZE, 3), np.uint8), task)


def _read_weights(path: Path, digest: str) -> None:
    read_weights(path, path.stat().st_size, digest)


def _run(content: bytes, kind: Kind) -> None:
    """Check a graph and, if it may be opened, run it once."""
    check_graph(content, kind, "graph")
    engine = OrtBackend("cpu", 1).open(content, small=True)
    model = onnx.load_from_string(content).graph
    types = {onnx.TensorProto.UINT8: np.uint8, onnx.TensorProto.FLOAT16: np.float16}
    shapes = {
        value.name: [axis.dim_value or 2 for axis in value.type.tensor_type.shape.dim]
        for value in model.input
    }
    # Weights are the base's: a session has none of another shape to bind.
    if sum(map(math.prod, shapes.values())) < MOST_VALUES:
        kinds = {value.name: value.type.tensor_type.elem_type for value in model.input}
        engine.run(
            {n: np.zeros(shape, types.get(kinds[n], np.float32)) for n, shape in shapes.items()}
        )
    engine.close()


def _read_image(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused later
        read_image(path)


def _pictures() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for form in FORMATS:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, form)
        yield stream.getvalue()


def _rehash_manifest(content: bytes, draw: Draw) -> bytes:
    document = json.loads(content)
    for _ in range(int(draw.integers(1, 3))):
        document["body"] = damage_json(document["body"], draw)
    text = json.dumps(document["body"], sort_keys=True, separators=(",", ":"))
    return json.dumps({**document, "sha256": sha256(text.encode())}).encode()


def _rehash_engine(content: bytes, draw: Draw) -> bytes:
    document = damage_json(json.loads(content), draw)
    if not isinstance(document, dict):
        return json.dumps(document).encode()
    document.pop("sha256", None)
    recipe = document.get("recipe")
    if draw.random() < 0.5 and isinstance(recipe, dict):
        keyed = json.dumps({"schema": engine_file.SCHEMA, **recipe}, sort_keys=True)
        document["key"] = sha256(keyed.encode())
    return json.dumps({**document, "sha256": engine_file._digest(document)}).encode()


def _rehash_graph(content: bytes, draw: Draw) -> bytes:
    """Damage the meaning of a graph: operators, names, shapes, attributes and constants."""
    model = onnx.load_from_string(content)
    graph = model.graph
    names = [value.name for value in (*graph.input, *graph.initializer)]
    names += [name for node in graph.node for name in node.output]
    kinds = [node.op_type for node in graph.node] + ["Loop", "Reshape", "Gather", "Pad", "Conv"]
    node = graph.node[int(draw.integers(len(graph.node)))]
    kind = int(draw.integers(8))
    whole = int(draw.choice([-1, 0, 1, 2, 3, 7, 2**31 - 1, 2**62]))
    if kind == 0:
        node.op_type = str(draw.choice(kinds))
    elif kind == 1 and node.input:
        node.input[int(draw.integers(len(node.input)))] = str(draw.choice(names))
    elif kind == 2:
        node.output[0] = str(draw.choice(names))
    elif kind == 3:
        graph.node.remove(node)
    elif kind == 4:
        value = (*graph.input, *graph.output)[int(draw.integers(len(graph.input) + 1))]
        shape = value.type.tensor_type.shape.dim
        if shape:
            shape[int(draw.integers(len(shape)))].dim_value = whole
    elif kind == 5:
        node.attribute.append(
            onnx.helper.make_attribute(
                str(draw.choice(["axis", "keepdims", "transA", "transB", "to"])), whole
            )
        )
    elif kind == 6 and graph.initializer:
        constant = graph.initializer[int(draw.integers(len(graph.initializer)))]
        array = onnx.numpy_helper.to_array(constant).copy()
        array.reshape(-1)[:1] = whole
        constant.CopyFrom(onnx.numpy_helper.from_array(array, constant.name))
    else:
        graph.node.append(node)
    return bytes(model.SerializeToString())
