"""Check that a loaded teacher preprocesses images as its student does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import ConfigError

if TYPE_CHECKING:
    from adapt.clip.model import Clip


def check_images(student: Clip, teacher: Clip) -> None:
    """Refuse loaded models that preprocess images differently: both take the same batch.

    Raises:
        ConfigError: Size, mean or std differ.
    """

    def wants(clip: Clip) -> str:
        return f"{clip.image_size} px, mean {clip.mean}, std {clip.std}"

    if wants(student) != wants(teacher):
        raise ConfigError(
            f"the student {student.info.architecture} takes images of {wants(student)}, the "
            f"teacher {teacher.info.architecture} of {wants(teacher)}; both see the same batch: "
            "choose models that agree"
        )
