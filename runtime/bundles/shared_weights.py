"""Hold the base weights once in memory for several sessions."""

from __future__ import annotations

import itertools
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.weights_file import Known, read_all, read_layout
from runtime.errors import BackendError
from runtime.memory.form import Form
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.storage.files import storage_errors


class SharedWeights:
    """The base weights once in memory, for any number of `Weights` that share unchanged pages.

    On Linux they lie in anonymous memory, elsewhere in a file without a name. Each `Weights` maps
    them copy on write, so it costs the pages that its patches touch.
    """

    def __init__(
        self, path: Path, size: int, sha256: str, form: Form, known: Known | None = None
    ) -> None:
        """Read the base weights, checking their digest on the way.

        Args:
            path: As for `read_weights`.
            size: As for `read_weights`.
            sha256: As for `read_weights`.
            form: How the tensors shall lie in memory.
            known: As for `read_weights`.

        Raises:
            FormatError: The file is missing, damaged, or not the expected one, or the tensors
                cannot be held in this form.
            StorageError: There is no room for the weights.
        """
        self._layout, start = read_layout(path, size)
        held = form.held(self._layout)
        ends = itertools.accumulate(spec.nbytes for spec in held)
        places = {own.name: (own, end - own.nbytes) for own, end in zip(held, ends, strict=True)}
        self._size, self._form = sum(spec.nbytes for spec in held), form
        with storage_errors(Path("a shared copy of the base weights")):
            self._file = _nameless()

        def took(spec: TensorSpec, tensor: NDArray[Any]) -> None:
            own, offset = places[spec.name]
            if not form.keeps(spec):
                given, tensor = tensor, np.empty(own.shape, own.dtype)
                form.place(spec, given, tensor)
            with storage_errors(Path("a shared copy of the base weights")):
                _write(self._file, tensor.reshape(-1).view(np.uint8), offset)

        try:
            read_all(path, self._layout, start, sha256, lambda spec: None, took, known)
        except BaseException:
            self.close()
            raise

    def weights(self) -> Weights:
        """Return weights for one session; they outlive `close`.

        Raises:
            BackendError: The shared weights are closed.
            StorageError: The weights cannot be mapped.
        """
        if self._file < 0:  # which mmap takes for a wish for empty memory
            raise BackendError("the shared weights are closed; open a new pool")
        with storage_errors(Path("a shared copy of the base weights")):
            mapped = mmap.mmap(self._file, self._size, access=mmap.ACCESS_COPY)
        return Weights(np.frombuffer(mapped, np.uint8), self._layout, self._form)

    def close(self) -> None:
        """Refuse further `weights`; the memory is freed with the last of them."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _nameless() -> int:
    """Return an open file that nobody else can find and that vanishes with its last user."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("uda-base")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(file: int, content: NDArray[np.uint8], offset: int) -> None:
    view = content.data
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count
