"""Optimizer steps: one loss, two losses at the same parameters, two in a row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from adapt.optim.groups import Group
from adapt.optim.optimization import Optimization
from adapt.optim.rst import Projection, Threshold
from adapt.settings.config import TrainConfig

CONFIG = TrainConfig(momentum=0.9, weight_decay=0.0)


def two(lr: float = 0.1) -> tuple[nn.Parameter, nn.Parameter, Optimization]:
    a, b = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([3.0]))
    groups = [Group((a, b), lr, "first"), Group((b,), lr, "second")]
    return a, b, Optimization(groups, CONFIG)


def test_losses_given_together_take_their_gradients_before_either_step() -> None:
    a, b, optimization = two()
    optimization.step(first=a * b, second=a * b * b)
    # Nesterov's first step is lr * 1.9 * gradient; both gradients are those at (2, 3).
    assert a.item() == pytest.approx(2 - 0.19 * 3, rel=1e-6)
    assert b.item() == pytest.approx(3 - 0.19 * 2 - 0.19 * 2 * 2 * 3, rel=1e-6)


def test_losses_given_in_a_row_see_the_updated_parameters() -> None:
    a, b, optimization = two()
    optimization.step(first=a * b)
    moved = (a.item(), b.item())
    optimization.step(second=a * b * b)
    assert a.item() == moved[0]
    assert b.item() == pytest.approx(moved[1] - 0.19 * 2 * moved[0] * moved[1], rel=1e-6)


def test_each_optimizer_keeps_its_own_momentum() -> None:
    a, b, optimization = two()
    optimization.step(first=a * b, second=a * b * b)
    momenta = {name: buffer.item() for name, buffer in optimization.state().items()}
    assert momenta == pytest.approx(
        {
            f"{owner}.momentum_buffer": value
            for owner, value in (("first.0", 3.0), ("first.1", 2.0), ("second.0", 12.0))
        }
    )


def test_a_loss_gives_gradients_to_its_own_optimizer_only() -> None:
    a, _, optimization = two()
    optimization.step(second=a * a * optimization._parameters("second")[0])
    assert a.item() == 2.0


def test_restored_momenta_continue_the_same_trajectory() -> None:
    def run(split: int | None) -> Tensor:
        p = nn.Parameter(torch.linspace(-1, 1, 7))
        optimization = Optimization([Group((p,), 0.01)], CONFIG)
        for step in range(6):
            if step == split:
                saved = {name: buffer.clone() for name, buffer in optimization.state().items()}
                optimization = Optimization([Group((p,), 0.01)], CONFIG)
                optimization.load_state(saved)
            optimization.set_factor(1 / (1 + step))
            optimization.step(main=(p**3 - p).sum())
        return p.detach()

    assert torch.equal(run(None), run(3))


def test_the_factor_scales_every_groups_own_rate() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimization = Optimization([Group((a,), 1e-3), Group((b,), 1.0)], CONFIG)
    optimization.set_factor(0.5)
    optimization.step(main=a + b)
    assert (1 - a.item(), 1 - b.item()) == pytest.approx((0.5e-3 * 1.9, 0.5 * 1.9), rel=1e-4)
    assert optimization.lr == 0.5e-3


def test_weights_that_are_not_finite_are_noticed() -> None:
    a, _, optimization = two()
    assert optimization.finite()
    with torch.no_grad():
        a.fill_(float("nan"))
    assert not optimization.finite()


def test_sparsity_follows_the_steps_of_the_encoder_and_no_others() -> None:
    encoder, head = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([3.0]))
    projection = Projection([encoder], Threshold(1.0))
    groups = [Group((encoder,), 0.1, "body"), Group((head,), 0.1, "top")]
    optimization = Optimization(groups, CONFIG, projection)
    with torch.no_grad():
        encoder += 0.5  # a change that the next projection takes back
    optimization.step(top=head * encoder.detach())
    assert encoder.item() == 2.5
    optimization.step(body=0.1 * encoder)
    assert encoder.item() == 2.0
