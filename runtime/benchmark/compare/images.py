"""Questions made of a user's images, with labels where these are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.compare.questions import Form, Question
from runtime.errors import DataError
from runtime.sources import open_inputs
from runtime.sources.base import Input


class ImageQuestions:
    """Frames of images and videos, for every task that they fit; iterating reads them anew."""

    def __init__(self, inputs: Sequence[Input], forms: Sequence[Form]) -> None:
        """Choose the tasks: those with a class that labels or folders are named after, else all.

        Args:
            inputs: Images and videos.
            forms: Forms of the tasks to choose from.
        """
        names = {label for given in inputs for label in given.labels}
        fitting = [form for form in forms if names.intersection(form.info.classes)]
        self.forms = fitting or list(forms)
        self.foreign = sorted(names) if any(i.labelled for i in inputs) and not fitting else []
        """Labels by the user, where none is a class of a task."""
        self.unread: dict[str, str] = {}
        """Reasons by the name of what could not be read so far."""
        self._inputs = inputs

    def __len__(self) -> int:
        """Return the number of questions, of a video as if it had one frame."""
        return len(self._inputs) * len(self.forms)

    def __iter__(self) -> Iterator[Question]:
        """Yield the questions.

        Raises:
            StorageError: Too many files are open.
        """
        # Anew only where tasks want other colours behind transparent pixels.
        for background in dict.fromkeys(form.preprocess.background for form in self.forms):
            forms = [form for form in self.forms if form.preprocess.background == background]
            with open_inputs(self._inputs, background) as source:
                for item in source:
                    if item.error is not None:
                        self.unread[item.name] = str(item.error)
                    if item.frame is None:
                        continue
                    for form in forms:
                        label = item.input.label_of(form.info.classes)
                        number = None if label is None else form.info.classes.index(label)
                        yield Question(item.name, form.info.id, item.frame, number)

    def first(self) -> NDArray[np.uint8]:
        """Return the first frame that can be read.

        Raises:
            DataError: There is none.
            StorageError: Too many files are open.
        """
        for question in self:
            return question.frame
        reasons = list(self.unread.values())
        raise DataError(f"none of the images can be read, the first: {reasons[0]}")
