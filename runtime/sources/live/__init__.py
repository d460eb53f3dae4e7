"""Sources that may have no end: cameras, streams, folders that are being filled.

A new kind is one file and one line in `CONNECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from runtime.lookup import imported
from runtime.sources.live.address import has_scheme
from runtime.storage import disk

if TYPE_CHECKING:
    from runtime.sources.live.base import Connection, Settings


class Entry(NamedTuple):
    """A kind of connection as it is known before its module is imported."""

    connection: str
    """`module:Class`, see `Connection`."""
    takes: Callable[[str], bool]
    """Whether an address is of the kind; the first kind that says so has it."""


def _is_device(where: str) -> bool:
    if where.isascii() and where.isdecimal():
        return True
    return where.startswith("/dev/") and not disk.is_file(where)  # /dev/shm holds files


def _is_pipeline(where: str) -> bool:
    return "!" in where and disk.status(where, follow=False) is None


CONNECTIONS: Mapping[str, Entry] = {
    "demo": Entry("runtime.sources.live.demo:Demo", lambda where: where.startswith("demo:")),
    "stream": Entry("runtime.sources.live.stream:Stream", has_scheme),
    "folder": Entry("runtime.sources.live.folder:Folder", disk.is_folder),
    "device": Entry("runtime.sources.live.device:Device", _is_device),
    "pipeline": Entry("runtime.sources.live.pipeline:Pipeline", _is_pipeline),
    "video": Entry("runtime.sources.live.film:Film", lambda where: True),
}
"""By the name of the kind."""


def kind_of(where: str) -> str:
    """Return the kind of connection, a key of `CONNECTIONS`, that an address is of."""
    return next(kind for kind, entry in CONNECTIONS.items() if entry.takes(where))


def connection_to(where: str, settings: Settings, kind: str) -> Connection:
    """Return a connection that is not open yet.

    Args:
        where: Address of a camera, see `Camera`.
        settings: How it is read.
        kind: A key of `CONNECTIONS`.

    Raises:
        ConfigError: The address is not one, or what it needs is not installed.
        DataError: There is no such file.
    """
    connection: Connection = imported(CONNECTIONS[kind].connection)(where, settings)
    return connection
