"""EKDA's teacher: a frozen CLIP with a few prompt tokens in both encoders, and its losses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from adapt.clip.model import Clip
from adapt.clip.prompts import Captions, check_context, check_visual, encode_images
from adapt.compute.parallel import gather
from runtime.errors import BaseModelError, ConfigError

STD = 0.02
"""Standard deviation of freshly drawn prompt tokens."""


class Teacher(nn.Module):
    """CLIP with shallow prompts: learned words in the text, learned tokens in the image sequence.

    The model itself is not a submodule: it is not trained, and neither checkpoints nor the device
    need it.
    """

    def __init__(
        self,
        clip: Clip,
        prompts: Sequence[str],
        template: str,
        n_ctx: int,
        *,
        words: bool,
        per_class: bool = False,
        templates: Literal["imagenet", "prompt"],
        generator: torch.Generator,
    ) -> None:
        """Draw the prompt tokens, and compute the text features to stay close to.

        Args:
            clip: Large model, on the training device.
            prompts: Captions, one per class.
            template: Template of the prompts; its `{}` is the class name.
            n_ctx: Number of learned words, and of learned image tokens, n.
            words: Whether to start from the template's words instead of N(0, 0.02^2).
            per_class: Whether every class learns words of its own.
            templates: `imagenet` compares with the mean over OpenAI's 80 captions, `prompt` with
                the prompts alone.
            generator: Generator of the random draws.

        Raises:
            BaseModelError: The model cannot take prompts, or a caption is too long.
            ConfigError: The template has fewer words before the class name than are learned.
        """
        super().__init__()
        visual = check_visual(clip.visual)
        clip.text_tower.requires_grad_(False)
        visual.requires_grad_(False)
        check_context(clip, template, n_ctx)
        self.clip = clip
        self._captions = Captions(clip, prompts)
        device = self._captions.words.device
        own = (len(prompts),) if per_class else ()
        self.ctx = nn.Parameter(torch.empty(*own, n_ctx, self._captions.words.shape[-1]))
        self.vctx = nn.Parameter(torch.empty(n_ctx, visual.conv1.out_channels))
        for tokens in (self.ctx, self.vctx):
            nn.init.normal_(tokens, std=STD, generator=generator)
        self.to(device)
        if words:  # shared ones are the first prompt's: all prompts have them, but for an article
            found = self._captions.words[:, 1 : 1 + n_ctx]
            with torch.no_grad():
                self.ctx.copy_(found if per_class else found[0])
        names = class_names(prompts, template) if templates == "imagenet" else ()
        frozen = _mean_features(clip, names) if names else _unprompted(self._captions)
        self.register_buffer("plain_text", normalize(frozen, dim=-1), persistent=False)
        self.plain_text: Tensor  # (K, E) unit rows, of the model without learned words

    def text(self) -> Tensor:
        """Return the class centres: unit text features (K, E) with the learned words."""
        return normalize(self._captions.encode(self.ctx).float(), dim=-1)

    def image(self, images: Tensor) -> Tensor:
        """Return unit features (N, E) of images (N, 3, S, S) with the learned tokens."""
        found = encode_images(self.clip.visual, images, {0: self.vctx})
        return normalize(gather(found.float(), [len(images)])[0], dim=-1)

    @torch.no_grad()
    def plain_image(self, images: Tensor) -> Tensor:
        """Return the unit features (N, E) of the model without learned tokens."""
        found = self.clip.visual(images)
        return normalize(gather(found.float(), [len(images)])[0], dim=-1)

    def logits(self, features: Tensor, text: Tensor) -> Tensor:
        """Return logits (N, K) of unit features (N, E) and class centres (K, E)."""
        return self.clip.logit_scale * features @ text.T

    def losses(
        self, features: Tensor, plain: Tensor, text: Tensor, labels: Tensor, smoothing: float
    ) -> dict[str, Tensor]:
        """Return the terms of PromptSRC's loss on labelled images, unweighted.

        Learn the classes ("ce"), but stay close to the model without learned tokens in text
        features ("text"), image features ("image") and predictions ("kl").

        Args:
            features: Unit features (N, E), with gradients.
            plain: The same images' (N, E) without learned tokens.
            text: Class centres (K, E), with gradients.
            labels: Class positions (N,).
            smoothing: Label smoothing of the cross entropy; 0 in the released code.
        """
        z, z_plain = self.logits(features, text), self.logits(plain, self.plain_text)
        return {
            "ce": functional.cross_entropy(z, labels, label_smoothing=smoothing),
            "text": (text - self.plain_text).abs().mean(),
            "image": (features - plain).abs().mean(),
            "kl": divergence(z_plain, z),
        }


def divergence(target: Tensor, logits: Tensor, tau: float = 1.0) -> Tensor:
    """Return tau^2 KL(softmax(target / tau) || softmax(logits / tau)), a mean over all N K entries.

    The released code divides the sum by the number of entries, not of images, so that a weight
    means less the more classes there are.

    Args:
        target: Logits (N, K) to come close to.
        logits: Logits (N, K).
        tau: Temperature, above 0.
    """
    p, q = (target / tau).log_softmax(-1), (logits / tau).log_softmax(-1)
    return (p.exp() * (p - q)).mean() * tau**2


def class_names(prompts: Sequence[str], template: str) -> list[str]:
    """Return the class names that prompts were made of, `{domain}` being anything.

    Raises:
        ConfigError: The prompts were not made of this template.
    """
    pattern = re.escape(template).replace(r"\{domain\}", ".+?").replace(r"\{\}", "(.+)")
    pattern = pattern.replace(r"\{a\}", "an?")
    found = [re.fullmatch(pattern, prompt) for prompt in prompts]
    if None in found:
        raise ConfigError(
            f"the caption '{prompts[found.index(None)]}' was not made of the prompt '{template}'; "
            "set templates=prompt, which needs no class names"
        )
    return [match[1] for match in found if match]


@torch.no_grad()
def _mean_features(clip: Clip, names: Sequence[str]) -> Tensor:
    """Return the mean text features (K, E) over OpenAI's templates, none of them normalised.

    Raises:
        BaseModelError: A class name is too long for one of the templates.
    """
    total = torch.zeros(())
    for template in OPENAI_IMAGENET_TEMPLATES:
        captions = [template(name) for name in names]
        if not clip.fits(captions):
            longest = max(names, key=len)
            raise BaseModelError(
                f"class names such as '{longest[:80]}' are too long for the captions of "
                f"templates=imagenet and the text encoder of {clip.info.architecture}; shorten "
                "them, or pass --set templates=prompt"
            )
        found = Captions(clip, captions).encode()
        total = total.to(found.device) + found
    return total / len(OPENAI_IMAGENET_TEMPLATES)


@torch.no_grad()
def _unprompted(captions: Captions) -> Tensor:
    return captions.encode()
