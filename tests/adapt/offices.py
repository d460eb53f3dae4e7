"""Office-31 in miniature: three domains, two classes, noisy pictures; and settings to match."""

import numpy as np
from PIL import Image

DOMAINS = {"amazon": 60, "dslr": 30, "webcam": 10}
TINY = (
    *("model=demo-rn32", "pretrained=demo", "batch_size=4", "epochs=2", "iterations=2"),
    *("lr=1e-3", "head_lr_multiplier=10.0", "train_size=36", "eval_batch_size=16"),
)


def office31(root, count=4):
    """Write `ROOT/<domain>/<class>/<number>.png`; the class shows in the brightest channel."""
    for domain, tint in DOMAINS.items():
        for label, name in enumerate(("bike", "mug")):
            folder = root / domain / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([tint, label, number]).integers(0, 120, (24, 24, 3))
                pixels[..., label] += 60 + tint
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


def arguments(root, out, *more, settings=()):
    """Return the command line of a sweep over it."""
    pairs = [part for setting in (*TINY, *settings) for part in ("--set", setting)]
    fixed = ["sweep", "--dataset", "office31", "--data", str(root), "--out", str(out)]
    return [*fixed, "--threads", "1", *pairs, *more]
