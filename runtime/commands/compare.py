"""`uda-runtime bench --compare`: compare every way to run bundles on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands.progress import step_bar
from runtime.console import as_json, publish
from runtime.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 8
"""Number of frames in a call for the images per second, unless it is chosen."""


def compare(
    paths: Sequence[Path],
    json_file: Path | None,
    markdown_file: Path | None,
    *,
    only: Mapping[str, str | None],
    tasks: Sequence[str],
    count: int | None,
    batches: Sequence[int],
    frame: NDArray[np.uint8],
    **plan: Any,
) -> None:
    """Compare, then print and write what was found, also if it was interrupted.

    Args:
        paths: Bundles.
        json_file: File for the report, `-` for stdout; None for no such file.
        markdown_file: The same for its form as Markdown.
        only: The only `backend`, `device` and `strategy` to take; None for all.
        tasks: Ids of tasks; none for all that the bundles have in common.
        count: Number of tasks to take of these; None for all.
        batches: Number of frames in a call, at most one of them.
        frame: Frame (H, W, 3) to measure speed with.
        plan: Other fields of `ComparePlan`.

    Raises:
        UdaError: A bundle, a task or an option is wrong, or nothing runs here.
        KeyboardInterrupt: It was interrupted; what was found until then is printed and written.
    """
    from runtime.benchmark.compare import show
    from runtime.benchmark.compare.bundles import common_tasks, opened
    from runtime.benchmark.compare.candidates import candidates, missing_precisions
    from runtime.benchmark.compare.comparison import Comparison
    from runtime.benchmark.compare.measured import ComparePlan
    from runtime.benchmark.compare.questions import form_of, noise
    from runtime.benchmark.compare.report import report

    if len(set(batches)) > 1:
        raise ConfigError(
            f"--compare takes one --batch, found {len(set(batches))}; leave out others"
        )
    if json_file is not None and json_file == markdown_file:
        raise ConfigError("--json and --markdown name the same file; write one of them elsewhere")
    bundles = opened(paths)
    chosen, left_out = common_tasks(bundles, tasks, count)
    forms = [form_of(bundles, task) for task in chosen]
    whole = ComparePlan(chosen, batch=next(iter(batches), _BATCH), **plan)
    interrupted = False
    with step_bar() as on_progress:
        ways = candidates(bundles, **only)
        with Comparison(whole, ways, frame, on_progress) as comparison:
            try:
                comparison.start()
                comparison.measure()
                questions = list(noise(forms))
                comparison.answer(questions, len(questions))
            except KeyboardInterrupt:
                interrupted = True
    found = report(
        comparison,
        noise=True,
        left_out=[*missing_precisions(bundles), *left_out],
        bundles=[str(path) for path in paths],
        frame=f"{frame.shape[1]}x{frame.shape[0]}",
        interrupted=interrupted,
    )
    documents = {json_file: as_json(found), markdown_file: show.markdown(found)}
    publish(show.text(found), documents)
    if interrupted:
        raise KeyboardInterrupt
    if not found["rows"]:
        raise BackendError("none of these ways runs here; see above for the reasons")
