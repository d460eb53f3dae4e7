"""How well tasks that were trained without some classes tell these from their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks._monitoring_figures import Figure
from benchmarks._monitoring_routing import routing_table
from benchmarks._monitoring_runs import retrained, without
from benchmarks._monitoring_scores import Scorer, auroc
from benchmarks._monitoring_world import View, World

ABLE = 0.8
"""Accuracy from which a task is expected to tell unknown classes."""


def measure(world: World, model: str, root: Path) -> list[Figure]:
    """Return the figures of all tasks of a world, each trained anew below a folder."""
    return [row for view in world.views for row in _task(world, model, view.id, root)]


def _task(world: World, model: str, task: str, root: Path) -> list[Figure]:
    artifact, kept = retrained(world.sets, model, task, world.seed, root)
    whole = world.sets.pair(task).target
    seen = kept[whole.labels]
    base = {view.id: world.domains[view.own].base_train for view in world.views}
    base[task] = base[task][seen]
    view = View(artifact, world.clip, without(whole, kept), world.sets.own(task))
    own = world.domains[view.own]
    known = kept[own.labels]
    scores = Scorer(world, view, routing_table(base, world.spec), seen).of(own.test)
    numbers = (np.cumsum(kept) - 1)[own.labels]
    right = (view.look(own.test)[1].argmax(-1) == numbers)[known].mean()
    tasks = "of 80 % and more" if right >= ABLE else "below 80 %"
    name = f"unknown classes, tasks {tasks}, AUROC"
    found = [Figure(name, rule, view.id, auroc(s[known], s[~known])) for rule, s in scores.items()]
    return [*found, Figure("accuracy, %", "without three classes", view.id, 100 * float(right))]
