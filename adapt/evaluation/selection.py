"""Choose the epoch to keep by scores of the predictions, for a target without labels.

Users cannot see the accuracy on their target, so the epoch that papers report is out of reach. The
scores here need logits alone. None is sure: each rewards confidence in some form, which a wrong
model can have too. `benchmarks/selection.py` measures what each choice costs.

Symbols: N images, K classes; logits `z` (N, K), `p = softmax(z)`. All is computed in float64, in
chunks of rows, so that memory does not grow with N.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adapt.settings.selectors import LAST, SELECTORS, check_selector
from runtime.errors import ConfigError

TEMPERATURE = 0.05
"""Temperature of soft neighbourhood density, the paper's for all data sets."""
NEIGHBOURS = 5000
"""Largest number of images for soft neighbourhood density, whose cost is quadratic."""
_ROWS = 1024


def scores(logits: Tensor, clip_logits: Tensor | None = None) -> dict[str, float]:
    """Return every score of the predictions on one set of unlabelled images, by name.

    Args:
        logits: Logits (N, K) of the deployed prediction, on the CPU.
        clip_logits: Logits (N, K) of CLIP's own head on the same features; None gives no
            "agreement".
    """
    found = {
        "entropy": mean_entropy(logits),
        "infomax": information_maximisation(logits),
        "snd": soft_neighbourhood_density(logits),
        "nuclear": nuclear_norm(logits),
    }
    return found if clip_logits is None else found | {"agreement": agreement(logits, clip_logits)}


def choose(history: Sequence[Mapping[str, Any]], name: str) -> int:
    """Return the position of the epoch that a selector prefers; of equal ones the latest.

    Args:
        history: Rows of the epochs, with `scores` in each.
        name: Selector, one of `adapt.settings.selectors.names()`.

    Raises:
        ConfigError: There is no such selector, or an epoch lacks its score.
    """
    if name == LAST:
        return len(history) - 1
    check_selector(name)
    values = []
    for row in history:
        own = row.get("scores") or {}
        if name not in own:
            why = "; the method has no CLIP head to agree with" if name == "agreement" else ""
            raise ConfigError(
                f"choosing the epoch by '{name}' needs that score of every epoch, but epoch "
                f"{row['epoch']} has {', '.join(sorted(own)) or 'none'}{why}; choose one of "
                f"{', '.join([LAST, *(n for n in SELECTORS if n in own)])}"
            )
        values.append(own[name] if SELECTORS[name] else -own[name])
    return max(range(len(values)), key=lambda i: (values[i], i))


def mean_entropy(logits: Tensor) -> float:
    """Return `-1/N sum_i sum_c p_ic log p_ic` in nats, in [0, log K]; smaller is better.

    Morerio, Cavazza and Murino, ICLR 2018, arXiv:1711.10288, choose with it. A model
    that gives one class to every image looks perfect.

    Args:
        logits: Logits (N, K).
    """
    return sum(_entropy(log_p) for log_p in _log_softmax(logits)) / len(logits)


def information_maximisation(logits: Tensor) -> float:
    """Return `H(1/N sum_i p_i) - 1/N sum_i H(p_i)` in nats, in [0, log K]; larger is better.

    The mutual information of image and prediction: sure of each, and using all classes (Shi and
    Sha, ICML 2012, arXiv:1206.6438; to choose a model in Musgrave et al., arXiv:2208.07360).

    Args:
        logits: Logits (N, K).
    """
    mass = torch.stack([log_p.exp().sum(0) for log_p in _log_softmax(logits)]).sum(0)  # (K,)
    mean = mass / len(logits)
    return float(-torch.xlogy(mean, mean).sum()) - mean_entropy(logits)


def soft_neighbourhood_density(logits: Tensor) -> float:
    """Return the mean entropy of each image's soft neighbourhood, in [0, log(N - 1)].

    `P_ij = softmax_j(<u_i, u_j> / 0.05)` over j != i, with `u` the predictions p at unit length;
    larger is better: many neighbours that are equally near (Saito et al., ICCV 2021,
    arXiv:2108.10860, on softmax outputs as there). The authors' code keeps the pair of an image
    with itself, at a similarity of -1, which changes nothing visible; here it is left out.

    Deviation: of more than 5,000 images, 5,000 evenly spaced ones are used; compare values of the
    same set of images only. One image has no neighbour and scores 0.

    Args:
        logits: Logits (N, K).
    """
    count = min(len(logits), NEIGHBOURS)
    if count < 2:
        return 0.0
    some = logits[torch.arange(count) * len(logits) // count]
    units = normalize(torch.cat([log_p.exp() for log_p in _log_softmax(some)]), dim=-1)
    total = 0.0
    for start in range(0, count, _ROWS):
        near = units[start : start + _ROWS] @ units.T / TEMPERATURE  # (R, count)
        near.diagonal(start).fill_(-math.inf)
        total += _entropy(near.log_softmax(-1))
    return total / count


def nuclear_norm(logits: Tensor) -> float:
    """Return the nuclear norm of p over its upper bound `sqrt(N min(N, K))`, in (0, 1].

    1 if every image is given one class with certainty and all classes are used equally: larger is
    better (Cui et al., CVPR 2020, arXiv:2003.12237; there a loss on batches, undivided).

    Args:
        logits: Logits (N, K).
    """
    count, classes = logits.shape
    gram = logits.new_zeros((classes, classes), dtype=torch.float64)
    for log_p in _log_softmax(logits):
        gram += log_p.exp().T @ log_p.exp()
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()  # of p, without its N rows
    return float(singular.sum()) / math.sqrt(count * min(count, classes))


def agreement(logits: Tensor, clip_logits: Tensor) -> float:
    """Return the share of images to which both heads give the same class, in [0, 1].

    Two classifiers that err for different reasons agree where they are right (Jiang et al.,
    ICLR 2022, arXiv:2106.13799, for two runs; here for two heads on one encoder).

    Args:
        logits: Logits (N, K) of the task head.
        clip_logits: Logits (N, K) of CLIP's head.
    """
    return float((logits.argmax(-1) == clip_logits.argmax(-1)).double().mean())


def _log_softmax(logits: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(logits), _ROWS):
        yield logits[start : start + _ROWS].double().log_softmax(-1)


def _entropy(log_p: Tensor) -> float:
    """Return the sum of the rows' entropies; where p is 0 it adds 0."""
    return -float((log_p.exp() * log_p.clamp_min(torch.finfo(log_p.dtype).min)).sum())
