"""The folder of a bundle's engines: one engine for each graph, library and GPU.

`<stem>-<graph>.<platform>.json` describes an engine and names the plan file beside it. The plan is
written first, under a name made of its digest, and the JSON file is replaced last: at every moment
there is either the former engine or the new one, and whatever fails leaves the former.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.backends.names import check_engines
from runtime.backends.trt.engine_file import EngineFile, Platform, encode
from runtime.backends.trt.folder import make
from runtime.backends.trt.reader import EngineReader
from runtime.errors import FormatError, StorageError
from runtime.storage import disk
from runtime.storage.files import sha256, storage_errors
from runtime.storage.locks import exclusive
from runtime.storage.writing import remove_leftovers, write_bytes
from runtime.text import quoted

FOLDER = "engines"
"""Name of the engines' folder in a bundle, which the bundle's writers leave alone."""
_LOCK = ".lock"


class EngineStore(EngineReader):
    """A folder of engines."""

    def reserve(self) -> None:
        """Create the folder and check that it is writable, before a build of minutes.

        Raises:
            StorageError: The folder is not writable.
            FormatError: Other users could replace the files in it.
        """
        make(self.folder)
        with exclusive(self.folder / _LOCK, required=False, keep=False):
            pass

    def clean(self) -> None:
        """Remove what killed builds left behind, unless the folder is read-only or in use.

        Removes temporary files, the lock, and plans that no description names.
        """
        remove_leftovers(self.folder)
        lock = self.folder / _LOCK
        with contextlib.suppress(OSError, StorageError):
            if not disk.exists(lock) and not any(self._unnamed()):
                return
            with exclusive(lock, keep=False, busy=StorageError):
                for plan in self._unnamed():
                    plan.unlink(missing_ok=True)

    def _unnamed(self) -> Iterator[Path]:
        """Yield plans with a name of ours whose description is missing or names another plan."""
        for plan in self.folder.glob(f"*-{'[0-9a-f]' * 16}.plan"):
            described = plan.with_name(f"{plan.stem[:-17]}.json")
            with contextlib.suppress(FormatError):  # one that cannot be read may name it
                if not disk.exists(described) or self.read(described).plan_name != plan.name:
                    yield plan

    def install(self, engine: EngineFile, plan: bytes) -> None:
        """Install an engine in place of the former one, whose plan is removed.

        Args:
            engine: Description of the engine.
            plan: Plan as the library wrote it, after its self-test.

        Raises:
            StorageError: It cannot be written; the former engine is still there.
            FormatError: The written files cannot be read back unchanged, or others could replace
                them.
        """
        make(self.folder)
        with exclusive(self.folder / _LOCK, required=False, keep=False):
            path = self.path(engine)
            write_bytes(path, plan, code=True)
            self.plan(engine)
            write_bytes(self.folder / f"{engine.slot}.json", encode(engine), code=True)
            with storage_errors(self.folder):
                # The digits are written out: one GPU's name may begin like another's.
                for old in self.folder.glob(f"{engine.slot}-{'[0-9a-f]' * 16}.plan"):
                    if old != path:
                        old.unlink(missing_ok=True)

    def sweep(self, outdated: Callable[[EngineFile], bool]) -> None:
        """Remove engines that nothing opens any more; files of others stay.

        Args:
            outdated: Function that selects the engines to remove.

        Raises:
            StorageError: A file cannot be removed.
        """

        def old() -> Iterator[tuple[Path, EngineFile]]:
            for path in sorted(self.folder.glob("*.json")):
                with contextlib.suppress(FormatError):
                    engine = self.read(path)
                    if path.name == f"{engine.slot}.json" and outdated(engine):
                        yield path, engine

        if not any(old()):  # the folder may be one that can only be read
            return
        with (
            exclusive(self.folder / _LOCK, required=False, keep=False),
            storage_errors(self.folder),
        ):
            for path, engine in old():
                path.unlink(missing_ok=True)
                self.path(engine).unlink(missing_ok=True)

    def timing(self, machine: Platform) -> Path:
        """Return the path of the timing cache of a library on a GPU."""
        return self.folder / f"timing.{machine.slug}-{sha256(str(machine).encode())[:16]}.cache"


def store_of(bundle: Path, folder: str | os.PathLike[str] | None) -> EngineStore:
    """Return the store of a bundle's engines.

    Args:
        bundle: Folder of the bundle.
        folder: Folder of the engines; None for the one in the bundle.

    Raises:
        ConfigError: The folder has no name, as when a shell's variable is empty.
    """
    check_engines(folder)
    extra = "" if folder is None else f" --engines {quoted(folder)}"
    path = bundle / FOLDER if folder is None else Path(folder)
    if folder is not None and disk.is_link(path):
        path = disk.real(path)  # the user named it, so the link is meant
    return EngineStore(path, f"uda-runtime build {quoted(bundle)}{extra}")
