"""Find the engines of a bundle in their folder, and read them only if nobody else wrote them.

An engine is machine code that the library runs unseen, and what it is opened with comes from its
JSON file. Digests find damage, not malice: both are read only where nobody but this user and root
could have written them (`runtime.storage.trusted`).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from runtime.backends.trt.builder import Options
from runtime.backends.trt.engine_file import MAX_SIDECAR, EngineFile, Platform, Recipe, decode
from runtime.backends.trt.folder import described, read_file
from runtime.backends.trt.hints import again, command
from runtime.backends.trt.profile import PROFILES
from runtime.errors import BackendError, FormatError
from runtime.storage.files import sha256
from runtime.storage.trusted import check_file


class EngineReader:
    """Reads the engines in a folder."""

    def __init__(self, folder: Path, hint: str) -> None:
        """Store the folder; nothing is read yet.

        Args:
            folder: Folder of the engines; it may not exist yet.
            hint: Command that builds the engines, for messages.
        """
        self.folder, self._hint = folder, hint

    def find(
        self, content: str, machine: Platform, device: str = "", *, baked: bool = False
    ) -> EngineFile:
        """Return the engine of a graph that may run on a machine.

        Args:
            content: `Recipe.content` of the wanted engine.
            machine: Platform of this machine.
            device: Name of that GPU, such as `cuda:1`, for messages; the first if not given.
            baked: Whether weights are constants in the wanted engine, for messages.

        Raises:
            BackendError: There is none; the message names the platforms that have one.
            FormatError: There may be one, but its description is damaged.
        """
        good: list[EngineFile] = []
        others: list[EngineFile] = []
        damaged: FormatError | None = None
        hint = command(self._hint, device, baked=baked)
        for path in described(self.folder, content):
            try:
                found = self.read(path, device)
            except FormatError as error:
                damaged = error
                continue
            if found.recipe.content == content and found.recipe.options == Options():
                runs = found.recipe.platform.runs_on(machine)
                (good if runs else others).append(found)
        if good:  # the one for this very GPU, if there is one
            return max(good, key=lambda found: found.recipe.platform.gpu is not None)
        if damaged is not None:
            raise damaged
        if others:
            there = " and ".join(sorted(str(other.recipe.platform) for other in others)[:4])
            raise BackendError(
                f"the engine of graph {content[:16]} in '{self.folder}' is for {there}, and this "
                f"machine has {machine}; {hint}"
            )
        raise BackendError(
            f"no engine of graph {content[:16]} for {machine} found in '{self.folder}'; {hint}"
        )

    def read(self, path: Path, device: str = "") -> EngineFile:
        """Return the engine that a JSON file of this folder describes.

        Args:
            path: Path of the file.
            device: The GPU of this machine that it is for, for messages; the first if not given.

        Raises:
            FormatError: It is damaged, of another version, or describes something else; or somebody
                else could have written it.
        """
        hint = again(self._hint, path.name.removesuffix(".json"), device)
        content = read_file(path, MAX_SIDECAR, lambda: hint)
        try:
            return decode(content, f"'{path}'")
        except FormatError as error:
            raise FormatError(f"{error}; {hint}") from error

    def current(self, recipe: Recipe) -> EngineFile | None:
        """Return the engine of a recipe, if it is there and whole."""
        for path in described(self.folder, recipe.content):
            with contextlib.suppress(FormatError):
                found = self.read(path)
                if found.recipe == recipe:
                    self.plan(found)
                    return found
        return None

    def engines(self, platform: str) -> list[EngineFile]:
        """Return the engines of a `Platform.slug` whose description is sound."""
        found = []
        for path in sorted(self.folder.glob(f"*.{platform}.json")):
            with contextlib.suppress(FormatError):
                engine = self.read(path)
                if path.name == f"{engine.slot}.json" and engine.recipe.platform.slug == platform:
                    found.append(engine)
        return found

    def previous(self, engine: EngineFile) -> EngineFile | None:
        """Return the engine that another one replaces; None if there is no sound one."""
        with contextlib.suppress(FormatError):
            return self.read(self.folder / f"{engine.slot}.json")
        return None

    def path(self, engine: EngineFile) -> Path:
        """Return the path of an engine's plan."""
        return self.folder / engine.plan_name

    def plan(self, engine: EngineFile, device: str = "") -> bytes:
        """Return the bytes of an engine after checking their digest.

        Args:
            engine: Engine to look up.
            device: The GPU of this machine that it is for, for messages; the first if not given.

        Raises:
            FormatError: The file is missing or altered, or somebody else could have written it.
        """
        path = self.path(engine)
        self.glance(engine, device)
        content = read_file(path, engine.plan.bytes, lambda: self._build_command(engine, device))
        if len(content) != engine.plan.bytes or sha256(content) != engine.plan.sha256:
            raise FormatError(f"'{path}' was altered; {self._build_command(engine, device)}")
        return content

    def glance(self, engine: EngineFile, device: str = "") -> None:
        """Check that the plan of an engine is there, ours, and as large as it should be.

        Args:
            engine: Engine to look up.
            device: The GPU of this machine that it is for, for messages; the first if not given.

        Raises:
            FormatError: The plan is missing, another user's or of another size, or cannot be
                checked.
        """
        path, wanted = self.path(engine), engine.plan.bytes
        try:
            found = path.lstat()
        except FileNotFoundError:
            problem = "is missing"
        except OSError as error:
            problem = f"cannot be read: {error.strerror or error}"
        else:
            check_file(path, found, lambda: self._build_command(engine, device))
            if found.st_size == wanted:
                return
            problem = f"has {found.st_size} bytes, expected {wanted}"
        raise FormatError(f"'{path}' {problem}; {self._build_command(engine, device)}")

    def _build_command(self, engine: EngineFile, device: str) -> str:
        """Return the command that builds an engine again with its profile."""
        own, platform = engine.recipe.profile, engine.recipe.platform.slug
        others = any(each.recipe.profile != own for each in self.engines(platform))
        # Without others a build keeps it; the file of one that is not ours is not known.
        named = others and PROFILES.get(own.name) == own
        return again(self._hint, engine.slot, device, own.name if named else "")
