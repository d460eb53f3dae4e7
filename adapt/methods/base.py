"""Define the Method contract, which is all that training and export see of a method.

A method is a module with an `encoder` and a `head`. It names its losses, says which parameters it
trains and in which optimizer, may own its training step, and says what reaches a device. The loop,
mixed precision, sparsity, checkpoints, evaluation and the artifact come for free. Longer than most
files, since the whole contract stands in one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt.compute.device import attention
from adapt.compute.parallel import gather
from adapt.optim.groups import Group, sgd
from adapt.optim.optimization import Optimization
from adapt.settings.config import AutoRequest, TrainConfig
from adapt.settings.length import EPOCHS, MOST_STEPS, steps
from runtime.models import BaseModel

if TYPE_CHECKING:
    from adapt.clip.model import Clip
    from adapt.data.rows import Images

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The low precision of each `amp` setting."""


@dataclass(frozen=True)
class Batch:
    """A batch of images of one domain."""

    images: Tensor
    """(N, 3, S, S) float32, augmented and normalised, on the training device; this process's share
    under torchrun. (N, 0) for methods with `uses_images` false."""
    labels: Tensor
    """(N,) int64 class positions; of the target all -1, whatever the data set knows."""
    indices: Tensor
    """(N,) int64 positions in the domain's training set, for the method's values per image."""
    strong: Tensor | None = None
    """(N, 3, S, S): a strongly augmented view of the target, if FixMatch is on."""


class TrainingImages(Protocol):
    """The training images of one domain, with the fields that a method may use."""

    pixels: Images
    """(N, R, R, 3) uint8 RGB."""
    digest: str
    """Digest of the files and of how they were resized."""
    labels: NDArray[np.int64]
    """(N,) class positions; of the target all -1."""


@dataclass(frozen=True)
class Deployed:
    """The parts of a method that reach the device."""

    encoder: nn.Module
    """The image encoder; its difference from the base becomes the residual, which may be empty."""
    head: nn.Module
    """Features (N, D) to logits (N, C); of a class in `adapt.methods.heads.HEADS`."""
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    """Learned prompt tokens `prompts.<block>` (n, W) that the encoder runs with; mostly none."""


BUDGET = 0.015
"""RST's budget on the user's own images, as a share of the encoder's parameters."""


class Method(nn.Module):
    """One way to adapt CLIP. Subclasses define `losses`, and `build_head` for a head of their own.

    The encoder is in eval mode always: its BatchNorm statistics stay the base's, so source and
    target may share one pass. Heads train in train mode.
    """

    Config: ClassVar[type[TrainConfig]] = TrainConfig
    trains: ClassVar[bool] = True
    """Whether there is anything to train."""
    trains_encoder: ClassVar[bool] = True
    """False: the encoder's own weights stay the base's, so there is nothing for RST to do."""
    uses_images: ClassVar[bool] = True
    """False: batches are labels and indices only, and streams hold the pixels that evaluation sees;
    the method looks up results of `prepare`."""
    encoder: nn.Module
    head: nn.Module

    def __init__(self, clip: Clip, prompts: Sequence[str], config: TrainConfig) -> None:
        """Take over `clip.visual`, which is trained in place, and draw the head from the seed.

        Args:
            clip: The base model, on the training device.
            prompts: One per class, in the order of the logits.
            config: Settings, of the method's own `Config` type.
        """
        super().__init__()
        self.config = config
        self.encoder = clip.visual
        tuned = self.trains and self.trains_encoder and config.train_encoder
        self.encoder.requires_grad_(tuned)
        if config.compile:
            self.encoder.compile()
        self.register_buffer("text", clip.text_features(prompts).float(), persistent=False)
        self.text: Tensor  # (C, D) unit rows
        self.logit_scale = clip.logit_scale
        device = self.text.device
        # The head depends on the seed, not on what ran before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.head = self.build_head().to(device)
        self.eval()

    def build_head(self) -> nn.Module:
        """Return the head that is deployed; by default BatchNorm, LayerNorm, linear."""
        from adapt.methods.heads import TaskHead

        classes, features = self.text.shape
        return TaskHead(features, classes)

    @classmethod
    def from_data(cls, config: TrainConfig, request: AutoRequest) -> dict[str, Any]:
        """Return the settings that depend on the data, `request.auto`; see `by_data`.

        A run has about 40 passes over the larger domain; RST gets a budget unless somebody set the
        threshold.

        Args:
            config: The settings; what is `auto` has its fallback in here.
            request: Settings to decide, and numbers of images.
        """
        length = config.iterations
        total = steps(config.batch_size, max(request.sources, request.targets))
        if "iterations" in request.auto:
            length = cls.epoch_length(config, request.sources, request.targets)
        epochs = max(round(total / length), 1) if "epochs" in request.auto else config.epochs
        budget = BUDGET if config.rst and "rst_threshold" not in request.named else 0.0
        averaged = max(epochs // 5, 1) if cls.trains_encoder and config.train_encoder else 1
        found = {
            "iterations": length,
            "epochs": epochs,
            "rst_density": budget,
            "average_epochs": averaged,
        }
        return {key: value for key, value in found.items() if key in request.auto}

    @classmethod
    def epoch_length(cls, config: TrainConfig, sources: int, targets: int) -> int:
        """Return the iterations of the method's own epoch: by default a 20th of the run, or a pass.

        Args:
            config: The settings.
            sources: Number of source images.
            targets: Number of target images.
        """
        images = max(sources, targets)
        total, one_pass = steps(config.batch_size, images), images // config.batch_size
        return max(min(one_pass, MOST_STEPS // EPOCHS), total // EPOCHS, 1)

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the loss terms of one iteration by name; the loop sums, checks and logs them.

        Args:
            source: Labelled images.
            target: Unlabelled images.
            iteration: From 0.
        """
        raise NotImplementedError

    def training_step(
        self, source: Batch, target: Batch, iteration: int, optimization: Optimization
    ) -> dict[str, Tensor]:
        """Do one iteration and return its loss terms; by default sum them and step once.

        A method that alternates updates overrides this: `optimization.step(teacher=a)` and then
        `optimization.step(student=b)` when b needs the updated teacher, or
        `optimization.step(main=a, separators=b)` when both gradients belong to the same parameters.
        """
        terms = self.losses(source, target, iteration)
        optimization.step(main=torch.stack(list(terms.values())).sum())
        return terms

    def prepare(self, source: TrainingImages, target: TrainingImages) -> None:
        """Prepare for training, once per process and also when resuming; does nothing by default.

        What a checkpoint must hold (pseudo labels, running priors) is a buffer registered by the
        end of this; what can be made again (a feature bank) is not.
        """

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch (from 0); does nothing by default."""

    def parameter_groups(self) -> list[Group]:
        """Return the trained parameters: by default the encoder, and others at the head's rate."""
        config = self.config
        encoder = tuple(p for p in self.encoder.parameters() if p.requires_grad)
        own = {id(p) for p in self.encoder.parameters()}
        rest = tuple(p for p in self.parameters() if p.requires_grad and id(p) not in own)
        groups = [Group(encoder, config.lr), Group(rest, config.lr * config.head_lr_multiplier)]
        return [group for group in groups if group.parameters]

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimizer of some parameter groups; by default SGD with momentum.

        What a step leaves in its state must be tensors: a checkpoint keeps these.
        """
        return sgd(self.config)(groups)

    def schedule(self, iteration: int) -> float:
        """Return the factor on every learning rate: `(1 + gamma t)^-power` (DANN's annealing)."""
        return float((1 + self.config.lr_gamma * iteration) ** -self.config.lr_power)

    def encode(self, images: Tensor) -> Tensor:
        """Return features (N, D) of images (N, 3, S, S), float32 and not normalised.

        Under mixed precision only this runs in the low precision, and only while training.
        """
        with self.precision():
            features: Tensor = self.encoder(images)
        return features.float()

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Compute encoders at the precision of the settings, which is low only while training."""
        device, dtype = self.text.device, AMP.get(self.config.amp) if self.training else None
        low = dtype is not None
        with attention(device, low), torch.autocast(device.type, dtype, enabled=low):
            yield

    def features(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the features of several batches of images, in one pass through the encoder.

        No layer of the encoder mixes images, its BatchNorm being in eval mode. Under torchrun the
        images are this process's share, and the features are those of all processes, through which
        gradients flow back: heads and losses see the whole batch.
        """
        return gather(self.encode(torch.cat(images)), [len(batch) for batch in images])

    def bank(self, pixels: Images, key: str) -> Tensor | None:
        """Return the stored features (N, D) of images that the method trains from; by default None.

        Args:
            pixels: Images (N, S, S, 3) uint8 RGB, S the encoder's size.
            key: Names the pixels, see `adapt.data.cache.Pixels`.
        """
        return None

    def classify(self, features: Tensor) -> Tensor:
        """Return the deployed prediction's logits (N, C) of features (N, D) from `encode`."""
        logits: Tensor = self.head(features)
        return logits

    def logits(self, images: Tensor) -> Tensor:
        """Return the deployed prediction's logits (N, C) of images (N, 3, S, S)."""
        return self.classify(self.encode(images))

    def tokens(self) -> dict[str, Tensor]:
        """Return learned prompt tokens by name, `prompts.<block>` (n, W); by default none."""
        return {}

    def teachers(self) -> tuple[BaseModel, ...]:
        """Return other base models that training learns from and no device needs; mostly none."""
        return ()

    def deploy(self) -> Deployed:
        """Return the parts that reach the device."""
        return Deployed(self.encoder, self.head, self.tokens())

    @property
    def frozen(self) -> bool:
        """Whether the features of an image stay the same throughout training."""
        return not self.tokens() and not any(p.requires_grad for p in self.encoder.parameters())

    def train(self, mode: bool = True) -> Method:
        """Switch the heads; the encoder stays in eval mode."""
        if mode == self.training:
            return self
        super().train(mode)
        self.encoder.eval()
        return self
