"""A stranger's folders: what people, phones, cameras and file managers leave in them."""

import os
from collections import Counter

import numpy as np
from PIL import Image

CLASSES = ("circle", "square", "triangle")
HEIC = b"\0\0\0\x18ftypheic" + bytes(99)


def picture(path, seed=0, mode="RGB", size=(24, 24), tint=None):
    """Write a noisy picture whose content depends on its path's last three names and `seed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *os.fsencode("/".join(path.parts[-4:]))])
    pixels = rng.integers(0, 120, (size[1], size[0], 3)).astype(np.uint8)
    pixels[..., CLASSES.index(path.parent.name) if path.parent.name in CLASSES else 0] += 90
    kind = {".jfif": "JPEG", ".jpe": "JPEG"}.get(path.suffix.lower())
    image = Image.fromarray(pixels if tint is None else np.full_like(pixels, tint))
    if mode == "RGBA":
        image.putalpha(Image.fromarray(pixels[..., 0]))
    elif mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(path, kind)
    return path


def domain(root, name, count=4, classes=CLASSES):
    """Write `ROOT/<name>/<class>/<number>.png`."""
    for label in classes:
        for number in range(count):
            picture(root / name / label / f"{number}.png")


def clutter(folder):
    """Put into a domain one of everything that is no image of it; return what, by reason."""
    circle, square = folder / "circle", folder / "square"
    for number in range(5):
        (circle / f"IMG_{number}.HEIC").write_bytes(HEIC)
        picture(circle / "@eaDir" / f"{number}.png")
    picture(square / "thumbs" / "small.png")
    picture(square / ".cache" / "x.png")
    for name in ("._0.png", ".hidden.jpg"):
        (circle / name).write_bytes(b"x")
    picture(folder / "__MACOSX" / "circle" / "0.png")
    for name in ("Thumbs.db", "desktop.ini", "notes.txt", "labels.csv", "README", "a.tar.xz\x1b["):
        (square / name).write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    os.mkfifo(square / "pipe.png")
    os.mkfifo(square / "socket")
    os.symlink("..", circle / "up")
    os.symlink("../..", circle / "higher")
    os.symlink(".", circle / "self")
    os.symlink("../square", circle / "other")
    os.symlink("../square/0.png", circle / "again.png")
    os.symlink("nowhere.png", circle / "gone.png")
    os.symlink("round", circle / "round")
    with (square / "huge.png").open("wb") as stream:
        stream.truncate(2 * 10**9)  # without a block on the disk
    return Counter(
        {
            ".heic": 5,
            "thumbnails": 6,
            "hidden": 3,
            "system files": 4,
            ".txt": 1,
            ".csv": 1,
            "no ending": 1,
            "other endings": 1,
            "pipes and devices": 2,
            "links to a folder above": 3,
            "links to what is taken already": 2,
            "broken links": 2,
            "too large": 1,
        }
    )
