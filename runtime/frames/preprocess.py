"""Convert frames and image files to the pixels that an encoder takes.

The only implementation: training evaluates with it and export verifies with it, so a device sees
exactly the pixels the reported accuracy was measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from runtime.errors import DataError
from runtime.frames import decode, formats
from runtime.frames.resize import by_pillow, resizer
from runtime.models import Background, Preprocess
from runtime.storage import disk

Frame: TypeAlias = "NDArray[np.uint8] | str | Path | Image.Image"
"""(H, W, 3) uint8 RGB, an image file's path, or an image of Pillow's."""
_MAX_RATIO = 100


def as_frame(frame: Frame, background: Background) -> NDArray[np.uint8]:
    """Return a frame as (H, W, 3) uint8 RGB; an array is returned as it is.

    Args:
        frame: An array, a path or an image of Pillow's. Files are turned upright as their EXIF
            orientation says, and images too.
        background: Colour behind transparent pixels.

    Raises:
        DataError: The frame is not an RGB image, or cannot be decoded.
    """
    if isinstance(frame, (str, Path)):
        return read_image(frame, background=background)
    if isinstance(frame, Image.Image):
        try:
            return decode.rgb(frame.copy(), background)  # which changes it in place
        except DataError:
            raise
        except Exception as error:  # decoders raise what they like on damaged files
            raise DataError(f"cannot decode the image {frame!r}: {error}") from error
    return check_frame(frame)


def check_frames(frames: Any) -> None:
    """Check that frames come as a sequence that is not empty.

    Args:
        frames: Frames of a call that takes several.

    Raises:
        DataError: They are a single frame, none, or no sequence.
    """
    if isinstance(frames, (str, Path, Image.Image)) or getattr(frames, "ndim", 0) == 3:
        kind = type(frames).__name__
        raise DataError(f"expected a list of images, found a single {kind}; pass [image]")
    if not hasattr(frames, "__getitem__"):
        raise DataError(f"expected a list of images, found {type(frames).__name__}")
    if not len(frames):
        raise DataError("expected at least one image, found none")


def check_frame(frame: object) -> NDArray[np.uint8]:
    """Return `frame` if it is an RGB image, else raise an error that says why not.

    Args:
        frame: Frame to check, expected to be (H, W, 3) uint8.

    Raises:
        DataError: The frame is not an RGB image.
    """
    if not isinstance(frame, np.ndarray):
        raise DataError(
            "a frame must be a numpy array (H, W, 3) uint8, a path or a PIL image, found "
            f"{type(frame).__name__}"
        )
    if frame.dtype != np.uint8:
        raise DataError(
            f"a frame must be uint8 in 0..255, found {frame.dtype}; "
            "convert it, for example (frame * 255).astype('uint8') for floats in 0..1"
        )
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise DataError(f"a frame must be (H, W, 3) RGB, found shape {frame.shape}")
    if 0 in frame.shape:
        raise DataError(f"a frame must have pixels, found shape {frame.shape}")
    return frame


def preprocess(
    frame: NDArray[np.uint8], spec: Preprocess, *, reducing_gap: float | None = None
) -> NDArray[np.uint8]:
    """Resize a frame to the size a graph takes, antialiased as Pillow does it, bit for bit.

    Args:
        frame: (H, W, 3) uint8, RGB, of any strides.
        spec: Size S, interpolation, and whether to squash or to crop the centre.
        reducing_gap: None for the exact result. Else Pillow's argument, at least 1: the frame is
            first shrunk by averaging whole blocks of pixels, to no less than that many times S.
            Not the pixels a task was trained on: a photograph of 1920 x 1080 then differs by up to
            8 of 255 (0.5 on average) at 2.0, noise by up to 14. The exact result is as fast or
            faster for smaller frames, and for cropped ones.

    Returns:
        (S, S, 3) uint8. The frame itself when it already has that size.

    Raises:
        DataError: The frame is not an RGB image, or too narrow to crop, or the gap is below 1.
    """
    return _resized(frame, spec, reducing_gap).astype(np.uint8, copy=False)


def preprocess_batch(frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> NDArray[np.uint8]:
    """Return at least one frame, each as `preprocess` makes it, as one batch (N, S, S, 3).

    Raises:
        DataError: A frame is not an RGB image, or too narrow to crop.
    """
    if len(frames) == 1:
        return np.ascontiguousarray(preprocess(frames[0], spec))[None]
    batch = np.empty((len(frames), spec.size, spec.size, 3), np.uint8)
    for row, frame in zip(batch, frames, strict=True):
        np.copyto(row, _resized(frame, spec), casting="unsafe")
    return batch


def geometry(
    width: int, height: int, spec: Preprocess
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Return the size that a frame is resized to, and the part of it that is kept.

    Args:
        width: Width of the frame.
        height: Height of the frame.
        spec: Size, and whether to squash or to crop the centre.

    Returns:
        Width and height of the whole; left, top, right and bottom of the part.

    Raises:
        DataError: The frame is too narrow to crop.
    """
    target = (spec.size, spec.size)
    if spec.resize == "crop":
        # The long side is cut to whole pixels before the crop, as CLIP's own pipeline does.
        short = min(width, height)
        if max(width, height) > _MAX_RATIO * short:
            raise DataError(
                f"a frame of {width} x {height} pixels is too narrow to crop; expected a ratio "
                f"of at most {_MAX_RATIO}; cut it first, or train with resize=squash"
            )
        target = (spec.size * width // short, spec.size * height // short)
    left, top = (round((side - spec.size) / 2) for side in target)
    return target, (left, top, left + spec.size, top + spec.size)


def _resized(
    frame: NDArray[np.uint8], spec: Preprocess, reducing_gap: float | None = None
) -> NDArray[Any]:
    """Return (S, S, 3) whole numbers in 0..255 of type uint8 or float32."""
    height, width, _ = check_frame(frame).shape
    if reducing_gap is not None and not reducing_gap >= 1:
        raise DataError(f"a reducing gap must be at least 1, found {reducing_gap}; 2.0 is usual")
    if height == width == spec.size:
        return frame
    target, window = geometry(width, height, spec)
    if reducing_gap is not None:
        return by_pillow(frame, target, window, spec.interpolation, reducing_gap)
    return resizer((width, height), target, window, spec.interpolation)(frame)


def read_pixels(path: Path, spec: Preprocess) -> NDArray[np.uint8]:
    """Read an image file, lay it on the background of the spec, and preprocess it.

    Raises:
        DataError: The file cannot be read, or is too narrow to crop.
    """
    return preprocess(read_image(path, background=spec.background), spec)


def read_image(
    path: str | Path, *, background: Background = "drop", draft: int | None = None
) -> NDArray[np.uint8]:
    """Decode an image file to (H, W, 3) uint8 RGB, upright as its EXIF orientation says.

    Args:
        path: Any format that Pillow reads.
        background: Colour behind transparent pixels, `Session.preprocess.background` for a
            session's current task; `drop` shows the colour that they hide, mostly black.
        draft: None for every pixel. Else JPEG files are decoded at 1/2, 1/4 or 1/8 of their size,
            as long as both sides keep at least that many pixels; other formats do not change.
            Not the pixels a task was trained on: of a 1920 x 1080 photograph, what `preprocess`
            makes at S = 224 then differs by up to 4 of 255 (0.3 on average) with draft=448 and by
            up to 20 (1.1) with draft=224, for half and 0.4 of the time.

    Raises:
        DataError: The file is missing, no image, truncated, absurdly large or too large for the
            memory, or its values have no meaning as brightness.
        StorageError: Too many files are open.
    """
    path = Path(path)
    formats.register()
    try:
        with decode.opened(path) as image:
            if draft is not None:
                image.draft(None, (draft, draft))
            return decode.rgb(image, background)
    except DataError as error:
        raise DataError(f"cannot read the image '{path}': {error}") from error
    except Exception as error:  # decoders raise what they like on damaged files
        if disk.too_many_open(error):
            raise disk.refused(path, error) from error
        if isinstance(error, MemoryError):
            raise DataError(
                f"cannot read the image '{path}': the memory is full; shrink the picture, or free "
                "some memory"
            ) from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "cannot identify image file"  # its own text shows a Python object
        raise DataError(
            f"cannot read the image '{path}': {reason}; {_hint(path, error)}"
        ) from error


def _hint(path: Path, error: Exception) -> str:
    """Return what can help if an image file cannot be read."""
    if isinstance(error, PermissionError):
        return "check its permissions and those of the folders above it"
    if isinstance(error, OSError) and error.errno:  # the system's, not a decoder's
        if "*" in str(path):  # a shell passes on a pattern in quotes, or one without a match
            return "leave out the quotes around a pattern, or check the path"
        return "check the path"
    return formats.advice(path.suffix.lower()) or "repair or remove the file"
