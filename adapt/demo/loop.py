"""Show the whole loop: a scene drifts, nothing fits, frames are harvested, a new task is installed.

A camera watches clip art with a task that was adapted to it, and the scene turns into paintings.
One session predicts all the while, also while the new task is trained, exported and installed. The
labels of the drawn frames are used for nothing but the figures, and for the held-out frames of the
harvest, which they sort in a person's stead.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import runtime
from adapt import data
from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.harvest import refusal
from adapt.data import drawn
from adapt.data.harvest import MEMBER
from adapt.demo import person
from adapt.demo.camera import Camera, drifting
from adapt.demo.seen import ADAPTING, alarms, first, phases, timeline
from adapt.demo.shell import Shell
from adapt.demo.watch import Watch, accuracy
from runtime.errors import UdaError
from runtime.storage import disk

DATASET, OLD, OTHER = "demo-objects", "p-c", "f-h"
"""The task of the camera, product shots to clip art, and another one, which reads handwriting."""
CLIP_ART, PAINTINGS = "clip art", "paintings"
BUNDLE, UPDATE = "camera.bundle", "update.bundle"
IMAGES, SOURCE, TARGET = "images", "product", "harvest"
"""Folder of a user's images, its labelled domain, and the harvest in it."""
TASK = f"{SOURCE}-{TARGET}"
MODEL = "--set model=demo-rn32 --set pretrained=demo"
PICTURES = 12
"""Images of each part of the harvest that a page may show."""


@dataclass(frozen=True)
class Schedule:
    """How many frames each part of the story has."""

    usual: int = 300
    """Frames of clip art."""
    drift: int = 200
    """Frames in which paintings become more frequent."""
    frames: int = 1000
    """Frames of paintings to harvest from, after the drift; fewer may not show every class."""
    harvest: int = 200
    """Frames to train on, at most."""
    after: int = 300
    """Frames of paintings after the installation."""
    back: int = 100
    """Frames of clip art at the end."""
    epochs: int = 10
    """Epochs of each training on frames of the new scene."""


def train_command(target: str, schedule: Schedule, words: str) -> str:
    """Return the command that adapts from the labelled product shots to frames of the new scene.

    Args:
        target: Folder of the frames in `IMAGES`.
        schedule: Its epochs are used.
        words: Further options, such as the seed.
    """
    return (
        f"uda-adapt train --data {IMAGES} --source {SOURCE} --target {target} --method cmkd --rst "
        f"{MODEL} --set epochs={schedule.epochs} {words}"
    ).rstrip()


def export(shell: Shell, artifacts: Sequence[Path], name: str) -> Path:
    """Export artifacts of one root as a bundle in the shell's folder; return its path."""
    root = shlex.quote(str(disk.real(artifacts[0].parents[3])))
    named = " ".join(f"--task {path.parents[1].name}={path.parent.name}" for path in artifacts)
    shell(f"uda-export onnx {named} --artifacts {root} --out {name}")
    return shell.folder / name


def copy_source(shell: Shell) -> None:
    """Copy the labelled product shots into the folder of a user's images."""
    source = drawn.render(DATASET) / "train" / SOURCE
    shutil.copytree(source, shell.folder / IMAGES / SOURCE, dirs_exist_ok=True)


def run(
    shell: Shell, artifacts: Sequence[Path], schedule: Schedule, seed: int, words: str = ""
) -> Any:
    """Run the loop in the shell's folder, which must hold nothing of an earlier one.

    Args:
        shell: Runs the commands.
        artifacts: Artifacts of `OLD` and `OTHER`, in this order.
        schedule: Numbers of frames.
        seed: Seed of the order of the frames.
        words: Further options of the training.

    Returns:
        The figures, as values of a JSON document.
    """
    out, scenes = shell.folder, Scenes(seed)
    bundle = export(shell, artifacts, BUNDLE)
    copy_source(shell)
    with runtime.Session.open(bundle) as session:
        watch = Watch(session)
        found = {"seed": seed, "schedule": asdict(schedule), "old": scenes.accuracies(session, OLD)}
        found |= _until_harvested(watch, scenes, schedule, seed, out / IMAGES / TARGET)
        with watch.in_background(ADAPTING, scenes.paintings):
            comparisons = _adapt(shell, watch, schedule, words)
            installed = _install(shell, session)
        found |= {"comparisons": comparisons, "installed": installed}
        watch.see_all("after", scenes.new_paintings.show(schedule.after))
        watch.see_all("back", scenes.clip_art.show(schedule.back))
        found["new"] = scenes.accuracies(session, TASK) if installed else None
        return found | {"phases": phases(watch.seen), "timeline": timeline(watch.seen)}


class Scenes:
    """What the camera can see. Frames to harvest are apart from those that figures come from."""

    def __init__(self, seed: int) -> None:
        clip_art, paintings = (data.load(DATASET, task) for task in (OLD, "p-a"))
        self.clip_art = Camera(clip_art.test, CLIP_ART, seed)
        self.paintings = Camera(paintings.target, PAINTINGS, seed + 1000)
        self.new_paintings = Camera(paintings.test, PAINTINGS, seed + 2000)
        self._tests = {
            CLIP_ART: Camera(clip_art.test, CLIP_ART, 0).show(len(clip_art.test)),
            PAINTINGS: Camera(paintings.test, PAINTINGS, 0).show(len(paintings.test)),
        }

    def accuracies(self, session: runtime.Session, task: str) -> dict[str, float]:
        """Return the percentages of a task on the test images of both scenes."""
        return {scene: accuracy(session, task, frames) for scene, frames in self._tests.items()}


def _until_harvested(
    watch: Watch, scenes: Scenes, schedule: Schedule, seed: int, folder: Path
) -> dict[str, Any]:
    """Watch until the new scene is harvested, and return what happened."""
    watch.see_all("usual", scenes.clip_art.show(schedule.usual))
    with runtime.Harvester(folder, every=1, images=2 * schedule.harvest) as harvester:
        for frame in drifting(scenes.clip_art, scenes.paintings, schedule.drift, seed):
            watch.see("drift", frame, harvester)
        for frame in scenes.paintings.show(schedule.frames):
            watch.see("harvest", frame, harvester)
    labels = person.look(folder, watch.offered)
    return {
        "false_alarms": alarms(watch.seen[: schedule.usual]),
        "frames_until_alarm": first(watch.seen[schedule.usual :], lambda seen: seen.drifting),
        "frames_until_no_task": first(watch.seen[schedule.usual :], lambda seen: not seen.known),
        "harvested": person.contents(folder, labels, PAINTINGS),
        "pictures": person.pictures(folder, labels, PICTURES),
    }


def _adapt(shell: Shell, watch: Watch, schedule: Schedule, words: str) -> list[dict[str, Any]]:
    """Train on the harvest, and return what the comparison says without and with labels."""
    folder = shell.folder / IMAGES / TARGET
    found = []
    for more in ("", "--resume"):
        if more:
            person.sort(folder, person.look(folder, watch.offered))
        command = train_command(TARGET, schedule, f"{words} {more}".strip())
        done = shell(command, may_fail=True)
        path = _artifact(shell)
        if not done and not refusal(path):
            raise UdaError(f"'{command}' failed; see above")
        found.append(dict(Artifact.load(path).optional[MEMBER]))
    return found


def _install(shell: Shell, session: runtime.Session) -> bool:
    """Export the new task and install it while the session runs; return whether it may be."""
    path = _artifact(shell)
    if refusal(path):
        return False
    update = export(shell, [path], UPDATE)
    (file,) = (update / "tasks").iterdir()
    runtime.install(shell.folder / BUNDLE, file)
    session.refresh()
    return True


def _artifact(shell: Shell) -> Path:
    return store.find(shell.folder / store.ROOT, TASK, IMAGES)
