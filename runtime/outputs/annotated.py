"""Write annotated pictures and videos into a folder, named like their inputs."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

from PIL import Image

from runtime.errors import ConfigError
from runtime.outputs.base import Output, Result
from runtime.outputs.drawing import annotate, captions, check_text
from runtime.outputs.video_file import SUFFIX, VideoFile
from runtime.sources.base import Input
from runtime.storage import disk
from runtime.storage.files import no_empty_folder
from runtime.storage.writing import write_bytes

_FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
"""Formats that are kept, by ending; other pictures become PNG."""
_QUALITY = 92


class Annotated(Output):
    """A folder of pictures and videos with labels and scores, at their inputs' relative paths."""

    def __init__(self, folder: Path, top: int = 1) -> None:
        """Check that the folder is new or empty, so that nothing in it is overwritten.

        Args:
            folder: Folder to write to.
            top: Number of most likely classes to draw.

        Raises:
            ConfigError: The folder has files, or this Pillow cannot draw text.
            StorageError: Access to it is denied.
        """
        check_text()
        if disk.matching(folder, "*"):
            raise ConfigError(f"'{folder}' is not empty; choose a new folder for --save")
        self._folder, self._top = folder, top
        self._taken: set[str] = set()
        self._video: VideoFile | None = None
        self._playing: tuple[Input, str] | None = None
        """The input of the video, and its path."""

    def write(self, result: Result) -> None:
        """Write a picture, or the next frame of a video; what has no prediction is left out.

        Raises:
            StorageError: A file cannot be written.
            ConfigError: OpenCV is not installed.
        """
        item, prediction = result.item, result.prediction
        if item.frame is None or prediction is None:
            return
        image = annotate(item.frame, captions(prediction, self._top))
        if item.number is None:
            result.saved = self._picture(item.input, image)
            return
        if self._video is None or self._playing is None or self._playing[0] is not item.input:
            self.close()
            path = self._path(PurePosixPath(item.input.saved_as).with_suffix(SUFFIX))
            self._video = VideoFile(path, item.rate, image.size)
            self._playing = item.input, str(path)
        self._video.write(image)
        result.saved = self._playing[1]

    def close(self) -> None:
        """Finish the video. Safe to call more than once.

        Raises:
            StorageError: It cannot be written.
        """
        video, self._video, self._playing = self._video, None, None
        if video is not None:
            video.close()

    def _picture(self, given: Input, image: Image.Image) -> str:
        name = PurePosixPath(given.saved_as)
        if name.suffix.lower() not in _FORMATS:
            name = name.with_name(f"{name.name}.png")
        path, content = self._path(name), io.BytesIO()
        image.save(content, _FORMATS[name.suffix.lower()], quality=_QUALITY)
        with no_empty_folder(path.parent):
            write_bytes(path, content.getvalue())
        return str(path)

    def _path(self, name: PurePosixPath) -> Path:
        """Return a path that no other input has, on a disk that ignores case either."""
        number, free = 2, name
        while str(free).casefold() in self._taken:
            free = name.with_name(f"{name.stem}-{number}{name.suffix}")
            number += 1
        self._taken.add(str(free).casefold())
        return self._folder / free
