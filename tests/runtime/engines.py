"""Engines of the toy bundle, built without a GPU, and machines that they may meet."""

from __future__ import annotations

import dataclasses

from runtime.backends.trt.build import build_engine
from runtime.backends.trt.engine_file import EngineFile, Platform
from runtime.backends.trt.graphs import EngineGraph, graphs_of
from runtime.backends.trt.profile import PROFILES
from runtime.bundles.bundle import Bundle
from tests.rtx import rtx_version

SM86 = Platform("tensorrt_rtx", rtx_version(), "sm86", gpu=None, cuda=None, driver=None)
SM89 = dataclasses.replace(SM86, generation="sm89")
A10 = dataclasses.replace(SM86, gpu="NVIDIA A10", cuda="13.0", driver="580.82.07")
ORIN = Platform("tensorrt", "10.3.0", "sm87", "Orin (nvgpu)", "12.6", None)


def head(world) -> EngineGraph:
    """The smallest graph: it takes a fifth of a second."""
    return graphs_of(Bundle.open(world.path))[-1]


def built(world, store, platform=SM86, profile=PROFILES["orin"], **kwargs) -> EngineFile:
    return build_engine(head(world), store, profile, platform, **kwargs).engine
