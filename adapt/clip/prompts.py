"""CLIP's transformers with learned prompt tokens among their own.

Both passes are open_clip's with tokens inserted; without tokens they give the same bits as its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from adapt.clip.model import Clip
from runtime.errors import BaseModelError, ConfigError, FormatError

TOKEN_NAME = re.compile(r"prompts\.(0|[1-9][0-9]{0,3})")
"""Name of a block's prompt tokens, by its number from 0."""


class Prompted(nn.Module):
    """An image encoder that runs with prompt tokens: images (N, 3, S, S) to features (N, D).

    The tokens stand right after the class token. Those of block 0 join the sequence before it is
    normalised for the first time; those of a later block replace the earlier ones' outputs, and a
    block without any passes them on.
    """

    def __init__(
        self, visual: nn.Module, tokens: Mapping[str, Tensor | NDArray[np.float32]]
    ) -> None:
        """Take over an image encoder, and copies of the tokens as parameters.

        Args:
            visual: open_clip's vision transformer.
            tokens: `prompts.<block>` to (n, W): n prompt tokens of the encoder's width W, block 0
                among them.

        Raises:
            BaseModelError: The encoder cannot take prompt tokens.
            FormatError: The tokens do not fit the encoder or each other.
        """
        super().__init__()
        device = check_visual(visual).conv1.weight.device
        self.visual = visual
        self.prompts = nn.ParameterDict()
        for name, value in tokens.items():
            match = TOKEN_NAME.fullmatch(name)
            if match is None:
                raise FormatError(
                    f"'{name[:80]}' is not a name of prompt tokens; expected 'prompts.<block>'"
                )
            held = torch.from_numpy(np.array(_array(value))).to(device)
            self.prompts[match[1]] = nn.Parameter(held)
        _check_tokens(visual, by_block(self.prompts))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (N, D) of normalised images (N, 3, S, S)."""
        return encode_images(self.visual, images, by_block(self.prompts))


def by_block(prompts: nn.ParameterDict) -> dict[int, Tensor]:
    """Return prompt tokens by the number of their block."""
    return {int(block): tokens for block, tokens in prompts.items()}


def encode_images(visual: Any, images: Tensor, prompts: Mapping[int, Tensor]) -> Tensor:
    """Return features (N, D), not of unit length, of an encoder with prompt tokens.

    Args:
        visual: open_clip's vision transformer.
        images: (N, 3, S, S), normalised.
        prompts: Block to its tokens (n, W), as `Prompted` wants them; none is the plain encoder.
    """
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # (N, patches, W)
    x = torch.cat([_repeat(visual.class_embedding[None], x), x], 1)
    x = visual.patch_dropout(x + visual.positional_embedding.to(x.dtype))
    if 0 in prompts:
        x = torch.cat([x[:, :1], _repeat(prompts[0], x), x[:, 1:]], 1)
    x = visual.ln_pre(x)
    for position, block in enumerate(visual.transformer.resblocks):
        if position and position in prompts:
            own = prompts[position]
            x = torch.cat([x[:, :1], _repeat(own, x), x[:, 1 + len(own) :]], 1)
        x = block(x)
    features: Tensor = visual.ln_post(x[:, 0]) @ visual.proj
    return features


class Captions:
    """Captions whose first words may be exchanged for learned ones.

    As the attention is causal, nothing behind a caption's end matters: all are cut to the longest.
    """

    def __init__(self, clip: Clip, captions: Sequence[str]) -> None:
        """Look up the words; the text encoder stays the model's and is not copied.

        Raises:
            BaseModelError: A caption is too long, or this text encoder is not CLIP's own.
        """
        tower = clip.text_tower
        if not isinstance(tower, CLIP) or tower.text_pool_type != "argmax" or _bidirectional(tower):
            raise BaseModelError(
                f"the text encoder of {clip.info.architecture} cannot take learned words; "
                "expected CLIP's own, with causal attention; choose ViT-L-14-quickgelu or the like"
            )
        self._tower = tower
        tokens = clip.tokenize(captions)  # (K, L)
        ends = tokens.argmax(-1)
        self.length = int(ends.max()) + 1
        """L', of the longest caption with its two marks."""
        device = tower.positional_embedding.device
        self._ends = ends.to(device)
        self._mask = tower.attn_mask[: self.length, : self.length]
        with torch.no_grad():
            self.words = tower.token_embedding(tokens[:, : self.length].to(device))
        """(K, L', W), start mark first."""

    def encode(self, context: Tensor | None = None) -> Tensor:
        """Return the text features (K, D), not of unit length.

        Args:
            context: Takes the place of the first n words: (n, W) of every caption, or (K, n, W) of
                each its own.
        """
        tower, x = self._tower, self.words
        if context is not None:
            own = context.to(x.dtype).expand(len(x), *context.shape[-2:])
            x = torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], 1)
        x = tower.transformer(x + tower.positional_embedding[: self.length], attn_mask=self._mask)
        x = x[torch.arange(len(x), device=x.device), self._ends]
        features: Tensor = tower.ln_final(x) @ tower.text_projection
        return features


def leading_words(clip: Clip, template: str) -> int:
    """Return how many tokens of a template stand before the class name; 0 if there are none.

    The domain's name, at `{domain}`, counts as one: the least it can be.
    """
    prefix = template.partition("{}")[0].replace("{domain}", "art").replace("{a}", "a").strip()
    return int(clip.tokenize([prefix]).argmax(-1)) - 1


def check_context(clip: Clip, template: str, count: int) -> None:
    """Check that `count` learned words overwrite no class name.

    Raises:
        ConfigError: The learned words would overwrite a class name.
    """
    words = leading_words(clip, template)
    if words < count:
        raise ConfigError(
            f"n_ctx is {count}, but the prompt '{template}' has {words} words before the class "
            f"name; set n_ctx={words} or less, or a longer prompt"
        )


def check_visual(visual: nn.Module) -> Any:
    """Return an image encoder after checking that it can take prompt tokens.

    Raises:
        BaseModelError: This encoder cannot take prompt tokens.
    """
    good = isinstance(visual, VisionTransformer) and (
        visual.pool_type == "tok"
        and visual.attn_pool is None
        and not visual.output_tokens
        and visual.transformer.batch_first
        and visual.proj is not None
    )
    if not good:
        raise BaseModelError(
            f"a {type(visual).__name__} of this kind cannot take prompt tokens; expected "
            "open_clip's VisionTransformer with the class token as its output, such as ViT-B-16"
        )
    return visual


def _check_tokens(visual: Any, prompts: Mapping[int, Tensor]) -> None:
    width, blocks = visual.conv1.out_channels, len(visual.transformer.resblocks)
    shapes = {tuple(tokens.shape) for tokens in prompts.values()}
    if 0 not in prompts or max(prompts) >= blocks:
        raise FormatError(
            f"there are prompt tokens for the blocks {sorted(prompts)}; expected block 0 and any "
            f"others below {blocks}"
        )
    if len(shapes) > 1 or len(next(iter(shapes))) != 2 or next(iter(shapes))[1] != width:
        raise FormatError(
            f"the prompt tokens have the shapes {sorted(shapes)}; expected one shape (n, {width})"
        )


def _bidirectional(tower: Any) -> bool:
    return tower.attn_mask is None or not isinstance(tower.text_projection, Tensor)


def _repeat(tokens: Tensor, like: Tensor) -> Tensor:
    """Return tokens (n, W) for every row of `like` (N, L, W), in its type: (N, n, W)."""
    return tokens.to(like.dtype).expand(like.shape[0], *tokens.shape)


def _array(value: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
