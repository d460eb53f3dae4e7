"""One task's images and PyTorch's answers, against any number of engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapt.artifact import Artifact
from adapt.clip import Clip
from export import verify
from export.images import Sample
from export.plain import plain_engine
from export.verify import Comparison
from runtime.session import Session
from runtime.spec import Precision

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class Proof:
    """One task's images and what PyTorch says about them, for any number of engines."""

    clip: Clip
    artifact: Artifact
    images: Sample
    _expected: verify.Reference | None = None

    def session(self, session: Session, precision: Precision, progress: Progress) -> Comparison:
        """Return how a bundle's task compares with PyTorch.

        Raises:
            VerifyError: It does not agree.
        """
        session.switch(self.artifact.task.id)
        return self._engine(session.infer, "bundle", precision, progress)

    def file(self, path: Path, precision: Precision, progress: Progress) -> Comparison:
        """Return how a plain ONNX file compares with PyTorch.

        Raises:
            VerifyError: It does not agree.
        """
        return self._engine(plain_engine(path), "baked", precision, progress)

    def _engine(
        self, engine: verify.Engine, name: str, precision: Precision, progress: Progress
    ) -> Comparison:
        task = self.artifact.task.id
        if self._expected is None:
            self._expected = verify.reference(
                self.clip, self.artifact, self.images, partial(progress, f"{task}: PyTorch")
            )
        found = verify.run(engine, self.images.pixels, partial(progress, f"{task}: {name}"))
        result = verify.compare(task, found, self._expected, self.images)
        verify.check(result, precision)
        return result
