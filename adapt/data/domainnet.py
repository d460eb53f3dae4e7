"""DomainNet: Peng et al., Moment Matching for Multi-Source Domain Adaptation, ICCV 2019.

arXiv 1812.01754.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from adapt.data import layouts
from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark, Part, among, list_names
from runtime.errors import DataError


class DomainNet(Benchmark):
    """345 classes in six domains; 586,575 images in the cleaned version.

    With the official split files (`splits/clipart_train.txt`, also beside the domains), training
    sees the train lists and accuracy is measured on the target's test list. Without them whole
    folders are used, adapted to and tested on, as EKDA does. Some folders start with a capital T
    (`The_Mona_Lisa`): classes and prompts share one order here, so that cannot mix them up.
    `painting_train.txt` has no t-shirt; a domain's classes are those of both its lists.
    """

    name = "domainnet"
    folders: ClassVar[tuple[str, ...]] = ("domainnet", "domain_net")
    home = "https://ai.bu.edu/M3SDA/"
    domains = {
        "c": Domain("clipart", 48_129),
        "i": Domain("infograph", 51_605),
        "p": Domain("painting", 72_266),
        "q": Domain("quickdraw", 172_500),
        "r": Domain("real", 172_947),
        "s": Domain("sketch", 69_128),
    }
    class_count = 345
    split_folders: ClassVar[tuple[str, ...]] = ("splits", *layouts.LIST_FOLDERS)
    """Folders of the split files."""
    needs_lists: ClassVar[bool] = False
    """The split files choose the classes, so nothing goes without them."""

    def read(self, root: Path, short: str) -> Part:
        """Return the images of one domain, from its two lists or from its whole folder.

        Raises:
            DataError: The domain or one of its lists is missing or unusable.
        """
        domain = self.domains[short]
        bases, folder = self.find(root, domain)
        found = self._lists(bases, domain)
        missing = [f"{domain.name}_{split}.txt" for split, path in found.items() if path is None]
        if len(missing) == 1 or (missing and self.needs_lists):
            raise DataError(
                f"the split file '{missing[0]}' of '{self.name}' is missing; put it into "
                f"'{bases[0] / self.split_folders[0]}', from {self.home}"
            )
        if missing:
            images = layouts.read_classes(folder, domain, f"{domain.name}_train.txt")
            return Part(images)
        train, test = (layouts.read_listed(path, folder, domain) for path in found.values() if path)
        classes = sorted({*train.classes, *test.classes})
        return Part(among(train, classes), among(test, classes))

    def remarks(self, root: Path, shorts: Sequence[str]) -> list[str]:
        """Return that split files are absent, where they are."""
        bases = layouts.bases(root, self.folders)
        domains = [self.domains[short] for short in shorts]
        absent = [d.name for d in domains if not any(self._lists(bases, d).values())]
        if not absent or self.needs_lists:
            return []
        return [
            f"no split files ('{absent[0]}_train.txt', '{absent[0]}_test.txt', ...) of "
            f"{', '.join(absent)}: whole folders are adapted to and tested on, published figures "
            f"are of the test lists; get them from {self.home} into "
            f"'{bases[0] / self.split_folders[0]}'"
        ]

    def _lists(self, bases: Sequence[Path], domain: Domain) -> dict[str, Path | None]:
        """Return the list files of a domain by split, None where there is none."""
        searched = layouts.list_folders(bases, self.split_folders)
        if self.needs_lists:
            searched = [folder for folder in searched if folder not in bases]
        return {
            split: layouts.list_file(searched, list_names(domain, split))
            for split in ("train", "test")
        }
