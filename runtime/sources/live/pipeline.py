"""A GStreamer pipeline that ends in an appsink, as for the CSI camera of a Jetson."""

from __future__ import annotations

import re
from typing import Any

from runtime.errors import ConfigError
from runtime.sources.live.base import Settings
from runtime.sources.live.opened import Opened

_SINK = re.compile(r"\bappsink\b")
_BUILT = re.compile(r"^ *GStreamer: +YES", re.MULTILINE)


class Pipeline(Opened):
    """Frames of a pipeline, read by an OpenCV that was built with GStreamer.

    It runs whatever elements it names, which may read files and connect to machines: who may name
    one may do what this program may do.
    """

    def __init__(self, where: str, settings: Settings) -> None:
        """Check that OpenCV can run pipelines, see `Connection`."""
        super().__init__(where, settings)
        if not _BUILT.search(self._cv2.getBuildInformation()):
            raise ConfigError(
                f"cannot open the pipeline '{self.shown}': this OpenCV has no GStreamer, "
                "as those of PyPI are; use the one of JetPack or of Debian (python3-opencv)"
            )
        if not _SINK.search(where):
            raise ConfigError(
                f"the pipeline '{self.shown}' has no appsink; end it in videoconvert ! "
                "video/x-raw,format=BGR ! appsink drop=1 max-buffers=1"
            )

    def _opened(self) -> Any:
        return self._cv2.VideoCapture(self.where, self._cv2.CAP_GSTREAMER)

    def _reason(self) -> str:
        return (
            "GStreamer does not start it; try it with gst-launch-1.0, with fakesink in the place "
            "of appsink"
        )
