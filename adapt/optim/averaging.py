"""Average the weights at the ends of a run's last epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from adapt.optim.optimization import Optimization
from runtime.errors import FormatError


class WeightAverage:
    """Mean of the trained tensors at the ends of epochs.

    Stochastic weight averaging (Izmailov et al., UAI 2018, arXiv:1803.05407), with these
    differences: the learning rate follows its own schedule, running statistics are averaged like
    weights instead of being computed anew, and RST is applied to the mean, so that it is as sparse
    as the weights of any step. Training itself never sees the mean.
    """

    def __init__(self, method: nn.Module, optimization: Optimization) -> None:
        """Start with no epoch.

        Args:
            method: Method whose trained parameters and floating-point buffers are averaged.
            optimization: Optimization that gives the weights before rounding and applies RST.
        """
        self._optimization = optimization
        trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
        moving = {n: b for n, b in method.named_buffers() if b.is_floating_point()}
        self._tensors: dict[str, Tensor] = {**trained, **moving}
        self._means: dict[str, Tensor] = {}
        self.epochs = 0
        """Epochs in the mean."""

    @torch.no_grad()
    def add(self) -> None:
        """Add the present weights; a value that never moves stays the same bit for bit."""
        self.epochs += 1
        with self._optimization.masters():
            for name, tensor in self._tensors.items():
                mean = self._means.setdefault(name, tensor.detach().clone())
                mean += (tensor - mean) / self.epochs

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the method hold the mean of two epochs or more, and then its own weights again."""
        if self.epochs < 2:
            yield
            return
        own = self._replace(self._means, project=True)
        try:
            yield
        finally:
            self._replace(own)

    def state(self) -> Mapping[str, Tensor]:
        """Return the means by name, not copied, for a checkpoint."""
        return self._means

    def load_state(self, epochs: int, means: Mapping[str, Tensor]) -> None:
        """Restore the mean from a checkpoint.

        Args:
            epochs: Epochs in the mean.
            means: Means by name, from `state`.

        Raises:
            FormatError: A mean is missing, is not expected or has another shape.
        """
        expected = {name: tensor.numel() for name, tensor in self._tensors.items() if epochs}
        found = {name: tensor.numel() for name, tensor in means.items()}
        if odd := sorted(expected.items() ^ found.items()):
            raise FormatError(f"the averaged tensor '{odd[0][0][:200]}' is missing or misshapen")
        self.epochs = epochs
        self._means = {
            name: means[name].to(self._tensors[name]).reshape(self._tensors[name].shape).clone()
            for name in expected
        }

    @torch.no_grad()
    def _replace(self, values: Mapping[str, Tensor], project: bool = False) -> dict[str, Tensor]:
        """Write values into the method and return its former ones."""
        with self._optimization.masters():
            own = {name: tensor.detach().clone() for name, tensor in self._tensors.items()}
            for name, tensor in self._tensors.items():
                tensor.copy_(values[name])
            if project:
                self._optimization.project()
        return own
