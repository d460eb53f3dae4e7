"""Define the settings of each method, in a module of its own so that no check needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from adapt.settings.architectures import check_model
from adapt.settings.config import TaskHeadConfig, TrainConfig, by_data, require
from adapt.settings.teachers import TEACHER_ADVICE, check_teacher

RAMP_ITERATIONS = 10_000
"""Length of CMKD's ramp, the same for every data set of the paper."""


@dataclass(frozen=True)
class CMKDConfig(TaskHeadConfig):
    """Settings of CMKD; the defaults are the paper's."""

    lambda1: float = 0.25
    """Weight of the task and distillation terms (DomainNet: 0.025)."""
    lambda2: float = 0.1
    """Weight of CLIP's cross entropy on the source."""
    lambda3: float = 0.025
    """Weight of CLIP's impurity on the target (DomainNet: 0.0025)."""
    ramp_iterations: int = by_data(RAMP_ITERATIONS)
    """Iterations until the ramp stops growing: 10,000 in the paper, however long the run. `auto` is
    the length of the run: with a longer ramp the target terms of a short run never matter."""
    partial_minimum: int = 14
    """Number of target images predicted as a class from which on it counts as the target's, with
    `partial` (Office-Home)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lambda1", "lambda2", "lambda3"):
            require(self, name, getattr(self, name) >= 0, "0 or more")
        for name in ("ramp_iterations", "partial_minimum"):
            require(self, name, getattr(self, name) >= 1, "1 or more")


@dataclass(frozen=True)
class EKDAConfig(TrainConfig):
    """Settings of EKDA; the defaults are the released code's for Office-Home, but for the crops.

    `lr` is for the prompts of teacher and student and falls along a cosine once per epoch;
    `head_lr_multiplier` is for the projector. `lr_gamma`, `lr_power` and `train_encoder` are
    ignored.
    """

    lr: float = 0.005
    head_lr_multiplier: float = 1.0
    nesterov: bool = False
    label_smoothing: float = 0.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    eval_batch_size: int = 128
    teacher: str = "ViT-L-14-quickgelu"
    """Architecture of the teacher, which must see images as `model` does."""
    teacher_pretrained: str = "openai"
    """Weights of the teacher: an open_clip tag, `demo`, or the path of a local file."""
    teacher_lr_multiplier: float = 1.0
    """Learning rate of the teacher's prompts over that of the student's."""
    n_ctx: int = 4
    """Number of learned words in the teacher's text, and of tokens in its images and in each block
    of the student. The released scripts have 4; its README shows 2, with which every deep block
    loses two patches."""
    ctx_init: Literal["random", "words"] = "random"
    """Start of the learned words. The released code sets words and then draws over them."""
    class_ctx: bool = False
    """Learn words for every class (CoOp's class-specific context), not words that all share: for
    text encoders that do not know the names of the classes."""
    templates: Literal["imagenet", "prompt"] = "imagenet"
    """Text that the teacher's stays close to: the mean of OpenAI's 80 captions, or the prompt."""
    text_weight: float = 25.0
    """Weight of the distance of the teacher's text features to the base's."""
    image_weight: float = 10.0
    """Weight of the distance of the teacher's image features to the base's."""
    kd_weight: float = 100.0
    """Weight of the divergence between student and teacher, times 1/classes for each image."""
    tau: float = 1.0
    """Temperature of that divergence."""

    no_fixmatch: ClassVar[str] = "has a head and losses of its own"
    leaves_encoder: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("teacher_lr_multiplier", "n_ctx", "tau"):
            require(self, name, getattr(self, name) > 0, "above 0")
        for name in ("text_weight", "image_weight", "kd_weight"):
            require(self, name, getattr(self, name) >= 0, "0 or more")

    def check_models(self) -> None:
        """Refuse a student, a teacher, or a pair of them, that cannot be used."""
        super().check_models()
        check_model(self.teacher, self.teacher_pretrained, TEACHER_ADVICE)
        check_teacher(self.model, self.teacher)


@dataclass(frozen=True)
class FeatureConfig(TrainConfig):
    """Settings of methods that learn from features of the untouched encoder."""

    head_lr_multiplier: float = 1.0
    train_encoder: bool = False
    resize: Literal["squash", "crop"] = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    no_fixmatch: ClassVar[str] = "learns from features that are computed once"
    leaves_encoder: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_encoder:
            raise ValueError("this method leaves the encoder alone; set train_encoder=false")


@dataclass(frozen=True)
class LinearProbeConfig(FeatureConfig):
    """Settings of the linear probe. Features have length 1, so its rate is far above others."""

    epochs: int = 10
    lr: float = 1.0
    weight_decay: float = 1e-4


@dataclass(frozen=True)
class UniMoSConfig(FeatureConfig):
    """Settings of UniMoS; the defaults are those for Office-Home with ResNet-50.

    All layers have one rate: the released code overwrites the tenth that the weight generator
    should get.
    """

    model: str = "RN50-quickgelu"
    lr: float = 3e-3
    """Learning rate of every trained layer at step 0. VisDA: 9e-4, for 10 epochs."""
    nesterov: bool = False
    weight_decay: float = 0.0
    lr_gamma: float = 1e-3
    label_smoothing: float = 0.0
    alpha: float = 1.0
    """Weight of the language branch's cross entropy on the source (VisDA: 0.001)."""
    beta: float = 1.0
    """Weight of the vision branch's cross entropy on the source (VisDA: 0.1)."""
    gamma: float = 0.01
    """Weight of the separation and of both discriminator terms."""
    temperature: float = 100.0
    """Factor of the language features; not the base model's own logit scale."""
    vision_weight: float = 0.3
    """Share of the vision branch in the deployed prediction, and least share before."""
    width: int = 256
    """Units of the bottleneck, of the weight generator and of the discriminator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "beta", "gamma"):
            require(self, name, getattr(self, name) >= 0, "0 or more")
        require(self, "temperature", self.temperature > 0, "above 0")
        require(self, "vision_weight", 0 <= self.vision_weight <= 1, "a share in [0, 1]")
        require(self, "width", self.width >= 1, "1 or more")


@dataclass(frozen=True)
class ZeroShotConfig(TrainConfig):
    """Settings of zero-shot CLIP, which trains nothing."""

    leaves_encoder: ClassVar[bool] = True
