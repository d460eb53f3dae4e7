"""Every engine that lies in a folder, for people; neither a GPU nor TensorRT is needed to look."""

from __future__ import annotations

import os
from dataclasses import dataclass

from runtime.backends.trt.engine_file import EngineFile
from runtime.backends.trt.hints import SLOT
from runtime.backends.trt.store import EngineStore
from runtime.errors import FormatError


@dataclass(frozen=True)
class Found:
    """A JSON file in a folder of engines."""

    name: str
    """As the folder has it, so maybe with control characters."""
    engine: EngineFile | None
    """What it describes; None if it describes no engine, or not in a way that can be read."""
    problem: str
    """Why it is no use; empty if none was found."""

    @property
    def damaged(self) -> bool:
        """Whether something is wrong, and not just a file of somebody else."""
        slot = self.name.removesuffix(".json")
        ours = self.engine is not None or SLOT.fullmatch(slot) is not None
        return ours and bool(self.problem)


def listed(store: EngineStore, *, check: bool = False) -> list[Found]:
    """Return what is in a folder of engines, in the order of names; none if it is not there.

    Args:
        store: Whose folder.
        check: Also read every engine, and compare it with its digest; without, only its size.

    Raises:
        FormatError: The folder cannot be read.
    """
    try:
        names = sorted(os.listdir(store.folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FormatError(
            f"cannot read '{store.folder}': {error.strerror or error}; check the path and its "
            "permissions"
        ) from error
    return [_look(store, name, check) for name in names if name.endswith(".json")]


def _look(store: EngineStore, name: str, check: bool) -> Found:
    engine: EngineFile | None = None
    try:
        engine = store.read(store.folder / name)
        if check:
            store.plan(engine)
        else:
            store.glance(engine)
    except FormatError as error:
        return Found(name, engine, str(error))
    return Found(name, engine, "")
