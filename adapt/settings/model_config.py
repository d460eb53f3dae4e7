"""Read and check architectures of the user's own from open_clip's JSON model configurations.

Nothing in a configuration is trusted: its size, the type and range of every field are checked, and
features that training, export or device lack are refused by name. An architecture is identified by
its content, never by the name of its file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from adapt.settings.towers import OFF, Pixels, ResnetTower, TextTower, VitTower, ranges
from runtime.errors import BaseModelError, UdaError
from runtime.storage.fields import build
from runtime.storage.files import expanded, open_regular
from runtime.storage.json_text import parse

SUFFIX = ".json"
FEATURE = "architecture"
"""Feature, and key in `optional`, of artifacts that carry their architecture."""
SUPPORTED = (
    "open_clip's own ViT with a class token and its ModifiedResNet, with open_clip's own text tower"
)
MAX_BYTES = 1 << 16
_SHOWN = 60
_FROM_WEIGHTS = "init_logit_scale"
"""A field whose value the weights replace."""
_KINDS = {"timm_": " (an image tower of timm's)", "hf_": " (a text tower of the hub's)"}


@dataclass(frozen=True)
class Architecture:
    """An architecture that open_clip has no name for. Two of the same content are equal."""

    embed_dim: int
    vision: VitTower | ResnetTower
    text: TextTower
    quick_gelu: bool = False
    """The activation is x * sigmoid(1.702 x)."""
    pixels: Pixels = Pixels()

    @classmethod
    def read(cls, path: Path) -> Architecture:
        """Return the architecture in a file.

        Takes open_clip's model configuration, as in `open_clip/model_configs`, or that as
        `model_cfg` with a `preprocess_cfg` beside it, as in `open_clip_config.json`.

        Raises:
            BaseModelError: The file is missing, too large, not JSON, or a field is unknown, of the
                wrong type, out of range or not supported.
        """
        return cls.parse(_document(path), f"'{path}'", BaseModelError)

    @classmethod
    def parse(cls, document: object, where: str, error: type[UdaError]) -> Architecture:
        """Return the architecture in a document, see `read`.

        Args:
            document: Value that a JSON parser returned.
            where: Name of its file, for messages.
            error: Error to raise.

        Raises:
            UdaError: The document is not an architecture; `error` is the type.
        """
        outer = _mapping(document, where, error)
        apart = "model_cfg" in outer
        if apart:
            _supported({k: v for k, v in outer.items() if k not in _OUTER}, "", (), where, error)
        model = _mapping(outer["model_cfg"], f"{where}: 'model_cfg'", error) if apart else outer
        towers = {}
        for name in ("vision_cfg", "text_cfg"):
            if name not in model:
                raise error(
                    f"{where}: '{name}' is missing; expected open_clip's model configuration with "
                    "embed_dim, vision_cfg and text_cfg"
                )
            towers[name] = _mapping(model[name], f"{where}: '{name}'", error)
        vision = dict(towers["vision_cfg"])
        vision["image_size"] = _side(vision.get("image_size", 224))
        kind: type[VitTower] | type[ResnetTower] = VitTower
        if isinstance(vision.get("layers"), list):
            kind = ResnetTower
            vision.pop("patch_size", None)  # open_clip's files have a null there
        image = _section(kind, vision, "vision_cfg", where, error)
        text = _section(TextTower, towers["text_cfg"], "text_cfg", where, error)
        # After the towers: what is odd about one explains what is odd here.
        _supported(model, "", ("embed_dim", "quick_gelu", _FROM_WEIGHTS, *towers), where, error)
        plain = {k: model[k] for k in ("embed_dim", "quick_gelu") if k in model}
        found = build(_Plain, plain, where, error)
        pixels = _preprocess(outer.get("preprocess_cfg") if apart else None, vision, where, error)
        return cls(found.embed_dim, image, text, found.quick_gelu, pixels)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it in open_clip's words, as `parse` takes it."""
        return {"model_cfg": self.model_cfg(), "preprocess_cfg": asdict(self.pixels)}

    def model_cfg(self) -> dict[str, Any]:
        """Return open_clip's configuration of the model."""
        vision = asdict(self.vision)
        vision["layers"] = list(layers) if isinstance(layers := vision["layers"], tuple) else layers
        return {
            "embed_dim": self.embed_dim,
            "quick_gelu": self.quick_gelu,
            "vision_cfg": vision,
            "text_cfg": asdict(self.text),
        }

    @property
    def sha256(self) -> str:
        """Digest of the content."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the base model, by kind and content: `vit-0123456789ab`."""
        kind = "resnet" if isinstance(self.vision, ResnetTower) else "vit"
        return f"{kind}-{self.sha256[:12]}"

    @property
    def summary(self) -> str:
        """The architecture in one line, for people."""
        return f"{self.vision.summary}, {self.embed_dim} features; sha256 {self.sha256[:12]}..."


@dataclass(frozen=True)
class _Plain:
    embed_dim: int
    quick_gelu: bool = False

    def __post_init__(self) -> None:
        ranges(self, embed_dim=range(1, 16385))


_OUTER = ("model_cfg", "preprocess_cfg")


def is_file(model: str) -> bool:
    """Return whether a model's name is the path of a configuration file."""
    return model.lower().endswith(SUFFIX)


def _document(path: Path) -> object:
    path = expanded(path)
    try:
        with open_regular(path) as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        why = error.strerror if isinstance(error, OSError) else error
        raise BaseModelError(
            f"cannot read the model configuration '{path}': {why}; pass an "
            "existing one with --set model=FILE.json"
        ) from error
    if len(text) > MAX_BYTES:
        raise BaseModelError(
            f"'{path}' is larger than the {MAX_BYTES // 1024} kB of a model configuration; pass "
            "open_clip's JSON with --set model, and the weights with --set pretrained"
        )
    try:
        return parse(text)
    except ValueError as error:
        raise BaseModelError(
            f"'{path}' is not JSON: {' '.join(str(error).split())[:200]}; correct the file"
        ) from error


def _mapping(value: object, where: str, error: type[UdaError]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise error(f"{where}: expected an object, found {type(value).__name__}; correct the file")
    return value


def _section(
    cls: type[Any], values: Mapping[str, Any], name: str, where: str, error: type[UdaError]
) -> Any:
    known = tuple(field.name for field in fields(cls))
    _supported(values, name, known, where, error)
    return build(cls, {k: v for k, v in values.items() if k in known}, f"{where}: '{name}'", error)


def _supported(
    values: Mapping[str, Any],
    section: str,
    known: tuple[str, ...],
    where: str,
    error: type[UdaError],
) -> None:
    """Refuse a field that is unknown, or that asks for an unsupported feature.

    Raises:
        UdaError: A field is unknown or unsupported; the message names it.
    """
    # A tower of another kind has many fields; its name says most.
    for key in sorted(values.keys() - {*known}, key=lambda k: (not k.endswith("model_name"), k)):
        name, off = f"{section}.{key}" if section else key, OFF[section]
        kind = next((text for start, text in _KINDS.items() if key.startswith(start)), "")
        if key not in off and not kind:
            raise error(
                f"{where}: unknown field '{name[:_SHOWN]}'; available: "
                f"{', '.join((*known, *sorted(off)))}; remove it"
            )
        if values[key] != off.get(key):
            raise error(
                f"{where}: '{name[:_SHOWN]}' is {str(values[key])[:_SHOWN]!r}{kind}, which is not "
                f"supported; expected {SUPPORTED}; choose such a model"
            )


def _preprocess(
    value: object, vision: Mapping[str, Any], where: str, error: type[UdaError]
) -> Pixels:
    if value is None:
        return Pixels()
    name = "preprocess_cfg"
    values = dict(_mapping(value, f"{where}: '{name}'", error))
    size = _side(values.pop("size", vision["image_size"]))
    if size != vision["image_size"]:
        raise error(
            f"{where}: '{name}.size' is {str(size)[:_SHOWN]}, but 'vision_cfg.image_size' is "
            f"{str(vision['image_size'])[:_SHOWN]}; give both the same"
        )
    values.pop("resize_mode", None)  # the setting `resize` says it, for every model
    for key in ("mean", "std"):
        if type(values.get(key)) in (int, float):
            values[key] = [values[key]] * 3
    found: Pixels = _section(Pixels, values, name, where, error)
    return found


def _side(value: Any) -> Any:
    """Return one side of a square; anything else as it is, for the check of its type."""
    square = isinstance(value, list) and len(value) == 2 and value[0] == value[1]
    return value[0] if square else value
