"""Where frames come from: image files, videos. A new kind is one file and one line in `SOURCES`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from runtime.frames import formats
from runtime.lookup import imported

if TYPE_CHECKING:
    from runtime.models import Background
    from runtime.sources.base import Input, Source


class Entry(NamedTuple):
    """A kind of source."""

    source: str
    """`module:Class`, called with inputs and the colour behind transparent pixels."""
    takes: Callable[[str], bool]
    """Whether an input of this name is of the kind; the first kind that says so has it."""


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in formats.VIDEO


SOURCES: Mapping[str, Entry] = {
    "video": Entry("runtime.sources.video:Video", _is_video),
    "image": Entry("runtime.sources.images:Images", lambda name: True),
}


def kind_of(name: str) -> str:
    """Return the kind of source, a key of `SOURCES`, that gives the frames of an input."""
    return next(kind for kind, entry in SOURCES.items() if entry.takes(name))


def open_inputs(inputs: Sequence[Input], background: Background) -> Source:
    """Return one source of the frames of inputs of any kinds, in order.

    Args:
        inputs: Inputs, see `runtime.sources.select`.
        background: Colour behind transparent pixels.
    """
    from runtime.sources.chain import Chain

    sources: list[Source] = []
    # An error needs no decoder; as an image it keeps its place among the others.
    for kind, group in groupby(inputs, lambda i: "image" if i.error else kind_of(i.name)):
        sources.append(imported(SOURCES[kind].source)(list(group), background))
    return Chain(sources)
