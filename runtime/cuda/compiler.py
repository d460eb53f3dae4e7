"""Compile our kernels with NVRTC and cache them on disk.

A cached file is named after the digest of everything that its content depends on, and holds a
digest of its name and content: a damaged file is compiled again. A file that somebody else could
have written is refused, since the GPU would run it.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from runtime.cuda.driver import nvrtc, nvrtc_call
from runtime.errors import BackendError, StorageError
from runtime.storage.caches import cache_folder as user_cache
from runtime.storage.trusted import read_code
from runtime.storage.writing import remove_leftovers, write_bytes

_FOLDER = Path(__file__).resolve().parent / "kernels"
SOURCES = ("scatter.cu", "resize.cu")
_HEADERS = ("pages.h",)
_OPTIONS = (b"--std=c++17",)
_MAX_BYTES = 1 << 26
"""Largest size of compiled kernels; ours have about 10 kB."""


def cache_folder() -> Path:
    """Return the cache of compiled kernels: `$UDA_RUNTIME_CACHE`, else `~/.cache/uda-runtime`."""
    return user_cache("UDA_RUNTIME_CACHE")


def compile_kernels(source: str, capability: tuple[int, int]) -> bytes:
    """Return a kernel file as machine code for a GPU. Needs neither a GPU nor a driver.

    Args:
        source: Name of a file in `SOURCES`.
        capability: Compute capability of the GPU; (8, 7) is sm_87.

    Raises:
        BackendError: NVRTC is missing, does not know that GPU, or finds a mistake.
    """
    library = nvrtc()
    headers = [(_FOLDER / name).read_bytes() for name in _HEADERS]
    names = [name.encode() for name in _HEADERS]
    program = nvrtc_call(
        library.nvrtcCreateProgram,
        (_FOLDER / source).read_bytes(),
        source.encode(),
        len(headers),
        headers,
        names,
    )
    try:
        options = [_architecture(capability), *_OPTIONS]
        try:
            nvrtc_call(library.nvrtcCompileProgram, program, len(options), options)
        except BackendError as error:
            log = bytearray(nvrtc_call(library.nvrtcGetProgramLogSize, program))
            nvrtc_call(library.nvrtcGetProgramLog, program, log)
            text = bytes(log).rstrip(b"\0").decode(errors="replace").strip()
            raise BackendError(
                f"cannot compile '{source}' for {_name(capability)}: "
                f"{text or error}; install the NVRTC of a CUDA version that knows this GPU"
            ) from error
        code = bytearray(nvrtc_call(library.nvrtcGetCUBINSize, program))
        nvrtc_call(library.nvrtcGetCUBIN, program, code)
        return bytes(code)
    finally:
        nvrtc_call(library.nvrtcDestroyProgram, program)


def kernels(source: str, capability: tuple[int, int], folder: Path | None = None) -> bytes:
    """Return compiled kernels, from the cache if it has them.

    Args:
        source: Name of a file in `SOURCES`.
        capability: Compute capability of the GPU.
        folder: The cache; None is `cache_folder()`. One that cannot be written saves nothing.

    Raises:
        BackendError: As `compile_kernels`.
        FormatError: Somebody else could have written the cached file.
    """
    path = (folder or cache_folder()) / "kernels" / f"{_key(source, capability)}.cubin"
    remove_leftovers(path.parent)
    code = _read(path)
    if code is None:
        code = compile_kernels(source, capability)
        with contextlib.suppress(StorageError):
            write_bytes(path, _digest(path, code) + code, code=True)
    return code


def _name(capability: tuple[int, int]) -> str:
    return f"sm_{capability[0]}{capability[1]}"


def _architecture(capability: tuple[int, int]) -> bytes:
    return f"--gpu-architecture={_name(capability)}".encode()


def _key(source: str, capability: tuple[int, int]) -> str:
    version = nvrtc_call(nvrtc().nvrtcVersion)
    parts = [f"nvrtc {version}".encode(), _architecture(capability), *_OPTIONS]
    parts += [(_FOLDER / name).read_bytes() for name in (source, *_HEADERS)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return f"{Path(source).stem}-{digest.hexdigest()[:32]}"


def _digest(path: Path, code: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\n" + code).digest()


def _read(path: Path) -> bytes | None:
    try:
        content = read_code(path, _MAX_BYTES, lambda: "delete it: it is compiled again")
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if _digest(path, code) == digest else None
