"""`uda-runtime bench --compare`: compare every way to run bundles on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.backends.names import check_engines
from runtime.commands.progress import step_bar
from runtime.console import as_json, echo, publish
from runtime.errors import BackendError, ConfigError, UdaError
from runtime.text import printable

if TYPE_CHECKING:
    from runtime.benchmark.compare.comparison import Comparison
    from runtime.benchmark.compare.images import ImageQuestions
    from runtime.benchmark.compare.questions import Form, Question

_BATCH = 8
"""Number of frames in a call for the images per second, unless it is chosen."""


def compare(
    paths: Sequence[Path],
    targets: Mapping[str, Path],
    *,
    only: Mapping[str, str | None],
    tasks: Sequence[str],
    count: int | None,
    batches: Sequence[int],
    image: Path | None,
    images: Sequence[str],
    **plan: Any,
) -> None:
    """Compare, then print and write what was found, also if it was interrupted.

    Args:
        paths: Bundles.
        targets: Files to write, by `json` and `markdown`; `-` stands for stdout.
        only: The only `backend`, `device` and `strategy` to take; None for all.
        tasks: Ids of tasks; none for all that the bundles have in common.
        count: Number of tasks to take of these; None for all.
        batches: Number of frames in a call, at most one of them.
        image: Image file to measure speed with; None for the first of the images, or noise.
        images: Paths of images to compare the answers on; none for noise.
        plan: Other fields of `ComparePlan`.

    Raises:
        UdaError: A bundle, a task, an image or an option is wrong, or nothing runs here.
        KeyboardInterrupt: It was interrupted; what was found until then is printed and written.
    """
    from runtime.benchmark.compare.bundles import common_tasks, opened
    from runtime.benchmark.compare.candidates import candidates, missing_precisions
    from runtime.benchmark.compare.comparison import Comparison
    from runtime.benchmark.compare.measured import ComparePlan
    from runtime.benchmark.compare.questions import form_of, noise
    from runtime.benchmark.compare.report import report
    from runtime.benchmark.frame import frame_of

    _check(batches, **plan)
    bundles = opened(paths)
    chosen, left_out = common_tasks(bundles, tasks, count)
    forms = [form_of(bundles, task) for task in chosen]
    ways = candidates(bundles, **only)
    asked = _images(images, targets, paths, forms)
    frame = frame_of(image) if image is not None or asked is None else asked.first()
    whole = ComparePlan(chosen, batch=next(iter(batches), _BATCH), **plan)
    with step_bar() as on_progress:
        comparison = Comparison(whole, ways, frame, on_progress)
        early = _run(comparison, noise(forms) if asked is None else asked)
    found = report(
        comparison,
        noise=asked is None,
        interrupted=early is not None,
        left_out=[*missing_precisions(bundles), *left_out],
        bundles=[str(path) for path in paths],
        frame=f"{frame.shape[1]}x{frame.shape[0]}",
        unread={**comparison.unusable_frames, **({} if asked is None else asked.unread)},
    )
    _publish(found, targets)
    if early is not None:
        raise early


def _check(batches: Sequence[int], *, threads: int | None, engines: str | None, **_: Any) -> None:
    """Check what every candidate would refuse.

    Raises:
        ConfigError: An option is wrong.
    """
    from runtime.sessions.settings import check_settings

    if len(set(batches)) > 1:
        raise ConfigError(f"--compare takes one --batch, found {len(set(batches))}; name one")
    check_settings(threads, None)
    check_engines(engines)


def _images(
    words: Sequence[str],
    targets: Mapping[str, Path],
    bundles: Sequence[Path],
    forms: Sequence[Form],
) -> ImageQuestions | None:
    """Return the questions of a user's images, None without any, and say what was taken.

    Raises:
        ConfigError: A target is an input, lies in a bundle, or is named twice.
        DataError: None of the images can be read.
    """
    from runtime.benchmark.compare.images import ImageQuestions
    from runtime.outputs.targets import check_targets
    from runtime.sources.select import select

    selection = select(words, recursive=True) if words else None
    read = [*(given.name for given in selection.inputs), *selection.lists] if selection else []
    for bundle in bundles:
        check_targets(targets, read, bundle)
    if selection is None:
        return None
    asked = ImageQuestions(selection.inputs, forms)
    asked.first()  # before anything is said: an error is then the only line
    notes = list(selection.notes)
    if asked.foreign:
        notes.append(
            f"no accuracy: the labels are not classes of the tasks, for example "
            f"'{asked.foreign[0]}'; expected labels such as '{forms[0].info.classes[0]}'"
        )
    for note in notes:
        echo(printable(note), err=True)
    if selection.summary:
        echo(printable(f"found {selection.summary}"), err=True)
    return asked


def _run(
    comparison: Comparison, questions: list[Question] | ImageQuestions
) -> KeyboardInterrupt | UdaError | None:
    """Take all measurements and end the processes; return what ended them early.

    Raises:
        UdaError: Nothing can be measured.
    """
    try:
        with comparison:  # in here: an interrupt while its processes end loses nothing either
            comparison.start()
            comparison.measure()
            comparison.answer(questions, len(questions))
    except KeyboardInterrupt:
        return KeyboardInterrupt("interrupted; what was measured until then is shown above")
    except UdaError as error:
        if not any(each.turns for each in comparison.measured):
            raise
        return error
    return None


def _publish(found: dict[str, Any], targets: Mapping[str, Path]) -> None:
    """Print and write a report.

    Raises:
        StorageError: A file cannot be written; the report was printed.
        BackendError: Nothing runs here.
    """
    from runtime.benchmark.compare import show

    contents = {"json": as_json, "markdown": show.markdown}
    publish(show.text(found), {path: contents[kind](found) for kind, path in targets.items()})
    if not found["rows"] and not found["interrupted"]:
        raise BackendError("none of these ways runs here; see above for the reasons")
