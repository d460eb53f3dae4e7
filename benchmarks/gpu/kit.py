"""Pack what a GPU machine without a network lacks into two folders that can be carried there.

    python -m benchmarks.gpu.kit .gpu [--python 3.12] [--capability 90] [WHEEL ...]

`.gpu1` gets ONNX Runtime's CUDA provider and `.gpu2` every other file of the wheels; each is one
archive of at most 56 MiB, which `python -m benchmarks.gpu.visit` unpacks. The provider keeps the
machine code of one GPU alone: what is left fits one archive. For a short visit, never to ship.
Name every wheel that is missing there; indirect dependencies are not followed.
"""

from __future__ import annotations

import argparse
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

WHEELS = ("onnxruntime-gpu==1.31.1", "open_clip_torch==3.3.0", "ftfy", "wcwidth")
"""Wheels that the machine of the first visit lacks."""
LIMIT = 56 << 20
"""Largest size of an archive, in bytes."""
CAPI = "onnxruntime/capi"
PROVIDER = f"{CAPI}/libonnxruntime_providers_cuda.so"
UNUSED = (f"{CAPI}/libonnxruntime_providers_tensorrt.so",)
"""Provider that is left out: it needs TensorRT 10, which is not there."""
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)
"""Minor versions that wheels for 64-bit x86 name."""
FATBIN, CUBIN = 0xBA55ED50, 2
"""Magic number of a container in NVIDIA's fat binaries, and the kind of its entries of code."""


def download(wheels: list[str], python: str, folder: Path) -> None:
    """Put wheels for 64-bit x86 Linux and a version of Python into a folder, unpacked."""
    tags = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
    tags += ["manylinux2014_x86_64", "manylinux1_x86_64"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp"]
    command += [word for tag in tags for word in ("--platform", tag)]
    with TemporaryDirectory() as found:
        subprocess.run([*command, "-d", found, *wheels], check=True)
        for wheel in sorted(Path(found).glob("*.whl")):
            zipfile.ZipFile(wheel).extractall(folder)


def prune(library: Path, capability: int) -> int:
    """Zero a CUDA library's machine code for all GPUs but one; return the bytes that are left.

    Args:
        library: ELF file to change.
        capability: Compute capability whose code stays, 90 for 9.0.
    """
    listed = subprocess.run(
        ["readelf", "-SW", library], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"\] +\.nv_fatbin +\S+ +\S+ +([0-9a-f]+) +([0-9a-f]+)", listed)
    if found is None:
        raise SystemExit(f"error: {library.name} has no section .nv_fatbin; is it a CUDA library?")
    data = bytearray(library.read_bytes())
    position, size = (int(number, 16) for number in found.groups())
    end, left = position + size, 0
    while position < end - 16:
        magic, _, header, length = struct.unpack_from("<IHHQ", data, position)
        if magic != FATBIN:
            position += 8
            continue
        entry, position = position + header, position + header + length
        while entry < position:
            kind, _, skip, nbytes = struct.unpack_from("<HHIQ", data, entry)
            (code_for,) = struct.unpack_from("<I", data, entry + 28)
            if not skip:
                break
            if kind == CUBIN and code_for == capability:
                left += nbytes
            else:
                data[entry + skip : entry + skip + nbytes] = bytes(nbytes)
            entry += skip + nbytes
    if not left:
        raise SystemExit(f"error: {library.name} has no code for capability {capability}")
    library.write_bytes(data)
    return left


def pack(site: Path, files: list[Path], archive: Path) -> None:
    """Write files below `site` to an archive, and refuse one that is too large to carry."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:xz", preset=6) as tar:
        for path in files:
            tar.add(path, path.relative_to(site).as_posix())
    nbytes = archive.stat().st_size
    print(f"{archive}: {nbytes / (1 << 20):.1f} MiB, files: {len(files)}")
    if nbytes > LIMIT:
        raise SystemExit(f"error: {archive} is larger than {LIMIT >> 20} MiB; name fewer wheels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="folders become OUT1 and OUT2")
    parser.add_argument("wheels", nargs="*", metavar="WHEEL", help=f"default: {', '.join(WHEELS)}")
    parser.add_argument("--python", default="3.12", help="of that machine")
    parser.add_argument("--capability", type=int, default=90, help="of its GPU, 90 for 9.0")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        site = Path(folder)
        download(given.wheels or list(WHEELS), given.python, site)
        for name in UNUSED:
            (site / name).unlink(missing_ok=True)
        provider = site / PROVIDER
        files = sorted(path for path in site.rglob("*") if path.is_file())
        if provider in files:
            left = prune(provider, given.capability)
            print(f"{provider.name}: {left / (1 << 20):.1f} MiB of machine code left")
            files.remove(provider)
            pack(site, [provider], Path(f"{given.out}1") / "site.tar.xz")
        pack(site, files, Path(f"{given.out}2") / "site.tar.xz")


if __name__ == "__main__":
    main()
