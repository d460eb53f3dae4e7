"""The JSON file that describes an engine, stored beside its TensorRT plan.

The plan is as the library wrote it, so that trtexec, Triton and polygraphy read it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from runtime.backends.trt.builder import Built, Options
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.tensors import Tensor
from runtime.errors import FormatError
from runtime.models import check_sha256, check_text
from runtime.storage.fields import build
from runtime.storage.files import sha256
from runtime.storage.json_text import parse

KIND, SCHEMA = "uda-engine", 2
MAX_SIDECAR = 4 << 20
MAX_PLAN = 1 << 34
_GENERATION = re.compile(r"sm[0-9]{2,4}")
_LIBRARY = re.compile(r"tensorrt(_rtx)?")
_STEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class Platform:
    """Where an engine runs: on one library and GPU, or on all GPUs of one generation."""

    library: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: str
    generation: str
    """Compute capability as `sm86`."""
    gpu: str | None
    """The GPU's name; None for every one of the generation, as `--target` builds."""
    cuda: str | None
    """Newest CUDA that the driver takes, as `13.0`; None for any, like `driver`."""
    driver: str | None
    """Version of the driver, where the system tells."""

    def __post_init__(self) -> None:
        check_text(*(v for v in (self.version, self.gpu, self.cuda, self.driver) if v is not None))
        if not _GENERATION.fullmatch(self.generation) or not _LIBRARY.fullmatch(self.library):
            raise ValueError(f"'{self.library[:20]}' on '{self.generation[:20]}' is not a platform")

    def runs_on(self, machine: Platform) -> bool:
        """Return whether an engine of this platform may be opened on a machine."""
        own, there = asdict(self), asdict(machine)
        return all(own[key] is None or own[key] == there[key] for key in own)

    @property
    def slug(self) -> str:
        """The library and the GPUs, as part of a file's name: one of these has one engine."""
        gpu = re.sub(r"[^a-z0-9]+", "-", (self.gpu or "").lower()).strip("-")[:60]
        return f"{self.library}.{self.generation}" + (f".{gpu}" if gpu else "")

    def __str__(self) -> str:
        gpu = f"{self.gpu} ({self.generation})" if self.gpu else f"any {self.generation}"
        cuda = f", CUDA {self.cuda}" if self.cuda else ""
        driver = f", driver {self.driver}" if self.driver else ""
        return f"{self.library} {self.version} on {gpu}{cuda}{driver}"


def content_of(graph: str, weights: str | None) -> str:
    """Return the digest of a graph, and of the values in it where there are some."""
    return graph if weights is None else sha256((graph + weights).encode())


@dataclass(frozen=True)
class Recipe:
    """Everything that determines an engine; its digest is the engine's key."""

    graph: str
    """SHA-256 of the ONNX graph."""
    weights: str | None
    """Digest of the values that became constants (`runtime.storage.digest`); None if none did."""
    platform: Platform
    profile: Profile
    options: Options

    def __post_init__(self) -> None:
        check_sha256(self.graph)
        if self.weights is not None:
            check_sha256(self.weights)

    @property
    def key(self) -> str:
        """The engine's key, 64 hexadecimal digits."""
        return sha256(json.dumps({"schema": SCHEMA, **asdict(self)}, sort_keys=True).encode())

    @property
    def content(self) -> str:
        """Digest of the graph, and of the values in it where there are some."""
        return content_of(self.graph, self.weights)


@dataclass(frozen=True)
class PlanFile:
    """The plan: the file that the library wrote."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        if not 0 < self.bytes <= MAX_PLAN:
            raise ValueError(f"a plan cannot have {self.bytes} bytes")


@dataclass(frozen=True)
class EngineFile:
    """The content of the JSON file beside a plan."""

    stem: str
    """Name shown to people: `encoder`, `head`, or a task."""
    key: str
    recipe: Recipe
    tensors: tuple[Tensor, ...]
    """Inputs and outputs of the engine, read back from the network it was built from."""
    plan: PlanFile
    seconds: float
    """Duration of the build."""
    tested: bool
    """Whether the engine has run on its GPU before it was put here."""

    def __post_init__(self) -> None:
        if not _STEM.fullmatch(self.stem):
            raise ValueError(f"'{self.stem[:80]}' cannot name an engine")
        if self.key != self.recipe.key:
            raise ValueError("its key is not that of its recipe")

    @property
    def slot(self) -> str:
        """Start of the names of its files; the next engine of its kind takes the same."""
        return f"{self.stem}-{self.recipe.content[:16]}.{self.recipe.platform.slug}"

    @property
    def plan_name(self) -> str:
        """Name of the plan."""
        return f"{self.slot}-{self.plan.sha256[:16]}.plan"


def engine_file(stem: str, recipe: Recipe, built: Built, *, tested: bool) -> EngineFile:
    """Return the description to write beside a plan.

    Args:
        stem: Name shown to people.
        recipe: Recipe that it was built from.
        built: Result of the build.
        tested: Whether its self-test has passed.
    """
    plan = PlanFile(len(built.plan), sha256(built.plan))
    seconds = round(built.seconds, 3)
    return EngineFile(stem, recipe.key, recipe, built.tensors, plan, seconds, tested)


def encode(engine: EngineFile) -> bytes:
    """Return the JSON file of an engine."""
    document = {"kind": KIND, "schema": SCHEMA, **asdict(engine)}
    document["sha256"] = _digest(document)
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _digest(document: dict[str, Any]) -> str:
    """Return the digest over every field of an engine's JSON file."""
    return sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode())


def decode(content: bytes, where: str) -> EngineFile:
    """Return an engine's description from its untrusted JSON file.

    Messages have no hint; the caller adds one.

    Args:
        content: Content of the file.
        where: Name of the file, for messages.

    Raises:
        FormatError: It is damaged or of another version.
    """
    try:
        document: Any = parse(content)
        if not isinstance(document, dict) or document.get("kind") != KIND:
            raise FormatError(f"{where} does not describe an engine")
        schema = document.get("schema")
        if type(schema) is not int or schema != SCHEMA:
            old = ", in which no digest covers every field" if schema == 1 else ""
            raise FormatError(f"{where} has schema {schema!r}{old}; this version reads {SCHEMA}")
        if document.pop("sha256", None) != _digest(document):
            raise FormatError(f"{where} was altered: its digest does not match")
    except ValueError as error:
        raise FormatError(f"{where} is damaged: {error}") from error
    del document["kind"], document["schema"]
    return build(EngineFile, document, where)
