"""Check that a teacher and its student take the same images, before loading them."""

from __future__ import annotations

from adapt.settings.architectures import QUICKGELU, image_size, is_resnet
from runtime.errors import ConfigError

TEACHER_ADVICE = "--set teacher={} --set teacher_pretrained=PATH"
"""Options that name other weights, for messages; `{}` is the architecture."""
TEACHERS = {
    32: ("demo-vit32-wide", "demo"),
    224: ("ViT-L-14-quickgelu", "openai"),
    336: ("ViT-L-14-336-quickgelu", "openai"),
}
"""Architecture and weights of a teacher, by the pixels on a side of its images."""


def check_teacher(student: str, teacher: str) -> None:
    """Refuse a teacher that does not fit its student.

    Args:
        student: Architecture of the student; an unknown one passes, as other checks refuse it.
        teacher: Architecture of the teacher, likewise.

    Raises:
        ConfigError: The teacher is not a ViT, or takes images of another size.
        BaseModelError: A model configuration cannot be used.
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
