"""Write, read and compare checkpoints, from which a run resumes as if it had never stopped.

Random draws depend on the iteration alone (`adapt.training.batches`), so weights, head, momenta,
the loss scale and the iteration are all there is.

Longer than most files, since the format is written, read and checked in one place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.artifacts.artifact import Artifact
from adapt.data import digests
from adapt.data.base import DomainPair
from adapt.methods.base import Method
from adapt.optim.averaging import WeightAverage
from adapt.optim.optimization import Optimization
from adapt.settings.config import TrainConfig
from adapt.settings.stored import restore
from adapt.training.record import check_row
from runtime.errors import ConfigError, FormatError
from runtime.models import BACKGROUND, BaseModel, required
from runtime.storage import checksummed
from runtime.storage.fields import build

KIND, SCHEMA, OLDEST = "uda-checkpoint", 2, 1
FEATURES = frozenset({BACKGROUND})
"""What a checkpoint may require of this version."""
FILE = "checkpoint.safetensors"
_STATE, _OPTIMIZER, _MOMENTUM, _AVERAGE = "state.", "optimizer.", "momentum.", "average."
_MEMBERS = "optimizer_tensors"
"""Names of the optimizers' tensors: the steps before have decided which there are. Files of earlier
versions do not say."""
_SHOWN = 200
"""Characters of a value that a message shows; a file may hold any."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    iteration: int
    """Iterations done."""
    history: tuple[dict[str, Any], ...] = ()
    """One row per finished epoch, as in metrics.jsonl."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the loss terms since the last finished epoch."""
    count: int = 0
    """Iterations in these sums."""
    seconds: float = 0.0
    """Time spent since the last finished epoch."""
    scale: dict[str, float] = field(default_factory=dict)
    """State of fp16's loss scale."""
    averaged: int = 0
    """Epochs in the average of the weights."""

    def __post_init__(self) -> None:
        if min(self.iteration, self.count, self.seconds, self.averaged) < 0:
            raise ValueError("a run cannot have come less far than its beginning")
        for number, row in enumerate(self.history, 1):
            check_row(row, number)


def identity(
    method: str,
    pair: DomainPair,
    config: TrainConfig,
    base: BaseModel,
    teachers: Sequence[BaseModel] = (),
) -> dict[str, Any]:
    """Return what makes a run this run and no other, as JSON values.

    Args:
        method: Name of the method.
        pair: Images of the task.
        config: Resolved settings.
        base: The base model.
        teachers: Other base models that the run learns from.
    """
    return {
        "method": method,
        "task": asdict(pair.task),
        "config": asdict(config),
        "base": asdict(base),
        "data": {role: getattr(pair, role).digest() for role in ("source", "target", "test")},
        "guides": [asdict(teacher) for teacher in teachers],
    }


def identity_of(artifact: Artifact) -> dict[str, Any]:
    """Return the identity of the run that made an artifact."""
    return {
        "method": artifact.method,
        "task": asdict(artifact.task),
        "config": dict(artifact.config),
        "base": asdict(artifact.base),
        "data": dict(artifact.metrics["data"]),
        "guides": [asdict(teacher) for teacher in artifact.teachers],
    }


def save(
    path: Path,
    identity: Mapping[str, Any],
    progress: Progress,
    method: Method,
    optimization: Optimization,
    average: WeightAverage,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file.
        identity: Of the run, from the function of that name.
        progress: How far it has come.
        method: Its state is stored; the encoder's only if it is trained.
        optimization: The optimizers' tensors are stored.
        average: Its means are stored.

    Raises:
        StorageError: The file cannot be written; an earlier one is still there.
    """
    tensors = {_STATE + name: tensor for name, tensor in _state(method).items()}
    momenta = optimization.state()
    tensors |= {_OPTIMIZER + name: tensor for name, tensor in momenta.items()}
    tensors |= {_AVERAGE + name: tensor for name, tensor in average.state().items()}
    document = {
        "identity": dict(identity),
        "progress": asdict(progress),
        _MEMBERS: sorted(momenta),
    }
    with optimization.masters():
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        features = required(method.config.background)
        checksummed.write(
            path, KIND, SCHEMA, *checksummed.extended(document, arrays, features, {}, {})
        )


def load(
    path: Path,
    identity: Mapping[str, Any],
    method: Method,
    optimization: Optimization,
    average: WeightAverage,
) -> Progress:
    """Restore method, optimization and average in place and return how far the run has come.

    Raises:
        FormatError: The file is damaged.
        ConfigError: It belongs to a run with other settings, another base or other data.
    """
    content = checksummed.read(path, KIND, SCHEMA, oldest=OLDEST, features=FEATURES)
    found = content.document.get("identity")
    if isinstance(found, dict) and isinstance(found.get("config"), dict):
        config = restore(type(method.config), found["config"], content.optional, f"'{path}'")
        found = found | {"config": config}
    _check_identity(path, found, identity)
    try:
        progress = build(Progress, content.document.get("progress"), f"'{path}'")
    except FormatError as error:
        raise FormatError(f"{error}; start anew with --restart") from error
    _check_members(path, content.document, content.tensors)
    state = _state(method)
    optimizer_state: dict[str, Tensor] = {}
    stored = {name.removeprefix(_STATE) for name in content.tensors if name.startswith(_STATE)}
    if stored != state.keys():
        raise FormatError(
            f"'{path}' lacks '{min(stored ^ state.keys())}'; start anew with --restart"
        )
    with torch.no_grad(), optimization.masters():
        for name, array in content.tensors.items():
            tensor = torch.from_numpy(array)
            if name.startswith(_STATE):
                own = state[name.removeprefix(_STATE)]
                if own.numel() != tensor.numel():
                    raise FormatError(
                        f"'{path}' has a misshapen '{name}'; start anew with --restart"
                    )
                own.copy_(tensor.reshape(own.shape))
            elif name.startswith(_OPTIMIZER):
                optimizer_state[name.removeprefix(_OPTIMIZER)] = tensor
            elif name.startswith(_MOMENTUM):  # schema 1, which knew SGD alone
                key = f"{name.removeprefix(_MOMENTUM)}.momentum_buffer"
                optimizer_state[key] = tensor
    means = {
        name.removeprefix(_AVERAGE): torch.from_numpy(array)
        for name, array in content.tensors.items()
        if name.startswith(_AVERAGE)
    }
    try:
        optimization.load_state(optimizer_state)
        optimization.scale = progress.scale
        average.load_state(progress.averaged, means)
    except FormatError as error:
        raise FormatError(f"'{path}': {error}; start anew with --restart") from error
    return progress


def _check_members(path: Path, document: Mapping[str, Any], tensors: Collection[str]) -> None:
    """Check that the optimizers' tensors are those that the file was written with.

    Raises:
        FormatError: One is missing, or there is another one.
    """
    if _MEMBERS not in document:
        return
    names = document[_MEMBERS]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(
            f"'{path}': '{_MEMBERS}' must be a list of names; start anew with --restart"
        )
    found = {name.removeprefix(_OPTIMIZER) for name in tensors if name.startswith(_OPTIMIZER)}
    for what, odd in (("lacks", {*names} - found), ("has another", found - {*names})):
        if odd:
            raise FormatError(
                f"'{path}' {what} optimizer tensor {min(odd)[:_SHOWN]!r}; start anew with --restart"
            )


def _state(method: Method) -> dict[str, Tensor]:
    """Return the method's tensors, not copied, without an encoder that stays the base."""
    encoder_trains = any(p.requires_grad for p in method.encoder.parameters())
    return {
        name: tensor
        for name, tensor in method.state_dict().items()
        if encoder_trains or not name.startswith("encoder.")
    }


def differences(found: object, needed: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    """Return by dotted key what two identities have, where they differ; settings come first."""
    before, now = _flatten(found), _flatten(needed)
    keys = sorted(now | before, key=lambda key: not key.startswith("config."))
    values = {key: (before.get(key), now.get(key)) for key in keys}
    return {
        key: pair
        for key, pair in values.items()
        if not (digests.same(*pair) if key.startswith("data.") else pair[0] == pair[1])
    }


def _check_identity(path: Path, found: object, needed: Mapping[str, Any]) -> None:
    for key, (before, now) in differences(found, needed).items():
        what = ": other images or labels" if key.startswith("data.") else ""
        raise ConfigError(
            f"cannot resume from '{path}': it was made with {key[:_SHOWN]} = {before!r:.{_SHOWN}}, "
            f"this run has {now!r:.{_SHOWN}}{what}; use the same settings and data, or start anew "
            "with --restart"
        )


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {prefix: list(value) if isinstance(value, tuple) else value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
