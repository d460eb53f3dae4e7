"""List the engines in a folder; needs neither a GPU nor TensorRT."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.backends.trt.engine_file import EngineFile
from runtime.backends.trt.hints import SLOT
from runtime.backends.trt.store import EngineStore, store_of
from runtime.errors import FormatError


@dataclass(frozen=True)
class Found:
    """A JSON file in a folder of engines."""

    name: str
    """File name in the folder, which may contain control characters."""
    engine: EngineFile | None
    """The engine that it describes; None if it describes none, or cannot be read."""
    problem: str
    """Reason why it cannot be used; empty if it can."""

    @property
    def damaged(self) -> bool:
        """Whether it is a damaged description, rather than some other file."""
        slot = self.name.removesuffix(".json")
        ours = self.engine is not None or SLOT.fullmatch(slot) is not None
        return ours and bool(self.problem)


def listed(
    bundle: Path, engines: str | os.PathLike[str] | None, *, check: bool = False
) -> tuple[Path, list[Found]]:
    """Return a bundle's folder of engines and what is in it, in the order of names.

    Nothing is in a folder that is not there.

    Args:
        bundle: Folder of the bundle.
        engines: Folder where its engines lie; None is the bundle's own.
        check: Whether to compare each engine with its digest too, not only its size.

    Raises:
        ConfigError: The folder has no name.
        FormatError: The folder cannot be read.
    """
    store = store_of(bundle, engines)
    try:
        names = sorted(os.listdir(store.folder))
    except FileNotFoundError:
        return store.folder, []
    except OSError as error:
        raise FormatError(
            f"cannot read '{store.folder}': {error.strerror or error}; check the path and its "
            "permissions"
        ) from error
    found = [_look(store, name, check) for name in names if name.endswith(".json")]
    return store.folder, found


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
