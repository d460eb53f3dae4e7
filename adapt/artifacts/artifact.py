"""The artifact: everything training leaves for one task, in one checksummed file.

`adapt.artifacts.store` says where it lies. The residual is kept as new values, so merging is an
assignment: exact, and the same when done twice. Longer than most files, since its format is read,
written and checked in one place.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt import methods
from adapt.artifacts.metrics import Metrics
from adapt.artifacts.run import RunDescription
from adapt.clip.model import encoder_tensors
from adapt.clip.prompts import TOKEN_NAME
from adapt.methods.heads import HEADS, build_head, head_tensors
from adapt.optim.grid import on_grid
from adapt.settings.model_config import FEATURE, Architecture
from adapt.settings.stored import restore
from runtime import patch
from runtime.errors import BaseModelError, ConfigError, FormatError
from runtime.models import (
    BACKGROUND,
    BaseModel,
    Preprocess,
    TaskInfo,
    TensorSpec,
    check_required,
)
from runtime.storage import checksummed
from runtime.storage.digest import tensors_sha256
from runtime.storage.fields import build

KIND, SCHEMA, OLDEST = "uda-artifact", 2, 1
FEATURES = frozenset({BACKGROUND, FEATURE})
"""Features that an artifact may require of this version."""
_HEAD, _TOKENS = "head.", "tokens."
MAX_RATIO = 32
"""Most bytes that a byte of a residual may unpack to; trained weights reach 6."""
FREE_BYTES = 1 << 20
"""Bytes that any residual may unpack to."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Artifact:
    """One adapted task. `of` makes it from a trained encoder, `load` from a file."""

    task: TaskInfo
    method: str
    """Name of the method, for example `cmkd`."""
    base: BaseModel
    """The untouched model that the residual belongs to."""
    preprocess: Preprocess
    residual: patch.Patch
    """New values of the encoder entries that training changed; the rest is the base, rounded to the
    grid of `config` if there is one."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of the tensors in `residual`."""
    parameters: int
    """Number of all encoder parameters."""
    head: str
    """Kind of head, a key of `adapt.methods.heads.HEADS`."""
    head_tensors: Tensors
    tokens: Tensors
    """Learned prompt tokens `prompts.<block>` (n, W) of the encoder; empty for most methods."""
    prompts: tuple[str, ...]
    """Prompts of the classes, in their order."""
    config: Mapping[str, Any]
    """The settings as training resolved them."""
    seed: int
    metrics: Mapping[str, Any]
    """The fields of `adapt.artifacts.metrics.Metrics`."""
    versions: Mapping[str, str]
    """Versions of Python and of the libraries that computed."""
    teachers: tuple[BaseModel, ...] = ()
    """Other base models that training learned from, like EKDA's teacher."""
    architecture: Architecture | None = None
    """Architecture of the base, if open_clip has no name for it; its weights are never stored."""
    requires: tuple[str, ...] = ()
    """Features that a reader must know."""
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Members that a reader may ignore; `settings` says where the settings come from."""
    optional_tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Tensors of the optional members, `<member>.<name>`."""

    @classmethod
    def of(
        cls,
        run: RunDescription,
        base: BaseModel,
        reference: Tensors,
        encoder: nn.Module,
        head: nn.Module,
        metrics: Mapping[str, Any],
        tokens: Mapping[str, Tensor] | None = None,
    ) -> Artifact:
        """Return the artifact of a trained encoder and head.

        Args:
            run: Fields that do not depend on the weights.
            base: The base model.
            reference: `encoder_tensors` of the base, taken before training.
            encoder: The trained image encoder, or the base's when only a head was trained.
            head: Deployed head, of a class in `adapt.methods.heads.HEADS`.
            metrics: From `adapt.training.record.metrics`.
            tokens: Prompt tokens, if the encoder runs with any.

        Raises:
            BaseModelError: The reference is not the base's.
            FormatError: A weight is not finite, or the parts do not fit together.
        """
        if tensors_sha256(reference) != base.sha256:
            raise BaseModelError(
                f"the reference weights are not those of {base.architecture}/{base.pretrained}; "
                "take encoder_tensors(clip.visual) before training changes them"
            )
        seen = on_grid(reference, encoder, run.config.get("grid", "fp32"))
        residual = patch.diff(seen, encoder_tensors(encoder))
        architecture = [FEATURE] if run.architecture else []
        artifact = cls(
            task=run.task,
            method=run.method,
            base=base,
            preprocess=run.preprocess,
            residual=residual,
            shapes={name: reference[name].shape for name in residual},
            parameters=sum(p.numel() for p in encoder.parameters()),
            head=next((k for k, c in HEADS.items() if type(head) is c), type(head).__name__),
            head_tensors=head_tensors(head),
            tokens={n: t.detach().cpu().float().numpy() for n, t in (tokens or {}).items()},
            prompts=run.prompts,
            config=dict(run.config),
            seed=run.seed,
            metrics=dict(metrics),
            versions=_versions(),
            teachers=run.teachers,
            architecture=run.architecture,
            requires=tuple(sorted((*run.preprocess.requires, *architecture))),
            optional=dict(run.optional),
        )
        artifact.check()
        return artifact

    @property
    def density(self) -> float:
        """Share of the encoder's parameters that changed, in [0, 1]."""
        return patch.size(self.residual) / self.parameters

    def check(self) -> None:
        """Check that the parts fit together.

        Raises:
            FormatError: Two parts contradict each other, or a value is impossible.
        """
        for name in (self.task.dataset, self.method):
            if not _NAME.fullmatch(name):
                raise FormatError(f"'{name[:80]}' cannot name a data set or a method")
        self._check_record()
        if self.parameters < max(patch.size(self.residual), 1):
            raise FormatError(f"the encoder cannot have {self.parameters} parameters")
        for name, sparse in self.residual.items():
            patch.check(TensorSpec(name, "float32", self.shapes[name]), sparse)
        build_head(self.head, self.head_tensors)
        for name, token in self.tokens.items():
            good = TOKEN_NAME.fullmatch(name) and token.dtype == np.float32 and token.ndim == 2
            if not good or not token.size or not bool(np.isfinite(token).all()):
                raise FormatError(
                    f"'{name[:80]}' does not hold prompt tokens; expected finite float32 values of "
                    "shape (n, width)"
                )
        rows, classes = self.head_weight.shape[0], len(self.task.classes)
        if rows != classes or len(self.prompts) != classes:
            raise FormatError(
                f"task '{self.task.id}' has {classes} classes, {len(self.prompts)} prompts and a "
                f"head for {rows}; these must be equal"
            )

    def _check_record(self) -> None:
        try:
            build(Metrics, self.metrics, "metrics")
            build(methods.get(self.method).Config, self.config, "config")
            check_required(self.preprocess.background, self.requires)
            self._check_architecture()
            if self.config.get("background", "drop") != self.preprocess.background:
                raise ValueError(
                    f"it was trained with the background '{self.config['background']}', and its "
                    f"preprocessing has '{self.preprocess.background}'"
                )
        except (ConfigError, FormatError, ValueError) as error:
            raise FormatError(f"{error}; train the task again, or update uda-edge") from error

    def _check_architecture(self) -> None:
        own = self.architecture
        if (own is not None) != (FEATURE in self.requires):
            raise FormatError(f"an architecture goes with the feature '{FEATURE}', and only so")
        if own is not None and own.name != self.base.architecture:
            raise FormatError(
                f"the base is {self.base.architecture}, but the architecture is {own.name}"
            )

    def build_head(self) -> nn.Module:
        """Return the head, features (N, D) to logits (N, K), in evaluation mode."""
        return build_head(self.head, self.head_tensors)

    def save(self, path: Path) -> None:
        """Write the artifact; the file is whole or absent.

        Raises:
            FormatError: The parts do not fit together; nothing is written.
            StorageError: The file cannot be written.
        """
        self.check()
        table, tensors = patch.encode(self.residual)
        plain = ("method", "parameters", "head", "prompts", "config", "seed", "metrics", "versions")
        document = {
            **{name: getattr(self, name) for name in plain},
            "task": asdict(self.task),
            "base": asdict(self.base),
            "guides": [asdict(teacher) for teacher in self.teachers],
            "preprocess": self.preprocess.as_dict(),
            "residual": {row["name"]: (row["count"], *self.shapes[row["name"]]) for row in table},
        }
        if self.architecture:
            content = {"sha256": self.architecture.sha256, **self.architecture.as_dict()}
            document[FEATURE] = content
        heads = {_HEAD + name: array for name, array in self.head_tensors.items()}
        tokens = {_TOKENS + name: array for name, array in self.tokens.items()}
        document, arrays = checksummed.extended(
            document,
            {**tensors, **heads, **tokens},
            self.requires,
            self.optional,
            self.optional_tensors,
        )
        try:
            checksummed.write(path, KIND, SCHEMA, document, arrays)
        except (TypeError, ValueError) as error:  # json's, for NaN or an object in the metrics
            raise FormatError(
                f"cannot write '{path}': {error}; use plain, finite values"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Artifact:
        """Read an artifact and check all of it.

        Raises:
            FormatError: The file is missing, damaged, altered, or of another kind or version.
        """
        try:
            file = checksummed.read(path, KIND, SCHEMA, oldest=OLDEST, features=FEATURES)
            document = build(_Document, file.document, f"'{path}'")
            arguments = document.arguments(file.tensors)
            arguments["architecture"] = _architecture(document, f"'{path}'")
            arguments["config"] = _settings(document, file.optional, path)
            artifact = cls(
                **arguments,
                requires=file.requires,
                optional=file.optional,
                optional_tensors=file.optional_tensors,
            )
            artifact.check()
        except FormatError as error:
            where = "" if str(path) in str(error) else f"'{path}': "
            raise FormatError(f"{where}{error}") from error
        except MemoryError as error:
            raise FormatError(f"'{path}' claims more data than this machine can hold") from error
        return artifact

    @property
    def head_weight(self) -> NDArray[np.float32]:
        """(K, D), of the head's linear map."""
        return self.head_tensors[HEADS[self.head].weight_name]


@dataclass(frozen=True)
class _Document:
    """The JSON of an artifact file."""

    task: TaskInfo
    method: str
    base: BaseModel
    preprocess: Preprocess
    residual: dict[str, tuple[int, ...]]
    """Changed tensors by name: number of changed entries, then the shape."""
    parameters: int
    head: str
    prompts: tuple[str, ...]
    config: dict[str, Any]
    seed: int
    metrics: dict[str, Any]
    versions: dict[str, str]
    guides: tuple[BaseModel, ...]
    """`Artifact.teachers`."""
    architecture: dict[str, Any] | None = None

    def arguments(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Return the arguments of `Artifact`."""
        if not all(self.residual.values()):
            raise FormatError("a changed tensor lacks its number of entries")
        # The codec's own table says float32 once per tensor; an eighth of the file's overhead.
        table = [
            {"name": name, "dtype": "float32", "count": row[0]}
            for name, row in sorted(self.residual.items())
        ]
        try:
            layout = {n: TensorSpec(n, "float32", row[1:]) for n, row in self.residual.items()}
        except ValueError as error:
            raise FormatError(str(error)) from error
        rows = patch.read_table(table, layout)
        _check_tensors(tensors, patch.count(rows))
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        own["teachers"] = own.pop("guides")
        heads = {n.removeprefix(_HEAD): a for n, a in tensors.items() if n.startswith(_HEAD)}
        tokens = {n.removeprefix(_TOKENS): a for n, a in tensors.items() if n.startswith(_TOKENS)}
        return {
            **own,
            "residual": patch.decode(rows, tensors, layout),
            "shapes": {name: spec.shape for name, spec in layout.items()},
            "head_tensors": heads,
            "tokens": tokens,
        }


def _check_tensors(tensors: Mapping[str, NDArray[Any]], changed: int) -> None:
    """Check that every tensor is known, and that the patch has the bytes its entries need."""
    kinds = (patch.PREFIX, _HEAD, _TOKENS)
    if others := [name for name in tensors if not name.startswith(kinds)]:
        raise FormatError(f"it has an unknown tensor '{min(others)[:80]}'; train the task again")
    packed = sum(array.nbytes for name, array in tensors.items() if name.startswith(patch.PREFIX))
    if 8 * changed > FREE_BYTES + MAX_RATIO * packed:
        raise FormatError(
            f"its {packed} bytes of patch unpack to {8 * changed}, expected at most "
            f"{FREE_BYTES + MAX_RATIO * packed}; train the task again"
        )


def _architecture(document: _Document, where: str) -> Architecture | None:
    if document.architecture is None:
        return None
    content = dict(document.architecture)
    stored, where = content.pop("sha256", None), f"{where}: '{FEATURE}'"
    found = Architecture.parse(content, where, FormatError)
    if found.sha256 != stored:
        raise FormatError(
            f"{where} has the digest {found.sha256[:12]}..., but says {str(stored)[:12]!r}; copy "
            "the file again"
        )
    return found


def _settings(document: _Document, optional: Mapping[str, Any], path: Path) -> dict[str, Any]:
    try:
        cls = methods.get(document.method).Config
    except ConfigError as error:
        raise FormatError(f"{error}; update uda-edge") from error
    return restore(cls, document.config, optional, f"'{path}'")


def _versions() -> dict[str, str]:
    names = ("torch", "open_clip_torch", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
