"""Refuse settings that name what there is not: base models, weights files, selectors, devices."""

from __future__ import annotations

import re

from adapt.architecture import is_file
from adapt.settings.base_models import check_architecture, check_own_weights, check_weights
from adapt.settings.config import TrainConfig
from adapt.settings.methods import EKDAConfig
from adapt.settings.selectors import check_selector
from runtime.errors import BackendError

BASE_ADVICE = "--set model={} --set pretrained=PATH"
TEACHER_ADVICE = "--set teacher={} --set teacher_pretrained=PATH"
"""How to name other weights, for messages; `{}` is the architecture."""


def check_names(config: TrainConfig) -> None:
    """Refuse names in settings that nothing here has; needs no torch.

    Raises:
        ConfigError: The selector is unknown.
        BaseModelError: The base model or the teacher is unknown, or a weights file is not there.
    """
    check_selector(config.select)
    models = [(config.model, config.pretrained, BASE_ADVICE)]
    if isinstance(config, EKDAConfig):
        models.append((config.teacher, config.teacher_pretrained, TEACHER_ADVICE))
    for architecture, pretrained, advice in models:
        check_architecture(architecture)
        advice = advice.replace("{}", architecture)
        check_weights(pretrained, advice)
        if is_file(architecture):
            check_own_weights(architecture, pretrained, advice)


def check_device(name: str) -> None:
    """Refuse what is no name of a device; whether it is there, torch must tell.

    Raises:
        BackendError: It is not `cpu`, `cuda` or `cuda:N`.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise BackendError(f"unknown device '{name}'; use cpu, cuda or cuda:N")
