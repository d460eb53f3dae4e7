"""Define the demo world's two data sets, drawn on first use, each with a test split."""

from __future__ import annotations

from pathlib import Path

from adapt.data import drawn
from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark, Part
from adapt.data.class_folders import read_domain
from runtime.errors import DataError


class _Demo(Benchmark):
    home = "drawn on first use"

    def root(self, root: Path | None) -> Path:
        """Return the folder of the drawn images, drawing them if need be.

        Raises:
            DataError: The user gave a folder.
        """
        if root is not None:
            raise DataError(
                f"'{self.name}' draws its own images, '{root}' would not be used; leave out --data"
            )
        return drawn.render(self.name)

    def read(self, root: Path, short: str) -> Part:
        """Return the images of one domain."""
        domain = self.domains[short].name
        return Part(read_domain(root / "train", domain), read_domain(root / "test", domain))


class DemoDigits(_Demo):
    """Ten digits: printed in eight fonts, and real handwriting (UCI, through scikit-learn).

    2,000 printed and 1,000 handwritten digits to adapt on, 500 and 797 to test on.
    """

    name = "demo-digits"
    domains = {"f": Domain("font", 2500), "h": Domain("hand", 1797)}
    class_count = 10


class DemoObjects(_Demo):
    """Twelve objects drawn as art, clip art, product pictures and cluttered photographs.

    1,200 images per domain to adapt on and 600 to test on.
    """

    name = "demo-objects"
    domains = {
        "a": Domain("art", 1800),
        "c": Domain("clipart", 1800),
        "p": Domain("product", 1800),
        "r": Domain("real", 1800),
    }
    class_count = 12
