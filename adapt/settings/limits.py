"""Refuse settings that would train in vain, unless the user set them by name."""

from __future__ import annotations

from adapt.settings.base_models import train_size
from adapt.settings.config import TrainConfig
from adapt.settings.layers import COMMAND, Settings
from adapt.settings.length import MOST_PASSES
from runtime.errors import ConfigError

LARGEST_CROP = 1.5
"""Training size over input size: above, a crop shows too little of an image to say what it is."""


def check_crops(settings: Settings[TrainConfig], image_size: int) -> None:
    """Refuse crops that are a small part of the image, unless the command line asked for them.

    Args:
        settings: Of the run.
        image_size: Pixels on a side that the model takes.

    Raises:
        ConfigError: They are.
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
        settings: Of the run, with what the data decide.
        images: Of the larger domain.

    Raises:
        ConfigError: It does.
    """
    config, named = settings.config, settings.named()
    passes = config.epochs * config.iterations * config.batch_size / images
    if passes > MOST_PASSES and not named & {"epochs", "iterations", "batch_size"}:
        raise ConfigError(
            f"{config.epochs} epochs of {config.iterations} iterations would be {passes:.0f} "
            f"passes over {images} images, at most {MOST_PASSES} are useful; add images, or set "
            f"the length by name: --set epochs={max(config.epochs * MOST_PASSES // int(passes), 1)}"
        )
