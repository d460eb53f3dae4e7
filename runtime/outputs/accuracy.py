"""Count the predictions that agree with the folders or labels of the images."""

from __future__ import annotations

from collections import Counter

from runtime.console import count_of, table
from runtime.outputs.base import Output, Result
from runtime.text import printable

_CLASSES = 40
"""Most classes in a table; of more, those with the lowest accuracy are shown."""
_NAMES = 3
"""Most names in one line that are not classes."""


class Accuracy(Output):
    """Accuracy over the results whose true class is known."""

    def __init__(self) -> None:
        """Start without results."""
        self._seen: Counter[str] = Counter()
        self._right: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._labelled = False
        self._order: tuple[str, ...] = ()

    def write(self, result: Result) -> None:
        """Count a result; one without a prediction is not counted."""
        if result.prediction is None:
            return
        self._order, true = result.prediction.classes, result.true_label
        if true is not None:
            self._seen[true] += 1
            self._right[true] += result.prediction.label == true
        elif result.item.input.labels:
            self._unknown[result.item.input.labels[0]] += 1
            self._labelled = self._labelled or result.item.input.labelled

    def close(self) -> None:
        """Do nothing."""

    def report(self) -> str:
        """Return the accuracy as text, and per class where there are several.

        It is empty without labels, and without a folder that is named after a class.
        """
        total, right = self._seen.total(), self._right.total()
        if not total and self._labelled:
            return (
                f"accuracy  unknown: the labels are not classes of the task: {self._others()}; "
                f"expected labels such as '{printable(self._order[0])}'"
            )
        if not total:
            return ""
        lines = [
            f"accuracy  {right / total:.1%} ({right:,} of {count_of(total, 'image')} of a known "
            "class)"
        ]
        if self._unknown:
            lines.append(
                f"excluded  {count_of(self._unknown.total(), 'image')} under other names: "
                f"{self._others()}"
            )
        return "\n".join(lines) + self._per_class()

    def _others(self) -> str:
        """Return the most frequent names that are not classes, with their numbers of images."""
        named = [f"{printable(name)} {n:,}" for name, n in self._unknown.most_common(_NAMES)]
        more = len(self._unknown) - len(named)
        return f"{', '.join(named)}{f' and {more:,} more' if more else ''}"

    def _per_class(self) -> str:
        if len(self._seen) < 2:
            return ""
        names = [name for name in self._order if name in self._seen]
        note = ""
        if len(names) > _CLASSES:
            names.sort(key=lambda name: self._right[name] / self._seen[name])
            names, note = names[:_CLASSES], f"\n\n{len(names) - _CLASSES} better classes not shown"
        rows = [[name, self._seen[name], self._right[name], self._share(name)] for name in names]
        return f"\n\n{table(('class', 'images', 'right', 'accuracy'), rows)}{note}"

    def _share(self, name: str) -> str:
        return f"{self._right[name] / self._seen[name]:.1%}"
