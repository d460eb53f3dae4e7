"""Sort a harvest of drawn frames by their labels, in place of a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapt.demo.camera import Shown
from runtime import read_image
from runtime.monitoring import harvested
from runtime.monitoring.harvested import HELD_OUT, PARTS, SORTED


def look(folder: Path, offered: Iterable[Shown]) -> dict[str, Shown]:
    """Return the frame that each file of a harvest shows, by name of the file.

    Args:
        folder: Folder of the harvest.
        offered: Frames that were offered to it.
    """
    by_pixels = {read_image(frame.path).tobytes(): frame for frame in offered}
    files = [path for part in PARTS for path in (folder / part).glob("*.png")]
    return {path.name: by_pixels[read_image(path).tobytes()] for path in files}


def sort(folder: Path, frames: Mapping[str, Shown]) -> None:
    """Move the held-out files into folders of their classes."""
    for path in sorted((folder / HELD_OUT).glob("*.png")):
        target = folder / SORTED / frames[path.name].label
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)


def contents(folder: Path, frames: Mapping[str, Shown], scene: str) -> dict[str, dict[str, Any]]:
    """Return for each part its numbers of images, of those of a scene, and of correctly named ones.

    Args:
        folder: Folder of the harvest.
        frames: Frames by name of the file, from `look`.
        scene: Scene to count.
    """
    found: dict[str, dict[str, Any]] = {
        part: {"images": 0, "of_the_scene": 0, "old_task_right": 0} for part in PARTS
    }
    for entry in harvested.read(folder):
        counts, frame = found[entry.part], frames[entry.file]
        counts["images"] += 1
        counts["of_the_scene"] += frame.scene == scene
        counts["old_task_right"] += frame.label == entry.label
    return found


def pictures(folder: Path, frames: Mapping[str, Shown], count: int) -> dict[str, list[Any]]:
    """Return some images of each part, with what the old task said and what they show.

    Args:
        folder: Folder of the harvest.
        frames: Frames by name of the file, from `look`.
        count: Most images of a part.
    """
    found: dict[str, list[Any]] = {part: [] for part in PARTS}
    for entry in sorted(harvested.read(folder), key=lambda entry: entry.file):
        if len(own := found[entry.part]) < count:
            file = str(Path(*folder.parts[-2:]) / entry.part / entry.file)
            true = frames[entry.file].label
            own.append({"file": file, "label": entry.label, "score": entry.score, "true": true})
    return found
