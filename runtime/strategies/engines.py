"""Strategy `engines`: one engine with constant weights per task.

A switch chooses another engine and moves nothing, and an engine may fold and reorder its weights.
The price is memory, a whole base for each task that changes it, and time when a task is loaded:
base and patch are read and merged, and the engine lays them out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256

from runtime.backends.base import Backend, Engine
from runtime.bundles.bundle import Bundle
from runtime.bundles.constants import constants
from runtime.bundles.entries import TaskEntry
from runtime.bundles.task import Task
from runtime.errors import BackendError
from runtime.memory.form import Form
from runtime.memory.weights import Weights
from runtime.models import Preprocess, TensorSpec
from runtime.monitoring import confidence
from runtime.monitoring.statistics import read
from runtime.mutex import Mutex
from runtime.strategies.base import LoadedTask, Strategy, bare


@dataclass(frozen=True, eq=False)
class EngineTask(LoadedTask):
    """A task as an engine."""

    engine: Engine
    owned: bool
    """Whether no other task uses the engine."""

    def close(self) -> None:
        """Free the head's memory, and release the engine unless other tasks use it."""
        super().close()
        if self.owned:
            self.engine.close()


class EnginesStrategy(Strategy[EngineTask]):
    """A baked engine per task. Tasks that change nothing share the untouched base's engine.

    That engine is opened with the first of them, and stays open. Session holds a lock; only
    `prepare` is thread-safe.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        """Take ownership of a backend; `open` opens a strategy."""
        super().__init__(backend)
        self._bundle = bundle
        self._layout = bundle.layout()
        # Read now, so that a task never fails over a graph that was replaced since.
        self._graphs = {
            encoder.graph.sha256: bundle.graph(encoder.graph)
            for encoder in bundle.manifest.encoders
        }
        self._untouched: dict[str, Engine] = {}
        self._opening = Mutex()

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        backend: Backend,
        blocked: bool,
        read: Callable[[Form], Weights] | None = None,
    ) -> EnginesStrategy:
        """Read the graphs and open the heads; the base is read when a task needs it.

        Args:
            bundle: Bundle to open.
            backend: Backend that opens its engines; its memory is closed with the strategy.
            blocked: Ignored: engines lay out constant filters themselves.
            read: Ignored: engines hold their own weights.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        strategy = cls(bundle, backend)
        try:
            strategy.open_heads(bundle)
        except BaseException:
            strategy.close()
            raise
        return strategy

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""
        return self._layout

    @property
    def form(self) -> Hashable:
        """Equal to no other: an engine runs for one session at a time."""
        return self

    def min_bytes(self, entry: TaskEntry) -> int:
        """Return the bytes of the weights in the task's own engine; 0 if it changes none."""
        return sum(spec.nbytes for spec in self._layout.values()) if entry.changed else 0

    def prepare(self, task: Task, preprocess: Preprocess) -> EngineTask:
        """Build a task's engine; reads the base, whose memory is free again afterwards.

        Raises:
            FormatError: The task does not fit the base, the encoder or the head.
            BackendError: The engine cannot be opened.
        """
        self.check_head(task)
        statistics = read(task.optional, task.optional_tensors, len(task.info.classes))
        untouched = not task.patch and not task.tokens
        weights = sum(spec.nbytes for spec in self._layout.values())
        tokens = b"".join(array.tobytes() for _, array in sorted(task.tokens.items()))
        with ExitStack() as stack:
            head = self.backend.memory.tensors(task.head_tensors)
            stack.callback(head.close)
            engine = self._base(task.encoder) if untouched else self._engine(task)
            stack.pop_all()
        # A patch is its task's own; without one, the tokens alone tell two encoders apart.
        state = object() if task.patch else sha256(tokens).digest()
        return EngineTask(
            info=task.info,
            preprocess=preprocess,
            nbytes=head.nbytes
            + (0 if untouched else weights + len(tokens))
            + (0 if statistics is None else statistics.nbytes),
            share=(task.encoder, state, preprocess),
            engine=engine,
            owned=not untouched,
            head=task.head,
            head_tensors=head,
            statistics=statistics,
            calibration=confidence.read(task.optional),
        )

    def switch(self, new: EngineTask | None) -> None:
        """Check that the engines are open; each holds its own weights.

        Raises:
            BackendError: The engines are closed.
        """
        if self.closed:
            raise BackendError("the engines are closed; open a new session")

    def encoder(self, loaded: EngineTask) -> Engine:
        """Return the task's engine, which holds its own weights."""
        return loaded.engine

    def base_encoder(self, spec: Preprocess) -> Engine:
        """Return the engine of the untouched base, which the first call opens.

        Raises:
            FormatError: The bundle has none, or its base is damaged.
            BackendError: The engine cannot be opened, or the engines are closed.
        """
        return self._base(bare(self._bundle.manifest.encoders, spec).graph.sha256)

    def base_sha256(self) -> str:
        """Return the digest of the base in its file, since none is in memory.

        Raises:
            FormatError: The file is damaged.
        """
        self._bundle.check_base()
        return self._bundle.manifest.tensors.sha256

    def close(self) -> None:
        """Release everything but the tasks' own engines. Safe to call more than once."""
        with self._opening:  # one that another thread is opening would stay open
            self.closed = True
            for engine in self._untouched.values():
                engine.close()
        super().close()

    def _base(self, encoder: str) -> Engine:
        """Return the engine of an encoder over the untouched base, opened once."""
        with self._opening:
            if self.closed:
                raise BackendError("the engines are closed; open a new session")
            if encoder not in self._untouched:
                baked = constants(self._bundle)
                self._untouched[encoder] = self.backend.open(self._graphs[encoder], baked=baked)
            return self._untouched[encoder]

    def _engine(self, task: Task) -> Engine:
        return self.backend.open(self._graphs[task.encoder], baked=constants(self._bundle, task))
