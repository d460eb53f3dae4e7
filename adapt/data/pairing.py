"""Match the classes of two domains by name, and keep test images out of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapt.data.base import UNKNOWN, DomainPair, ImageSet, some, split
from runtime.console import count_of
from runtime.errors import ConfigError, DataError, TaskError
from runtime.models import TaskInfo


def match(source: ImageSet, target: ImageSet, target_classes: int | None = None) -> ImageSet:
    """Return the target's images with the source's classes, each label moved by its name.

    Label numbers of two domains may disagree (UniMoS' lists count other than sorted folders), names
    may not.

    Args:
        source: Images whose classes, in their order, the target gets.
        target: Images to relabel, or without labels.
        target_classes: None: both must have the same classes. 0: the target may lack some (the
            partial-set protocol). n > 0: the target is cut to the first n source classes by name
            (PADA's protocol for Office-Home: 65 -> 25).

    Raises:
        DataError: The classes differ; the message names the first that only one side has.
        ConfigError: n is negative, or more than there are, or the target has no labels to cut by.
    """
    count = target_classes or 0
    if not 0 <= count <= len(source.classes):
        raise ConfigError(
            f"target_classes is {count}, but the source '{source.domain}' has "
            f"{len(source.classes)} classes; give a number from 0 to that"
        )
    if not target.classes:
        if count:
            raise ConfigError(
                f"the target '{target.domain}' has no labels, so it cannot be cut to its first "
                f"{count} classes; pass --set target_classes=0"
            )
        return ImageSet(target.paths, target.labels, source.classes, target.domain)
    names = sorted(source.classes)[:count] if count else list(source.classes)
    needed = [] if target_classes == 0 else names
    _check(source, target, sorted(set(needed) - set(target.classes)), target_classes)
    position = {name: source.classes.index(name) for name in names}
    moved = np.array([position.get(name, UNKNOWN) for name in target.classes] + [UNKNOWN], np.int64)
    labels = moved[target.labels]  # -1, unknown, takes the last entry
    images = ImageSet(target.paths, labels, source.classes, target.domain)
    return images.subset(np.flatnonzero(labels != UNKNOWN)) if count else images


def _check(source: ImageSet, target: ImageSet, here: list[str], target_classes: int | None) -> None:
    there = sorted(set(target.classes) - set(source.classes))
    if not here and not there:
        return
    sides = (("source", source, here), ("target", target, there))
    found = "; ".join(
        f"only {role} '{domain.domain}' has {some(names)}" for role, domain, names in sides if names
    )
    partial = "" if there or target_classes is not None else ", or train with --set partial=true"
    raise DataError(f"the classes differ: {found}; give both the same names{partial}")


def make(
    task: str,
    dataset: str,
    source: ImageSet,
    target: ImageSet,
    test: ImageSet | None = None,
    *,
    holdout: float = 0.0,
    seed: int = 0,
    target_classes: int | None = None,
) -> DomainPair:
    """Return the task between two domains.

    Args:
        task: Id of the task.
        dataset: Name of the data set.
        source: Labelled images.
        target: Images to adapt to.
        test: The official test images of the target, or None if it has none.
        holdout: Share of the target to keep for evaluation, if there are no official test images;
            0 evaluates on what was adapted to. Kept images leave the source too, if they are in it.
        seed: Seed of that split.
        target_classes: Number of target classes, see `match`.

    Raises:
        ConfigError: A holdout was asked for though the test images are fixed, or see `match`.
        DataError: The classes differ, a side has no images, the source has none of some label, or
            an official test image is also a training image.
        TaskError: The names make no task.
    """
    if not source.labelled or not source.classes:
        raise DataError(
            f"the source '{source.domain}' has images without labels; the source needs them: sort "
            "its images into one folder per class, or label every line of its list"
        )
    info = _info(task, dataset, source, target)
    unlabelled = _filled(match(source, target, target_classes))
    if test is not None:
        if holdout:
            raise ConfigError(
                f"'{dataset}' has a test split of its own, so none can be held out; pass "
                "--set holdout=0"
            )
        tested = _filled(match(source, test, target_classes))
        _check_apart((source, unlabelled), tested)
        return DomainPair(info, source, unlabelled, tested, held_out=True)
    if not holdout:
        return DomainPair(info, source, unlabelled, unlabelled, held_out=False)
    train, tested = split(unlabelled, holdout, seed)
    # The supervised bound learns the labels of the target: not those it is tested on.
    return DomainPair(info, _without(source, tested), train, tested, held_out=True)


def _info(task: str, dataset: str, source: ImageSet, target: ImageSet) -> TaskInfo:
    try:
        return TaskInfo(task, dataset, source.domain, target.domain, source.classes)
    except ValueError as error:
        raise TaskError(
            f"domains '{source.domain}' and '{target.domain}' cannot form a task: {error}; rename "
            "the domain"
        ) from error


def _filled(images: ImageSet) -> ImageSet:
    if not len(images):
        raise DataError(
            f"the target '{images.domain}' has no image of the classes that were asked for; "
            "choose more with --set target_classes=N"
        )
    return images


def _check_apart(training: tuple[ImageSet, ...], test: ImageSet) -> None:
    tested = set(test.paths)
    for images in training:
        both = [path for path in images.paths if path in tested]
        if both:
            raise DataError(
                f"{count_of(len(both), 'image')} of '{images.domain}' would be trained on and "
                f"tested on, the first: '{both[0]}'; repair the list files"
            )


def _without(images: ImageSet, others: ImageSet) -> ImageSet:
    gone: set[Path] = set(others.paths)
    keep = [index for index, path in enumerate(images.paths) if path not in gone]
    return images if len(keep) == len(images) else images.subset(np.array(keep, np.int64))
