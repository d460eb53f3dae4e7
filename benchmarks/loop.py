"""Show the whole loop with three seeds, beside other frames to train on.

    python -m benchmarks.loop --json FILE.json --plot FILE.png

For each seed, `adapt.demo.loop`: a camera watches clip art with task p-c (labelled product shots to
clip art), the scene drifts to paintings, an alarm, 'auto' finds no task, 200 of the next 1,000
frames are harvested, a task is trained on them, compared, exported and installed while the session
predicts. Beside it, the same training on 200 random ones of the scene's 1,200 frames, on all of
them, and zero-shot CLIP. What was finished for a seed below `--runs` is not repeated.

Figures are from 600 held-out images of each scene, which nothing is trained on, as the session of
an exported bundle answers. Trainings on the new scene take 10 epochs instead of the 20 that own
images get, alike for all frames to train on; tasks that only stand beside p-c in a bundle take 5.
The epoch is chosen without labels.

Clip art is an easy target for product shots, and a harvest's frames are drawn by one program, as
`benchmarks.monitoring` says. Paintings fit no task here, since the bundle's other task reads
handwriting. Beside a task for cluttered scenes a router takes paintings for these: measured too,
as `beside`.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from adapt.demo.loop import CLIP_ART, PAINTINGS
from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import UdaGroup, table, write_json

DATASETS = {"p-c": "demo-objects", "f-h": "demo-digits", "c-r": "demo-objects"}
SHORT = "--set epochs=5"
"""Setting of the tasks that only stand in a bundle."""
KINDS = ("harvested", "random", "all", "zero_shot")


def one_seed(seed: int, root: Path, threads: int, frames: int) -> dict[str, Any]:
    """Return the figures of one seed, doing what is missing below its folder."""
    from adapt.artifacts import store
    from adapt.demo import loop
    from adapt.demo.shell import Shell
    from benchmarks import _loop_references as others

    root.mkdir(parents=True, exist_ok=True)
    schedule = loop.Schedule(frames=frames)
    shell, words = Shell(root), f"--seed {seed} --threads {threads}"

    def trained(task: str) -> Path:
        more = words if task == loop.OLD else f"{words} {SHORT}"
        shell(
            f"uda-adapt train --dataset {DATASETS[task]} --task {task} --method cmkd --rst "
            f"--no-baselines --resume {more}"
        )
        return store.find(root / store.ROOT, task, DATASETS[task])

    def looped() -> Any:
        folder = root / "camera"
        shutil.rmtree(folder, ignore_errors=True)  # of an interrupted one
        folder.mkdir()
        tasks = [trained(loop.OLD), trained(loop.OTHER)]
        found = loop.run(Shell(folder), tasks, schedule, seed, words)
        return {key: value for key, value in found.items() if key != "pictures"}

    def referred() -> Any:
        folder = root / "references"
        folder.mkdir(exist_ok=True)
        return others.references(Shell(folder), schedule, seed, words)

    def beside() -> Any:
        tasks = [trained(loop.OLD), trained(others.BESIDE)]
        return others.beside(shell, tasks, schedule, seed)

    steps: dict[str, Callable[[], Any]] = {
        "loop": looped,
        "references": referred,
        "beside": beside,
    }
    found = {name: _remembered(root / f"{name}.json", make) for name, make in steps.items()}
    return {"seed": seed, **found}


def _remembered(path: Path, make: Callable[[], Any]) -> Any:
    """Return the content of a JSON file, which is made first if it is missing."""
    if not path.is_file():
        write_json(path, make())
    return json.loads(path.read_text())


def accuracies(run: Mapping[str, Any]) -> dict[str, float | None]:
    """Return one seed's accuracies by what the table calls them."""
    loop, others = run["loop"], run["references"]
    new = loop["new"]
    trained = {"harvested": new, **{name: others[name] for name in KINDS[1:]}}
    return {
        "before: old task, clip art": loop["old"][CLIP_ART],
        "during: old task, paintings": loop["old"][PAINTINGS],
        "after: 200 harvested frames": new and new[PAINTINGS],
        "200 random frames": trained["random"][PAINTINGS],
        "all 1,200 frames": trained["all"][PAINTINGS],
        "zero-shot CLIP": trained["zero_shot"][PAINTINGS],
    }


def summary(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean and the values of all seeds, by row of the table."""
    found = []
    for name in accuracies(runs[0]):
        values = [accuracies(run)[name] for run in runs]
        known = [value for value in values if value is not None]
        mean = statistics.mean(known) if known else None
        found.append({"row": name, "mean": mean, "seeds": values})
    return found


def text(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of all seeds."""
    seeds = [f"seed {run['seed']}" for run in runs]
    rows = [
        [row["row"], _number(row["mean"]), *map(_number, row["seeds"])] for row in summary(runs)
    ]
    every = [_events(run) for run in runs]
    events = [[name, *(str(each[name]) for each in every)] for name in every[0]]
    accuracy = table(("accuracy, %", "mean", *seeds), rows)
    return f"{accuracy}\n\n{table(('what happened', *seeds), events)}"


def _events(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what happened with one seed, as rows of a table."""
    loop, beside = run["loop"], run["beside"]
    trusted = loop["harvested"]["trusted"]
    without, with_labels = loop["comparisons"]
    return {
        "false alarms in 300 frames": loop["false_alarms"],
        "frames until the alarm (1: false, still on)": loop["frames_until_alarm"],
        "frames until 'auto' finds no task": loop["frames_until_no_task"],
        "trusted frames": trusted["images"],
        "of these, of the new scene": trusted["of_the_scene"],
        "of these, named correctly by the old task": trusted["old_task_right"],
        "compared without labels": without["verdict"],
        "compared with sorted frames": with_labels["verdict"],
        "installed": loop["installed"],
        "frames classified meanwhile": loop["phases"]["adapting"]["frames"],
        "new paintings to the new task, %": loop["phases"]["after"]["tasks"].get("product-harvest"),
        "beside c-r: paintings that fit none, %": 100 - beside["after"]["known"],
        "beside c-r: frames in alarm, %": beside["after"]["drifting"],
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path),
              default="benchmarks/results/loop", show_default=True)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--frames", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Frames of paintings to harvest from, after the drift.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw the seeds.")
def main(
    seeds: tuple[int, ...],
    runs: Path,
    threads: int,
    frames: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Print what happens in the loop."""
    found = [one_seed(seed, runs / f"seed{seed}", threads, frames) for seed in seeds]
    click.echo(f"\n{text(found)}")
    if json_file:
        content = {"commit": commit(), "machine": machine(), "summary": summary(found)}
        write_json(json_file, {**content, "runs": found})
    if plot:
        from benchmarks._loop_plot import draw

        draw(found, summary(found), plot)


if __name__ == "__main__":
    main()
