"""One small world for all export tests, on disk."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.export.helpers import CLASSES, World, save_base


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    made = World(root, root / "artifacts", root / "images")
    draw = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (made.images / name).mkdir(parents=True)
        for index in range(12):
            small = draw.integers(0, 256, (4 + number, 6, 3), dtype=np.uint8)
            Image.fromarray(small).resize((50, 40)).save(made.images / name / f"{index}.png")
    for name in ("demo-rn32", "demo-vit32"):
        save_base(name, made.base(name))
    made.train("p-a", seed=1)
    made.train("c-r", seed=2)
    made.train("a-c", base="demo-vit32", seed=3)
    return made
