"""Engines of everything that export makes: read back, and compared with what went in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer

from adapt.clip.model import encoder_tensors
from adapt.methods.heads import HEADS
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors, deploy_tokens, encoder_graph
from export.graphs.heads import GRAPHS, head_graph
from runtime.backends.trt.builder import build
from runtime.backends.trt.profile import PROFILES
from runtime.models import Preprocess
from tests.export.helpers import resnet, vit
from tests.rtx import NEEDS_RTX

pytestmark = NEEDS_RTX
TARGETS = ("sm86", "sm89")
MB = 10**6


def encoder(tower, precision, prompts=None):
    """Return a graph, and what its engine must take and give."""
    form = encoders.get(tower)
    tensors = dict(deploy_tensors(form, encoder_tensors(tower), precision))
    tokens = deploy_tokens(prompts or {}, precision)
    graph = encoder_graph(form, tensors, Preprocess(form.size), tokens)
    types = {n: (True, a.dtype.name, a.shape) for n, a in {**tensors, **tokens}.items()}
    types["pixels"] = (True, "uint8", (-1, form.size, form.size, 3))
    types["features"] = (False, "float32", (-1, form.dim))
    return graph.SerializeToString(deterministic=True), types


def read_back(built):
    return {t.name: (t.input, t.dtype, t.shape) for t in built.tensors}


def prompts(tower, count=4):
    blocks, width = len(tower.transformer.resblocks), tower.conv1.out_channels
    draw = np.random.default_rng(0)
    return {f"prompts.{i}": draw.standard_normal((count, width), "f4") for i in range(blocks)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("family", ["vit", "vit with prompt tokens", "resnet"])
def test_every_encoder_keeps_its_weights_as_inputs(family, precision, profile, target):
    tower = resnet() if family == "resnet" else vit()
    graph, wanted = encoder(tower, precision, prompts(tower) if "tokens" in family else None)
    built = build(graph, PROFILES[profile], target=target)
    assert read_back(built) == wanted
    half = {dtype for _, dtype, _ in wanted.values()}
    assert ("float16" in half) == (precision == "fp16")
    assert len(built.plan) <= 15 * MB and b"trt" in built.plan[:64]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", GRAPHS)
def test_every_head_takes_any_class_count(kind, profile):
    sizes = (20, 3, *([24] if kind == "projector-cosine" else []))
    tensors = {
        name: tensor.numpy()
        for name, tensor in HEADS[kind](*sizes).state_dict().items()
        if tensor.dim()
    }
    for target in TARGETS:
        built = build(head_graph(kind, tensors), PROFILES[profile], target=target)
        wanted = {"features": (True, "float32", (-1, 20)), "logits": (False, "float32", (-1, -1))}
        for name, array in tensors.items():
            per_class = name in GRAPHS[kind].classes
            shape = (-1, *array.shape[1:]) if per_class else array.shape
            wanted[name] = (True, "float32", shape)
        assert read_back(built) == wanted


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["ViT-B/16", "ViT-B/16 with prompt tokens", "RN50"])
def test_engines_of_full_size_are_small_and_quickly_built(name, precision):
    """At most 15 MB without weights, at most 30 s on two cores."""
    with torch.no_grad():
        tower = (
            ModifiedResNet([3, 4, 6, 3], 1024, heads=32, image_size=224, width=64)
            if name == "RN50"
            else VisionTransformer(224, 16, 768, 12, 12, 4.0, output_dim=512)
        ).eval()
    graph, wanted = encoder(tower, precision, prompts(tower, 16) if "tokens" in name else None)
    built = build(graph, PROFILES["server"], target="sm86")
    print(f"{name} {precision}: {len(built.plan) / MB:.1f} MB in {built.seconds:.1f} s")
    assert read_back(built) == wanted
    assert len(built.plan) <= 15 * MB
    assert built.seconds <= 30
