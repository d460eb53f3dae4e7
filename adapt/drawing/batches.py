"""Draw labelled pictures of one domain of the demo data sets.

Each function seeds its own generator, so its pictures are always the same.
"""

import numpy as np
from numpy.typing import NDArray

from adapt.drawing.domains import draw_font_digit, draw_object, enlarge_hand_digit
from adapt.drawing.draw import Pixels, shrink
from adapt.drawing.shapes import TASK_CLASSES

Labels = NDArray[np.int64]

HAND_IMAGES = 1797
"""Pictures in scikit-learn's copy of the handwritten digits."""
HAND_ADAPT = 1000
"""Number of them in the adaptation split; the rest are the test split."""


def objects(domain: str, seed: int, per_class: int) -> tuple[Pixels, Labels]:
    """Draw every class of an object domain: (N, 32, 32, 3) and labels (N,), N = 12 per_class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(TASK_CLASSES)), per_class)
    images = [shrink(draw_object(domain, TASK_CLASSES[label], rng)) for label in labels]
    return np.stack(images), labels


def font_digits(seed: int, count: int) -> tuple[Pixels, Labels]:
    """Draw printed digits in turn, 0 to 9: (count, 32, 32, 3) and labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    return np.stack([shrink(draw_font_digit(int(digit), rng)) for digit in labels]), labels


def hand_digits(split: str) -> tuple[Pixels, Labels]:
    """Return one split of the handwritten digits: (N, 32, 32, 3) and labels (N,).

    N is 1000 for "train" and 797 for "test".
    """
    from sklearn.datasets import load_digits  # slow to import, and needed for this part only

    adapt, test = hand_split()
    chosen = np.sort(adapt if split == "train" else test)
    scans = load_digits()
    images = [shrink(enlarge_hand_digit(strokes)) for strokes in scans.images[chosen]]
    return np.stack(images), scans.target[chosen].astype(np.int64)


def hand_split(seed: int = 123) -> tuple[Labels, Labels]:
    """Return the indices of the adaptation split (1000,) and of the test split (797,).

    The permutation is the one that `torch.randperm` gives for this seed, on the same Mersenne
    Twister, so that the split needs neither torch nor a stored list.
    """
    draws = np.random.RandomState(seed).randint(0, 2**32, HAND_IMAGES - 1, dtype=np.uint32)
    order = np.arange(HAND_IMAGES)
    for i, draw in enumerate(draws.tolist()):
        j = i + draw % (HAND_IMAGES - i)
        order[[i, j]] = order[[j, i]]
    return order[:HAND_ADAPT], order[HAND_ADAPT:]
