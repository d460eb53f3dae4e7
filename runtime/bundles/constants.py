"""Constant encoder inputs of one task, for engines with built-in weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from runtime.bundles.bundle import Bundle
from runtime.bundles.task import Task
from runtime.errors import FormatError
from runtime.patch import merge


def constants(bundle: Bundle, task: Task | None = None) -> dict[str, NDArray[Any]]:
    """Return the values of all inputs of an encoder but the pixels: base, patch and tokens.

    Building an engine and looking for it must give the same bits: an engine is found by their
    digest.

    Args:
        bundle: Bundle with the base, which is read for each call.
        task: Task of the bundle; None for the untouched base.

    Raises:
        FormatError: The base is damaged, or the task does not fit it.
    """
    base = bundle.weights()
    if task is None:
        return base.views()
    check_token_names(task.tokens, base.layout)
    return {**merge(base.views(), task.patch, in_place=True), **task.tokens}


def check_token_names(tokens: Iterable[str], base: Iterable[str]) -> None:
    """Check that no tokens have the name of another input of their encoder.

    Raises:
        FormatError: A name is used twice.
    """
    taken = sorted({"pixels", *base}.intersection(tokens))
    if taken:
        raise FormatError(f"tokens cannot be called '{taken[0]}'; export the bundle again")
