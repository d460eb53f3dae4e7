"""Office-Home: Venkateswara et al., Deep Hashing Network for UDA, CVPR 2017, arXiv 1706.07522."""

from __future__ import annotations

from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark


class OfficeHome(Benchmark):
    """65 things of office and home as art, clip art, product pictures and photos; 15,588 images.

    The official archive spells `Real World` with a blank. UniMoS' and CDAN's list files number the
    classes in an order of their own (Drill, Exit_Sign, Bottle, ...), which is not used: classes are
    known by their folders. The whole target is adapted to and tested on (transductive).
    """

    name = "office-home"
    folders = ("office_home", "OfficeHomeDataset_10072016")
    home = "https://www.hemanthdv.org/officeHomeDataset.html"
    domains = {
        "a": Domain("art", 2427),
        "c": Domain("clipart", 4365),
        "p": Domain("product", 4439),
        "r": Domain("real_world", 4357, ("real",)),
    }
    class_count = 65
    classes = tuple(
        "Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair "
        "Clipboards Computer Couch Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet "
        "Flipflops Flowers Folder Fork Glasses Hammer Helmet Kettle Keyboard Knives Lamp_Shade "
        "Laptop Marker Monitor Mop Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes "
        "Printer Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf Sink Sneakers Soda "
        "Speaker Spoon TV Table Telephone ToothBrush Toys Trash_Can Webcam".split()
    )
