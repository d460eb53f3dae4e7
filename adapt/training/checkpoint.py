"""Write and read checkpoints, from which a run resumes as if it had never stopped.

Random draws depend on the iteration alone (`adapt.training.batches`), so weights, head, momenta,
loss scale and iteration are the whole state of a run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.methods.base import Method
from adapt.optim.averaging import WeightAverage
from adapt.optim.optimization import Optimization
from adapt.settings.stored import restore
from adapt.training import identity as identities
from adapt.training.record import check_row
from runtime.errors import FormatError
from runtime.models import BACKGROUND, required
from runtime.storage import checksummed
from runtime.storage.fields import build

KIND, SCHEMA, OLDEST = "uda-checkpoint", 2, 1
FEATURES = frozenset({BACKGROUND})
"""Features that a checkpoint may require of its reader."""
FILE = "checkpoint.safetensors"
_STATE, _OPTIMIZER, _MOMENTUM, _AVERAGE = "state.", "optimizer.", "momentum.", "average."
_MEMBERS = "optimizer_tensors"
"""Key of the names of the optimizers' tensors, which depend on the steps taken so far. Files of
earlier versions lack it."""
_SHOWN = 200
"""Characters of a value that a message shows; a file may hold any."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run."""

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
            raise ValueError("iterations, counts and seconds must be 0 or more")
        for number, row in enumerate(self.history, 1):
            check_row(row, number)


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
        path: File to write.
        identity: Identity of the run, from `identity.of_run`.
        progress: Progress of the run.
        method: Method whose state is stored; an encoder only if it is trained.
        optimization: Optimizers whose tensors are stored.
        average: Weight average whose means are stored.

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
    """Restore method, optimization and average in place and return the progress of the run.

    Raises:
        FormatError: The file is damaged.
        ConfigError: The file belongs to a run with other settings, another base or other data.
    """
    content = checksummed.read(path, KIND, SCHEMA, oldest=OLDEST, features=FEATURES)
    if others := sorted(content.document.keys() - {"identity", "progress", _MEMBERS}):
        raise FormatError(
            f"'{path}' has the unknown key {others[0][:_SHOWN]!r}; start anew with --restart"
        )
    found = content.document.get("identity")
    if isinstance(found, dict) and isinstance(found.get("config"), dict):
        config = restore(type(method.config), found["config"], content.optional, f"'{path}'")
        found = found | {"config": config}
    identities.check(path, found, identity)
    try:
        progress = build(Progress, content.document.get("progress"), f"'{path}'")
    except FormatError as error:
        raise FormatError(f"{error}; start anew with --restart") from error
    _check_members(path, content.document, content.tensors)
    optimizer_state = _restore(path, content.tensors, method, optimization)
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


def _restore(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    method: Method,
    optimization: Optimization,
) -> dict[str, Tensor]:
    """Restore the method in place, and return the state of its optimizers."""
    state = _state(method)
    optimizer_state: dict[str, Tensor] = {}
    stored = {name.removeprefix(_STATE) for name in tensors if name.startswith(_STATE)}
    if stored != state.keys():
        raise FormatError(
            f"'{path}' lacks '{min(stored ^ state.keys())}'; start anew with --restart"
        )
    with torch.no_grad(), optimization.masters():
        for name, array in tensors.items():
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
            elif name.startswith(_MOMENTUM):  # schema 1, which had SGD alone
                key = f"{name.removeprefix(_MOMENTUM)}.momentum_buffer"
                optimizer_state[key] = tensor
    return optimizer_state


def _check_members(path: Path, document: Mapping[str, Any], tensors: Collection[str]) -> None:
    """Check that every tensor is known, and that the optimizers' are those that the file lists.

    Raises:
        FormatError: A tensor is missing, not listed or unknown.
    """
    kinds = (_STATE, _OPTIMIZER, _MOMENTUM, _AVERAGE)
    if others := [name for name in tensors if not name.startswith(kinds)]:
        raise FormatError(
            f"'{path}' has an unknown tensor {min(others)[:_SHOWN]!r}; start anew with --restart"
        )
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
