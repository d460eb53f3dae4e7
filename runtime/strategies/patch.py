"""Strategy `patch`, the default: one set of weights, changed in place by sparse patches.

All engines of the bundle read these weights, so a switch opens nothing and writes only the entries
that the old and the new task change. The weights lie in the backend's memory, the host's or a
GPU's; a task is uploaded once, when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256

from runtime.backends.base import Backend, Engine
from runtime.bundles.bundle import Bundle
from runtime.bundles.entries import TaskEntry
from runtime.bundles.task import Task
from runtime.errors import BackendError
from runtime.memory.base import PlacedPatch, PlacedWeights, Tensors
from runtime.memory.form import Form
from runtime.memory.weights import Weights
from runtime.models import Preprocess, TensorSpec
from runtime.monitoring import confidence
from runtime.monitoring.statistics import read
from runtime.strategies.base import LoadedTask, Strategy, bare
from runtime.strategies.encoder import EncoderEngine
from runtime.workers import Job


@dataclass(frozen=True, eq=False)
class PatchTask(LoadedTask):
    """A task as a patch over the weights."""

    encoder: str
    """SHA-256 of its encoder graph, the one that is not blocked."""
    tokens: Tensors | None
    """Tokens for `EncoderEngine.put`; None if the encoder takes none."""
    patch: PlacedPatch | None
    """Patch of the weights; None if the task changes none."""

    def close(self) -> None:
        """Free the memory; on a device, after the work on its stream."""
        for part in (self.patch, self.tokens, self.head_tensors):
            if part is not None:
                part.close()


class PatchStrategy(Strategy[PatchTask]):
    """Every encoder and head of a bundle, opened, and the patch of one task over their weights.

    All are opened with the bundle, so that no switch ever waits for an engine. The encoders share
    the weights: a further one costs its graph and its activations. Session holds a lock; only
    `prepare` is thread-safe.
    """

    def __init__(self, backend: Backend) -> None:
        """Start without engines; `open` opens a strategy."""
        super().__init__(backend)
        self.encoders: dict[str, EncoderEngine] = {}
        """Encoders by the digest of the graph that is not blocked."""
        self.weights: PlacedWeights

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        backend: Backend,
        blocked: bool,
        read: Callable[[Form], Weights] | None = None,
    ) -> PatchStrategy:
        """Read the base weights, bring them into the backend's memory and open every engine.

        Args:
            bundle: Bundle to open.
            backend: Backend that opens its engines; its memory is closed with the strategy.
            blocked: Whether to use encoders with blocked filters where there are some.
            read: Function that returns the checked base weights in a form; None reads the bundle's
                file.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        strategy, manifest = cls(backend), bundle.manifest
        # A manifest has blocked graphs for all encoders or for none: they share the filters.
        there = blocked and all(encoder.blocked is not None for encoder in manifest.encoders)
        form = Form(backend.block if there else 1, backend.bf16)
        reading = Job(lambda: (read or bundle.weights)(form))
        try:
            reading.start()
            for encoder in manifest.encoders:
                ref = encoder.blocked if form.block > 1 else None
                engine = backend.open(bundle.graph(ref or encoder.graph))
                strategy.encoders[encoder.graph.sha256] = EncoderEngine(engine, encoder, backend)
            strategy.weights = backend.memory.weights(reading.take(), lambda: bundle.weights(form))
            for opened in strategy.encoders.values():
                opened.bind(strategy.weights, manifest.precision)
            strategy.open_heads(bundle)
        except BaseException:
            reading.abandon()
            strategy.close()
            raise
        return strategy

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""
        return self.weights.layout

    @property
    def form(self) -> Hashable:
        """The form of the weights, for which patches are prepared."""
        return self.weights.form

    def min_bytes(self, entry: TaskEntry) -> int:
        """Return two bytes for the value of each changed entry, and two for its place."""
        return 4 * entry.changed

    def prepare(self, task: Task, preprocess: Preprocess) -> PatchTask:
        """Return a task in the backend's memory: its patch, its tokens and its head.

        Raises:
            FormatError: The task does not fit the base, the encoder or the head.
            BackendError: There is no room on the device.
        """
        self.check_head(task)
        statistics = read(task.optional, task.optional_tensors, len(task.info.classes))
        encoder = self.encoders[task.encoder]
        values = b"".join(task.tokens[name].tobytes() for name in encoder.names)
        with ExitStack() as stack:
            patch = self.weights.prepare(task.patch)
            if patch is not None:
                stack.callback(patch.close)
            tokens = encoder.upload(task.tokens)
            if tokens is not None:
                stack.callback(tokens.close)
            head = self.backend.memory.tensors(task.head_tensors)
            stack.pop_all()
        return PatchTask(
            info=task.info,
            preprocess=preprocess,
            nbytes=head.nbytes
            + sum(each.nbytes for each in (patch, tokens, statistics) if each is not None),
            # A patch is its task's own; without one, the tokens alone tell two encoders apart.
            share=(task.encoder, object() if patch else sha256(values).digest(), preprocess),
            encoder=task.encoder,
            tokens=tokens,
            head=task.head,
            head_tensors=head,
            statistics=statistics,
            calibration=confidence.read(task.optional),
            patch=patch,
        )

    def switch(self, new: PatchTask | None) -> None:
        """Restore the base and write a task's weights and tokens, in place.

        Args:
            new: Task to switch to; None is the bare base.

        Raises:
            BackendError: The engines are closed, or the device takes no work.
            FormatError: An earlier call was interrupted, and the bundle's base, to restore a
                device's weights from, is missing or damaged.
        """
        if self.closed:
            raise BackendError("the engines are closed; open a new session")
        self.weights.apply(None if new is None else new.patch)
        if new is not None and new.tokens is not None:
            self.encoders[new.encoder].put(new.tokens)

    def encoder(self, loaded: PatchTask) -> Engine:
        """Return the engine that all tasks of an encoder share."""
        return self.encoders[loaded.encoder].engine

    def base_encoder(self, spec: Preprocess) -> Engine:
        """Return the engine of an encoder without tokens, over the bare base.

        Raises:
            FormatError: The bundle has none.
            BackendError: The engines are closed, or the device takes no work.
        """
        content = bare([encoder.content for encoder in self.encoders.values()], spec)
        self.switch(None)
        return self.encoders[content.graph.sha256].engine

    def base_sha256(self) -> str:
        """Return the digest of the base in memory; removes the patch.

        Raises:
            BackendError: The device failed.
        """
        return self.weights.sha256()

    def close(self) -> None:
        """Release everything, the backend's memory as well. Safe to call more than once."""
        self.closed = True
        # The tables stay: a task that another thread is preparing still looks things up.
        for encoder in self.encoders.values():
            encoder.engine.close()
        super().close()
