"""Run one of the three calls of a short visit to a GPU machine, with what was carried there.

    python -m benchmarks.gpu.visit 1 --kit .gpu1 --folder OUT
    python -m benchmarks.gpu.visit 2 --kit .gpu2 --folder OUT
    python -m benchmarks.gpu.visit 3 --folder OUT

The first needs nothing but cuda-bindings, and unpacks its folder of `python -m benchmarks.gpu.kit`
meanwhile; the second runs sessions; the third trains and measures. A call ends within its seconds,
and what it found lies in OUT as soon as it is known. The packages stay in `--site` from one call
to the next.
"""

from __future__ import annotations

import argparse
import lzma
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """Parts of `make gpu` that are run together."""

    parts: dict[str, float]
    """Seconds that each part may take."""
    waits: bool = True
    """Whether the parts need what this call unpacks."""

    @property
    def seconds(self) -> float:
        """Seconds that the whole call may take."""
        return sum(self.parts.values())


CALLS = {
    1: Call({"kernels": 150}, waits=False),
    2: Call({"session": 200}),
    # Training's benchmark follows its tests, one of which compiles a network.
    3: Call({"bench": 130, "training": 130}),
}


def unpack(kit: Path, site: Path) -> None:
    """Unpack a carried folder, or exit with one line."""
    try:
        with tarfile.open(kit / "site.tar.xz") as archive:
            archive.extractall(site, filter="data")
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        reason = " ".join(str(error).split())
        raise SystemExit(
            f"error: cannot unpack '{kit / 'site.tar.xz'}': {reason}; pack it again"
        ) from error


def run(number: int, kit: Path | None, site: Path, folder: Path, more: list[str]) -> bool:
    """Run a call; return whether all of it passed.

    Args:
        number: A key of `CALLS`.
        kit: Folder that was carried, or None.
        site: Where packages are unpacked, also by earlier calls.
        folder: Where the JSON of each part goes.
        more: Options for every part.
    """
    call = CALLS[number]
    unpacking = ThreadPoolExecutor(1).submit(unpack, kit, site) if kit else None
    if unpacking and call.waits:
        unpacking.result()
    env = dict(os.environ)
    if call.waits:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), env.get("PYTHONPATH"))))
    passed = []
    for part, seconds in call.parts.items():
        command = [sys.executable, "-m", "benchmarks.gpu.parts", part, "--folder", str(folder)]
        done = subprocess.run([*command, "--seconds", str(seconds), *more], env=env)
        passed.append(done.returncode == 0)
    if unpacking:
        unpacking.result()
    return all(passed)


def main() -> int:
    """Run the call that is named; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("call", type=int, choices=CALLS)
    parser.add_argument("--kit", type=Path, help="folder that was carried")
    parser.add_argument("--site", type=Path, default=Path("/tmp/site"), help="where it is unpacked")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the JSON goes")
    given, more = parser.parse_known_args()
    return 0 if run(given.call, given.kit, given.site, given.folder, more) else 1


if __name__ == "__main__":
    sys.exit(main())
