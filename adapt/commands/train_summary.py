"""Print the result of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.console import bytes_text, count_of, echo

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.training.loop import Run


def report_run(run: Run, pair: DomainPair, trains: bool) -> None:
    """Print the accuracy of a run, and where its artifact is."""
    from adapt.artifacts.metrics import Metrics
    from runtime.storage.fields import build

    metrics = build(Metrics, run.artifact.metrics, "metrics")
    last, best, saved = metrics.last, metrics.oracle_best, metrics.saved
    if metrics.selected:
        echo(f"epoch      {saved.epoch}, chosen by {metrics.selected.by} without labels")
    if last.accuracy is None:
        echo("accuracy   unknown: the target has no labels")
    else:
        chosen_one = f"{saved.accuracy:.2f} % chosen epoch, " if metrics.selected else ""
        config = run.artifact.config
        # Early epochs may change more weights and be better, as their lines above show.
        within = " of those within the budget" if config["rst"] and config["rst_density"] else ""
        echo(
            f"accuracy   {chosen_one}{last.accuracy:.2f} % last epoch, {best.accuracy:.2f} % "
            f"oracle-best (epoch {best.epoch}{within}), mean per class {saved.mean_per_class:.2f} %"
        )
        noun = "held-out target image" if pair.held_out else "target image"
        tested = count_of(metrics.test_images, noun)
        if trains and not pair.held_out:
            tested = f"the same {tested} it was adapted to"
        echo(f"           on {tested}")
    if run.skipped:
        log = run.path.with_name("train.log")
        echo(f"skipped    {count_of(run.skipped, 'unreadable image')}, see '{log}'")
    echo(f"density    {100 * run.artifact.density:.3f} % of the encoder changed")
    echo(f"artifact   {run.path} ({bytes_text(run.path.stat().st_size)})")
