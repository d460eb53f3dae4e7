"""Define the settings of training as frozen dataclasses with their defaults.

`adapt.settings.layers` resolves other values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar

from adapt.settings.architectures import BASE_ADVICE, check_model
from runtime.models import Background

AUTO = "auto"
"""Value of a setting that the data decide, see `by_data`."""
_BY_DATA = "by_data"
StrongView = Literal["randaugment", "mild"]
T = TypeVar("T")


def by_data(fallback: T, *, auto: bool = True) -> T:
    """Return a dataclass field that may be `auto`: then the number of images gives its value.

    Args:
        fallback: Value without data: in a program that makes a config by itself, and in a file
            that lacks the setting.
        auto: Whether it is `auto` by default.
    """
    return field(default=fallback, metadata={_BY_DATA: auto})


@dataclass(frozen=True)
class AutoRequest:
    """Settings that are `auto`, and the numbers of images that decide them."""

    sources: int
    """Number of source images."""
    targets: int
    """Number of target images."""
    auto: frozenset[str]
    """Settings to decide."""
    named: frozenset[str] = frozenset()
    """Settings that somebody set by name, in a file or on the command line."""


def may_be_auto(cls: type[TrainConfig]) -> dict[str, bool]:
    """Return the settings that may be `auto`, and whether they are by default."""
    return {f.name: f.metadata[_BY_DATA] for f in fields(cls) if _BY_DATA in f.metadata}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of every method. Defaults are CMKD's for ViT-B/16 (arXiv:2408.02192)."""

    model: str = "ViT-B-16-quickgelu"
    """Architecture: open_clip's name, a model of `adapt.demo`, or the path of an open_clip model
    configuration (.json), whose weights are a local file."""
    pretrained: str = "openai"
    """Weights: an open_clip tag, `demo`, or the path of a local file."""
    batch_size: int = 32
    """Images per step of the source, and as many of the target."""
    epochs: int = by_data(20)
    """`auto` follows the images: about 40 passes over the larger domain, see `Method.from_data`."""
    iterations: int = by_data(500)
    """Optimizer steps per epoch; `auto` is the method's own epoch, see `Method.epoch_length`."""
    lr: float = 3e-6
    """Learning rate of the encoder at step 0."""
    head_lr_multiplier: float = 1000.0
    """Learning rate of the head over that of the encoder."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Nesterov's correction of the momentum."""
    weight_decay: float = 5e-4
    """Weight decay of SGD, on every trained tensor."""
    lr_gamma: float = 3e-4
    """lr(t) = lr * (1 + lr_gamma * t) ** -lr_power, t in steps."""
    lr_power: float = 0.75
    label_smoothing: float = 0.1
    """Label smoothing of the cross-entropy on source labels."""
    train_encoder: bool = True
    """False trains the head only, on the untouched encoder."""
    rst: bool = False
    """Residual Sparse Training: small weight changes fall back to the base after every step."""
    rst_threshold: float = 1e-6
    """A weight that moved at most this far from the base falls back."""
    rst_density: float = by_data(0.0)
    """Above 0: instead of the threshold, a budget, changed over all encoder parameters. The largest
    changes stay, all of them at first, this share at the end. `auto` is 1.5 % with `rst`, since a
    threshold is tied to the rate and the number of steps; what 0.5 % costs and saves is in
    `adapt.commands.options.BUDGETS`."""
    grid: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Train on the grid of the precision that will be deployed: the forward pass sees rounded
    weights, and an entry counts as changed only if its rounded value is."""
    rst_allow_rounding: bool = False
    """Train although the mixed precision rounds most of the residual out of the forward pass."""
    amp: Literal["none", "bf16", "fp16"] = "none"
    """Mixed precision of the encoder while training; fp16 needs CUDA."""
    compile: bool = False
    """Compile the encoder with torch.compile: a minute at the start, faster steps on a GPU."""
    resize: Literal["squash", "crop"] = "squash"
    """`squash` ignores the aspect ratio, `crop` cuts the centre."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of every resize, in training, evaluation and on the device."""
    background: Background = "white"
    """Background of transparent pixels, in training, evaluation and on the device; `drop` shows
    the colour that they hide, mostly black."""
    train_size: int = 256
    """Training images are resized to this many pixels before the random crop."""
    pad: int = 0
    """Pixels repeated at each border before the random crop."""
    crop_min: float = 0.0
    """Above 0: crop a random share of the area, from this one to `crop_max`, with an aspect ratio
    of 3/4 to 4/3, and resize it; 0: crop without resizing."""
    crop_max: float = 1.0
    """Largest share of the area with `crop_min`; ignored without it."""
    rotate: float = 0.0
    """Largest angle in degrees by which training images are rotated either way."""
    flip: bool = True
    """Mirror half of the training images."""
    prompt: str = "a photo of {a} {}"
    """Caption of a class; `{}` is its name, `{a}` "a" or "an" as it needs, `{domain}` the target
    domain's name."""
    partial: bool = False
    """Whether the target has only some of the source's classes; the method does not know which."""
    target_classes: int = 0
    """Number of target classes to keep with `partial`, the first by name, as the benchmarks do; 0
    takes the target as it is."""
    select: str = "infomax"
    """Which epoch's weights are saved: the last, or the best by a score that needs no labels, see
    `adapt.evaluation.selection`. Of these infomax loses least."""
    average_epochs: int = by_data(1, auto=False)
    """Number of last epochs that are evaluated, and saved, with the mean of the weights at their
    ends; 1 averages nothing. `auto` is a fifth of the epochs where the encoder is trained."""
    holdout: float = 0.0
    """Share of the target kept out of training for evaluation, in [0, 1)."""
    eval_batch_size: int = 64
    """Images per call of the encoder in evaluation; it changes the last bits at most."""
    seed: int = 0
    """Seed of every draw: head, order of the images, augmentation, dropout, held-out images."""
    no_fixmatch: ClassVar[str] = "has none"
    """Reason why a method cannot have FixMatch, if it cannot."""
    leaves_encoder: ClassVar[bool] = False
    """Whether the method leaves the encoder alone, whatever `train_encoder` says."""
    removed: ClassVar[Mapping[str, Any]] = {}
    """Settings that this version no longer has, with the default they had."""
    when_missing: ClassVar[Mapping[str, Any]] = {"background": "drop"}
    """Values of settings that a file lacks, where earlier versions did something else than the
    default."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "iterations", "eval_batch_size", "average_epochs"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr", "head_lr_multiplier"):
            require(self, name, getattr(self, name) > 0, "above 0")
        not_negative = (
            *("weight_decay", "lr_gamma", "lr_power", "rst_threshold", "pad", "crop_min"),
            *("rotate", "target_classes", "seed"),
        )
        for name in not_negative:
            require(self, name, getattr(self, name) >= 0, "0 or more")
        for name in ("momentum", "label_smoothing", "holdout"):
            require(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        require(self, "train_size", 8 <= self.train_size <= 4096, "in 8..4096")
        require(self, "seed", self.seed < 2**63, "below 2^63")
        require(self, "rst_density", 0 <= self.rst_density <= 1, "a share in [0, 1]")
        meant = self.rst or not self.rst_density
        require(self, "rst_density", meant, "0 unless rst is true")
        require(self, "crop_max", self.crop_max >= self.crop_min, "crop_min or more")
        meant = self.partial or not self.target_classes
        require(self, "target_classes", meant, "0 unless partial is true")
        require(self, "prompt", self.prompt.count("{}") == 1, "text with one {} for the class")

    @property
    def pair_classes(self) -> int | None:
        """Argument of `adapt.data.load`: None if both sides have the same classes."""
        return self.target_classes if self.partial else None

    @property
    def strong_view(self) -> StrongView | None:
        """Strong augmentation of the target that a step needs, or None."""
        return None

    def check_models(self) -> None:
        """Check base models by name, without torch.

        A method that needs more than one base model extends this.

        Raises:
            ConfigError: Two of them do not go together.
            BaseModelError: An architecture or a weights file is unknown.
        """
        check_model(self.model, self.pretrained, BASE_ADVICE)


@dataclass(frozen=True)
class TaskHeadConfig(TrainConfig):
    """Settings of methods that train a task head, which FixMatch can sharpen."""

    fixmatch: float = 0.0
    """Weight of FixMatch's term, 0 for none. CMKD: 0.5, VisDA 2.0, DomainNet 0.1."""
    fixmatch_threshold: float = 0.95
    """Least confidence of a pseudo label in the weak view. VisDA: 0.8."""
    strong: StrongView = "randaugment"
    """The strong view; `mild` suits small pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "fixmatch", self.fixmatch >= 0, "0 or more")
        require(self, "fixmatch_threshold", 0 <= self.fixmatch_threshold < 1, "in [0, 1)")

    @property
    def strong_view(self) -> StrongView | None:
        """The strong augmentation of the target, with FixMatch."""
        return self.strong if self.fixmatch else None


def require(config: TrainConfig, name: str, good: bool, needed: str) -> None:
    """Check a value of a setting; `adapt.settings.layers` makes a ConfigError of it.

    Raises:
        ValueError: The condition is false.
    """
    if not good:
        raise ValueError(f"'{name}' must be {needed}, found {getattr(config, name)!r}")
