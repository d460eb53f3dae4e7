"""Refuse settings that cannot train, or that waste a run unless the user set them by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from adapt.settings.architectures import QUICKGELU, image_size, train_size
from adapt.settings.config import TrainConfig
from adapt.settings.layers import COMMAND, Settings
from adapt.settings.length import MOST_PASSES
from adapt.settings.names import check_names
from runtime.console import count_of
from runtime.errors import BackendError, ConfigError, DataError

LARGEST_CROP = 1.5
"""Largest training size over input size: above, a crop shows too little of an image."""

SMALLEST_BATCH = 2
"""Smallest number of images in a batch: BatchNorm needs two."""


def check_data(
    settings: Settings[TrainConfig], sources: int, targets: int, *, uses_images: bool
) -> None:
    """Check the settings of a run against its images, before the base model is loaded.

    Args:
        settings: Settings of the run, with what the data decide.
        sources: Number of labelled training images.
        targets: Number of unlabelled training images.
        uses_images: Whether the method trains on images, not on features of whole ones.

    Raises:
        ConfigError: Crops show too little of an image, or images would be seen too often.
        DataError: There are fewer images than a batch takes.
    """
    config = settings.config
    check_batch(config.batch_size, {"source": sources, "target": targets})
    if uses_images:
        size = image_size(config.model.removesuffix(QUICKGELU))
        check_crops(settings, size or config.train_size)
        check_passes(settings, max(sources, targets))


def check_crops(settings: Settings[TrainConfig], image_size: int) -> None:
    """Refuse crops that are a small part of the image, unless the command line asked for them.

    Args:
        settings: Settings of the run.
        image_size: Pixels on a side that the model takes.

    Raises:
        ConfigError: `train_size` is too large for the model.
    """
    config = settings.config
    set_by_name = settings.sources["train_size"] == COMMAND
    if config.train_size > LARGEST_CROP * image_size and not config.crop_min and not set_by_name:
        raise ConfigError(
            f"train_size is {config.train_size} ({settings.sources['train_size']}), so crops of "
            f"{image_size} pixels would show {(image_size / config.train_size) ** 2:.0%} of an "
            f"image; add --set train_size={train_size(image_size)}, or --set "
            f"train_size={config.train_size} if you mean it"
        )


def check_passes(settings: Settings[TrainConfig], images: int) -> None:
    """Refuse a run that sees every image too often, unless somebody set its length by name.

    Args:
        settings: Settings of the run, with what the data decide.
        images: Number of images of the larger domain.

    Raises:
        ConfigError: The passes over the images are more than are useful.
    """
    config, named = settings.config, settings.named()
    passes = config.epochs * config.iterations * config.batch_size / images
    if passes > MOST_PASSES and not named & {"epochs", "iterations", "batch_size"}:
        raise ConfigError(
            f"{config.epochs} epochs of {config.iterations} iterations would be {passes:.0f} "
            f"passes over {images} images, at most {MOST_PASSES} are useful; add images, or set "
            f"the length by name: --set epochs={max(config.epochs * MOST_PASSES // int(passes), 1)}"
        )


def check_batch(batch_size: int, images: Mapping[str, int]) -> None:
    """Refuse a domain with fewer images than a batch takes, the smallest domain first.

    Args:
        batch_size: Images per batch.
        images: Number of training images by role.

    Raises:
        DataError: A domain has too few images; one has too few for any batch.
    """
    role = min(images, key=lambda name: images[name])
    found = f"the {role} has {count_of(images[role], 'training image')}"
    if images[role] < SMALLEST_BATCH:
        raise DataError(f"{found}, training needs {SMALLEST_BATCH} or more; add images")
    if images[role] < batch_size:
        raise DataError(
            f"{found}, a batch takes {batch_size}; add images, or pass --set "
            f"batch_size={images[role]} or less"
        )


def check_precision(config: TrainConfig, device: str) -> None:
    """Refuse a mixed precision that cannot work, or that would round trained changes away.

    Raises:
        BackendError: fp16 was asked for on the CPU.
        ConfigError: RST with mixed precision, without `rst_allow_rounding` and not on its grid.
    """
    if config.amp == "none":
        return
    if not device.startswith("cuda") and config.amp != "bf16":
        raise BackendError(
            f"amp={config.amp} needs --device cuda, this run is on {device}; take amp=bf16 or none"
        )
    if config.rst and config.grid != config.amp and not config.rst_allow_rounding:
        raise ConfigError(
            f"rst with amp={config.amp} would lose most of what it trains: the forward pass casts "
            "weights, and a residual of 1e-6 to 1e-4 below half a unit in the last place (7.6e-6 "
            "in fp16, 6.1e-5 in bf16, at a weight of 0.02) is rounded away; use amp=none, train "
            f"on that grid with --set grid={config.amp}, or pass "
            "--set rst_allow_rounding=true and watch 'survival' in metrics.jsonl"
        )


def check_compile(config: TrainConfig) -> None:
    """Refuse to compile where torch has no C++ compiler: it would fail in the first step only.

    Raises:
        ConfigError: compile=true, and neither `$CXX` nor g++ is there.
    """
    compiler = os.environ.get("CXX", "g++")
    if config.compile and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile=true needs a C++ compiler, found no '{compiler}'; install g++, or set "
            "compile=false"
        )


def check_sparsity(config: TrainConfig, method: str) -> None:
    """Refuse RST where the encoder does not change.

    Raises:
        ConfigError: rst=true, and method or settings leave the encoder alone.
    """
    if config.rst and (config.leaves_encoder or not config.train_encoder):
        raise ConfigError(
            f"rst keeps the encoder's changes sparse, but '{method}' with these settings leaves "
            "the encoder alone; set rst=false"
        )


def check_startable(config: TrainConfig, method: str, device: str) -> None:
    """Check the settings of a run before it starts, without torch.

    Args:
        config: Settings of the run.
        method: Name of the method.
        device: Device, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UdaError: Precision, compiler, sparsity or a name cannot be used.
    """
    check_names(config)
    check_precision(config, device)
    check_compile(config)
    check_sparsity(config, method)
