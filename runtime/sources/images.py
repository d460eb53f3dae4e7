"""Image files, decoded ahead on several threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.errors import DataError
from runtime.frames.preprocess import read_image
from runtime.models import Background
from runtime.sources.ahead import Ahead
from runtime.sources.base import Input, Item, Source
from runtime.workers import cores

_THREADS = 4
"""Most threads: decoding must not take all cores from the engine."""


class Images(Source):
    """Decodes image files."""

    def __init__(self, inputs: Sequence[Input], background: Background) -> None:
        """Open nothing yet.

        Args:
            inputs: Image files, or inputs with an error, which are passed on.
            background: Colour behind transparent pixels.
        """
        super().__init__()
        self._inputs, self._background = inputs, background
        self._ahead: Ahead[Input, Item] | None = None

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self._inputs)

    def __iter__(self) -> Iterator[Item]:
        """Yield the images in order, see `Source`.

        Raises:
            StorageError: Too many files are open.
        """
        self._ahead = Ahead(self._read, self._inputs, min(_THREADS, cores()), _size)
        return self._ahead

    def close(self) -> None:
        """Stop decoding. Safe to call more than once."""
        if self._ahead is not None:
            self._ahead.close()

    def _read(self, given: Input) -> Item:
        if given.error is not None:
            return Item(given, error=given.error)
        try:
            return Item(given, read_image(given.name, background=self._background))
        except DataError as error:
            return Item(given, error=error)


def _size(item: Item) -> int:
    return 0 if item.frame is None else item.frame.nbytes
