"""Hold the base weights once in memory for several sessions."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.weights_file import Known, fill, read_layout, take_all
from runtime.errors import BackendError
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.storage import digest
from runtime.storage.files import storage_errors


class SharedWeights:
    """The base weights once in memory, for any number of `Weights` that share unchanged pages.

    On Linux they lie in anonymous memory, elsewhere in a file without a name. Each `Weights` maps
    them copy on write, so it costs the pages that its patches touch.
    """

    def __init__(
        self, path: Path, size: int, sha256: str, block: int, known: Known | None = None
    ) -> None:
        """Read the base weights, checking their digest on the way.

        Args:
            path: As for `read_weights`.
            size: As for `read_weights`.
            sha256: As for `read_weights`.
            block: Number of channels in a block of the filters, see `Weights.lay_out`.
            known: As for `read_weights`.

        Raises:
            FormatError: The file is missing, damaged, or not the expected one.
            StorageError: There is no room for the weights.
        """
        self._layout, start = read_layout(path, size)
        self._size, self._block = size - start, block
        with storage_errors(Path("a shared copy of the base weights")):
            self._file = _nameless()

        def take(file: int, spec: TensorSpec, offset: int, verify: bool) -> str:
            part = np.empty(spec.nbytes, np.uint8)
            fill(file, part, start + offset, path)
            own = Weights(part, [spec])
            line = digest.line(spec.name, own[spec.name]) if verify else ""
            own.lay_out(block)
            with storage_errors(Path("a shared copy of the base weights")):
                _write(self._file, part, offset)
            return line

        try:
            take_all(path, self._layout, sha256, take, known)
        except BaseException:
            self.close()
            raise

    def weights(self) -> Weights:
        """Return weights for one session, filters in blocks; they outlive `close`.

        Raises:
            BackendError: The shared weights are closed.
            StorageError: The weights cannot be mapped.
        """
        if self._file < 0:  # which mmap takes for a wish for empty memory
            raise BackendError("the shared weights are closed; open a new pool")
        with storage_errors(Path("a shared copy of the base weights")):
            mapped = mmap.mmap(self._file, self._size, access=mmap.ACCESS_COPY)
        return Weights(np.frombuffer(mapped, np.uint8), self._layout, self._block)

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
