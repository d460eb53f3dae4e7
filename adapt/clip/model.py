"""Load CLIP base models: the image encoder to adapt, and text features of class prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from adapt.clip import demo_weights as demo
from adapt.clip import download, networks, weights
from adapt.settings.architectures import BASE_ADVICE, QUICKGELU, SUFFIXES, check_own_weights
from adapt.settings.model_config import Architecture, is_file
from runtime.errors import BackendError, BaseModelError
from runtime.models import Background, BaseModel, Preprocess
from runtime.storage import disk
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import expanded

_TEXT_BATCH = 256


@dataclass
class Clip:
    """A loaded base model, in evaluation mode and float32."""

    info: BaseModel
    """The architecture is the one that really runs, activation included."""
    visual: nn.Module
    """Image encoder: normalised pixels (N, 3, S, S) to features (N, D), not of unit length.

    Its parameters require gradients, those of the text encoder do not.
    """
    image_size: int
    """S, in pixels."""
    dim: int
    """D."""
    logit_scale: float
    """Factor of the cosines; 100 in OpenAI's models."""
    mean: tuple[float, ...]
    """Mean of RGB in [0, 1], subtracted from the pixels."""
    std: tuple[float, ...]
    """Standard deviation of RGB, by which they are divided next."""
    _model: Any
    _tokenizer: Any
    own: Architecture | None = None
    """Architecture, if open_clip has no name for it."""

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """Return the text features (K, D) of K prompts, rows of unit length, on the model's device.

        Raises:
            BaseModelError: A prompt is longer than the text encoder's context.
        """
        device = next(self._model.parameters()).device
        rows = []
        for start in range(0, len(prompts), _TEXT_BATCH):
            part = list(prompts[start : start + _TEXT_BATCH])
            rows.append(normalize(self._model.encode_text(self.tokenize(part).to(device)), dim=-1))
        return torch.cat(rows)

    def preprocess(
        self,
        resize: Literal["squash", "crop"] = "squash",
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        background: Background = "drop",
    ) -> Preprocess:
        """Return how a frame, or an image file, becomes this model's pixels.

        Squashed and bilinear in CMKD's code; CLIP's own pipeline is a bicubic crop.
        """
        size, style = self.image_size, (self.mean, self.std)
        return Preprocess(size, resize, interpolation, *style, background=background)

    def fits(self, prompts: Sequence[str]) -> bool:
        """Return whether the text encoder reads all of every prompt."""
        context = self._tokenizer(list(prompts[:1])).shape[1]
        return all(self._fits(prompt, context) for prompt in prompts)

    def _fits(self, prompt: str, context: int) -> bool:
        encode = getattr(self._tokenizer, "encode", None)  # open_clip cuts long prompts silently
        return encode is None or len(encode(prompt)) + 2 <= context

    @property
    def text_tower(self) -> nn.Module:
        """The module that has the text encoder's parts, for methods that look inside."""
        tower: nn.Module = self._model
        return tower

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Return the tokens (K, L) int64 of K prompts, L the text encoder's context, on the CPU.

        Raises:
            BaseModelError: A prompt is longer than the context.
        """
        tokens: Tensor = self._tokenizer(list(prompts))
        for prompt in prompts:
            if not self._fits(prompt, tokens.shape[1]):
                raise BaseModelError(
                    f"the prompt '{prompt[:80]}' has more than the {tokens.shape[1] - 2} tokens "
                    f"that {self.info.architecture} reads; shorten the class name or the prompt"
                )
        return tokens


def load(
    architecture: str | Architecture,
    pretrained: str,
    device: str = "cpu",
    advice: str = BASE_ADVICE,
) -> Clip:
    """Load a base model.

    OpenAI's weights always run with QuickGELU, also when the architecture is given without its
    suffix: open_clip only warns, and computes something else.

    Args:
        architecture: open_clip's name, a model of `adapt.demo`, the path of an open_clip model
            configuration (.json), or what such a file holds.
        pretrained: An open_clip tag, `demo`, or the path of a local file; with a configuration of
            one's own, a local file.
        device: Device that the model is moved to.
        advice: Options that name other weights, for messages; `{}` is the architecture.

    Raises:
        BaseModelError: The architecture or the weights are unknown, unreadable or do not fit.
        BackendError: The device cannot be used.
    """
    if isinstance(architecture, Architecture):
        return _load_own(architecture, architecture.name, pretrained, device, advice)
    if is_file(architecture):
        own = Architecture.read(Path(architecture))
        return _load_own(own, architecture, pretrained, device, advice)
    config = networks.config_of(architecture)
    base = architecture.removesuffix(QUICKGELU)
    mean, std = networks.statistics(architecture, pretrained)
    name, tag = pretrained, weights.tag_config(architecture, pretrained)
    if pretrained == "demo":
        state, quick = demo.load_state_dict(architecture), False
    elif tag:
        if tag.get("quick_gelu"):
            architecture = base + QUICKGELU
        what = f"the weights '{pretrained}' of {architecture}"
        file = weights.read(download.fetch(tag, what, advice.replace("{}", architecture)))
        state, quick = file.state, file.openai or architecture != base
    else:
        path = expanded(pretrained)
        if not disk.is_file(path) and path.suffix.lower() not in SUFFIXES:
            raise networks.unknown_weights(architecture, pretrained, advice)
        file = weights.read(path, advice.replace("{}", architecture))
        state, quick, name = file.state, file.openai, path.name
    if quick:
        config["quick_gelu"] = True
        architecture = base + QUICKGELU
    return _assemble(
        config, architecture, name, state, f"the weights '{pretrained}' for {architecture}",
        (mean, std), networks.tokenizer_of(config, architecture), device,
    )  # fmt: skip


def _load_own(own: Architecture, shown: str, pretrained: str, device: str, advice: str) -> Clip:
    """Return a model of an architecture that open_clip has no name for.

    Args:
        own: The architecture.
        shown: Name for messages: its file, if it was read from one.
        pretrained: Path of a file with its weights.
        device: As for `load`.
        advice: As for `load`.

    Raises:
        BaseModelError: As for `load`.
        BackendError: As for `load`.
    """
    path, advice = expanded(pretrained), advice.replace("{}", shown)
    check_own_weights(shown, pretrained, advice)
    file = weights.read(path, advice)
    if file.openai:
        own = replace(own, quick_gelu=True)
    config, what = own.model_cfg(), f"the weights '{pretrained}' for '{shown}'"
    with torch.device("meta"):  # takes no memory, whatever the configuration asks for
        needed = sum(parameter.numel() for parameter in networks.build(config, shown).parameters())
    found = sum(t.numel() for t in file.state.values() if isinstance(t, Tensor))
    if needed > found:
        raise BaseModelError(
            f"{what} hold {found:,} numbers, the architecture has {needed:,}; pass the weights of "
            "that architecture"
        )
    return _assemble(
        config, own.name, path.name, file.state, what, (own.pixels.mean, own.pixels.std),
        networks.plain_tokenizer(own.text.context_length), device, own,
    )  # fmt: skip


def _assemble(
    config: dict[str, Any],
    architecture: str,
    name: str,
    state: dict[str, Tensor],
    what: str,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]],
    tokenizer: Any,
    device: str,
    own: Architecture | None = None,
) -> Clip:
    """Return a model with its weights on its device; `what` is the weights, for messages."""
    model = networks.build(config, architecture)
    weights.fill(model, state, what)
    visual, scale = model.visual, weights.logit_scale(model, what)
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise BackendError(
            f"cannot use device '{device}' ({weights.reason(error)}); pass --device cpu"
        ) from error
    for parameter in {*model.parameters()} - {*visual.parameters()}:
        parameter.requires_grad_(False)
    size = visual.image_size
    return Clip(
        info=BaseModel(architecture, name, tensors_sha256(encoder_tensors(visual))),
        visual=visual,
        image_size=size[0] if isinstance(size, (tuple, list)) else size,
        dim=config["embed_dim"],
        logit_scale=scale,
        mean=mean_std[0],
        std=mean_std[1],
        _model=model,
        _tokenizer=tokenizer,
        own=own,
    )


def encoder_tensors(visual: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Return fresh float32 copies of an encoder's parameters and floating buffers, by name."""
    tensors = [*visual.named_parameters(), *visual.named_buffers()]
    return {
        name: np.array(tensor.detach().cpu().float().numpy())
        for name, tensor in tensors
        if tensor.is_floating_point()
    }
