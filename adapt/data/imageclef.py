"""ImageCLEF-DA: the ImageCLEF 2014 domain adaptation challenge; used since Long et al., ICML 2017.

Reference: Caputo et al., ImageCLEF 2014: Overview and Analysis of the Results, CLEF 2014.
"""

from __future__ import annotations

from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark


class ImageCLEF(Benchmark):
    """Twelve classes that Caltech-256, ImageNet and Pascal VOC share, 50 images of each.

    Archives have the images in three flat folders `c`, `i`, `p` with list files `iList.txt`, with
    labels in the alphabetical order of the names; class folders are accepted too. The
    fourth domain `b` (Bing) is not used. The whole target is adapted to and tested on.
    """

    name = "imageclef"
    folders = ("image_clef", "imageclef", "imageclef-da", "imageclef2014")
    home = "https://www.imageclef.org/2014/adaptation"
    domains = {
        "c": Domain("caltech", 600, ("c", "caltech256")),
        "i": Domain("imagenet", 600, ("i", "ilsvrc2012")),
        "p": Domain("pascal", 600, ("p", "pascal_voc", "voc2012")),
    }
    reported = ("i-p", "i-c", "p-i", "p-c", "c-i", "c-p")
    class_count = 12
    classes = tuple(
        "aeroplane bike bird boat bottle bus car dog horse monitor motorbike people".split()
    )
