"""Error lines, tables, sizes and progress of the command lines."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from runtime.errors import DataError, UdaError
from runtime.signals import TERMINATED, Terminated
from runtime.startup import INTERRUPTED
from runtime.storage import disk
from runtime.storage.writing import write_bytes
from runtime.streams import lasting
from runtime.text import printable

OPTIONAL = frozenset(
    "torch torchvision open_clip onnx onnxruntime yaml rich scipy sklearn matplotlib jinja2".split()
)
"""Packages that only some installs have."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STDOUT = Path("-")
"""Stands for the standard output where a command takes the path of a file to write."""
ProgressCallback = Callable[[str, int, int], None]
"""Called with a description of the step, how much of it is done, and how much there is."""


class UdaGroup(click.Group):
    """A click group that prints a user's error as one line on stderr and exits with 1.

    A command whose output cannot be written continues without it, so that its files are written,
    and then exits with 1. A pipe that its reader has closed, as in `| head -1`, is not an error.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        with lasting() as output:
            try:
                result = super().main(*args, **kwargs)
            except SystemExit as done:
                if done.code:
                    raise
                result = None
            sys.stdout.flush()
            if output is not None and output.failure is not None:
                echo(f"error: {_lost(output.failure)}", err=True)
                sys.exit(1)
        return result

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        status = 1
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # Python's own says nothing
            message = str(error) or "interrupted"
            status = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        except UdaError as error:
            message = str(error)
        except click.NoSuchOption as error:
            raise _missing_space(error) from error
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in OPTIONAL:
                raise
            message = (
                f"this command needs '{error.name}', which is not installed; install the project "
                "with the extra [export], for example: pip install '.[export]'"
            )
        except OSError as error:
            if (refusal := _refusal(error)) is None:
                raise
            message = refusal
        echo(f"error: {printable(message)}", err=True)
        sys.exit(status)


def _missing_space(error: click.NoSuchOption) -> click.UsageError:
    """Return an error for an option with its value right behind it, or the error as it is."""
    given = error.option_name
    options = [
        name
        for parameter in (error.ctx.command.params if error.ctx else ())
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for name in parameter.opts
        if given.startswith(name) and not (given[len(name)].isalpha() or given[len(name)] in "-_")
    ]
    if not options:
        return error
    return click.UsageError(
        f"no such option '{printable(given)}'; a space is missing after {max(options, key=len)}",
        error.ctx,
    )


class UserPath(click.Path):
    """A path argument; one that cannot be used is an error like any other, in one line.

    Click would report wrong usage, and say that a path to which access is denied does not exist.
    """

    def __init__(self, *, path_type: type = Path, **checks: bool) -> None:
        """Choose what to check.

        Args:
            path_type: Type of the value.
            checks: Click's `exists`, `file_okay`, `dir_okay` and `allow_dash`.
        """
        super().__init__(readable=False, path_type=path_type, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            StorageError: Access is denied.
            DataError: Nothing is there, or a file instead of a folder, or the other way round.
        """
        found = disk.status(value)
        problem = ""
        if self.allow_dash and value == str(STDOUT):
            pass
        elif found is None:
            problem = "does not exist" if self.exists else ""
        elif stat.S_ISREG(found.st_mode) and not self.file_okay:
            problem = "is a file, expected a folder"
        elif stat.S_ISDIR(found.st_mode) and not self.dir_okay:
            problem = "is a folder, expected a file"
        if problem:
            what = param.opts[0] if isinstance(param, click.Option) else "the path"
            raise DataError(f"'{os.fspath(value)}' {problem}; check {what}")
        return super().convert(value, param, ctx)


def _refusal(error: OSError) -> str | None:
    """Return a message for an error of the system; None where a traceback says more."""
    if disk.too_many_open(error):
        return f"cannot open a file: {error.strerror}; {disk.ULIMIT_HINT}"
    if error.filename is None and error.errno in _FULL:
        return _lost(error)
    if error.filename is None and isinstance(error, FileNotFoundError):  # a relative path's
        return "the working folder does not exist any more; change to another (cd FOLDER)"
    # A file that is not there should have been looked for.
    if error.filename is None or isinstance(error, FileNotFoundError):
        return None
    return (
        f"cannot use '{os.fsdecode(error.filename)}': {error.strerror}; check the path and its "
        "permissions, or choose another"
    )


def _lost(error: OSError) -> str:
    hint = "write it elsewhere"
    if error.errno in _FULL:
        hint = "free some space, or write it elsewhere"
    return f"cannot write the output: {error.strerror}; {hint}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as aligned text columns: the first to the left, the others to the right."""
    cells = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "  ".join("-" * w for w in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def echo(text: object = "", *, err: bool = False) -> None:
    """Print lines, each without the characters that control a terminal.

    Args:
        text: Lines to print; line breaks in names from files must be escaped beforehand.
        err: Whether to print them on stderr.
    """
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def erase_line() -> None:
    """Erase the line of a bar on stderr, which is a terminal, so that another can be printed."""
    click.echo("\r\x1b[K", nl=False, err=True)


def count_of(count: int, noun: str) -> str:
    """Return a number of things for people: `1 image`, `1,234 images`, `2 classes`.

    Args:
        count: Number of things.
        noun: Name of the thing, in the singular.
    """
    more = noun if count == 1 else f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"
    return f"{count:,} {more}"


def bytes_text(count: int) -> str:
    """Return a number of bytes for people: `226.1 kB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def as_json(document: Any) -> str:
    """Return a JSON document for programs as text."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document for programs, atomically.

    Raises:
        StorageError: The file cannot be written.
    """
    write_bytes(path, as_json(document).encode())


def publish(text: str, documents: Mapping[Path | None, str]) -> None:
    """Write documents to files, and print a text and what was written; or instead the document `-`.

    Args:
        text: Lines for people.
        documents: Contents by path; what has no path is dropped.

    Raises:
        StorageError: A file cannot be written; the text was printed.
    """
    if STDOUT in documents:
        click.echo(documents[STDOUT], nl=False)
    else:
        echo(text)
    files = {path: text for path, text in documents.items() if path not in (None, STDOUT)}
    for path, content in files.items():
        write_bytes(path, content.encode())
    if files:
        echo(f"\nwrote     {', '.join(map(printable, files))}", err=STDOUT in documents)
