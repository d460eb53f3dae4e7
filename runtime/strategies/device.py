"""The weights in a GPU's memory, which a task's patch changes there; `patch` on a device.

What a task needs goes up once, when it enters memory. A switch is two kernels on the stream, and a
copy within the device if the encoder takes tokens: nothing is copied from the host, and nobody
waits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import Task
from runtime.cuda.arena import Arena, DevicePatch, Tensors
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError
from runtime.memory.weights import Weights
from runtime.spec import Preprocess, TensorSpec
from runtime.strategies.base import LoadedTask
from runtime.strategies.encoder import DeviceEncoder
from runtime.strategies.heads import Heads
from runtime.strategies.pixels import Pixels, Preprocessor
from runtime.workers import Job


@dataclass(frozen=True, eq=False)
class DeviceTask(LoadedTask):
    """A task as what lies on the device for it."""

    encoder: str
    """SHA-256 of its encoder graph."""
    tokens: Tensors | None
    head: str
    """SHA-256 of its head graph."""
    head_tensors: Tensors
    patch: DevicePatch | None

    def close(self) -> None:
        """Free the device's memory when the stream has passed it."""
        for part in (self.patch, self.tokens, self.head_tensors):
            if part is not None:
                part.close()


class DeviceStrategy:
    """Every encoder and head of a bundle, opened, over weights that lie on a GPU.

    Session has the lock; `prepare` alone is thread-safe.
    """

    def __init__(self, backend: Backend, device: CudaDevice) -> None:
        """Start empty; `open` makes useful ones."""
        self.backend = backend
        self.encoders: dict[str, DeviceEncoder] = {}
        self.heads = Heads()
        self.arena: Arena
        self._device = device
        self._preprocessor = Preprocessor(device)
        self._closed = False

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        backend: Backend,
        device: CudaDevice,
        read: Callable[[int], Weights] | None = None,
    ) -> DeviceStrategy:
        """Read the base weights, bring them to the device and open every engine.

        Args:
            bundle: Whose.
            backend: With what; its engines run on the device.
            device: Where; closed with the strategy.
            read: Gives the base weights, checked; None reads the bundle's file.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        strategy, manifest = cls(backend, device), bundle.manifest
        reading = Job(lambda: read(1) if read else bundle.weights())
        try:
            reading.start()
            for encoder in manifest.encoders:
                engine = backend.open(bundle.graph(encoder.graph))
                strategy.encoders[encoder.graph.sha256] = DeviceEncoder(engine, encoder)
            strategy.arena = Arena(device, reading.take().views(), lambda: bundle.weights().views())
            for opened in strategy.encoders.values():
                opened.bind(device, strategy.arena, manifest.precision)
            strategy.heads.open(bundle, backend)
        except BaseException:
            reading.abandon()
            strategy.close()
            raise
        return strategy

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""
        return self.arena.layout

    @property
    def form(self) -> Hashable:
        """Nobody else's: what lies on the device is freed in the order of this one's stream."""
        return self

    @property
    def closed(self) -> bool:
        """Whether there are no engines any more."""
        return self._closed

    def prepare(self, task: Task, preprocess: Preprocess) -> DeviceTask:
        """Return a task, brought to the device.

        Raises:
            FormatError: The task does not fit the base, the encoder or the head.
            BackendError: There is no room on the device.
        """
        self.heads.check(task)
        encoder = self.encoders[task.encoder]
        values = b"".join(task.tokens[name].tobytes() for name in encoder.names)
        with ExitStack() as stack:
            patch = self.arena.prepare(task.patch)
            if patch is not None:
                stack.callback(patch.close)
            tokens = encoder.upload(self._device, task.tokens)
            if tokens is not None:
                stack.callback(tokens.close)
            head = Tensors(self._device, task.head_tensors)
            stack.pop_all()
        return DeviceTask(
            info=task.info,
            preprocess=preprocess,
            nbytes=head.nbytes + sum(each.nbytes for each in (patch, tokens) if each is not None),
            # A patch is its task's own; without one, the tokens alone tell two encoders apart.
            share=(task.encoder, object() if patch else sha256(values).digest(), preprocess),
            encoder=task.encoder,
            tokens=tokens,
            head=task.head,
            head_tensors=head,
            patch=patch,
        )

    def switch(self, new: DeviceTask | None) -> None:
        """Restore the base and write a task's weights and tokens, in the order of the stream.

        Args:
            new: The task to come; None is the bare base.

        Raises:
            BackendError: The device takes no work.
            FormatError: A former call was interrupted, and the bundle's base is not there any more
                to restore it from.
        """
        if self._closed:
            raise BackendError("the engines are closed; open a new session")
        self.arena.apply(None if new is None else new.patch)
        if new is not None and new.tokens is not None:
            self.encoders[new.encoder].put(new.tokens)

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> Pixels:
        """Return frames as `features` takes them; the device resizes them there.

        Raises:
            DataError: A frame is no RGB image, or too narrow to crop.
        """
        return self._preprocessor.read(frames, spec)

    def features(self, loaded: DeviceTask, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (N, D) for pixels under the task that was switched to.

        Raises:
            BackendError: The engine failed.
        """
        placed = self._preprocessor.place(pixels)
        return self.encoders[loaded.encoder].engine.run({"pixels": placed})

    def logits(self, loaded: DeviceTask, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of a task for features (N, D).

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: The engine failed.
        """
        return self.heads.logits(loaded, loaded.head, loaded.head_tensors.handles, features)

    def base_sha256(self) -> str:
        """Return the digest of the base as it is on the device; takes the patch off and waits.

        Raises:
            BackendError: The device failed.
        """
        return self.arena.sha256()

    def close(self) -> None:
        """Release everything, the device as well. Closing twice is harmless."""
        self._closed = True
        # The tables stay: a task that another thread is preparing still looks things up.
        for encoder in self.encoders.values():
            encoder.engine.close()
        self.heads.close()
        self._preprocessor.close()
        self._device.close()
