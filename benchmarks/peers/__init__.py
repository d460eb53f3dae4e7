"""The alternatives to this project, one file per kind, all behind one protocol.

A peer is opened with paths and a number of tasks, and imports only what its user would have to: the
memory of each is measured in a process of its own. All get the same preprocessed pixels.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DISTINCT = 3
"""Tasks that exist as files of every kind. With more tasks than that, files are loaded again:
whatever is loaded takes memory of its own."""


@dataclass(frozen=True)
class Files:
    """Paths of the files that hold the tasks of one model in every form."""

    name: str
    """Architecture, as open_clip calls it."""
    bundle: Path
    folder: Path
    """Holds the peers' own files; see `benchmarks.peers._files`."""

    def baked(self, number: int) -> Path:
        """Return the task as a plain ONNX file with constant weights."""
        return self.folder / f"{number % DISTINCT}.onnx"

    def adapter(self, number: int) -> Path:
        """Return the task as an adapter of ONNX Runtime: every changed tensor, whole."""
        return self.folder / f"{number % DISTINCT}.onnx_adapter"

    def graph(self) -> Path:
        """Return the weight-free graph that adapters go over, encoder and head in one."""
        return self.folder / "free.onnx"

    def base(self) -> Path:
        """Return the untouched tower as PyTorch names its tensors."""
        return self.folder / "base.safetensors"

    def merged(self, number: int) -> Path:
        """Return the adapted tower and its head as a whole state dict."""
        return self.folder / f"{number % DISTINCT}.merged.safetensors"

    def sparse(self, number: int) -> Path:
        """Return indices and values of the changed entries of the tower, and the head."""
        return self.folder / f"{number % DISTINCT}.sparse.safetensors"


class Peer(Protocol):
    """One way to have several tasks on a device."""

    def switch(self, number: int) -> None:
        """Make the next prediction one of task `number`."""
        ...

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (N, K) of the current task for pixels (N, S, S, 3)."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


@dataclass(frozen=True)
class Kind:
    """Title and module of a peer."""

    title: str
    target: str
    color: str
    per_task: str = ""
    """The `Files` method that names a task's file; of ours the bundle says it."""
    whole: bool = False
    """Whether each resident task is a model of its own, so that 50 may not fit."""

    def open(self, files: Files, tasks: int, threads: int) -> Any:
        """Open the peer with `tasks` tasks ready to be switched to; the first is current."""
        return self.load()(files, tasks, threads)

    def load(self) -> Any:
        """Import the peer and return its class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)


KINDS = {
    "ours": Kind("uda-runtime", "ours:Ours", "#c0392b"),
    "new-session": Kind(
        "(a) a new ONNX Runtime session per switch", "ort:NewSession", "#33506b", "baked"
    ),
    "all-sessions": Kind(
        "(b) all sessions resident", "ort:AllSessions", "#7fa3c4", "baked", whole=True
    ),
    "adapters": Kind(
        "(c) ONNX Runtime's adapters", "adapters:Adapters", "#2a7f4f", "adapter", whole=True
    ),
    "load-state-dict": Kind(
        "(d) PyTorch load_state_dict", "torch_modules:LoadStateDict", "#d9a441", "merged"
    ),
    "sparse-copy": Kind(
        "(e) PyTorch, sparse in-place copy", "torch_modules:SparseCopy", "#8e5fa8", "sparse"
    ),
}
