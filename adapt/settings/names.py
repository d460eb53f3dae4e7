"""Refuse settings that name what there is not: base models, weights files, selectors, devices."""

from __future__ import annotations

import re

from adapt.architecture import is_file
from adapt.settings.base_models import (
    QUICKGELU,
    check_architecture,
    check_own_weights,
    check_weights,
    image_size,
    is_resnet,
)
from adapt.settings.config import TrainConfig
from adapt.settings.methods import EKDAConfig
from adapt.settings.selectors import check_selector
from runtime.errors import BackendError, ConfigError

BASE_ADVICE = "--set model={} --set pretrained=PATH"
TEACHER_ADVICE = "--set teacher={} --set teacher_pretrained=PATH"
"""How to name other weights, for messages; `{}` is the architecture."""

TEACHERS = {
    32: ("demo-vit32-wide", "demo"),
    224: ("ViT-L-14-quickgelu", "openai"),
    336: ("ViT-L-14-336-quickgelu", "openai"),
}
"""Architecture and weights of a teacher, by the pixels on a side of its images."""


def check_names(config: TrainConfig) -> None:
    """Refuse names in settings that nothing here has; needs no torch.

    Raises:
        ConfigError: The selector is unknown, or a teacher does not go with its student.
        BaseModelError: The base model or the teacher is unknown, or a weights file is not there.
    """
    check_selector(config.select)
    models = [(config.model, config.pretrained, BASE_ADVICE)]
    if isinstance(config, EKDAConfig):
        models.append((config.teacher, config.teacher_pretrained, TEACHER_ADVICE))
        check_teacher(config.model, config.teacher)
    for architecture, pretrained, advice in models:
        check_architecture(architecture)
        advice = advice.replace("{}", architecture)
        check_weights(pretrained, advice)
        if is_file(architecture):
            check_own_weights(architecture, pretrained, advice)


def check_teacher(student: str, teacher: str) -> None:
    """Refuse models that cannot go together, before either is loaded.

    Args:
        student: Architecture. One that is not known here passes; loading it says what is wrong.
        teacher: Likewise.

    Raises:
        ConfigError: The teacher is no ViT, or takes images of another size.
    """
    first, second = (name.removesuffix(QUICKGELU) for name in (student, teacher))
    size, other, resnet = image_size(first), image_size(second), is_resnet(second)
    if not resnet and (size == other or None in (size, other)):
        return
    wrong = "is a ResNet" if resnet else f"takes images of {other} px"
    fits = TEACHERS.get(size or 0)
    example = f"{fits[0]} --set teacher_pretrained={fits[1]}" if fits else "NAME"
    raise ConfigError(
        f"the teacher {teacher} {wrong}, but the student {student} takes images of {size} px; EKDA "
        "adapts CLIP's ViTs and ResNets, and the teacher must be a CLIP ViT for images of the same "
        f"size; name one: --set teacher={example}"
    )


def check_device(name: str) -> None:
    """Refuse what is no name of a device; whether it is there, torch must tell.

    Raises:
        BackendError: It is not `cpu`, `cuda` or `cuda:N`.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise BackendError(f"unknown device '{name}'; use cpu, cuda or cuda:N")
