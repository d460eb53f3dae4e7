"""Office-31: Saenko et al., Adapting Visual Category Models to New Domains, ECCV 2010."""

from __future__ import annotations

from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark


class Office31(Benchmark):
    """31 office objects from an online shop, a camera and a webcam; 4,110 images.

    Official archives have an `images` level below each domain. The whole target is adapted to and
    tested on (transductive).
    """

    name = "office31"
    folders = ("office31", "office", "domain_adaptation_images")
    home = "https://faculty.cc.gatech.edu/~judy/domainadapt/"
    domains = {
        "a": Domain("amazon", 2817),
        "d": Domain("dslr", 498),
        "w": Domain("webcam", 795),
    }
    class_count = 31
    classes = tuple(
        "back_pack bike bike_helmet bookcase bottle calculator desk_chair desk_lamp "
        "desktop_computer file_cabinet headphones keyboard laptop_computer letter_tray "
        "mobile_phone monitor mouse mug paper_notebook pen phone printer projector punchers "
        "ring_binder ruler scissors speaker stapler tape_dispenser trash_can".split()
    )
