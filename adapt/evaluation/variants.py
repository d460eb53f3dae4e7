"""Load the variants of a task to predict with: zero-shot CLIP, then each artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base, same_base, survival
from adapt.clip import model as base_models
from adapt.clip.captions import class_prompts, fitting
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data import digests
from adapt.data.origin import IMAGES, Origin
from adapt.data.rows import Images
from adapt.evaluation.stored import ZERO_SHOT
from adapt.methods.heads import CosineHead
from adapt.optim.grid import Grid
from adapt.settings.model_config import Architecture, is_file
from runtime.errors import DataError, FormatError
from runtime.models import Preprocess, TaskInfo
from runtime.monitoring import confidence
from runtime.monitoring.confidence import Calibration
from runtime.text import quoted


@dataclass(frozen=True, eq=False)
class Variant:
    """A network to predict with, and its origin."""

    name: str
    base: str
    """Architecture of its base model."""
    artifact: Artifact | None
    """None for zero-shot CLIP, which needs no file."""
    network: nn.Module
    """Network from normalised images (N, 3, S, S) to logits (N, K)."""
    preprocess: Preprocess
    batch_size: int
    device: str
    survival: Mapping[Grid, float] | None = None
    """Share of the changed weights that each precision keeps; None where none can change."""

    @property
    def calibration(self) -> Calibration | None:
        """Temperature of its logits, if a person sorted images for one."""
        return None if self.artifact is None else confidence.read(self.artifact.optional)

    def logits(
        self, pixels: Images, on_batch: Callable[[int, int], None] = lambda done, total: None
    ) -> Tensor:
        """Return the logits (N, K), on the CPU, of pixels (N, S, S, 3) uint8 RGB.

        Args:
            pixels: Images as `preprocess` makes them.
            on_batch: Function called with the number of images done, and of all.
        """
        return predict(
            self.network, pixels, self.batch_size, self.device,
            mean=self.preprocess.mean, std=self.preprocess.std, on_batch=on_batch,
        )  # fmt: skip


def architecture_of(files: Mapping[str, Path], model: str) -> Architecture | None:
    """Return the architecture of a model configuration as one of the artifacts recorded it.

    The file may have changed or disappeared since.

    Args:
        files: Artifacts by variant.
        model: Value of the setting `model`; None is returned if it is not a file.

    Raises:
        FormatError: An artifact is damaged.
    """
    if not is_file(model):
        return None
    artifacts = map(Artifact.load, files.values())
    return next((a.architecture for a in artifacts if a.config["model"] == model), None)


def check(task: TaskInfo, files: Mapping[str, Path], digest: str | None) -> None:
    """Check artifacts before anything is computed.

    Args:
        task: Task that they must have been trained for.
        files: Artifacts by variant.
        digest: `ImageSet.digest` of the images to test on; None if training had other ones.

    Raises:
        FormatError: An artifact is damaged, or was trained for other classes.
        DataError: An artifact was tested on other images, so it may have been trained on these.
    """
    for path in files.values():
        artifact = Artifact.load(path)
        if artifact.task != task:
            raise FormatError(
                f"'{path}' was trained for {artifact.task.dataset} {artifact.task.id} with "
                f"{len(artifact.task.classes)} classes, which these images do not have; train again"
            )
        if digest is not None and not digests.same(artifact.metrics["data"]["test"], digest):
            raise DataError(
                f"'{path}' was trained and tested on {_tested(artifact)}, or move it away"
            )


def _tested(artifact: Artifact) -> str:
    """Return what other images an artifact was tested on, and advice."""
    origin, holdout = Origin.of(artifact.optional.get(IMAGES)), artifact.config["holdout"]
    if origin is not None and origin.test is not None:
        return f"other images, those in '{origin.test}'; pass --test {quoted(origin.test)}"
    if not holdout:
        return "other images or labels than these; train it again"
    return (
        f"other images or labels than these (holdout {holdout:g}, seed {artifact.seed}); train all "
        "variants with the same --seed and holdout"
    )


def variants(
    task: TaskInfo,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    device: str = "cpu",
    pretrained: str | None = None,
) -> Iterator[Variant]:
    """Yield zero-shot CLIP, then every other variant, one at a time.

    Args:
        task: Task of all variants.
        files: Artifacts by variant.
        settings: Settings of zero-shot CLIP.
        device: Device to compute on.
        pretrained: Weights of the bases, if they have moved since training.

    Raises:
        BaseModelError: A base is missing, or is not the one an artifact needs.
        FormatError: An artifact is damaged.
    """
    own = architecture_of(files, settings["model"])
    weights = pretrained or settings["pretrained"]
    bases = [base_models.load(own or settings["model"], weights, device, "--pretrained FILE")]

    def base(artifact: Artifact) -> Clip:
        for clip in bases:
            if same_base(clip.info, artifact.base):
                return clip
        bases.append(load_base(artifact, pretrained, device))
        return bases[-1]

    clip = bases[0]
    prompt = fitting(clip, task.classes, settings["prompt"], task.target)
    prompts = class_prompts(task.classes, prompt, task.target)
    head = CosineHead.of(clip.text_features(prompts), clip.logit_scale)
    how = (settings[name] for name in ("resize", "interpolation", "background"))
    yield Variant(
        name=ZERO_SHOT,
        base=clip.info.architecture,
        artifact=None,
        network=Network(clip.visual, head).to(device).eval(),
        preprocess=clip.preprocess(*how),
        batch_size=settings["eval_batch_size"],
        device=device,
    )
    for name, path in files.items():
        if name != ZERO_SHOT:
            artifact = Artifact.load(path)
            own_base = base(artifact)
            yield Variant(
                name=name,
                base=artifact.base.architecture,
                artifact=artifact,
                network=Network.of(own_base, artifact).to(device),
                preprocess=artifact.preprocess,
                batch_size=artifact.config["eval_batch_size"],
                device=device,
                survival=survival(own_base, artifact) if artifact.residual else None,
            )
