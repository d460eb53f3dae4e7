"""Artifacts of an encoder that was changed as training changes it, and their base models."""

import dataclasses

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.run import RunDescription
from adapt.clip import model as clips
from adapt.clip.demo_weights import architecture
from adapt.clip.model import encoder_tensors
from adapt.methods.cmkd import CMKDConfig
from adapt.methods.heads import TaskHead
from runtime.models import TaskInfo

CLASSES = ("cup", "key", "lamp")
TASK = TaskInfo("p-a", "demo-objects", "product", "art", CLASSES)
METRICS = {
    "last": {
        "epoch": 2,
        "accuracy": 75.0,
        "mean_per_class": 75.0,
        "per_class": {"cup": 50.0, "key": 100.0, "lamp": None},
    },
    "oracle_best": {"epoch": 1, "accuracy": 87.5},
    "density": 0.01,
    "held_out": True,
    "test_images": 8,
    "data": dict.fromkeys(("source", "target", "test"), "0" * 64),
}
PROMPTS = tuple(f"an image of a {name}" for name in CLASSES)


def bases(folder):
    """Write two base models with weights drawn from a seed; return the folder."""
    for name in ("demo-rn32", "demo-vit32"):
        torch.manual_seed(0)
        save_file(CLIP(**architecture(name)).state_dict(), folder / f"{name}.safetensors")
    return folder


def load(name, files):
    return clips.load(name, str(files / f"{name}.safetensors"))


def train(encoder, seed=0, share=0.01):
    """Change some entries of every parameter, as RST leaves it, and of nothing else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            chosen = torch.rand(parameter.shape, generator=generator) < share
            steps = torch.randn(parameter.shape, generator=generator) * 1e-5
            parameter += torch.where(chosen, steps, torch.zeros(()))


def make(base, seed=0, head=None, **changes):
    reference = encoder_tensors(base.visual)
    train(base.visual, seed)
    torch.manual_seed(seed)
    arguments = {
        "task": TASK,
        "method": "cmkd",
        "preprocess": base.preprocess(),
        "prompts": PROMPTS,
        "config": dataclasses.asdict(CMKDConfig(lr=3e-4, rst=True)),
        "seed": seed,
        "metrics": METRICS,
        **changes,
    }
    background = {"background": arguments["preprocess"].background}
    arguments["config"] = {**arguments["config"], **background}
    found = {name: arguments.pop(name, None) for name in ("metrics", "tokens")}
    head = head or TaskHead(96, len(CLASSES))
    run = RunDescription(**arguments)
    return Artifact.of(run, base.info, reference, base.visual, head, **found)
