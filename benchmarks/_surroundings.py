"""Run commands in forked processes as another user, on small disks and on a read-only root.

For `benchmarks.environment`; longer than most files, as all of them need the same world.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.bundles.bundle import Bundle
from runtime.bundles.task import encode_task
from tests.users import become_stranger

FIXTURES = Path(__file__).parents[1] / "tests/fixtures/549a19a"
PATIENCE = 60
"""Seconds after which a command counts as hung."""
_NEWNS, _REMOUNT, _BIND, _PRIVATE, _READ_ONLY = 0x20000, 32, 4096, 0x44000, 1
"""Flags of Linux's `unshare` and `mount`."""
_DISKS = ("ext4", "xfs", "btrfs", "overlay", "tmpfs")

_SHORT = {
    "train": "--data {open}/street --source day --target night --method zero_shot "
    "--set model=demo-rn32 --set pretrained=demo --set train_size=32",
    "onnx": "--task day-night=unimos --images {open}/street/night",
}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    words: str
    code: int
    """Exit status, or less than 0 for a signal."""
    said: str
    """Content of stderr."""
    seconds: float

    @property
    def fault(self) -> str:
        """Description of what is wrong with the way it ended; empty if nothing is."""
        lines = self.said.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if self.code == -signal.SIGALRM:
            return "hung"
        if self.code not in (0, 1):
            return f"exit status {self.code}: {' '.join(lines[-1:])}"
        if any(line.startswith("Traceback") for line in lines):
            return f"traceback: {lines[-1]}"
        return "" if len(errors) == self.code else f"{len(errors)} errors, status {self.code}"


class World:
    """Bundles, artifacts and images in folders that other users may or may not read."""

    def __init__(self, root: Path) -> None:
        """Copy the fixtures into a folder that every user can reach."""
        names = ("open", "closed", "mine", "disk")
        self.root, self.places = root, {name: str(root / name) for name in names}
        for name in names:
            (root / name).mkdir()
        for part in ("open", "closed"):
            for name in ("street", "trained"):
                shutil.copytree(FIXTURES / name, root / part / name)
            shutil.copytree(FIXTURES / "bundle", root / part / "b")
            shutil.copy(next((FIXTURES / "street/day/cup").iterdir()), root / part / "x.png")
            (root / part / "task.safetensors").write_bytes(_new_task())
            (root / part / "w.pt").write_bytes(b"")
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for name in ("base", "graphs", "tasks"):
            shutil.copytree(root / "open/b", root / f"open/{name}.bundle")
            for path in (root / f"open/{name}.bundle/{name}").iterdir():
                path.chmod(0o600)
        (root / "closed").chmod(0o700)
        (root / "mine").chmod(0o777)

    def words(self, command: str) -> list[str]:
        """Return the words of a command, with the paths of this world."""
        return command.format(**_SHORT, **self.places).format(**self.places).split()

    def run(
        self,
        command: str,
        before: Callable[[], None],
        after: Callable[[], object] = lambda: None,
        stdout: str = os.devnull,
    ) -> Ended:
        """Run a command in a forked process, in which the libraries are loaded already.

        Args:
            command: Command to run, as in `benchmarks.environment`.
            before: Function to call first, in the process.
            after: Function to call last, in the process.
            stdout: File that stdout goes to.
        """
        reading, writing = os.pipe()
        start = time.monotonic()
        child = os.fork()
        if not child:
            code = 70
            try:
                signal.alarm(PATIENCE)
                os.dup2(writing, 2)
                sys.stderr = open(2, "w", buffering=1, closefd=False)
                before()
                os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
                sys.stdout = open(1, "w", closefd=False)
                program, *words = self.words(command)
                code = _status(import_module(f"{program}.cli").main, words)
                after()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, errors="replace") as stream:
            said = stream.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Ended(command, status, said, time.monotonic() - start)

    def environment(self, **values: str) -> None:
        """Set the environment variables that name folders; those without a value are removed."""
        for name in ("HOME", "TMPDIR", "UDA_CACHE", "UDA_RUNTIME_CACHE", "XDG_CACHE_HOME"):
            os.environ.pop(name, None)
        os.environ.update(values)
        tempfile.tempdir = None


def strangers(world: World, commands: Sequence[str]) -> list[Ended]:
    """Run commands as another user, every second one without a writable cache."""

    def become(index: int) -> None:
        os.chdir("/")
        become_stranger()
        world.environment(**({} if index % 2 else {"UDA_CACHE": f"{world.places['mine']}/cache"}))

    return [
        world.run(command, lambda index=index: become(index))  # type: ignore[misc]
        for index, command in enumerate(commands)
    ]


def full_disks(world: World, commands: Sequence[str], sizes: int) -> list[Ended]:
    """Run each command on disks of several sizes, the largest of which has room for everything.

    Args:
        world: Files that the commands use.
        commands: Commands to run.
        sizes: Number of disks for each command.
    """
    found = []
    for command in commands:
        needed = (
            _on_disk(world, command, 1 << 28)[1] - _on_disk(world, "runtime --help", 1 << 20)[1]
        )
        steps = [int(needed * (step + 0.5) / (sizes - 1)) for step in range(sizes - 1)]
        for size in (*steps, 2 * needed + (1 << 20)):
            found.append(_on_disk(world, command, max(size, 1))[0])
    return found


def read_only(world: World, commands: Sequence[str]) -> list[Ended]:
    """Run commands where no disk is writable."""

    def lock() -> None:
        _unshare()
        lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in [line[1] for line in lines if line[2] in _DISKS]:
            _mount(None, place, None, _REMOUNT | _BIND | _READ_ONLY)
        world.environment(HOME=f"{world.root}/home")
        os.chdir("/")

    return [world.run(command, lock) for command in commands]


def _on_disk(world: World, command: str, size: int) -> tuple[Ended, int]:
    """Run a command on a disk of `size` free bytes; return how it ended and the bytes in use."""
    disk = Path(world.places["disk"])
    note = world.root / "used"

    def fill() -> None:
        _unshare()
        _mount("none", str(disk), "tmpfs", 0)
        shutil.copytree(world.root / "open/b", disk / "b")
        _mount(None, str(disk), None, _REMOUNT, f"size={_used(disk) + size}")
        world.environment(HOME=str(disk), TMPDIR=str(disk))
        os.chdir(disk)

    def look() -> None:  # others cannot see this disk
        note.write_text(f"{_used(disk)} {_damage(disk / 'b')}")

    ended = world.run(command, fill, look, f"{disk}/stdout")
    used, _, damage = note.read_text().partition(" ") if note.exists() else ("0", "", "")
    note.unlink(missing_ok=True)
    if damage:
        ended = dataclasses.replace(ended, code=70, said=damage)
    return ended, int(used)


def _used(disk: Path) -> int:
    """Return the bytes in use on a disk."""
    state = os.statvfs(disk)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def _new_task() -> bytes:
    """Return the file of a task that the fixtures' bundle does not have yet."""
    bundle = Bundle.open(FIXTURES / "bundle")
    task = bundle.task("day-night", bundle.layout())
    head = {name: tensor + 1 for name, tensor in task.head_tensors.items()}
    return encode_task(dataclasses.replace(task, head_tensors=head))


def _damage(path: Path) -> str:
    """Return what is wrong with a bundle; empty if it is whole, without leftovers."""
    try:
        bundle = Bundle.open(path)
        layout = bundle.weights().layout
        for task in bundle.tasks:
            bundle.task(task, layout)
    except Exception as error:
        return f"the bundle was damaged: {error}"
    left = [str(found) for found in path.rglob("*.tmp")]
    return f"left behind: {left[0]}" if left else ""


def _status(main: Callable[..., Any], words: list[str]) -> int:
    """Return the exit status of a command line."""
    try:
        main(words)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    finally:
        sys.stderr.flush()
    return 0


def _unshare() -> None:
    """Give this process mounts of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot unshare mounts")
    _mount(None, "/", None, _PRIVATE)


def _mount(what: str | None, where: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else word.encode() for word in (what, where, kind)]
    if ctypes.CDLL(None, use_errno=True).mount(*words, flags, data.encode() or None):
        raise OSError(ctypes.get_errno(), f"cannot mount '{where}'")


def preload(world: World, commands: Sequence[str]) -> None:
    """Import what commands import once for all, as a stranger may not be able to read Python."""
    for command in commands:
        note = world.root / "modules"
        world.run(
            command,
            lambda: world.environment(HOME=world.places["mine"]),
            lambda: note.write_text("\n".join(sys.modules)),  # noqa: B023
        )
        for name in note.read_text().splitlines():
            with contextlib.suppress(Exception):  # some modules cannot be imported by name
                import_module(name)
