"""Compare two versions of a bundle."""

from __future__ import annotations

from runtime.bundles.bundle import Bundle
from runtime.errors import FormatError

_FIXED = ("base", "precision", "tensors", "encoders", "heads")
"""Keys of the manifest whose values a running session relies on."""


def changes(old: Bundle, new: Bundle) -> tuple[str, ...]:
    """Return the ids of tasks that were added, replaced or removed.

    Args:
        old: Manifest that the session has.
        new: Manifest on disk.

    Raises:
        FormatError: Something other than the tasks changed.
    """
    for name in _FIXED:
        if getattr(old.manifest, name) != getattr(new.manifest, name):
            raise FormatError(
                f"'{new.path}' has changed its {name}, and a running session can take over tasks "
                "alone; open a new session"
            )
    before = {entry.id: entry for entry in old.manifest.tasks}
    after = {entry.id: entry for entry in new.manifest.tasks}
    return tuple(task for task in {**after, **before} if after.get(task) != before.get(task))
