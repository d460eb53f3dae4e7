"""Graphs of a bundle that need engines, with the inputs and outputs expected of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from runtime.backends.trt.profile import Profile
from runtime.backends.trt.tensors import Tensor
from runtime.bundles.bundle import Bundle
from runtime.bundles.constants import constants
from runtime.bundles.entries import Encoder, Head, TaskEntry
from runtime.bundles.task import token_type
from runtime.errors import ConfigError, FormatError
from runtime.storage.digest import tensors_sha256

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """An expected input or output of an engine."""

    name: str
    input: bool
    dtype: str
    shape: tuple[int | None, ...]
    """-1 is a free axis, None any length."""

    def fits(self, tensor: Tensor) -> bool:
        """Return whether a tensor is as expected."""
        return (
            (tensor.name, tensor.input, tensor.dtype) == (self.name, self.input, self.dtype)
            and len(tensor.shape) == len(self.shape)
            and all(
                wanted is None or wanted == found
                for wanted, found in zip(self.shape, tensor.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        shape = ["any" if n is None else n for n in self.shape]
        return f"{self.name} {self.dtype}[{', '.join(map(str, shape))}]"


@dataclass(frozen=True, eq=False)
class EngineGraph:
    """A graph that needs an engine."""

    stem: str
    """Name shown to people, and start of the engine's file names."""
    onnx: bytes
    sha256: str
    """Digest of the graph."""
    tensors: tuple[TensorSpec, ...]
    """Expected inputs and outputs; empty where the bundle does not say."""
    entry: TaskEntry | None
    """Task that uses it, for the self-test of the engine."""
    baked: Arrays | None = None
    """Values that become constants of the engine."""

    def weights(self) -> str | None:
        """Return the digest of the values that become constants, computed anew; None without any.

        It is that of `Recipe.weights`.
        """
        return None if self.baked is None else tensors_sha256(self.baked)


def graphs_of(bundle: Bundle) -> list[EngineGraph]:
    """Return the graphs of a bundle; a session opens every one of them.

    Raises:
        FormatError: The bundle is damaged.
    """
    manifest, layout = bundle.manifest, bundle.layout()
    base = [TensorSpec(spec.name, True, spec.dtype, spec.shape) for spec in layout.values()]
    entries = {
        ref: entry
        for entry in (*manifest.former, *manifest.tasks)
        for ref in (entry.encoder, entry.head)
    }
    graphs = []
    for encoder in manifest.encoders:
        own = encoder.graph
        wanted = (*_pixels(encoder), *base, *_tokens(encoder, token_type(manifest.precision)))
        graphs.append(
            EngineGraph("encoder", bundle.graph(own), own.sha256, wanted, entries.get(own.sha256))
        )
    for head in manifest.heads:
        own, entry = head.graph, entries.get(head.graph.sha256)
        stem = f"head-{_slug(head)}"
        graphs.append(EngineGraph(stem, bundle.graph(own), own.sha256, _head(head), entry))
    return graphs


def baked_graphs(bundle: Bundle) -> Iterator[EngineGraph]:
    """Yield the graphs of strategy `engines`: an encoder with constant weights for each task.

    Tasks that change nothing of the base share one, and frames are looked at through it where the
    bundle can choose tasks. Each holds a whole base in memory.

    Raises:
        FormatError: The bundle is damaged.
    """
    layout, shared = bundle.layout(), set()
    for entry in bundle.manifest.tasks:
        task, encoder = bundle.read(entry, layout), bundle.manifest.encoder(entry)
        untouched = not task.patch and not task.tokens
        if untouched and entry.encoder in shared:
            continue
        if untouched:
            shared.add(entry.encoder)
        yield EngineGraph(
            "encoder-base" if untouched else f"encoder-{entry.id}",
            bundle.graph(encoder.graph),
            entry.encoder,
            _pixels(encoder),
            entry,
            constants(bundle, task),
        )
    for encoder in bundle.manifest.encoders if bundle.manifest.optional_files() else ():
        own = encoder.graph.sha256
        if not encoder.tokens and own not in shared:
            yield EngineGraph(
                "encoder-base",
                bundle.graph(encoder.graph),
                own,
                _pixels(encoder),
                None,
                constants(bundle),
            )
    yield from (graph for graph in graphs_of(bundle) if graph.stem.startswith("head"))


def check_profile(bundle: Bundle, profile: Profile) -> None:
    """Check that the engines of a profile take every task of a bundle.

    Raises:
        ConfigError: A task has fewer or more classes.
    """
    for entry in bundle.manifest.tasks:
        if not profile.classes.min <= entry.classes <= profile.classes.max:
            raise ConfigError(
                f"task '{entry.id}' has {entry.classes} classes, engines of profile "
                f"'{profile.name}' take {profile.classes.min} to {profile.classes.max}; give "
                "--profile a JSON file that allows for it"
            )


def check(graph: EngineGraph, tensors: Sequence[Tensor]) -> None:
    """Check that an engine has the inputs and outputs of its bundle.

    Raises:
        FormatError: An input or output differs.
    """
    if not graph.tensors:
        return
    found = {tensor.name: tensor for tensor in tensors}
    for wanted in graph.tensors:
        tensor = found.pop(wanted.name, None)
        if tensor is None or not wanted.fits(tensor):
            what = "none" if tensor is None else str(tensor)
            raise FormatError(
                f"the graph of {graph.stem} should have {wanted}, found {what}; export the bundle "
                "again"
            )
    if found:
        raise FormatError(
            f"the graph of {graph.stem} has {min(map(str, found.values()))}, which the bundle "
            "does not list; export the bundle again"
        )


def _pixels(encoder: Encoder) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("pixels", True, "uint8", (-1, encoder.size, encoder.size, 3)),
        TensorSpec("features", False, "float32", (-1, None)),
    )


def _tokens(encoder: Encoder, dtype: str) -> list[TensorSpec]:
    return [TensorSpec(name, True, dtype, shape) for name, shape in encoder.tokens.items()]


def _head(head: Head) -> tuple[TensorSpec, ...]:
    if head.tensors is None:
        return ()
    return (
        TensorSpec("features", True, "float32", (-1, None)),
        TensorSpec("logits", False, "float32", (-1, -1)),
        *(TensorSpec(name, True, "float32", tuple(shape)) for name, shape in head.tensors.items()),
    )


def _slug(head: Head) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in head.kind)[:60]
