"""`uda-adapt inspect`: what an artifact is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from runtime.console import bytes_text


@click.command()
@click.argument("artifact", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def inspect(artifact: Path) -> None:
    """Print what an artifact is."""
    from adapt.artifact import Artifact
    from runtime import patch

    found = Artifact.load(artifact)
    task, base, last = found.task, found.base, found.metrics["last"]
    accuracy = last["accuracy"]
    facts = {
        "task": f"{task.dataset} {task.id}: {task.source} -> {task.target}",
        "classes": f"{len(task.classes)}: {_some(task.classes)}",
        "method": f"{found.method}, seed {found.seed}",
        "base": f"{base.architecture}/{base.pretrained}, sha256 {base.sha256[:12]}...",
        "encoder": f"{patch.size(found.residual):,} of {found.parameters:,} weights changed "
        f"({100 * found.density:.3f} %)",
        "head": f"{found.head}, {sum(t.size for t in found.head_tensors.values()):,} numbers",
        "prompt": found.config["prompt"],
        "image": f"{found.preprocess.size} x {found.preprocess.size}, {found.preprocess.resize}",
        "accuracy": "target has no labels"
        if accuracy is None
        else f"{accuracy:.2f} % (epoch {last['epoch']}, the last), "
        f"{found.metrics['oracle_best']['accuracy']:.2f} % oracle-best",
        "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        "file": bytes_text(artifact.stat().st_size),
    }
    for name, fact in facts.items():
        click.echo(f"{name:<10}{fact}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
