"""Artifacts to a verified bundle. Nothing is published unless every engine agrees with PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.contents import make_contents
from export.facts import Facts
from export.sources import Source, check_together, load_base
from export.verification.base import Progress
from export.verification.comparison import Comparison
from export.verification.images import DEFAULT_LIMIT, Folders
from export.verification.plain import open_plain
from export.verification.proof import Proof
from export.workplace import workplace
from runtime.bundles import manifest
from runtime.sessions.session import Session
from runtime.spec import Precision
from runtime.storage.files import storage_errors


@dataclass(frozen=True)
class Row:
    """What became of one task."""

    comparison: Comparison
    facts: Facts
    images: str = ""
    """Which images it was verified on, if not those that `--images` named."""

    def as_dict(self) -> dict[str, Any]:
        """Return the row for the bundle's report."""
        facts = asdict(self.facts)
        kept = ("variant", "density", "patch_density", "survival")
        return {**self.comparison.as_dict(), **{key: facts[key] for key in kept}}


def export_bundle(
    paths: Sequence[Path],
    out: Path,
    *,
    precision: Precision = "fp32",
    baked: bool = False,
    images: Folders | None = None,
    limit: int = DEFAULT_LIMIT,
    pretrained: str | None = None,
    progress: Progress = lambda what, done, total: None,
    schema: int = manifest.SCHEMA,
) -> list[Row]:
    """Export tasks to a bundle, verify it against PyTorch, then publish it.

    Args:
        paths: Artifact files that share one base model.
        out: Folder of the bundle; an existing bundle is replaced, but only by a verified one.
        precision: Precision of the deploy tensors.
        baked: Also write `<out's stem>-<task>.onnx` beside the bundle: plain ONNX files with
            constant weights, from pixels to logits.
        images: Images to verify on.
        limit: Images per task, at most.
        pretrained: The base's weights, if they are not where training found them.
        progress: For people.
        schema: Schema of the bundle, one of `runtime.bundles.manifest.WRITTEN`.

    Raises:
        BaseModelError: The artifacts have different bases, or the base is missing or another, or
            has no place for a task's tokens.
        DataError: No images to verify on were found.
        FormatError: An artifact is damaged.
        TaskError: Two artifacts are of the same task id, or `images` names another task.
        VerifyError: An engine does not agree with PyTorch; nothing was written.
        StorageError: The disk is full or not writable.
    """
    sources = [Source.read(path) for path in paths]
    check_together(sources)
    images = images or Folders()
    images.check([source.artifact.task.id for source in sources])
    clip = load_base(sources[0].artifact, pretrained)
    contents = make_contents(clip, sources, precision, progress)
    with workplace(out) as folder:
        contents.write(folder / "bundle", schema, {})
        rows = []
        with _sessions(folder / "bundle", contents.blocked) as sessions:
            for source, task in zip(sources, contents.tasks, strict=True):
                pictures = images.sample(source.artifact, limit)
                proof = Proof(clip, source.artifact, pictures, precision, progress)
                results = [_check(proof, session) for session in sessions]
                rows.append(Row(results[0], Facts.of(task), pictures.which))
                if baked:
                    file = folder / f"{out.stem}-{task.info.id}.onnx"
                    contents.write_plain(file, task)
                    proof.check(open_plain(file), "baked")
        contents.write(out, schema, {row.comparison.task: row.as_dict() for row in rows})
        with storage_errors(out):
            for file in folder.glob("*.onnx"):
                file.replace(out.parent / file.name)
    return rows


def verify_bundle(
    path: Path,
    tasks: Sequence[str],
    artifacts: Path,
    *,
    images: Folders | None = None,
    limit: int = DEFAULT_LIMIT,
    pretrained: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[Row]:
    """Compare a bundle with PyTorch again; see `export_bundle` for the arguments and errors.

    Args:
        path: Folder of the bundle.
        tasks: Ids; all if empty.
        artifacts: Folder with the artifacts that the bundle was exported from.
        images: As for `export_bundle`.
        limit: As for `export_bundle`.
        pretrained: As for `export_bundle`.
        progress: As for `export_bundle`.

    Raises:
        FormatError: The bundle was not written by `export_bundle`, or is damaged.
        TaskError: The bundle has no such task, its artifact is gone, or `images` names another.
        VerifyError: A task's artifact is not the one it was exported from, or disagrees.
    """
    rows, clip = [], None
    with Session.open(path) as session:
        precision = session.bundle.manifest.precision
        images = images or Folders()
        images.check(tasks or session.tasks)
        for name in tasks or session.tasks:
            task = session.bundle.task(name, session.layout)
            source = Source.of(task, artifacts)
            clip = clip or load_base(source.artifact, pretrained)
            pictures = images.sample(source.artifact, limit)
            proof = Proof(clip, source.artifact, pictures, precision, progress)
            rows.append(Row(_check(proof, session), Facts.of(task), pictures.which))
    return rows


@contextmanager
def _sessions(path: Path, blocked: bool) -> Iterator[list[Session]]:
    """Open a bundle with each of its encoders: a device takes either."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Session.open(path, blocked=choice))
            for choice in ((True, False) if blocked else (False,))
        ]


def _check(proof: Proof, session: Session) -> Comparison:
    session.switch(proof.artifact.task.id)
    return proof.check(session.infer, "bundle")
