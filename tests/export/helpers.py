"""Small towers with every tensor random, and artifacts on small bases, as training makes them."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors.torch import save_file
from torch import nn

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.run import RunDescription
from adapt.artifacts.store import FILE
from adapt.clip import model as clips
from adapt.clip.demo_weights import architecture
from adapt.clip.model import encoder_tensors
from adapt.data.transforms import normalise
from adapt.methods.cmkd import CMKDConfig
from adapt.methods.heads import HEADS, TaskHead
from runtime.models import TaskInfo

CLASSES = ("cup", "key", "lamp")
UNLABELLED = {
    "last": {"epoch": 1, "accuracy": None, "mean_per_class": None, "per_class": None},
    "oracle_best": {"epoch": None, "accuracy": None},
    "density": 0.01,
    "held_out": False,
    "test_images": 0,
    "data": dict.fromkeys(("source", "target", "test"), "0" * 64),
}
"""Metrics of a run whose target nobody labelled."""


def perturb(module: nn.Module, seed: int = 0) -> nn.Module:
    """Make every tensor random, on the float16 grid, so that no two are alike."""
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point() or tensor.dim() == 0:
                continue
            draw = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
            noise = torch.randn(tensor.shape, generator=draw)
            if name.endswith("running_var"):
                value = 0.5 + torch.rand(tensor.shape, generator=draw)
            elif tensor.dim() > 1:
                value = noise * tensor[0].numel() ** -0.5
            else:
                value = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
            tensor.copy_(value.half().float())
    return module.eval()


def vit(act: type[nn.Module] = QuickGELU, seed: int = 0, **changes: object) -> nn.Module:
    arguments = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "heads": 3}
    arguments |= {"mlp_ratio": 2.0, "output_dim": 20, "act_layer": act}
    return perturb(VisionTransformer(**(arguments | changes)), seed)


def resnet(width: int = 8, seed: int = 0) -> nn.Module:
    return perturb(ModifiedResNet([1, 2, 1, 1], 20, heads=8, image_size=64, width=width), seed)


TOWERS = {
    "vit with QuickGELU": vit,
    "vit with GELU": lambda **k: vit(nn.GELU, **k),
    "vit without input norm": lambda **k: vit(no_ln_pre=True, **k),
    "vit of one layer": lambda **k: vit(layers=1, **k),
    "resnet": resnet,
    "wide resnet": lambda **k: resnet(width=32, **k),
}


def random_pixels(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def torch_features(tower: nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return tower(normalise(torch.from_numpy(pixels))).numpy()


def run_onnx(model: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@dataclass
class World:
    """Base files, artifacts and images on disk."""

    root: Path
    artifacts: Path
    images: Path
    """Class folders with the names of CLASSES."""

    def base(self, name: str) -> Path:
        return self.root / f"{name}.safetensors"

    def train(
        self,
        task: str = "p-a",
        base: str = "demo-rn32",
        pretrained: Path | None = None,
        seed: int = 0,
        share: float = 0.01,
        step: float = 1e-3,
        root: Path | None = None,
        variant: str = "cmkd-rst",
        head: str = TaskHead.kind,
        prompts: tuple[int, int] = (0, 0),
        resize: str = "squash",
        interpolation: str = "bilinear",
    ) -> Path:
        """Write the artifact of a task whose encoder was changed a little, as RST leaves it.

        Args:
            task: Its id.
            base: An architecture.
            pretrained: Its weights, if not the world's.
            seed: Of all that is random.
            share: Of the encoder's parameters that change.
            step: Standard deviation of a change.
            root: Where artifacts lie.
            variant: Of the folder; an ending `-rst` goes into the settings.
            head: Kind.
            prompts: Number of blocks with prompt tokens, and of tokens in each.
            resize: Of evaluation, like `interpolation`.
        """
        file = pretrained or self.base(base)
        clip = clips.load(base, str(file))
        reference = encoder_tensors(clip.visual)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in clip.visual.parameters() if share else ():
                chosen = torch.rand(parameter.shape, generator=draw) < share
                noise = torch.randn(parameter.shape, generator=draw) * step
                parameter += torch.where(chosen, noise, torch.zeros(()))
        torch.manual_seed(seed)
        sizes = (clip.dim, len(CLASSES), *([24] if head == "projector-cosine" else []))
        tokens = {
            f"prompts.{block}": torch.randn(prompts[1], clip.visual.conv1.out_channels)
            for block in range(prompts[0])
        }
        source, target = task.split("-")
        run = RunDescription(
            task=TaskInfo(task, "my-objects", source, target, CLASSES),
            method="cmkd",
            preprocess=replace(clip.preprocess(), resize=resize, interpolation=interpolation),
            prompts=CLASSES,
            config=asdict(
                CMKDConfig(
                    model=base,
                    pretrained=str(file),
                    rst=variant.endswith("-rst"),
                    background="drop",
                )  # fmt: skip
            ),
            seed=seed,
        )
        deployed = perturb(HEADS[head](*sizes), seed)
        artifact = Artifact.of(run, clip.info, reference, clip.visual, deployed, UNLABELLED, tokens)
        path = (root or self.artifacts) / "my-objects" / task / variant / FILE
        artifact.save(path)
        return path


def save_base(name: str, path: Path, seed: int = 0, **scales: float) -> Path:
    """Write a random CLIP of a demo architecture; `scales` multiply tensors of the image tower."""
    torch.manual_seed(seed)
    model = CLIP(**architecture(name))
    perturb(model.visual, seed)
    state = model.state_dict()
    for key, scale in scales.items():
        state[f"visual.{key}"] *= scale
    save_file(state, path)
    return path
