"""Check graphs before they are written to a bundle, and that its files fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.entries import Encoder, Head
from runtime.bundles.staging import Staging
from runtime.bundles.task import Task
from runtime.bundles.task_checks import Shapes, check_head, check_head_like, check_tokens
from runtime.errors import FormatError
from runtime.models import Precision, Preprocess
from runtime.storage.files import sha256


@dataclass(frozen=True)
class EncoderGraph:
    """An encoder to be written into a bundle."""

    graph: bytes
    """ONNX; inputs `pixels`, every base tensor and the tokens, output `features`."""
    preprocess: Preprocess
    """Size, mean and std; each task says how its frames are resized."""
    tokens: Shapes = field(default_factory=dict)
    """Shapes (n, W) of the inputs that each task brings."""
    blocked: bytes | None = None
    """The same graph for ONNX Runtime on the CPU, whose base tensors of four axes are filters laid
    out by `runtime.memory.blocked`; None where that does not apply."""

    def add(self, stage: Staging) -> Encoder:
        """Write the graphs and return their entry of the manifest.

        Raises:
            StorageError: A file cannot be written.
        """
        blocked, spec = self.blocked, self.preprocess
        return Encoder(
            graph=stage.add("graphs", "encoder", ".onnx", self.graph),
            blocked=None if blocked is None else stage.add("graphs", "blocked", ".onnx", blocked),
            size=spec.size,
            mean=spec.mean,
            std=spec.std,
            tokens=dict(self.tokens),
        )


@dataclass(frozen=True)
class HeadGraph:
    """A head to be written into a bundle."""

    kind: str
    graph: bytes
    """ONNX; inputs `features` and the head's tensors, output `logits`."""
    tensors: Shapes | None
    """Shapes of the head's tensors, `runtime.bundles.entries.CLASSES` for the number of a task's
    classes; None where they are not known."""

    def add(self, stage: Staging) -> Head:
        """Write the graph and return its entry of the manifest.

        Raises:
            StorageError: The file cannot be written.
        """
        graph = stage.add("graphs", "head", ".onnx", self.graph)
        return Head(self.kind, graph, None if self.tensors is None else dict(self.tensors))


def check_parts(
    identity: str,
    precision: Precision,
    encoders: Sequence[EncoderGraph],
    tensors: Mapping[str, NDArray[Any]],
    heads: Sequence[HeadGraph],
    tasks: Sequence[Task],
) -> None:
    """Check that the parts of a bundle belong together.

    Args:
        identity: Digest of `tensors`.
        precision: Precision of the bundle.
        encoders: Encoders of the bundle.
        tensors: Deploy tensors of the base.
        heads: Heads of the bundle.
        tasks: Tasks of the bundle.

    Raises:
        FormatError: They do not belong together, or a value is not finite.
    """
    for name, array in tensors.items():
        if not bool(np.isfinite(array).all()):
            raise FormatError(f"base tensor '{name}' holds a value that is not finite")
    shapes = {sha256(encoder.graph): encoder.tokens for encoder in encoders}
    known = {sha256(head.graph): head.tensors for head in heads}
    first: dict[str, Task] = {}
    for task in tasks:
        if task.base_sha256 != identity or task.head not in known or task.encoder not in shapes:
            raise FormatError(
                f"task '{task.info.id}' belongs to another base, encoder or head graph"
            )
        check_tokens(task, shapes[task.encoder], precision)
        wanted = known[task.head]
        if wanted is None:
            check_head_like(task, first.setdefault(task.head, task))
        else:
            check_head(task, wanted)
