"""What `benchmarks.monitoring` takes of own folders: nothing is trained on that is tested on."""

import numpy as np
from PIL import Image

from benchmarks._monitoring_sets import Own


def test_images_that_one_domain_is_tested_on_train_no_task(tmp_path):
    draw = np.random.default_rng(0)
    for domain in ("day", "night"):
        for name in ("car", "dog", "tree"):
            folder = tmp_path / "street" / domain / name
            folder.mkdir(parents=True)
            for number in range(20):
                pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    sets = Own(tmp_path / "street", (("day", "night"), ("night", "day")))
    assert sets.groups[0] == ("day", "night")
    tested = {path for domain in ("day", "night") for path in sets.images(domain)[1].paths}
    assert len(tested) == 2 * 18
    for task in sets.tasks:
        pair, (train, test) = sets.pair(task), sets.images(sets.own(task))
        assert not tested & {*pair.source.paths, *pair.target.paths}
        assert (pair.target.paths, pair.test.paths) == (train.paths, test.paths)
        assert pair.source.classes == pair.target.classes == train.classes
