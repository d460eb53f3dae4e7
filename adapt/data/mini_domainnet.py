"""Mini-DomainNet: Zhou et al., Domain Adaptive Ensemble Learning, TIP 2021, arXiv 2003.07325."""

from __future__ import annotations

from adapt.data.base import Domain
from adapt.data.domainnet import DomainNet


class MiniDomainNet(DomainNet):
    """126 classes of four DomainNet domains, chosen by split files; 140,006 images.

    Needs DomainNet's images and `splits_mini/<domain>_{train,test}.txt`. Training sees the train
    lists, accuracy is measured on the target's test list. Label numbers are not alphabetical
    (umbrella is 0): classes are known by their folders.
    """

    name = "mini-domainnet"
    folders = ("domainnet", "domain_net", "mini_domainnet")
    home = "splits_mini.zip, linked in the data set notes of KaiyangZhou/Dassl.pytorch"
    domains = {
        "c": Domain("clipart", 18_703),
        "p": Domain("painting", 31_202),
        "r": Domain("real", 65_609),
        "s": Domain("sketch", 24_492),
    }
    class_count = 126
    split_folders = ("splits_mini",)
    needs_lists = True
