"""Export artifacts to a bundle that agrees with PyTorch, and compare a bundle again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapt.artifacts.merge import load_base
from adapt.artifacts.store import artifact_file
from export.contents import BundleContents, make_contents
from export.record import TaskRecord
from export.sources import Source, check_together
from export.verification.comparison import Comparison
from export.verification.images import MAX_IMAGES, ImagePaths
from export.verification.plain import open_plain
from export.verification.verifier import Verifier
from runtime.backends import DEFAULT
from runtime.bundles import manifest
from runtime.console import ProgressCallback
from runtime.errors import BackendError, ConfigError
from runtime.models import Precision
from runtime.sessions.session import Session
from runtime.storage.files import storage_errors
from runtime.storage.writing import sibling_folder


@dataclass(frozen=True)
class TaskReport:
    """The result of verifying one task."""

    comparison: Comparison
    record: TaskRecord
    images: str = ""
    """Which images the task was compared on; empty where `--images` names them."""

    def as_dict(self) -> dict[str, Any]:
        """Return the task's part of the bundle's report, JSON-serialisable."""
        record = asdict(self.record)
        members = ("variant", "density", "patch_density", "survival")
        return {**self.comparison.as_dict(), **{key: record[key] for key in members}}


def export_bundle(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    precision: Precision = "fp32",
    baked: bool = False,
    images: ImagePaths | None = None,
    max_images: int = MAX_IMAGES,
    pretrained: str | Path | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
    schema: int = manifest.SCHEMA,
    backends: Sequence[str] = (),
) -> list[TaskReport]:
    """Export tasks to a bundle, compare it with PyTorch, and write it only if they agree.

    The graphs take pixels (N, S, S, 3) uint8 RGB and give logits (N, K) float32, of N images with
    S pixels on a side and K classes.

    Args:
        paths: Artifacts, one per task, that share one base model: the folder that `uda-adapt train`
            wrote for a variant, or the file in it.
        out: Folder of the bundle to write; an existing bundle is replaced.
        precision: Precision of the base weights and of the patches.
        baked: Whether to write `<out's stem>-<task>.onnx` beside the bundle as well: plain ONNX
            files with constant weights, from pixels to logits.
        images: Images to compare on; None takes the test images of training.
        max_images: Largest number of images per task; more are thinned out evenly.
        pretrained: Weights of the base, if they are not where training found them.
        on_progress: Progress callback.
        schema: Format of the bundle, one of `runtime.bundles.manifest.WRITTEN`.
        backends: Backends that must agree as well, beside ONNX Runtime; keys of
            `runtime.backends.BACKENDS`.

    Returns:
        A report per task, of ONNX Runtime, in the order of `paths`.

    Raises:
        BaseModelError: The base is missing, is not the one of training or differs among the tasks.
        ConfigError: `paths` is empty, or a single path.
        DataError: No images to compare on were found.
        FormatError: An artifact is damaged.
        TaskError: Two artifacts have the same task id, or `images` names another task.
        BackendError: One of `backends` cannot be used here, or not for these tasks.
        VerifyError: An engine does not agree with PyTorch; nothing was written.
        StorageError: The disk is full or not writable.
    """
    if isinstance(paths, (str, Path)):  # a text is a sequence too, of letters
        raise ConfigError(f"expected a list of artifacts, found a single path; pass ['{paths}']")
    sources = [Source.read(artifact_file(path)) for path in paths]
    check_together(sources)
    artifacts = [source.artifact for source in sources]
    images = images or ImagePaths()
    images.check([artifact.task.id for artifact in artifacts])
    clip = load_base(artifacts[0], pretrained)
    contents = make_contents(clip, sources, precision, on_progress)
    verifiers = (  # one at a time: each holds the images of its task
        Verifier(clip, artifact, images.sample(artifact, max_images), precision, on_progress)
        for artifact in artifacts
    )
    return _publish(Path(out), contents, verifiers, schema, baked, backends)


def verify_bundle(
    path: str | Path,
    artifacts: str | Path,
    *,
    tasks: Sequence[str] = (),
    images: ImagePaths | None = None,
    max_images: int = MAX_IMAGES,
    pretrained: str | Path | None = None,
    session: Mapping[str, Any] | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> list[TaskReport]:
    """Compare a bundle that `export_bundle` wrote with PyTorch again.

    Args:
        path: Folder of the bundle.
        artifacts: Folder that `uda-adapt train` wrote, with the artifacts of the bundle's tasks.
        tasks: Ids of the tasks to compare; all if empty.
        images: Images to compare on; None takes the test images of training.
        max_images: Largest number of images per task; more are thinned out evenly.
        pretrained: Weights of the base, if they are not where training found them.
        session: Arguments of `runtime.Session.open`, such as the backend; None for its defaults.
        on_progress: Progress callback.

    Returns:
        A report per task, in the order of `tasks` or of the bundle.

    Raises:
        BaseModelError: The base is missing, or is not the one of training.
        DataError: No images to compare on were found.
        FormatError: The bundle was not written by `export_bundle`, or is damaged.
        TaskError: The bundle has no such task, its artifact is gone, or `images` names another.
        BackendError: The backend, the device or the strategy cannot be used here.
        VerifyError: A task was exported from another artifact, or does not agree with PyTorch.
    """
    reports, clip = [], None
    with Session.open(path, **(session or {})) as opened:
        precision = opened.bundle.manifest.precision
        images = images or ImagePaths()
        images.check(tasks or opened.tasks)
        for name in tasks or opened.tasks:
            task = opened.bundle.task(name, opened.layout)
            source = Source.of(task, Path(artifacts))
            clip = clip or load_base(source.artifact, pretrained)
            sample = images.sample(source.artifact, max_images)
            verifier = Verifier(clip, source.artifact, sample, precision, on_progress)
            found = _check(verifier, opened)
            reports.append(TaskReport(found, TaskRecord.of(task), sample.which))
    return reports


def _publish(
    out: Path,
    contents: BundleContents,
    verifiers: Iterable[Verifier],
    schema: int,
    baked: bool,
    backends: Sequence[str],
) -> list[TaskReport]:
    """Write a bundle to a temporary folder, compare it there, and move it to `out`."""
    reports = []
    with sibling_folder(out) as folder:
        contents.write(folder / "bundle", schema, {})
        with _sessions(folder / "bundle", contents.blocked, backends) as sessions:
            for verifier, task in zip(verifiers, contents.tasks, strict=True):
                results = [_check(verifier, session) for session in sessions]
                reports.append(TaskReport(results[0], TaskRecord.of(task), verifier.images.which))
                if baked:
                    file = folder / f"{out.stem}-{task.info.id}.onnx"
                    contents.write_plain(file, task)
                    verifier.check(open_plain(file), "baked")
        by_task = {report.comparison.task: report.as_dict() for report in reports}
        contents.write(out, schema, by_task)
        with storage_errors(out):
            for file in folder.glob("*.onnx"):
                file.replace(out.parent / file.name)
    return reports


@contextmanager
def _sessions(path: Path, blocked: bool, backends: Sequence[str]) -> Iterator[list[Session]]:
    """Open a bundle with each of its encoders, since a device takes either, and other backends."""
    ways: list[dict[str, Any]] = [{"blocked": False}]
    if blocked:
        ways.insert(0, {"blocked": True})
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session.open(path, **way)) for way in ways]
        for name in dict.fromkeys(backends):
            if name != DEFAULT:
                sessions.append(stack.enter_context(_other(path, name)))
        yield sessions


def _other(path: Path, backend: str) -> Session:
    """Open a bundle with another backend, in the way in which it can run there."""
    try:
        return Session.open(path, backend=backend)
    except BackendError:  # OpenVINO takes no ResNet whose weights are inputs
        return Session.open(path, backend=backend, strategy="engines")


def _check(verifier: Verifier, session: Session) -> Comparison:
    session.switch(verifier.artifact.task.id)
    return verifier.check(session.infer, "bundle")
