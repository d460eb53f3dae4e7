"""End-to-End Knowledge Distillation for Unsupervised Domain Adaptation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapt.clip import model as base_models
from adapt.clip.prompts import by_block, check_visual, encode_images
from adapt.methods.base import Batch, Method
from adapt.methods.heads import ProjectorHead
from adapt.methods.parts.pairing import check_images
from adapt.methods.parts.teacher import STD, Teacher, divergence
from adapt.optim.groups import Group
from adapt.settings.config import TrainConfig
from adapt.settings.methods import EKDAConfig
from adapt.settings.teachers import TEACHER_ADVICE
from runtime.errors import ConfigError
from runtime.models import BaseModel

if TYPE_CHECKING:
    from adapt.clip.model import Clip
    from adapt.optim.optimization import Optimization


class EKDA(Method):
    """End-to-End Knowledge Distillation for UDA with Large Vision-Language Models.

    Follows github.com/1d1x1w/EKDA where it could be read. A large frozen CLIP, the teacher,
    learns a few prompt tokens from labelled source images. In the same iteration the student learns
    from the teacher on target images: prompt tokens in every block of its frozen encoder, and a
    projector into the teacher's feature space, where the teacher's text features are the classes.
    The student, its projector and those class centres are deployed, without teacher or text.

    Deviations of the code, none of which changes what is computed unless said so: the teacher runs
    without gradients in the student's step, where the original computes and then drops them; the
    student's unused learned words are left out; texts are cut to the longest; frozen encoders run
    in low precision only under `amp`, everything else in float32. Three change what is computed.
    The original cuts crops of 8 to 100 % of the area out of the image files. Here they are cut out
    of images already resized to `train_size`: on the papers' data sets (`resize=crop`,
    `crop_min=0.08`) of the centre square, which never shows the ends of a long image. On all others
    (`resize=squash`, `crop_min=0`) the whole image is squashed to a square, as it is for prediction
    too, and a crop shows 77 % of it, at a random place. `class_ctx` gives every class words of its
    own, which the original does not have; it is off unless the base model recommends it. A ResNet
    student has no prompts, only the projector, and here its BatchNorm keeps the base's
    statistics: the original lets them drift to the target's, probably as an oversight, and they
    would have to be shipped with every task.
    """

    Config = EKDAConfig
    config: EKDAConfig
    head: ProjectorHead
    trains_encoder: ClassVar[bool] = False

    def __init__(
        self,
        clip: Clip,
        prompts: Sequence[str],
        config: EKDAConfig,
        teacher: Clip | None = None,
    ) -> None:
        """Load the teacher and draw prompts and projector from the seed.

        Args:
            clip: The student's model, on the training device.
            prompts: Captions, one per class.
            config: Settings of the run.
            teacher: Teacher's model, on the same device; None loads what the settings name.

        Raises:
            ConfigError: The two models take different images, the prompt is too short, or a ViT
                student is to be compiled.
            BaseModelError: The teacher cannot be loaded, or a model cannot take prompts.
        """
        if config.compile and hasattr(clip.visual, "transformer"):
            raise ConfigError(
                "compile is true, but EKDA runs a ViT student block by block, around its prompts, "
                "and never calls the compiled encoder; set compile=false"
            )
        device = next(clip.visual.parameters()).device
        if teacher is None:
            teacher = base_models.load(
                config.teacher, config.teacher_pretrained, str(device), TEACHER_ADVICE
            )
        check_images(clip, teacher)
        self._width = teacher.dim
        super().__init__(clip, prompts, config)
        generator = torch.Generator().manual_seed(config.seed)
        self.teacher = Teacher(
            teacher,
            prompts,
            config.prompt,
            config.n_ctx,
            words=config.ctx_init == "words",
            per_class=config.class_ctx,
            templates=config.templates,
            generator=generator,
        )
        self.prompts = nn.ParameterDict()
        if hasattr(clip.visual, "transformer"):
            visual = check_visual(clip.visual)
            for block in range(len(visual.transformer.resblocks)):
                tokens = torch.empty(config.n_ctx, visual.conv1.out_channels)
                nn.init.normal_(tokens, std=STD, generator=generator)
                self.prompts[str(block)] = nn.Parameter(tokens.to(device))
        self.eval()

    @classmethod
    def epoch_length(cls, config: TrainConfig, sources: int, targets: int) -> int:
        """Return one pass over the source, its last, smaller batch dropped."""
        return max(sources // config.batch_size, 1)

    def build_head(self) -> nn.Module:
        """Return the projector, whose class centres `eval` fills in."""
        return ProjectorHead(self.text.shape[1], self.text.shape[0], self._width)

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the weighted terms of both steps, as if the teacher did not move in between."""
        return self.teacher_losses(source) | self.student_losses(target)

    def teacher_losses(self, source: Batch) -> dict[str, Tensor]:
        """Return the weighted terms "teacher_ce", "_text", "_image" and "_kl" on the source."""
        c = self.config
        with self.precision():
            plain = self.teacher.plain_image(source.images)
            features, text = self.teacher.image(source.images), self.teacher.text()
        terms = self.teacher.losses(features, plain, text, source.labels, c.label_smoothing)
        weights = {"text": c.text_weight, "image": c.image_weight}
        return {f"teacher_{name}": weights.get(name, 1.0) * term for name, term in terms.items()}

    def student_losses(self, target: Batch) -> dict[str, Tensor]:
        """Return the weighted terms "distill", "pseudo" and "align" on the target.

        "distill" is the divergence from the teacher's prediction, "pseudo" the cross entropy to its
        first choice for every image, however unsure, "align" the squared distance between unit
        features.
        """
        c, teacher = self.config, self.teacher
        with torch.no_grad(), self.precision():
            seen, text = teacher.image(target.images), teacher.text()  # (N, E), (K, E)
        aim = teacher.logits(seen, text)
        (features,) = self.features(target.images)
        found = self.head.project(features)  # (N, E)
        logits = self.logit_scale * found @ text.T
        return {
            "distill": c.kd_weight * divergence(aim, logits, c.tau),
            "pseudo": functional.cross_entropy(logits, aim.argmax(-1)),
            "align": (seen - found).square().sum(-1).mean(),
        }

    def training_step(
        self, source: Batch, target: Batch, iteration: int, optimization: Optimization
    ) -> dict[str, Tensor]:
        """Let the teacher take a step on the source, then the student one after the new teacher."""
        taught = self.teacher_losses(source)
        optimization.step(teacher=torch.stack(list(taught.values())).sum())
        learned = self.student_losses(target)
        optimization.step(student=torch.stack(list(learned.values())).sum())
        return taught | learned

    def parameter_groups(self) -> list[Group]:
        """Return the teacher's prompts, the student's prompts and the projector."""
        c = self.config
        student = tuple(self.prompts.values())
        return [
            Group((self.teacher.ctx, self.teacher.vctx), c.lr * c.teacher_lr_multiplier, "teacher"),
            *([Group(student, c.lr, "student")] if student else []),
            Group(tuple(self.head.parameters()), c.lr * c.head_lr_multiplier, "student"),
        ]

    def schedule(self, iteration: int) -> float:
        """Return half a cosine from 1 towards 0, constant within an epoch."""
        epoch = iteration // max(self.config.iterations, 1)
        return 0.5 * (1 + math.cos(math.pi * epoch / self.config.epochs))

    def encode(self, images: Tensor) -> Tensor:
        """Return the student's features (N, D) of images (N, 3, S, S), prompts included."""
        if not self.prompts:
            return super().encode(images)
        with self.precision():
            return encode_images(self.encoder, images, by_block(self.prompts)).float()

    def tokens(self) -> dict[str, Tensor]:
        """Return the student's prompt tokens."""
        return {f"prompts.{block}": tokens for block, tokens in self.prompts.items()}

    def teachers(self) -> tuple[BaseModel, ...]:
        """Return the teacher's model."""
        return (self.teacher.clip.info,)

    def train(self, mode: bool = True) -> EKDA:
        """Switch the projector; evaluation sees the classes where the teacher has them now."""
        super().train(mode)
        if not mode and hasattr(self, "teacher"):
            with torch.no_grad():
                self.head.weight.copy_(self.logit_scale * self.teacher.text())
        return self
