"""Classes of two domains are matched by name; the partial-set protocol."""

from pathlib import Path

import numpy as np
import pytest

from adapt.data.base import ImageSet
from adapt.data.pairing import make, match
from runtime.errors import ConfigError, DataError, TaskError


def images(domain, classes, labels=None, prefix=None):
    labels = range(len(classes)) if labels is None else labels
    paths = tuple(Path(f"/{prefix or domain}/{n}.png") for n, _ in enumerate(labels))
    return ImageSet(paths, np.array([*labels], np.int64), tuple(classes), domain)


ART = images("art", ("TV", "cup", "key", "mug"), (0, 1, 1, 2, 3))


def test_labels_move_to_the_place_of_their_name():
    found = match(ART, images("web", ("mug", "key", "TV", "cup"), (0, 1, 2, 3, 0, -1)))
    assert found.classes == ART.classes and found.labels.tolist() == [3, 2, 0, 1, 3, -1]


def test_a_target_that_lacks_classes_is_partial_or_an_error():
    web = images("web", ("key", "TV"), (0, 0, 1))
    assert match(ART, web, 0).labels.tolist() == [2, 2, 0]
    with pytest.raises(DataError, match=r"only source 'art' has 'cup', 'mug'.*--set partial=true"):
        match(ART, web)


@pytest.mark.parametrize("target_classes", [None, 0, 2])
def test_a_class_that_only_the_target_has_is_always_an_error(target_classes):
    web = images("web", ("TV", "axe", "cup", "key", "mug"))
    with pytest.raises(DataError, match=r"only target 'web' has 'axe'; give both the same names$"):
        match(ART, web, target_classes)


def test_a_cut_keeps_the_first_classes_by_name_whatever_their_order():
    source = images("art", ("mug", "key", "cup", "TV"), (0, 1, 2, 3))
    web = images("web", ("key", "TV", "mug", "cup"), (0, 1, 2, 3, 3, 1))
    found = match(source, web, 2)
    assert [found.classes[label] for label in found.labels] == ["TV", "cup", "cup", "TV"]
    assert [path.name for path in found.paths] == ["1.png", "3.png", "4.png", "5.png"]


def test_a_target_that_was_already_cut_is_left_as_it_is():
    assert match(ART, images("web", ("TV", "cup")), 2).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="only source 'art' has 'key'"):
        match(ART, images("web", ("TV", "cup")), 3)


@pytest.mark.parametrize("count", [-1, 5])
def test_an_impossible_number_of_classes_is_refused(count):
    with pytest.raises(ConfigError, match=rf"target_classes is {count}, .* has 4 classes"):
        match(ART, ART, count)


def test_a_target_without_labels_cannot_be_cut():
    web = ImageSet((Path("x"),), np.array([-1]), (), "web")
    assert match(ART, web, 0).classes == ART.classes
    with pytest.raises(ConfigError, match="has no labels, so it cannot be cut to its first 2"):
        match(ART, web, 2)


def test_test_images_are_cut_too():
    train, test = images("web", ART.classes), images("web", ART.classes, (3, 1, 0), "test")
    pair = make("a-w", "shop", ART, train, test, target_classes=2)
    assert pair.target.labels.tolist() == [0, 1] and pair.test.labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="'web' has no image of the classes that were asked for"):
        make("a-w", "shop", ART, train, images("web", ART.classes, (3,), "test"), target_classes=2)


def test_the_partial_supervised_bound_keeps_all_source_classes():
    pair = make("a-a", "shop", ART, ART, holdout=0.5, target_classes=2)
    assert set(pair.source.labels.tolist()) >= {2, 3}
    assert not set(pair.source.paths) & set(pair.test.paths) and len(pair.test) == 2


def test_a_source_with_one_unlabelled_image_is_refused():
    with pytest.raises(DataError, match="'art' has images without labels"):
        make("a-w", "shop", images("art", ("a", "b"), (0, -1)), ART)


def test_names_that_a_terminal_would_obey_make_no_task():
    bad = images("art", ("a", "b\x1b[2J"))
    with pytest.raises(TaskError, match="cannot form a task: .* control characters"):
        make("a-w", "shop", bad, bad)
