"""Import OpenCV, which the extra [camera] brings, when it is first needed."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from runtime.errors import ConfigError

ADVICE = "install the extra [camera]"


def available() -> bool:
    """Return whether OpenCV is installed."""
    return importlib.util.find_spec("cv2") is not None


def opencv(what: str = "videos need") -> Any:
    """Return the module `cv2`, whose libraries print nothing unless the environment asks for it.

    Args:
        what: Subject and verb of the message if it cannot be imported.

    Raises:
        ConfigError: OpenCV cannot be imported.
    """
    # They print what we report as errors; both variables are read once.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            f"{what} OpenCV, which cannot be imported ({error}); {ADVICE}, for example: pip "
            "install '.[camera]'"
        ) from error
    return cv2
