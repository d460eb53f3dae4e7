"""Define the parts of an architecture as frozen dataclasses that check their values.

Fields and defaults are those of open_clip's model configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.models import Interpolation

VOCABULARY = 49408
"""Tokens of CLIP's tokenizer."""
_SIDES = range(8, 3585)
"""Pixels; training images are 8/7 of it, and 4096 at most."""
_CUSTOM_BLOCKS = dict.fromkeys(
    ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"),
    False,
)
_EITHER_TOWER = {
    **_CUSTOM_BLOCKS,
    **dict.fromkeys(("ls_init_value", "act_kwargs", "norm_kwargs", "block_type")),
    **dict.fromkeys(("final_ln_after_pool", "output_tokens"), False),
}
OFF: dict[str, dict[str, Any]] = {
    "": {
        **dict.fromkeys(("multimodal_cfg", "init_logit_bias", "cast_dtype")),
        **dict.fromkeys(("custom_text", "nonscalar_logit_scale", "output_dict"), False),
    },
    "vision_cfg": {
        **_EITHER_TOWER,
        "timm_model_name": None,
        "attentional_pool": False,
        "patch_dropout": 0,
        "pool_type": "tok",
        "pos_embed_type": "learnable",
    },
    "text_cfg": {
        **_EITHER_TOWER,
        **dict.fromkeys(("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")),
        **dict.fromkeys(("no_causal_mask", "embed_cls", "proj_bias"), False),
        "tokenizer_mode": None,
        "pool_type": "argmax",
        "proj_type": "linear",
    },
    "preprocess_cfg": {"mode": "RGB", "fill_color": 0},
}
"""Fields of open_clip's that are accepted only with the value that changes nothing, by section."""


@dataclass(frozen=True)
class VitTower:
    """A vision transformer."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    layers: int = 12
    head_width: int = 64
    mlp_ratio: float = 4.0
    no_ln_pre: bool = False

    def __post_init__(self) -> None:
        ranges(
            self, image_size=_SIDES, patch_size=range(1, self.image_size + 1),
            width=range(1, 16385), layers=range(1, 257), head_width=range(1, self.width + 1),
        )  # fmt: skip
        _divides("head_width", self.head_width, "width", self.width)
        _check_ratio(self.mlp_ratio, self.width)

    @property
    def summary(self) -> str:
        """The tower in a few words."""
        return f"ViT, {self.layers} layers of width {self.width}, patches of {self.patch_size}"


@dataclass(frozen=True)
class ResnetTower:
    """CLIP's ResNet."""

    layers: tuple[int, ...]
    """Bottlenecks in each of the four stages."""
    image_size: int = 224
    width: int = 768
    head_width: int = 64

    def __post_init__(self) -> None:
        ranges(self, image_size=_SIDES, width=range(2, 1025))
        ranges(self, head_width=range(1, 32 * self.width + 1))
        if len(self.layers) != 4 or not all(1 <= count <= 256 for count in self.layers):
            raise ValueError(f"'layers' must be 4 numbers in 1..256, found {list(self.layers)[:8]}")
        _divides("32", 32, "image_size", self.image_size)
        _divides("2", 2, "width", self.width)
        _divides("head_width", self.head_width, "32 * width", 32 * self.width)

    @property
    def summary(self) -> str:
        """The tower in a few words."""
        return f"ResNet, stages of {list(self.layers)} blocks, width {self.width}"


@dataclass(frozen=True)
class TextTower:
    """A causal text transformer over CLIP's tokens."""

    context_length: int = 77
    vocab_size: int = VOCABULARY
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        ranges(
            self, context_length=range(4, 4097), vocab_size=range(VOCABULARY, VOCABULARY + 1),
            width=range(1, 16385), heads=range(1, self.width + 1), layers=range(1, 257),
        )  # fmt: skip
        _divides("heads", self.heads, "width", self.width)
        _check_ratio(self.mlp_ratio, self.width)


@dataclass(frozen=True)
class Pixels:
    """Preprocessing of the images of the pre-training. Defaults are CLIP's."""

    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        good = all(0 <= v <= 1 for v in self.mean) and all(1e-3 <= v <= 10 for v in self.std)
        if len(self.mean) != 3 or len(self.std) != 3 or not good:
            raise ValueError("'mean' must be three numbers in [0, 1], 'std' three in [0.001, 10]")


def ranges(tower: Any, **needed: range) -> None:
    """Refuse values of fields that are outside of their ranges.

    Raises:
        ValueError: A value is outside of its range.
    """
    for name, values in needed.items():
        if getattr(tower, name) not in values:
            limits = f"in {values[0]}..{values[-1]}" if len(values) > 1 else f"{values[0]}"
            raise ValueError(f"'{name}' must be {limits}, found {str(getattr(tower, name))[:20]}")


def _divides(name: str, part: int, of: str, whole: int) -> None:
    if whole % part:
        raise ValueError(f"'{of}' must be a multiple of {name}, found {whole} and {part}")


def _check_ratio(ratio: float, width: int) -> None:
    if not 0 < ratio <= 64 or int(width * ratio) < 1:
        raise ValueError(f"'mlp_ratio' must be above 0 and at most 64, found {ratio}")
