"""VisDA-2017: Peng et al., VisDA: The Visual Domain Adaptation Challenge, arXiv 1710.06924."""

from __future__ import annotations

from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark


class VisDA(Benchmark):
    """12 things that drive, fly or live: rendered (`train`), and photographed (`validation`).

    Lists are `train/image_list.txt` with `aeroplane/src_1.jpg 0`, or `image_list/train.txt` with
    `train/aeroplane/src_1.jpg 0`. The challenge's `test` split is not used; the whole of
    `validation` is adapted to and tested on (transductive).
    """

    name = "visda"
    folders = ("visda", "visda17", "visda2017", "visda-2017")
    home = "https://github.com/VisionLearningGroup/taskcv-2017-public"
    domains = {
        "s": Domain("synthetic", 152_397, ("train",)),
        "r": Domain("real", 55_388, ("validation", "val")),
    }
    reported = ("s-r",)
    class_count = 12
    classes = tuple(
        "aeroplane bicycle bus car horse knife motorcycle person plant skateboard train "
        "truck".split()
    )
