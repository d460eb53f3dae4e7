"""The artifact: everything training leaves for one task, in one sealed file.

`artifacts/<dataset>/<task>/<variant>/artifact.safetensors`, where the variant is the method's name,
with `-rst` added when RST was on. The residual is kept as new values, so merging is an assignment:
exact, and the same when done twice.
"""

from __future__ import annotations

import copy
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adapt.clip import Clip, encoder_tensors
from adapt.heads import HEADS, build_head, head_tensors
from runtime import patch, sealed
from runtime.digest import tensors_sha256
from runtime.errors import BaseModelError, FormatError, TaskError
from runtime.fields import build
from runtime.spec import BaseModel, Preprocess, TaskInfo, TensorSpec

KIND, SCHEMA = "uda-artifact", 1
FILE = "artifact.safetensors"
BASELINES = ("zero_shot", "source_only")
"""Variants that nobody deploys by accident: they must be asked for by name."""
_HEAD = "head."
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
    """New values of the encoder entries that training changed."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the tensors in `residual`."""
    parameters: int
    """Number of all encoder parameters."""
    head: str
    """Kind of head, a key of `adapt.heads.HEADS`."""
    head_tensors: Tensors
    prompts: tuple[str, ...]
    """One per class, in the order of the classes."""
    config: Mapping[str, Any]
    """The settings as training resolved them."""
    seed: int
    metrics: Mapping[str, Any]
    versions: Mapping[str, str]
    """Of Python and of the libraries that computed."""

    @classmethod
    def of(
        cls,
        base: BaseModel,
        reference: Tensors,
        encoder: nn.Module,
        head: nn.Module,
        *,
        task: TaskInfo,
        method: str,
        preprocess: Preprocess,
        prompts: tuple[str, ...],
        config: Mapping[str, Any],
        seed: int,
        metrics: Mapping[str, Any],
    ) -> Artifact:
        """Return the artifact of a trained encoder and head.

        Args:
            base: The base model.
            reference: `encoder_tensors` of the base, taken before training.
            encoder: The trained image encoder, or the base's when only a head was trained.
            head: Of a class in `adapt.heads.HEADS`.
            task: What it was trained for.
            method: The method's name.
            preprocess: What evaluation used.
            prompts: Of the classes.
            config: Resolved settings.
            seed: Of the run.
            metrics: JSON-serialisable.

        Raises:
            BaseModelError: The reference is not the base's.
            FormatError: A weight is not finite, or the parts do not fit together.
        """
        if tensors_sha256(reference) != base.sha256:
            raise BaseModelError(
                f"the reference weights are not those of {base.architecture}/{base.pretrained}; "
                "take encoder_tensors(clip.visual) before training changes them"
            )
        residual = patch.diff(reference, encoder_tensors(encoder))
        artifact = cls(
            task=task,
            method=method,
            base=base,
            preprocess=preprocess,
            residual=residual,
            shapes={name: reference[name].shape for name in residual},
            parameters=sum(p.numel() for p in encoder.parameters()),
            head=next((k for k, c in HEADS.items() if type(head) is c), type(head).__name__),
            head_tensors=head_tensors(head),
            prompts=prompts,
            config=dict(config),
            seed=seed,
            metrics=dict(metrics),
            versions=_versions(),
        )
        artifact.check()
        return artifact

    @property
    def density(self) -> float:
        """Changed over all encoder parameters, in [0, 1]."""
        return patch.size(self.residual) / self.parameters

    def check(self) -> None:
        """Check that the parts fit together.

        Raises:
            FormatError: They do not.
        """
        for name in (self.task.dataset, self.method):
            if not _NAME.fullmatch(name):
                raise FormatError(f"'{name[:80]}' cannot name a data set or a method")
        if self.parameters < max(patch.size(self.residual), 1):
            raise FormatError(f"the encoder cannot have {self.parameters} parameters")
        for name, sparse in self.residual.items():
            patch.check(TensorSpec(name, "float32", self.shapes[name]), sparse)
        build_head(self.head, self.head_tensors)
        rows, classes = self._weight().shape[0], len(self.task.classes)
        if rows != classes or len(self.prompts) != classes:
            raise FormatError(
                f"task '{self.task.id}' has {classes} classes, {len(self.prompts)} prompts and a "
                f"head for {rows}; these must be equal"
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
            "preprocess": asdict(self.preprocess),
            "residual": {row["name"]: (row["count"], *self.shapes[row["name"]]) for row in table},
        }
        heads = {_HEAD + name: array for name, array in self.head_tensors.items()}
        try:
            sealed.write(path, KIND, SCHEMA, document, {**tensors, **heads})
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
            file = sealed.read(path, KIND, SCHEMA)
            document = build(_Document, file.document, f"'{path}'")
            artifact = cls(**document.arguments(file.tensors))
            artifact.check()
        except FormatError as error:
            where = "" if str(path) in str(error) else f"'{path}': "
            raise FormatError(f"{where}{error}") from error
        except MemoryError as error:
            raise FormatError(f"'{path}' claims more data than this machine can hold") from error
        return artifact

    def _weight(self) -> NDArray[np.float32]:
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
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        heads = {n.removeprefix(_HEAD): a for n, a in tensors.items() if n.startswith(_HEAD)}
        return {
            **own,
            "residual": patch.decode(table, tensors, layout),
            "shapes": {name: spec.shape for name, spec in layout.items()},
            "head_tensors": heads,
        }


def merged(clip: Clip, artifact: Artifact) -> dict[str, NDArray[np.float32]]:
    """Return the encoder's tensors with the residual in place, bit for bit those of training.

    Args:
        clip: The base model, its encoder untouched.
        artifact: The task.

    Raises:
        BaseModelError: The artifact belongs to another base, or the encoder was changed in memory.
        FormatError: The artifact does not fit the base it names.
    """
    own, needed = clip.info, artifact.base
    if own.sha256 != needed.sha256:
        raise BaseModelError(
            f"artifact '{artifact.task.id}' was trained on {needed.architecture}/"
            f"{needed.pretrained} (sha256 {needed.sha256[:12]}...), but this base is "
            f"{own.architecture}/{own.pretrained} (sha256 {own.sha256[:12]}...); pass the base it "
            "was trained on, or train again"
        )
    tensors = encoder_tensors(clip.visual)
    if tensors_sha256(tensors) != own.sha256:
        raise BaseModelError(
            f"the encoder of {own.architecture}/{own.pretrained} is not the base any more, "
            "something trained it; load the base model again"
        )
    for name, shape in artifact.shapes.items():
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            raise FormatError(f"the artifact changes '{name}' {shape}; the base has {found}")
    dim = artifact._weight().shape[1]
    if dim != clip.dim:
        raise FormatError(f"the artifact's head takes {dim} features, the encoder gives {clip.dim}")
    return patch.merge(tensors, artifact.residual)


def load_merged(clip: Clip, artifact: Artifact) -> nn.Module:
    """Return a copy of the encoder that carries the residual; `clip` stays as it is.

    Raises:
        BaseModelError: The artifact belongs to another base.
        FormatError: The artifact does not fit the base it names.
    """
    tensors = merged(clip, artifact)
    encoder = copy.deepcopy(clip.visual)
    own = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    with torch.no_grad():
        for name in artifact.residual:
            own[name].copy_(torch.from_numpy(tensors[name]))
    return encoder.eval()


def find(root: Path, task: str, dataset: str | None = None, method: str | None = None) -> Path:
    """Return the artifact file of a task.

    Without a method, `zero_shot` and `source_only` are left out if there is anything else.

    Args:
        root: The folder that training wrote, `artifacts` by default.
        task: Its id.
        dataset: Its data set, when several have a task of that name.
        method: The variant: a method's name, with `-rst` added when RST was on.

    Raises:
        TaskError: No artifact matches, or several do.
    """
    files = {path.parts[-4:-1]: path for path in sorted(root.glob(f"*/*/*/{FILE}"))}
    same = {key: path for key, path in files.items() if key[1] == task}
    if dataset is not None:
        same = {key: path for key, path in same.items() if key[0] == dataset}
    if not same:
        known = ", ".join(sorted({f"{d}/{t}" for d, t, _ in files})) or "none"
        wanted = f"'{task}'" if dataset is None else f"'{task}' of data set '{dataset}'"
        raise TaskError(
            f"'{root}' has no artifact of task {wanted}; there are {known}; make it with "
            f'"uda-adapt train --dataset {dataset or "DATASET"} --task {task} '
            f'--method {(method or "cmkd").removesuffix("-rst")}"'
        )
    if len({key[0] for key in same}) > 1:
        raise TaskError(
            f"task '{task}' exists for the data sets {', '.join(sorted({k[0] for k in same}))}; "
            "choose one with --dataset"
        )
    variants = {key[2]: path for key, path in same.items()}
    chosen = variants
    if method is not None:
        chosen = {name: path for name, path in variants.items() if name == method}
    elif len(variants) > 1:
        adapted = {name: path for name, path in variants.items() if name not in BASELINES}
        chosen = adapted or variants
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    problem = f"was not trained with '{method}'" if method is not None else "has several artifacts"
    raise TaskError(
        f"task '{task}' {problem}; there are {', '.join(variants)}; choose one with --method"
    )


def _versions() -> dict[str, str]:
    names = ("torch", "open_clip_torch", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
