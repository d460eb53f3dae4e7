"""Several sources, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.sources.base import Item, Source


class Chain(Source):
    """Gives the items of sources, each of which is closed when its last one was given."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Take ownership of sources."""
        super().__init__()
        self._sources = sources

    @property
    def count(self) -> int | None:
        """The sum of the sources' counts; None if one has none."""
        counts = [source.count for source in self._sources]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def __iter__(self) -> Iterator[Item]:
        """Yield the items of each source in order, see `Source`.

        Raises:
            UdaError: As a source.
        """
        for source in self._sources:
            with source:
                yield from source
            self.notes += source.notes

    def close(self) -> None:
        """Close every source. Safe to call more than once."""
        for source in self._sources:
            source.close()
