"""Stubs of TensorRT's Python API, from NVIDIA's own wheels, on machines without TensorRT or a GPU.

The binding wheels (1.3 MB each) link to TensorRT's libraries for a few factory functions only. They
import beside empty libraries that have functions of these names, and pybind11-stubgen then writes
down their API. `tensorrt/__init__.pyi` is what all `WHEELS` have in common, of the classes that we
use; mypy checks runtime/ against it. `python tests/trt_api/make.py` writes it anew.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

WHEELS = (
    "tensorrt-cu12-bindings==10.3.0",  # JetPack 6
    "tensorrt-cu12-bindings==10.16.1.11",  # JetPack 7
    "tensorrt-cu13-bindings==11.4.0.106",
)
STUB = Path(__file__).parent / "tensorrt" / "__init__.pyi"
CLASSES = frozenset(
    "Builder BuilderFlag DataType Dims ExecutionContextAllocationStrategy IBuilderConfig "
    "ICudaEngine IExecutionContext IHostMemory ILogger INetworkDefinition MemoryPoolType "
    "IOptimizationProfile IProgressMonitor ITensor ITimingCache NetworkDefinitionCreationFlag "
    "OnnxParser ParserError Runtime TensorIOMode".split()
)
_FACTORIES = re.compile(r"\w+_INTERNAL|\w*PluginRegistry|getNvOnnxParserVersion|initLibNvInfer\w+")
_HEAD = "# mypy: ignore-errors\n# The API that all of these have, made by tests/trt_api/make.py:\n"
_IMPORTS = "import typing\nimport typing_extensions\n\n"
_ANY = ast.parse("typing.Any", mode="eval").body
_SPECIAL = frozenset("__init__ __int__ __len__ __getitem__ __members__".split())
# Stubgen does not see who gives memory.
_BUFFER = ast.parse("def __buffer__(self, flags: int, /) -> memoryview: ...").body[0]


class CannotMake(Exception):
    """The wheels or the tools to look into them are not to be had here."""


def stub_of(wheel: str, folder: Path) -> str:
    """Return the stub of a wheel's whole API."""
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    _run([*pip, "--dest", str(folder), wheel])
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder)
    library = next(folder.glob("*/tensorrt.so"))
    names = _FACTORIES.findall(_run(["nm", "-D", "--undefined-only", str(library)]))
    (folder / "empty.c").write_text(
        "".join(f"void *{name}(void) {{ return 0; }}\n" for name in names)
    )
    for needed in re.findall(r"libnv\w+\.so\.\d+", _run(["readelf", "-d", str(library)])):
        gcc = ["gcc", "-shared", "-fPIC", "-o", str(folder / needed), str(folder / "empty.c")]
        _run(gcc)
    paths = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder)}
    module = f"{library.parent.name}.tensorrt"
    options = ["-o", str(folder / "stubs"), "--ignore-all-errors"]
    _run([sys.executable, "-m", "pybind11_stubgen", *options, module], **paths)
    return (folder / "stubs" / library.parent.name / "tensorrt.pyi").read_text()


def common(stubs: Iterable[str]) -> str:
    """Return what all stubs have of `CLASSES`, in the words of the first, without documentation."""
    trees = [_classes(ast.parse(_sound(stub))) for stub in stubs]
    kept = []
    for name in sorted(CLASSES):
        others = [tree[name] for tree in trees]
        kept.append(_shared(others[0], others[1:]))
    body = "\n".join(ast.unparse(each) for each in kept)
    body = re.sub(r":\n +\.\.\.", ": ...", body).replace("\n\n", "\n")
    return _HEAD + "".join(f"# {wheel}\n" for wheel in WHEELS) + _IMPORTS + body + "\n"


def whole(stub: str) -> str:
    """Return all classes of one stub that we use, so that mypy takes them."""
    return common([stub])


def _sound(stub: str) -> str:
    """Return a stub without functions that are no Python: some arguments are called `in`.

    What newer releases say a caller may pass as a number is what reaches overriding methods as one.
    """
    stub = stub.replace("typing.SupportsInt", "int").replace("typing.SupportsFloat", "float")
    return re.sub(r"(?m)^( *)(def .*:)$", _kept, stub)


def _kept(match: re.Match[str]) -> str:
    try:
        ast.parse(f"{match[2]} ...")
    except SyntaxError:
        return f"{match[1]}def _no_python(self):"
    return match[0]


def _classes(tree: ast.AST) -> dict[str, ast.ClassDef]:
    body = getattr(tree, "body", [])
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def _name(node: ast.stmt) -> str | None:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return node.name
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None


def _shared(first: ast.ClassDef, others: list[ast.ClassDef]) -> ast.ClassDef:
    names = [{_name(node) for node in other.body} for other in others]
    body: list[ast.stmt] = []
    for node in first.body:
        name = _name(node)
        if name is None or not all(name in found for found in names):
            continue
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Expr(ast.Constant(...))]
        if isinstance(node, ast.ClassDef):
            node = _shared(node, [_classes(other)[name] for other in others])
        elif name.startswith("_") and name not in _SPECIAL:
            continue
        elif not _known(node):
            continue
        body.append(node)
    if first.name == "IHostMemory":
        body.append(_BUFFER)
    first.body = body or [ast.Expr(ast.Constant(...))]
    return first


def _known(node: ast.stmt) -> bool:
    """Whether a member needs no class but those that are kept; what stubgen left open is Any."""
    for each in ast.walk(node):
        if isinstance(each, ast.arg) and isinstance(each.annotation, ast.Constant):
            each.annotation = _ANY
        if isinstance(each, ast.FunctionDef) and isinstance(each.returns, ast.Constant):
            each.returns = each.returns if each.returns.value is None else _ANY
        if isinstance(each, ast.AnnAssign) and isinstance(each.annotation, ast.Constant):
            each.annotation = _ANY
    text = re.sub(r"typing(_extensions)?\.\w+", "", ast.unparse(node))
    names = set(re.findall(r"(?<![.\w])[A-Z]\w+", text)) - {"None", "True", "False"}
    own = {_name(node), *(arg.arg for arg in ast.walk(node) if isinstance(arg, ast.arg))}
    return names - own <= CLASSES and "numpy" not in text


def _run(command: list[str], **variables: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
        )
    except FileNotFoundError as error:
        raise CannotMake(f"there is no {command[0]}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise CannotMake(f"{' '.join(command[:4])} failed: {last}")
    return done.stdout


def main() -> None:
    """Write the common stub."""
    with tempfile.TemporaryDirectory() as name:
        stubs = [stub_of(wheel, Path(name) / str(i)) for i, wheel in enumerate(WHEELS)]
    STUB.parent.mkdir(exist_ok=True)
    STUB.write_text(common(stubs))


if __name__ == "__main__":
    main()
