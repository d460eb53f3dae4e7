"""Scores of how strange a frame is, those of the packages beside others; higher is stranger.

Energy: Liu et al. 2020, arXiv:2010.03759. kNN: Sun et al. 2022, arXiv:2204.06507. MCM: Ming et al.
2022, arXiv:2211.13445. Mahalanobis distance: Lee et al. 2018, arXiv:1807.03888.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._monitoring_world import Domain, Pixels, View, World
from runtime.monitoring.confidence import softmax
from runtime.monitoring.folds import cross_fitted
from runtime.monitoring.gaussian import Features, fit, unit
from runtime.monitoring.table import RoutingTable

NEIGHBOURS = 10
"""The k of kNN, for about a thousand training images."""
Scores = dict[str, NDArray[np.floating]]


def auroc(usual: NDArray[np.floating], strange: NDArray[np.floating]) -> float:
    """Return the chance that a strange frame scores above a usual one; ties count half."""
    ordered = np.sort(usual)
    below, upto = (np.searchsorted(ordered, strange, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(usual))


class Scorer:
    """All scores of one task."""

    def __init__(
        self, world: World, view: View, table: RoutingTable, seen: NDArray[np.bool_] | None = None
    ) -> None:
        """Take what the scores compare frames with.

        Args:
            world: Domains and base model.
            view: The task.
            table: Routing table of the bundle that the task is in, for its base distance.
            seen: Mask (N,) of the training images that the task was adapted to; None for all.
        """
        self._world, self._view, self._table = world, view, table
        own: Domain = world.domains[view.own]
        chosen = slice(None) if seen is None else seen
        self._neighbours = unit(view.look(own.train)[0][chosen])
        rows = unit(own.base_train[chosen])
        self._gaussian = fit(rows, rows.shape[1])
        axes = rows.shape[1]
        usual = cross_fitted(len(rows), lambda seen: fit(rows[seen], axes).distances(rows[~seen]))
        self._mean, self._spread = float(usual.mean()), float(usual.std())
        with torch.inference_mode():
            text = world.clip.text_features(view.artifact.prompts).float().numpy()
        self._text = unit(text)

    def of(self, images: Pixels) -> Scores:
        """Return the scores (N,) of images, by name."""
        features, logits = self._view.look(images)
        return self._patched(features, logits) | self._base(images, features)

    def _patched(self, features: Features, logits: Features) -> Scores:
        statistics = self._view.statistics
        near = unit(features) @ self._neighbours.T
        return {
            "novelty": statistics.novelty(features),
            "distance": statistics.gaussian.distances(unit(features)),
            "affinity": -statistics.affinity(features),
            "energy (Liu et al. 2020)": -np.logaddexp.reduce(logits, -1),
            "max logit": -logits.max(-1),
            "max softmax": -softmax(logits).max(-1),
            f"kNN, k = {NEIGHBOURS} (Sun et al. 2022)": -np.partition(near, -NEIGHBOURS, 1)[
                :, -NEIGHBOURS
            ],
        }

    def _base(self, images: Pixels, features: Features) -> Scores:
        rows = self._world.base(images)
        mcm = softmax(unit(rows) @ self._text.T).max(-1)
        alone = self._gaussian.distances(unit(rows))
        statistics = self._view.statistics
        usual = statistics.distances
        distances = statistics.gaussian.distances(unit(features))
        apart = (distances - usual.mean()) / usual.std()
        own = self._table.index(self._view.id)
        excess = self._table.excess(self._table.scores(rows[:, None]))[:, own]
        return {
            "MCM (Ming et al. 2022)": -mcm,
            "base Mahalanobis (not in files)": alone,
            "distance + base Mahalanobis": apart + (alone - self._mean) / self._spread,
            "base distance": excess,
            "distance + base distance": apart + excess,
        }
