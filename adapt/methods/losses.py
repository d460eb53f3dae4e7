"""Loss terms as pure functions, one equation each, in float32.

Symbols: N images, C classes; `z` logits (N, C), `p = softmax(z)`. `[P]` is the paper (Zhou and
Zhou, TCSVT 2024, arXiv:2408.02192), `[C]` the code its authors released. Where they differ `[C]` is
what produced the published numbers, so `[C]` is computed here and the docstring says so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from adapt.settings.methods import RAMP_ITERATIONS


def ramp(iteration: int, length: int = RAMP_ITERATIONS) -> float:
    """Return CMKD's ramp `2 / (1 + exp(-min(t, T) / T)) - 1`, from 0 to 0.46212 (never 1).

    Deviation: [P] misprints the formula; this is [C] with gamma = 1.

    Args:
        iteration: t, from 0.
        length: T, the iteration from which the ramp stays at its maximum.
    """
    return 2 / (1 + math.exp(-min(iteration, length) / length)) - 1


def kl_divergence(target_logits: Tensor, logits: Tensor) -> Tensor:
    """Return `KL(q || p) = sum_c q_c (log q_c - log p_c)` of each row, shape (N,).

    Computed from log-softmax, so that a probability that underflows gives 0 and not `0 * -inf`.

    Args:
        target_logits: (N, C), q before its softmax.
        logits: (N, C), p before its softmax.
    """
    log_q, log_p = target_logits.log_softmax(-1), logits.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def agreement(task_logits: Tensor, clip_logits: Tensor) -> Tensor:
    """Return `a_i = exp(-KL(q_i || p_i))` in [0, 1], shape (N,), detached.

    1 where the task head (p) and CLIP's own head (q) say the same, 0 where they contradict.
    Deviation: [P] writes KL(p || q); [C] computes KL(q || p).

    Args:
        task_logits: (N, C) of the task head.
        clip_logits: (N, C) of CLIP's head, scaled.
    """
    return torch.exp(-kl_divergence(clip_logits, task_logits)).detach()


def gini_impurity(p: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the batch-normalised Gini impurity `sum_i w_i (1 - sum_c p_ic^2 / s_c)`, a scalar.

    `s_c = sum_i p_ic` is detached, so the gradient of `p_ic` is `-2 w_i p_ic / s_c`: classes with
    little mass in the batch weigh more. It is a sum: its weight grows with the batch. For one-hot
    rows and w = 1 it is N minus the number of classes present.
    Deviation: [P] writes `1 - sum p^2`; [C] divides by s_c. A class whose mass underflows to 0
    counts as 0 here and is 0 / 0 in [C].

    Args:
        p: (N, C) probabilities.
        weight: w, (N,), not differentiated through by CMKD; all ones when absent.
    """
    mass = p.sum(0).detach().clamp_min(torch.finfo(p.dtype).tiny)  # (C,)
    impurity = 1 - (p * (p / mass)).sum(-1)  # (N,)
    return impurity.sum() if weight is None else (weight * impurity).sum()


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy with label smoothing, a scalar.

    Args:
        logits: (N, C).
        labels: (N,) int64 class positions.
        smoothing: Share of the target mass that is spread over all C classes, in [0, 1].
    """
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def fixmatch(
    weak: Tensor, strong: Tensor, threshold: float, classes: Tensor | None = None
) -> Tensor:
    """Return FixMatch's `1/N sum_i 1[max_c p_ic >= threshold] CE(strong_i, argmax_c p_ic)`.

    `p = softmax(weak)`; pseudo labels and mask are detached. The mean is over all N images, also
    those without a confident label. (Sohn et al., NeurIPS 2020, arXiv:2001.07685, equation 4.)

    Args:
        weak: Logits (N, C) of the weakly augmented views.
        strong: Logits (N, C) of the strongly augmented views of the same images.
        threshold: Least confidence of a pseudo label, in [0, 1].
        classes: (C,), 0 for classes that no pseudo label may name; the others' probabilities stay
            as they are, not renormalised ([C]'s partial-set variant). None allows all.
    """
    p = weak.detach().softmax(-1)
    confidence, label = (p if classes is None else p * classes).max(-1)  # (N,)
    loss = functional.cross_entropy(strong, label, reduction="none")
    return (loss * (confidence >= threshold)).mean()
