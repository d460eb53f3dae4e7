"""Refuse settings that name an unknown selector, base model, weights file or device."""

from __future__ import annotations

import re

from adapt.settings.config import TrainConfig
from adapt.settings.selectors import check_selector
from runtime.errors import BackendError


def check_names(config: TrainConfig) -> None:
    """Refuse unknown names in settings, without torch.

    Raises:
        ConfigError: The selector is unknown, or the base models do not go together.
        BaseModelError: A base model or a weights file is unknown.
    """
    check_selector(config.select)
    config.check_models()


def check_device(name: str) -> None:
    """Refuse a device name of the wrong form; whether the device exists, torch must tell.

    Raises:
        BackendError: The name is not `cpu`, `cuda` or `cuda:N`.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise BackendError(f"unknown device '{name}'; use cpu, cuda or cuda:N")
