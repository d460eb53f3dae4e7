"""Step optimizers: gradients, loss scale, sparsity and learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from adapt.compute.parallel import average
from adapt.optim.groups import Group, OptimizerFactory, sgd
from adapt.optim.rst import Projection
from adapt.settings.config import TrainConfig
from runtime.errors import FormatError


class Optimization:
    """The optimizers by name, with RST, rounding and the loss scale after each step."""

    def __init__(
        self,
        groups: Sequence[Group],
        config: TrainConfig,
        projection: Projection | None = None,
        make: OptimizerFactory | None = None,
    ) -> None:
        """Make the optimizers.

        Args:
            groups: Trained parameters, which must not be replaced afterwards.
            config: Settings: momentum, weight decay, mixed precision.
            projection: RST over the encoder and its grid, applied after every step that trains a
                part of the encoder.
            make: Factory of optimizers, like `Method.optimizer`; None for SGD.
        """
        make = make or sgd(config)
        self.progress = 1.0
        """Share of the run that is done after the next step; it tightens a budget."""
        self._projection = projection
        sparse = {id(p) for p in projection.parameters} if projection else set()
        self._sparse = {g.optimizer for g in groups if any(id(p) in sparse for p in g.parameters)}
        self._scaler = torch.amp.GradScaler("cuda", enabled=config.amp == "fp16")
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        for name in dict.fromkeys(group.optimizer for group in groups):
            mine = [group for group in groups if group.optimizer == name]
            self._optimizers[name] = make(
                [{"params": list(g.parameters), "lr": g.lr, "lr_0": g.lr} for g in mine]
            )

    def step(self, **losses: Tensor) -> None:
        """Step the named optimizers on their losses, in the order given.

        RST follows each step that trains a part of the encoder; on a grid that step moves the
        float32 masters.

        All gradients are taken at the parameters as they are now, before the first step; an
        optimizer's loss gives gradients to that optimizer's parameters and to no others.
        """
        gradients: list[list[Tensor | None]] = []
        for position, (name, loss) in enumerate(losses.items(), 1):
            parameters = self._parameters(name)
            for parameter in parameters:
                parameter.grad = None
            self._scaler.scale(loss).backward(
                inputs=parameters, retain_graph=position < len(losses)
            )
            average([p.grad for p in parameters if p.grad is not None])
            gradients.append([parameter.grad for parameter in parameters])
        for name, mine in zip(losses, gradients, strict=True):
            for parameter, gradient in zip(self._parameters(name), mine, strict=True):
                parameter.grad = gradient
            if self._projection is None or name not in self._sparse:
                self._scaler.step(self._optimizers[name])
                continue
            with self._projection.masters():
                self._scaler.step(self._optimizers[name])
                self._projection.apply(self.progress)
        self._scaler.update()

    @contextmanager
    def masters(self) -> Iterator[None]:
        """Let the parameters hold the values that the optimizers step, before rounding to a grid.

        Checkpoints are saved and loaded in here.
        """
        with self._projection.masters() if self._projection else nullcontext():
            yield

    def project(self) -> None:
        """Apply RST, if any, to the weights as they are now; on a grid, within `masters`."""
        if self._projection:
            self._projection.apply(self.progress)

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to its value at iteration 0 times `factor`."""
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["lr_0"] * factor

    @property
    def lr(self) -> float:
        """The first group's present learning rate, mostly the encoder's; 0 without any."""
        groups = [g for o in self._optimizers.values() for g in o.param_groups]
        return float(groups[0]["lr"]) if groups else 0.0

    def finite(self) -> bool:
        """Return whether all weights and the optimizers' tensors are finite."""
        tensors = [
            *self.state().values(),
            *(p for o in self._optimizers for p in self._parameters(o)),
        ]
        return all(bool(torch.isfinite(t).all()) for t in tensors)

    def state(self) -> dict[str, Tensor]:
        """Return the optimizers' tensors as `<optimizer>.<position>.<key>`, not copied."""
        return {
            f"{name}.{position}.{key}": value
            for name, optimizer in self._optimizers.items()
            for position, parameter in enumerate(self._parameters(name))
            for key, value in optimizer.state[parameter].items()
            if isinstance(value, Tensor)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            FormatError: A tensor is unknown, or has another shape than its parameter, beyond which
                fused steps would read and write.
        """
        owners = {
            f"{name}.{position}": (optimizer, parameter)
            for name, optimizer in self._optimizers.items()
            for position, parameter in enumerate(self._parameters(name))
        }
        for name, value in state.items():
            owner, _, key = name.rpartition(".")
            if owner not in owners:
                raise FormatError(f"the optimizers have no tensor {name[:80]!r}")
            optimizer, parameter = owners[owner]
            fused = any(group.get("fused") for group in optimizer.param_groups)
            shape = torch.Size() if key == "step" else parameter.shape
            if key == "step" and value.numel() == 1:
                value = value.reshape(())  # a file has no tensors without axes
            if (fused and value.shape != shape) or not value.is_floating_point():
                raise FormatError(
                    f"the optimizers' tensor {name[:80]!r} is {value.dtype}{tuple(value.shape)}, "
                    f"expected floats {tuple(shape)}"
                )
            optimizer.state[parameter][key] = _like(value, parameter)

    @property
    def scale(self) -> dict[str, float]:
        """State of the loss scale: empty unless fp16."""
        return {k: float(v) for k, v in self._scaler.state_dict().items()}

    @scale.setter
    def scale(self, state: dict[str, float]) -> None:
        if state.keys() != self.scale.keys():
            raise FormatError(f"the loss scale needs {sorted(self.scale)}, found {sorted(state)}")
        if state:
            self._scaler.load_state_dict(
                {**state, "_growth_tracker": int(state["_growth_tracker"])}
            )

    def _parameters(self, name: str) -> list[nn.Parameter]:
        return [p for group in self._optimizers[name].param_groups for p in group["params"]]


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return a fresh copy on the parameter's device, laid out as it is if it has its shape."""
    if value.shape != parameter.shape:
        return value.clone().to(parameter.device)  # a counter of steps
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)
