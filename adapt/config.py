"""Training settings: a frozen dataclass, one flat YAML file per method and data set, `--set`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from runtime.errors import ConfigError
from runtime.fields import build


@dataclass(frozen=True)
class TrainConfig:
    """What every method needs to know. Defaults are CMKD's for ViT-B/16 (arXiv:2408.02192)."""

    model: str = "ViT-B-16-quickgelu"
    """Architecture: open_clip's name, or a model of `adapt.demo`."""
    pretrained: str = "openai"
    """Weights: an open_clip tag, `demo`, or the path of a local file."""
    batch_size: int = 32
    """Images per step of the source, and as many of the target."""
    epochs: int = 20
    iterations: int = 500
    """Optimizer steps per epoch."""
    lr: float = 3e-6
    """Learning rate of the encoder at step 0."""
    head_lr_multiplier: float = 1000.0
    """The head learns this many times faster."""
    momentum: float = 0.9
    """Of SGD with Nesterov's correction."""
    weight_decay: float = 5e-4
    lr_gamma: float = 3e-4
    """lr(t) = lr * (1 + lr_gamma * t) ** -lr_power, t in steps."""
    lr_power: float = 0.75
    label_smoothing: float = 0.1
    """Of the cross-entropy on source labels."""
    train_encoder: bool = True
    """False trains the head only, on the untouched encoder."""
    rst: bool = False
    """Residual Sparse Training: small weight changes fall back to the base after every step."""
    rst_threshold: float = 1e-6
    """A weight that moved at most this far from the base falls back."""
    rst_allow_rounding: bool = False
    """Train although the mixed precision rounds most of the residual out of the forward pass."""
    amp: Literal["none", "bf16", "fp16"] = "none"
    """Mixed precision, CUDA only."""
    resize: Literal["squash", "crop"] = "squash"
    """`squash` ignores the aspect ratio, `crop` cuts the centre."""
    train_size: int = 256
    """Training images are resized to this many pixels before the random crop."""
    pad: int = 0
    """Pixels repeated at each border before the random crop."""
    flip: bool = True
    """Mirror half of the training images."""
    prompt: str = "a photo of a {}"
    """Caption of a class; `{}` is its name."""
    holdout: float = 0.0
    """Share of the target kept out of training for evaluation, in [0, 1)."""
    eval_batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "iterations", "eval_batch_size"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr", "head_lr_multiplier"):
            _require(self, name, getattr(self, name) > 0, "above 0")
        not_negative = ("weight_decay", "lr_gamma", "lr_power", "rst_threshold", "pad", "seed")
        for name in not_negative:
            _require(self, name, getattr(self, name) >= 0, "0 or more")
        for name in ("momentum", "label_smoothing", "holdout"):
            _require(self, name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        _require(self, "train_size", 8 <= self.train_size <= 4096, "in 8..4096")
        _require(self, "seed", self.seed < 2**63, "below 2^63")
        _require(self, "prompt", self.prompt.count("{}") == 1, "text with one {} for the class")


C = TypeVar("C", bound=TrainConfig)


def load_config(
    cls: type[C],
    dataset: str,
    method: str,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> C:
    """Return the settings of a method on a data set.

    Args:
        cls: The method's own configuration class.
        dataset: Name of a data set, or `folder` for the user's own image folders.
        method: Name of the method.
        overrides: `key=value` each, the value a YAML scalar; the last one wins.
        folder: Where `<method>/<dataset>.yaml` lies; None means the shipped settings.

    Raises:
        ConfigError: There is no such file, a key is unknown or missing, a type or a value is wrong.
    """
    files = sorted((folder or shipped()).glob("*/*.yaml"))
    known = {f"{path.parent.name}/{path.stem}": path for path in files}
    path = known.get(f"{method}/{dataset}")
    if path is None:
        raise ConfigError(
            f"no settings for method '{method}' on data set '{dataset}'; "
            f"there are {', '.join(known) or 'none'}"
        )
    values = _read(path)
    missing = sorted({f.name for f in fields(cls)} - values.keys())
    if missing:
        raise ConfigError(f"'{path.name}' of {method} lacks '{missing[0]}'; it must name every key")
    for override in overrides:
        key, value = _override(override)
        values[key] = value
    return build(cls, values, f"settings {method}/{dataset}", ConfigError)


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads `3e-6` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the settings '{path}': {_line(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' must hold one 'key: value' per line")
    return values


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        raise ConfigError(f"'--set {text}' is not of the form key=value, for example --set lr=3e-6")
    loader = _Loader("")
    try:
        if value[0] in "'\"":
            return key, yaml.load(value, _Loader)  # noqa: S506
        # A scalar and nothing else: prompts and paths may hold ': ', '{' or '['.
        tag = loader.resolve(yaml.ScalarNode, value, (True, False))
        return key, loader.construct_object(yaml.ScalarNode(tag, value))
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"the value in '--set {text}' is not readable: {_line(error)}") from error
    finally:
        loader.dispose()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def shipped() -> Path:
    """Return the folder of the shipped settings: the installed package's, else the checkout's."""
    here = Path(__file__).resolve().parent
    packaged = here / "configs"
    return packaged if packaged.is_dir() else here.parent / "configs"


def _require(config: TrainConfig, name: str, good: bool, needed: str) -> None:
    if not good:
        raise ValueError(f"'{name}' must be {needed}, found {getattr(config, name)!r}")
