"""Where results go: files and folders. A new kind is one file and one line in `OUTPUTS`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runtime.lookup import imported

if TYPE_CHECKING:
    from runtime.outputs.base import Output


class Entry(NamedTuple):
    """An output as it is known before its module is imported."""

    output: str
    """`module:Class`, called with a path and the number of classes to show."""
    summary: str
    """What it writes, for help texts."""
    folder: bool = False
    """Whether the path is a folder."""


OUTPUTS: Mapping[str, Entry] = {
    # First, so that the others can say where a picture is.
    "save": Entry(
        "runtime.outputs.annotated:Annotated",
        "Save pictures with labels and scores in a new folder; videos as .avi, with the extra "
        "[camera].",
        folder=True,
    ),
    "csv": Entry("runtime.outputs.csv_file:CsvFile", "Also write CSV; - prints it instead."),
    "jsonl": Entry("runtime.outputs.jsonl_file:JsonlFile", "Also write JSON lines; - prints them."),
    "json": Entry("runtime.outputs.json_file:JsonFile", "Also write JSON; - prints it instead."),
}
"""By the name of the option; results go to them in this order."""


def load(name: str, path: Path, top: int) -> Output:
    """Return the output `name`, opened for writing.

    Args:
        name: A key of `OUTPUTS`.
        path: File or folder to write.
        top: Number of most likely classes to write.

    Raises:
        UdaError: It cannot be written.
    """
    output: Output = imported(OUTPUTS[name].output)(path, top)
    return output
