"""Load tasks of the user's own images, from two domain folders or list files.

A domain is `ROOT/<domain>/<class>/*.jpg`, or `ROOT/<domain>/{train,val,test}/<class>/*.jpg`; a
target may also be `ROOT/<domain>/*.jpg`. `runtime.inventory` says what is taken of it.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from adapt.data import pairing, spelling
from adapt.data.base import DomainPair, ImageSet
from adapt.data.class_folders import read_domain, read_folder
from adapt.data.inventory import Inventory, Role, Side
from adapt.data.origin import Origin, absolute, named
from adapt.data.own_domains import NO_LABELS, OwnDomain, check_side, read_side, read_test
from runtime.console import count_of
from runtime.errors import ConfigError, DataError
from runtime.inventory.left_out import LeftOut
from runtime.storage import disk
from runtime.storage.spelling import on_disk

__all__ = ["load_folders", "load_own", "read_domain", "read_folder", "with_test"]


def load_folders(
    root: Path,
    source: str,
    target: str,
    *,
    holdout: float = 0.0,
    seed: int = 0,
    target_classes: int | None = None,
) -> DomainPair:
    """Return the task of two domain folders or list files of the user's own.

    Classes are matched by name and ordered by name; domains are named after their folders or lists.
    Of a folder with splits, `train` is trained on, and the target's `test`, else its `val`, is the
    held-out test set.

    Args:
        root: Folder of the data set; its name becomes the data set's.
        source: Folder in it, with one folder of images per class, or a list file.
        target: Folder in it, with the same classes, or with images only, or a list file.
        holdout: Share of the target to keep for evaluation; 0 evaluates on what was trained on.
        seed: Seed of the split.
        target_classes: Number of target classes, see `adapt.data.pairing.match`.

    Raises:
        DataError: A folder is missing or empty, there are fewer than two classes, or the two
            domains have different ones.
        ConfigError: The number of target classes is impossible, or a holdout was asked for though
            the target has a test split.
        TaskError: The folder names make no task id.
    """
    source, target = (spelling.inside(root, name) for name in (source, target))
    labelled, unlabelled, left_out = _read_sides(root, source, target)
    if holdout and unlabelled.test is not None:
        raise ConfigError(
            f"the target '{target}' has a test split of its own, '{unlabelled.test_name}', so none "
            "can be held out; pass --set holdout=0"
        )
    dataset = spelling.short(disk.real(root).name, "-").lstrip(".") or "folder"
    called = zip((source, target), spelling.tails(source, target), strict=True)
    sides_of = zip(called, (labelled.train, unlabelled.train), strict=True)
    (one, first), (other, second) = (_called(root, *names, part) for names, part in sides_of)
    pair = pairing.make(
        f"{first}-{second}", dataset, one, other,
        holdout=holdout, seed=seed, target_classes=target_classes,
    )  # fmt: skip
    sides = [
        _side("source", labelled.train_name, pair.source),
        _side("target", unlabelled.train_name, pair.target),
    ]
    if pair.held_out:
        sides.append(_side("test", f"{100 * holdout:g} % of {unlabelled.train_name}", pair.test))
    inventory = Inventory(tuple(sides), tuple(dict.fromkeys(left_out)), pair.held_out)
    origin = Origin(absolute(root), named(root, source), named(root, target))
    pair = dataclasses.replace(pair, inventory=inventory, origin=origin)
    if unlabelled.test is None:
        return pair
    return with_test(pair, unlabelled.test, unlabelled.test_name, target_classes=target_classes)


def load_own(
    root: Path,
    source: str,
    target: str,
    test: str | None = None,
    *,
    holdout: float = 0.0,
    seed: int = 0,
    target_classes: int | None = None,
) -> DomainPair:
    """Return the task of two domains, tested on other images where `test` names some.

    Args:
        root: Folder of the data set.
        source: Labelled domain, as for `load_folders`.
        target: Unlabelled domain, likewise.
        test: Labelled images to test on: a folder or a list file, in the root or elsewhere.
        holdout: Share of the target to keep for evaluation.
        seed: Seed of the split.
        target_classes: Number of target classes, see `adapt.data.pairing.match`.

    Raises:
        UdaError: As `load_folders`, `with_test` and `read_test`.
    """
    pair = load_folders(
        root, source, target, holdout=holdout, seed=seed, target_classes=target_classes
    )
    return pair if test is None else with_given(pair, root, test, target_classes)


def with_given(
    pair: DomainPair, root: Path, test: str, target_classes: int | None = None
) -> DomainPair:
    """Return a task that is tested on a folder or a list file, in the root or elsewhere.

    Raises:
        UdaError: As `with_test` and `read_test`.
    """
    images = read_test(root, test)
    return with_test(pair, images, test, target_classes=target_classes, given=True)


def with_test(
    pair: DomainPair,
    test: ImageSet,
    name: str,
    *,
    target_classes: int | None = None,
    given: bool = False,
) -> DomainPair:
    """Return a task with other test images.

    Args:
        pair: Images of the task.
        test: Images with the task's classes, or some of them.
        name: Name of the test images, for messages.
        target_classes: Number of target classes, as for `adapt.data.pairing.match`, except that
            classes may always be missing.
        given: Whether they were given separately, so that artifacts do not record them.

    Raises:
        DataError: A test image is a labelled training image, or has a class of its own.
        ConfigError: See `adapt.data.pairing.match`.
    """
    tested = pairing.match(pair.source, test, target_classes or 0)
    if not len(tested):
        raise DataError(
            f"'{name}' has no test images of the task's classes; pass a folder that has some"
        )
    seen = _shared(tested, pair.source)
    if seen:
        raise DataError(
            f"{count_of(len(seen), 'test image')} of '{name}' would be trained on too, with "
            f"labels, as part of '{pair.source.domain}', the first: '{seen[0]}'; test on others"
        )
    held_out = not _shared(tested, pair.target)
    inventory = pair.inventory or Inventory(())
    sides = tuple(side for side in inventory.sides if side.role != "test")
    sides += (_side("test", name, tested),)
    inventory, origin = dataclasses.replace(inventory, sides=sides, held_out=held_out), pair.origin
    if given and origin:
        origin = dataclasses.replace(origin, test=named(Path(origin.root), name))
    return dataclasses.replace(
        pair, test=tested, held_out=held_out, given=given, inventory=inventory, origin=origin
    )


def _read_sides(
    root: Path, source: str, target: str
) -> tuple[OwnDomain, OwnDomain, tuple[LeftOut, ...]]:
    """Return the source, the target, and the files that are left out of both."""
    for name in (source, target):
        check_side(root, name)
    labelled = read_side(root, source)
    if not labelled.train.classes:
        raise DataError(f"the source '{root / source}' {NO_LABELS}")
    unlabelled = read_side(root, target)
    left_out = labelled.left_out + unlabelled.left_out
    if _same(root, source, target):  # one folder under two names
        one = dataclasses.replace(labelled.train, domain=unlabelled.train.domain)
        unlabelled = dataclasses.replace(unlabelled, train=one)
    elif labelled.test is not None:
        unused = root / labelled.test_name
        left_out += (LeftOut(unused, f"unused split {unused.name}", len(labelled.test)),)
    return labelled, unlabelled, left_out


def _called(root: Path, name: str, tail: str, images: ImageSet) -> tuple[ImageSet, str]:
    """Return a domain's images and its part of the task id, which differs for other folders.

    A folder outside of the data set's is called after the end of its path.
    """
    if not spelling.outside(name) or images.domain != name:  # a list is called after its file
        return images, spelling.short(images.domain).lower()
    short = f"{spelling.short(tail).lower()}_{spelling.mark(root / name)}"
    return dataclasses.replace(images, domain=tail), short


def _same(root: Path, source: str, target: str) -> bool:
    one, other = (on_disk(root / spelling.tidy(name)) for name in (source, target))
    return disk.real(one) == disk.real(other)


def _side(role: Role, name: str, images: ImageSet) -> Side:
    counts: tuple[int, ...] = ()
    if images.labelled and images.classes:
        counts = tuple(np.bincount(images.labels, minlength=len(images.classes)).tolist())
    return Side(role, name, len(images), counts)


def _shared(images: ImageSet, others: ImageSet) -> list[Path]:
    """Return the images that are among others, whatever links lead to them."""
    known = {os.path.realpath(path) for path in others.paths}
    return [path for path in images.paths if os.path.realpath(path) in known]
