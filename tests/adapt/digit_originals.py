"""Miniatures of the original files of MNIST, USPS and SVHN."""

import bz2
import gzip
import struct

import numpy as np
from scipy.io import savemat

LABELS = {"train": [5, 0, 4, 1, 9, 9, 2, 3], "test": [7, 2, 1, 0]}


def pictures(split, side, channels=()):
    rng = np.random.default_rng(len(split))
    return rng.integers(0, 256, (len(LABELS[split]), side, side, *channels), np.uint8)


def write_mnist(folder, pack=False):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = pictures(split, 28), np.array(LABELS[split], np.uint8)
        content = struct.pack(">4I", 0x803, *images.shape) + images.tobytes()
        files = {f"{name}-images-idx3-ubyte": content}
        files[f"{name}-labels-idx1-ubyte"] = (
            struct.pack(">2I", 0x801, len(labels)) + labels.tobytes()
        )
        for file, raw in files.items():
            path = folder / (file + ".gz" if pack else file)
            path.write_bytes(gzip.compress(raw, mtime=0) if pack else raw)


def write_usps(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "usps"), ("test", "usps.t")):
        lines = []
        for image, label in zip(pictures(split, 16), LABELS[split], strict=True):
            values = image.reshape(-1) / 127.5 - 1
            pairs = (f"{i}:{v:.6f}" for i, v in enumerate(values, 1))
            lines.append(f"{label + 1} {' '.join(pairs)} \n")
        (folder / f"{name}.bz2").write_bytes(bz2.compress("".join(lines).encode()))


def write_svhn(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split in LABELS:
        labels = np.array([[10 if n == 0 else n] for n in LABELS[split]], np.uint8)
        images = np.moveaxis(pictures(split, 32, (3,)), 0, 3)
        savemat(folder / f"{split}_32x32.mat", {"X": images, "y": labels}, do_compression=True)
