"""UniMoS' loss terms and pseudo labels as pure functions, one equation each, in float32.

Symbols: N images, K classes, D features, E bottleneck features. `[P]` is the paper (Li et al., CVPR
2024, arXiv:2403.06946), `[C]` the code its authors released. Where they differ `[C]` is what
produced the published numbers, so `[C]` is computed here and the docstring says so.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from adapt.methods.losses import kl_divergence

EPSILON = 1e-5
"""Added inside the logarithms of the entropies, as in [C]."""


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of `KL(softmax(l_i) || softmax(z_i))`, a scalar.

    Reverse KL, the student first, in [P] and [C] alike: it seeks a mode of the teacher.

    Args:
        logits: l (N, K) of the language branch; it carries the gradient in both places.
        teacher: z (N, K), zero-shot CLIP's; any constant may be added to a row.
    """
    return kl_divergence(logits, teacher).mean()


def information_maximisation(logits: Tensor) -> Tensor:
    """Return `mean_i H(p_i) - H(mean_i p_i)` with `p = softmax(logits)`, a scalar.

    Small where every image is classified with confidence and all classes are used.
    `H(p) = -sum_k p_k log(p_k + 1e-5)` as in [C]. Deviation: [P] slips the mean prediction's sign.

    Args:
        logits: (N, K).
    """
    p = logits.softmax(-1)
    mean = p.mean(0)
    each = -(p * (p + EPSILON).log()).sum(-1).mean()
    return each + (mean * (mean + EPSILON).log()).sum()


def separation(vision: Tensor, language: Tensor) -> Tensor:
    """Return `sum_i (u_i . v_i)^2`, a scalar that grows with the batch.

    Deviation: [P] eq. 3 is a squared Frobenius norm of the cross product per domain; [C] sums the
    squares of the paired dot products over both.

    Args:
        vision: v (N, D).
        language: u (N, D).
    """
    return (vision * language).sum(-1).square().sum()


def discrimination(logits: Tensor) -> Tensor:
    """Return the mean binary cross entropy of telling vision (0) from language (1), a scalar.

    Args:
        logits: (2N,) in the order v_1, u_1, v_2, u_2, ...
    """
    vision, language = logits.view(-1, 2).unbind(-1)
    return (functional.softplus(vision) + functional.softplus(-language)).mean() / 2


def centroid_labels(features: Tensor, p: Tensor) -> Tensor:
    """Return the class of the nearest centroid for each image, (N,) int64.

    `c_k = sum_i p_ik f_i / (1e-8 + sum_i p_ik)`, then `argmax_k cos(f_i, c_k)`: one round and no
    threshold. [C] loops over the images; these are two matrix products.

    Args:
        features: f (N, E), rows of unit length.
        p: (N, K) probabilities.
    """
    centroids = (p.T @ features) / (EMPTY + p.sum(0))[:, None]  # (K, E)
    return (features @ functional.normalize(centroids, dim=-1).T).argmax(-1)


EMPTY = 1e-8
"""Added to a class's mass, so that a class without any has its centroid at 0."""
