"""Machine code is loaded only where nobody but this user and root could have written it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from runtime.backends.trt.build import _timing
from runtime.backends.trt.builder import Options
from runtime.backends.trt.engine_file import EngineFile, PlanFile, Platform, Recipe
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.store import EngineStore, store_of
from runtime.cuda import compiler
from runtime.errors import FormatError
from runtime.storage.files import sha256
from runtime.storage.trusted import read_code
from runtime.storage.writing import write_bytes

OTHER, THIRD = 12345, 12346
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
CODE = "'{}' belongs to user 12345 and has mode {}, but machine code must belong to "


@pytest.fixture
def folder():
    """A folder that every user can get to, which the test's own are not."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def as_user(user: int, code: str, *arguments: object, umask: int = 0o022) -> str:
    """Return what a process of another user prints; it imports as this one."""
    start = (
        "import os, sys; from pathlib import Path; from runtime.cuda import compiler\n"
        "from runtime.backends.trt.engine_file import Platform\n"
        "from runtime.backends.trt.store import EngineStore\n"
        "from runtime.errors import UdaError; from runtime.storage.trusted import read_code\n"
        "from runtime.storage.writing import write_bytes\n"
        f"os.umask({umask}); user = {user}\n"
        "if user != os.geteuid():\n"
        "    os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", start + code, *map(str, arguments)], capture_output=True, text=True
    )
    assert not found.returncode, found.stderr
    return found.stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def engine(store: EngineStore) -> EngineFile:
    """Put what could be an engine into a store."""
    plan = b"machine code" * 100
    platform = Platform("tensorrt", "10.3.0.30", "sm87", "Orin (nvgpu)", "12.6", None)
    recipe = Recipe("1" * 64, None, platform, PROFILES["orin"], Options())
    own = PlanFile(len(plan), sha256(plan))
    made = EngineFile("head", recipe.key, recipe, (), own, 1.5, True)
    store.install(made, plan)
    return made


class Kernel:
    """A compiled kernel, put there and loaded as every session does."""

    rebuild = "delete it: it is compiled again"

    def __init__(self, root: Path) -> None:
        self.code = self.load(root)
        (self.path,) = (root / "kernels").iterdir()

    def load(self, root: Path) -> bytes:
        return compiler.kernels("resize.cu", (8, 7), root)


class Description:
    """The JSON file of an engine."""

    rebuild = "run: uda-runtime build b"

    def __init__(self, root: Path) -> None:
        self.made = engine(self.store(root))
        self.path = root / "engines" / f"{self.made.slot}.json"
        self.code = self.load(root)

    def store(self, root: Path) -> EngineStore:
        return EngineStore(root / "engines", self.rebuild.removeprefix("run: "))

    def load(self, root: Path) -> object:
        platform = self.made.recipe.platform
        return self.store(root).find(self.made.recipe.content, platform)


class Engine(Description):
    """The plan of an engine."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.path = self.store(root).path(self.made)

    def load(self, root: Path) -> object:
        return self.store(root).plan(self.made)


KINDS = [Kernel, Description, Engine]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kept(request, folder):
    """A file of machine code below a folder; `kept.load(folder)` reads it again."""
    return request.param(folder)


def refused(kept, folder) -> str:
    with pytest.raises(FormatError) as error:
        kept.load(folder)
    return str(error.value)


def test_what_this_user_wrote_is_loaded(kept, folder):
    assert kept.load(folder) == kept.code
    assert mode(kept.path.parent) == 0o700


@NEEDS_ROOT
def test_a_file_of_another_user_is_refused_and_the_command_mends_it(kept, folder):
    os.chown(kept.path, OTHER, OTHER)
    text = refused(kept, folder)
    assert text.startswith(CODE.format(kept.path, "0644") + "root (0) and be writable by nobody")
    assert f"; if you trust it, run: chown 0 {kept.path}; else {kept.rebuild}" in text
    subprocess.run(f"chown 0 {kept.path}", shell=True, check=True)
    assert kept.load(folder) == kept.code


@pytest.mark.parametrize("bits", [0o666, 0o664, 0o646, 0o622])
def test_a_file_that_others_may_write_to_is_refused_and_the_command_mends_it(kept, folder, bits):
    kept.path.chmod(bits)
    text = refused(kept, folder)
    assert f"has mode {bits:04o}" in text
    assert f"; if you trust it, run: chmod go-w {kept.path}; else {kept.rebuild}" in text
    subprocess.run(f"chmod go-w {kept.path}", shell=True, check=True)
    assert kept.load(folder) == kept.code


@NEEDS_ROOT
def test_both_at_once_are_mended_at_once(kept, folder):
    os.chown(kept.path, OTHER, OTHER)
    kept.path.chmod(0o666)
    text = refused(kept, folder)
    command = text.partition("run: ")[2].partition("; else")[0]
    subprocess.run(command, shell=True, check=True)
    assert kept.load(folder) == kept.code


def test_a_link_is_refused_even_to_a_file_of_ours(kept, folder):
    kept.path.rename(folder / "elsewhere")
    kept.path.symlink_to(folder / "elsewhere")
    assert "is a link, expected a file of machine code" in refused(kept, folder)


def test_a_folder_that_is_a_link_is_refused(kept, folder):
    kept.path.parent.rename(folder / "elsewhere")
    kept.path.parent.symlink_to(folder / "elsewhere")
    assert "is a link, expected a folder" in refused(kept, folder)


def test_links_further_up_are_fine(kept, folder):
    """Whoever could exchange them could only put files of their own there."""
    (folder / "link").symlink_to(folder)
    assert kept.load(folder / "link") == kept.code


def test_a_folder_of_engines_that_the_user_names_may_be_a_link(folder):
    made = engine(store_of(folder, folder / "real"))
    (folder / "link").symlink_to(folder / "real")
    assert store_of(folder, folder / "link").plan(made)


def test_a_pipe_is_refused_at_once(kept, folder):
    kept.path.unlink()
    os.mkfifo(kept.path)
    start = time.perf_counter()
    assert "is not a regular file" in refused(kept, folder)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("bits", [0o777, 0o775, 0o757])
def test_a_folder_that_others_may_write_to_is_refused_and_the_command_mends_it(kept, folder, bits):
    own = kept.path.parent
    own.chmod(bits)
    text = refused(kept, folder)
    assert text.startswith(f"'{own}' belongs to ") and f"has mode {bits:04o}" in text
    assert text.endswith(f"; look at what is in it, then run: chmod go-w {own}")
    subprocess.run(f"chmod go-w {own}", shell=True, check=True)
    assert kept.load(folder) == kept.code


@NEEDS_ROOT
def test_a_folder_of_another_user_is_refused(kept, folder):
    os.chown(kept.path.parent, OTHER, OTHER)
    assert refused(kept, folder).endswith(f"then run: chown 0 {kept.path.parent}")


def test_a_sticky_folder_may_be_writable_by_all(kept, folder):
    """Others cannot take our files out of it, and theirs are refused."""
    kept.path.parent.chmod(0o1777)
    assert kept.load(folder) == kept.code


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("owner", "loaded"), [(OTHER, True), (0, True), (THIRD, False)], ids=["own", "root", "third"]
)
def test_a_user_loads_what_the_user_and_root_wrote_and_nothing_else(folder, owner, loaded):
    path = folder / "own" / "f"
    write_bytes(path, b"code", code=True)
    path.parent.chmod(0o755)
    os.chown(path, owner, owner)
    code = (
        "try: print(read_code(Path(sys.argv[1]), 9, lambda: 'build it'))\n"
        "except UdaError as error: print(error)"
    )
    found = as_user(OTHER, code, path)
    if loaded:
        assert found == "b'code'\n"
    else:
        assert found.startswith(f"'{path}' belongs to user 12346 and has mode 0644")
        assert "must belong to user 12345 or root and be writable by nobody else" in found
        assert found.endswith(f"; if you trust it, run: chown 12345 {path}; else build it\n")


@NEEDS_ROOT
def test_another_users_kernel_never_reaches_this_ones_gpu(folder):
    """On a shared disk: the file has the right name, and the digest is right."""
    folder.chmod(0o777)
    shared = folder / "kernels"
    name = f"{compiler._key('resize.cu', (8, 7))}.cubin"
    code = (
        "path = Path(sys.argv[1]); path.parent.mkdir(); evil = b'machine code'\n"
        "path.write_bytes(compiler._digest(path, evil) + evil)"
    )
    as_user(OTHER, code, shared / name)
    for way in ("folder", "file", "link"):
        if way == "file":
            os.chown(shared, 0, 0)
        if way == "link":
            (shared / name).rename(folder / "elsewhere")
            (shared / name).symlink_to(folder / "elsewhere")
        with pytest.raises(FormatError, match="belongs to user 12345|is a link"):
            compiler.kernels("resize.cu", (8, 7), folder)


def test_a_kernel_under_another_name_is_compiled_again(folder):
    first = compiler.kernels("resize.cu", (8, 7), folder)
    (kept,) = (folder / "kernels").iterdir()
    other = kept.with_name(f"{compiler._key('resize.cu', (9, 0))}.cubin")
    shutil.copy(kept, other)
    assert compiler.kernels("resize.cu", (9, 0), folder) != first


@NEEDS_ROOT
def test_a_build_takes_the_place_of_another_users_engine(folder):
    store = EngineStore(folder / "engines", "uda-runtime build b")
    made = engine(store)
    for path in (store.folder / f"{made.slot}.json", store.path(made)):
        os.chown(path, OTHER, OTHER)
        assert store.current(made.recipe) is None
        assert engine(store) == made
        assert store.current(made.recipe) == made


@NEEDS_ROOT
def test_engines_that_this_user_may_not_read_are_not_called_missing(folder):
    store = EngineStore(folder / "engines", "uda-runtime build b")
    made = engine(store)
    code = (
        "store = EngineStore(Path(sys.argv[1]), 'uda-runtime build b')\n"
        "machine = Platform('tensorrt', '10.3.0.30', 'sm87', 'Orin (nvgpu)', '12.6', None)\n"
        "try: print(len(store.plan(store.find(sys.argv[2], machine))))\n"
        "except UdaError as error: print(error)"
    )
    text = as_user(OTHER, code, store.folder, made.recipe.content)
    assert text.startswith(
        f"cannot read '{store.folder}': Permission denied; as the user who built"
    )
    command = text.partition("run: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert int(as_user(OTHER, code, store.folder, made.recipe.content)) == made.plan.bytes


def test_a_build_says_before_it_starts_that_its_engines_would_be_refused(folder):
    store = EngineStore(folder / "engines", "uda-runtime build b")
    store.folder.mkdir()
    store.folder.chmod(0o777)
    with pytest.raises(FormatError, match="chmod go-w"):
        store.reserve()
    assert not [*store.folder.iterdir()]


@NEEDS_ROOT
def test_a_timing_cache_of_another_user_is_measured_again(folder):
    path = folder / "timing.cache"
    assert _timing(path) == b""
    write_bytes(path, b"measured", code=True)
    assert _timing(path) == b"measured"
    os.chown(path, OTHER, OTHER)
    assert _timing(path) == b""


@pytest.mark.parametrize("size", [3, 4])
def test_a_file_may_have_the_limit_and_no_byte_more(folder, size):
    write_bytes(folder / "f", b"code"[:size], code=True)
    if size == 3:
        assert read_code(folder / "f", 3, lambda: "build it") == b"cod"
    else:
        with pytest.raises(FormatError, match="larger than the 3 bytes it may have; build it"):
            read_code(folder / "f", 3, lambda: "build it")


@pytest.mark.parametrize(
    ("umask", "plain", "made", "code"),
    [
        (0o000, 0o666, 0o775, 0o644),
        (0o002, 0o664, 0o775, 0o644),
        (0o022, 0o644, 0o755, 0o644),
        (0o027, 0o640, 0o750, 0o640),
        (0o077, 0o600, 0o700, 0o600),
    ],
)
def test_the_umask_decides_but_nobody_else_writes_to_machine_code(folder, umask, plain, made, code):
    (folder / "old").write_bytes(b"")
    (folder / "old").chmod(0o666)
    program = (
        "for name in ('old', 'a/b/plain'): write_bytes(Path(sys.argv[1], name), b'x')\n"
        "write_bytes(Path(sys.argv[1], 'c/d/code'), b'x', code=True)"
    )
    as_user(os.geteuid(), program, folder, umask=umask)
    found = {str(p.relative_to(folder)): mode(p) for p in folder.rglob("*")}
    assert found == {
        "old": plain,
        "a": made,
        "a/b": made,
        "a/b/plain": plain,
        "c": made,
        "c/d": 0o700,
        "c/d/code": code,
    }
