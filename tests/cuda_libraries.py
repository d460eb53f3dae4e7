"""Build stub CUDA libraries, over which ONNX Runtime's CUDA provider opens graphs without a GPU.

It then does all that it does before a graph runs: reads its options, and says of every node whether
it has a kernel for it. Nothing can be computed.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

import onnxruntime

PROVIDER = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
_HEAD = "#include <stdlib.h>\n#include <string.h>\n"
_MAKES = ("cudaStreamCreate", "cudaStreamCreateWithFlags", "cudaEventCreate", "cublasCreate_v2")
_MAKES += ("cudaEventCreateWithFlags", "cublasLtCreate", "cudnnCreate")
_ALLOCATES = ("cudaMalloc", "cudaMallocHost", "cudaHostAlloc")
_GIVES = {
    "cudaGetDeviceCount": 1,
    "cudaGetDevice": 0,
    "cudaDriverGetVersion": 13000,
    "cudaRuntimeGetVersion": 13000,
}
_BODIES = {
    "cudaMemGetInfo": "(size_t *a, size_t *b) { *a = *b = 1ull << 34; return 0; }",
    "cudaMemcpy": "(void *a, void *b, size_t n) { memcpy(a, b, n); return 0; }",
    "cudaMemcpyAsync": "(void *a, void *b, size_t n) { memcpy(a, b, n); return 0; }",
    "cudaGetDeviceProperties": "(char *p) { memset(p, 0, 700); return 0; }",
    "cudaGetDeviceProperties_v2": "(char *p) { memset(p, 0, 700); return 0; }",
    "__cudaRegisterFatBinary": "(void) { static long handle; return (long)&handle; }",
    **{name: "(void **a) { *a = malloc(1); return 0; }" for name in _MAKES},
    **{
        name: "(void **a, size_t n) { *a = aligned_alloc(256, (n + 511) / 256 * 256); return 0; }"
        for name in _ALLOCATES
    },
    **{name: f"(int *a) {{ *a = {value}; return 0; }}" for name, value in _GIVES.items()},
}


def make(folder: Path) -> None:
    """Put a library of every name that the provider links to into a folder."""
    names: dict[str, set[str]] = defaultdict(set)
    for line in _run("nm", "-D", "--undefined-only", PROVIDER).splitlines():
        name, _, library = line.split()[-1].partition("@")
        if re.match(r"lib(cu|nv)", library.lstrip("@")):
            names[library.lstrip("@")].add(name)
        elif not library and name.startswith("cu"):
            names["libcuda.so.1"].add(name)
    for library in re.findall(r"\[(lib(?:cu|nv)[^]]*)\]", _run("readelf", "-d", PROVIDER)):
        source, versions = folder / f"{library}.c", folder / f"{library}.map"
        functions = (
            f"long {name}{_BODIES.get(name, '(void) { return 0; }')}" for name in names[library]
        )
        source.write_text(_HEAD + "\n".join(functions))
        versions.write_text(f"{library} {{ global: *; }};")
        options = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{library}"]
        if library != "libcuda.so.1":
            options.append(f"-Wl,--version-script={versions}")
        _run("gcc", *options, source, "-o", folder / library)


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
