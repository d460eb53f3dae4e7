"""Read what the tasks of a bundle carry to be routed, once for all sessions that share tasks."""

from __future__ import annotations

from dataclasses import replace

from runtime.bundles.bundle import Bundle
from runtime.bundles.entries import TaskEntry
from runtime.bundles.manifest import Manifest
from runtime.bundles.task import FEATURES
from runtime.errors import FormatError, TaskError
from runtime.models import Preprocess
from runtime.monitoring import routing
from runtime.monitoring.table import Placed, RoutingTable, place
from runtime.monitoring.whitening import MAX_BYTES, MEMBER, Whitening
from runtime.mutex import Mutex

_KEPT = 2
"""Tables that are kept: sessions of a pool take over a changed bundle one after the other."""


class Tables:
    """Tables of the versions of one bundle. Thread-safe."""

    def __init__(self) -> None:
        """Read nothing yet."""
        self._made: tuple[tuple[Manifest, RoutingTable], ...] = ()
        self._placed: dict[tuple[str, str], tuple[Placed | None, Preprocess]] = {}
        """Tasks by the digests of the whitening and of their file."""
        self._mutex = Mutex()

    def of(self, bundle: Bundle) -> RoutingTable:
        """Return the table of a bundle; reads the whitening and every task's file at first.

        Raises:
            TaskError: The bundle cannot route frames.
            FormatError: A file is missing or damaged.
        """
        found = self._find(bundle)
        if found is None:
            with self._mutex:
                found = self._find(bundle)  # another thread may have read them meanwhile
                if found is None:
                    found = self._read(bundle)
                    self._made = ((bundle.manifest, found), *self._made)[:_KEPT]
        return found

    def _find(self, bundle: Bundle) -> RoutingTable | None:
        return next((table for made, table in self._made if made is bundle.manifest), None)

    def _read(self, bundle: Bundle) -> RoutingTable:
        ref = bundle.optional_file(MEMBER)
        if ref is None:
            raise TaskError(
                f"'{bundle.path}' cannot choose tasks for frames, as it has no whitening; name a "
                "task, or train the tasks with this version and export them again"
            )
        if ref.bytes > MAX_BYTES:
            raise FormatError(
                f"'{bundle.path / ref.path}' has {ref.bytes} bytes, expected a whitening of at "
                f"most {MAX_BYTES}; export the bundle again"
            )
        whitening = Whitening.decode(bundle.optional(ref), bundle.path / ref.path)
        tasks: dict[str, tuple[Placed, Preprocess]] = {}
        kept: dict[tuple[str, str], tuple[Placed | None, Preprocess]] = {}
        for entry in bundle.manifest.tasks:
            if not FEATURES.issuperset(entry.requires):  # it cannot be run either
                continue
            key = ref.sha256, entry.file.sha256
            kept[key] = placed, spec = self._placed.get(key) or _place(bundle, entry, whitening)
            if placed is not None:
                tasks[entry.id] = placed, spec
        self._placed = kept
        if not tasks:
            raise TaskError(
                f"no task of '{bundle.path}' carries what it takes to choose it for a frame; name "
                "a task, or train them with this version and export them again"
            )
        return RoutingTable(whitening, tasks, [task for task in tasks if _untouched(bundle, task)])


def routable(bundle: Bundle, entry: TaskEntry) -> bool:
    """Return whether a task of a bundle carries what it takes to choose it for a frame.

    Raises:
        FormatError: The task's file is missing or damaged.
    """
    if not FEATURES.issuperset(entry.requires):
        return False
    optional, tensors, _ = bundle.members(entry)
    return routing.read(optional, tensors) is not None


def _place(
    bundle: Bundle, entry: TaskEntry, whitening: Whitening
) -> tuple[Placed | None, Preprocess]:
    optional, tensors, background = bundle.members(entry)
    spec = replace(bundle.preprocess(entry.id), background=background)
    try:
        found = routing.read(optional, tensors)
        placed = None if found is None else place(entry.id, found, whitening)
    except FormatError as error:
        raise FormatError(f"'{bundle.path / entry.file.path}': {error}") from error
    return placed, spec


def _untouched(bundle: Bundle, task: str) -> bool:
    entry = bundle.entry(task)
    return not entry.changed and not bundle.manifest.encoder(entry).tokens
