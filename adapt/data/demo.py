"""The demo world's two data sets, drawn on first use. Each has a test split of its own."""

from __future__ import annotations

from typing import ClassVar

from adapt.data.base import DomainPair, pick
from adapt.data.folder import check_same_classes, read_domain
from adapt.demo import datasets
from runtime.errors import ConfigError
from runtime.spec import TaskInfo


class _Demo:
    name: ClassVar[str]
    domains: ClassVar[dict[str, str]]
    """Short name, as in a task id, to folder name."""

    def load(self, task: str, *, holdout: float = 0.0, seed: int = 0) -> DomainPair:
        """Return the images of a task, drawing them if need be; see `adapt.data.base.Dataset`.

        Raises:
            TaskError: There is no such task.
            ConfigError: A holdout was asked for, though the test images are fixed.
        """
        del seed  # the split is the data set's own
        source, target = pick(task, self.name, self.domains)
        if holdout:
            raise ConfigError(
                f"'{self.name}' has a test split of its own, a holdout of {holdout} would mean "
                "nothing; pass --set holdout=0"
            )
        root = datasets.render(self.name)
        labelled = read_domain(root / "train", source)
        unlabelled = read_domain(root / "train", target)
        test = read_domain(root / "test", target)
        check_same_classes(labelled, unlabelled)
        check_same_classes(labelled, test)
        info = TaskInfo(task, self.name, source, target, labelled.classes)
        return DomainPair(info, labelled, unlabelled, test, held_out=True)


class DemoDigits(_Demo):
    """Ten digits: printed in eight fonts, and real handwriting (UCI, through scikit-learn).

    2,000 printed and 1,000 handwritten digits to adapt on, 500 and 797 to test on.
    """

    name = "demo-digits"
    domains = {"f": "font", "h": "hand"}


class DemoObjects(_Demo):
    """Twelve objects drawn as art, clip art, product pictures and cluttered photographs.

    1,200 images per domain to adapt on and 600 to test on.
    """

    name = "demo-objects"
    domains = {"a": "art", "c": "clipart", "p": "product", "r": "real"}
