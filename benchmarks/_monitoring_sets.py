"""Domains and tasks that `benchmarks.monitoring` looks at: the demo's, or those of own folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from adapt import data
from adapt.data import load_folders
from adapt.data.base import DomainPair, ImageSet
from benchmarks.demo_accuracy import DATASETS

DIGITS = ("f", "h")
HELD_OUT = 0.3
"""Share of own images that is neither trained on nor in any statistics."""


class Sets(Protocol):
    """Images of several domains, in groups that show the same classes."""

    @property
    def groups(self) -> Sequence[Sequence[str]]:
        """Keys of the domains, by group."""

    @property
    def tasks(self) -> Sequence[str]:
        """Ids of the tasks."""

    @property
    def settings(self) -> Sequence[str]:
        """Settings of every training, beside the model's."""

    def own(self, task: str) -> str:
        """Return the key of the domain that a task is adapted to."""

    def pair(self, task: str) -> DomainPair:
        """Return the images of a task."""

    def images(self, domain: str) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images of a domain."""

    def pairs(self, task: str, domain: str) -> str:
        """Return the kind of the change from a task's domain to another one."""


@dataclass(frozen=True)
class Demo:
    """The drawn world: domains are known by the letters in the ids of its tasks."""

    tasks: Sequence[str]
    groups: Sequence[Sequence[str]] = (DIGITS, ("a", "c", "p", "r"))
    settings: Sequence[str] = ()

    def own(self, task: str) -> str:
        """Return the letter of a task's target domain."""
        return task[-1]

    def pair(self, task: str) -> DomainPair:
        """Return the images of a task."""
        return data.load(DATASETS[task[0]], task)

    def images(self, domain: str) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images of a domain."""
        pair = self.pair(f"{domain}-{domain}")
        return pair.target, pair.test

    def pairs(self, task: str, domain: str) -> str:
        """Return whether paintings and photographs are to be told apart, or others."""
        return "hard pairs" if (task, domain) in {("p-a", "r"), ("c-r", "a")} else "easy pairs"


@dataclass(frozen=True)
class Own:
    """Folders of one's own; the demo's digits are what is foreign to them."""

    root: Path
    sides: Sequence[tuple[str, str]]
    """Source and target folder of each task."""
    settings: Sequence[str] = ("pretrained=demo",)

    @cached_property
    def groups(self) -> Sequence[Sequence[str]]:
        """The folders, and the digits."""
        return tuple(dict.fromkeys(name for pair in self.sides for name in pair)), DIGITS

    @cached_property
    def _named(self) -> dict[str, tuple[str, str]]:
        return {self._load(*pair).task.id: pair for pair in self.sides}

    @property
    def tasks(self) -> Sequence[str]:
        """Ids of the tasks, one for each pair."""
        return tuple(self._named)

    def own(self, task: str) -> str:
        """Return the folder of a task's target domain."""
        return self._named[task][1]

    def pair(self, task: str) -> DomainPair:
        """Return the images of a task; of the source, those that no domain is tested on."""
        source, target = self._named[task]
        return replace(self._load(source, target), source=self.images(source)[0])

    def images(self, domain: str) -> tuple[ImageSet, ImageSet]:
        """Return the training and the test images of a domain, labelled."""
        if domain in DIGITS:
            return Demo(()).images(domain)
        pair = self._load(domain, domain)
        return pair.target, pair.test

    def pairs(self, task: str, domain: str) -> str:
        """Return one kind for all: nobody knows which are hard."""
        return "own folders"

    def _load(self, source: str, target: str) -> DomainPair:
        return load_folders(self.root, source, target, holdout=HELD_OUT)
