"""Read files that are believed, such as machine code, if only this user or root could write them.

A digest finds damage, not malice, so before a byte is used the open file is checked: it belongs to
this user or root, nobody else may write to it, and neither it nor its folder is a link. The same
holds for the folder, except that one with the sticky bit, such as /tmp, may be writable by all,
since others cannot replace our files there. Folders above are not checked: a user who can replace
those can only put files of their own there, which are refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from runtime.errors import FormatError
from runtime.text import quoted

Hint = Callable[[], str]
"""Called for messages only, since it may be slow."""
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_folder(folder: Path) -> None:
    """Check that a folder may hold machine code; it may be missing.

    Raises:
        FormatError: The folder may not; the message says why, and what to do about it.
        OSError: The folder cannot be checked.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    _check_folder(folder, found)


def check_file(path: Path, found: os.stat_result, hint: Hint) -> None:
    """Check that a file may be opened as machine code.

    Args:
        path: Path of the file, for messages.
        found: Status of the file itself, links not followed.
        hint: Function that returns how to make the file again.

    Raises:
        FormatError: The file may not; the message says why, and what to do about it.
    """
    if not stat.S_ISREG(found.st_mode):
        raise FormatError(f"'{path}' is {_kind(found)}, expected a file of machine code; {hint()}")
    problem, command = _distrust(path, found)
    if problem:
        raise FormatError(f"{problem}; if you trust it, run: {command}; else {hint()}")


def read_code(path: Path, limit: int, hint: Hint) -> bytes:
    """Return the content of a file that is believed as it is, such as machine code.

    Args:
        path: Path of the file.
        limit: Largest size in bytes.
        hint: Function that returns how to make the file again.

    Raises:
        FormatError: Somebody else could have written it, or it is too large; the message says what
            to do about it.
        OSError: The file is missing or cannot be read.
    """
    check_folder(path.parent)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check_folder(path.parent, os.fstat(folder))
        check_file(path, os.stat(path.name, dir_fd=folder, follow_symlinks=False), hint)
        # By now it may be another file, so what was opened is looked at again. A pipe would wait.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
        handle = os.open(path.name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(handle, "rb") as stream:
        found = os.fstat(handle)
        check_file(path, found, hint)
        # Python makes room for all that is asked for, however small the file is.
        content = stream.read(min(found.st_size, limit) + 1)
    if len(content) > limit:
        raise FormatError(f"'{path}' is larger than the {limit} bytes it may have; {hint()}")
    return content


def _check_folder(folder: Path, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise FormatError(
            f"'{folder}' is {_kind(found)}, expected a folder: machine code is not read through "
            "links; put the folder itself there"
        )
    problem, command = _distrust(folder, found)
    if problem:
        raise FormatError(f"{problem}; look at what is in it, then run: {command}")


def _distrust(path: Path, found: os.stat_result) -> tuple[str, str]:
    """Return the fault of owner or mode and the command that fixes it; empty if there is none."""
    own, mode = os.geteuid(), stat.S_IMODE(found.st_mode)
    commands = []
    if found.st_uid not in (0, own):
        commands.append(f"chown {own} {quoted(path)}")
    if mode & _OTHERS and not (stat.S_ISDIR(found.st_mode) and mode & stat.S_ISVTX):
        commands.append(f"chmod go-w {quoted(path)}")
    if not commands:
        return "", ""
    owners = _user(own) if own == 0 else f"{_user(own)} or root"
    return (
        f"'{path}' belongs to {_user(found.st_uid)} and has mode {mode:04o}, but machine code must "
        f"belong to {owners} and be writable by nobody else"
    ), " && ".join(commands)


def _user(number: int) -> str:
    import pwd  # here, since only messages want it, and not every system has it

    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return f"user {number}"


def _kind(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    return "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
