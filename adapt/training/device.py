"""Where training computes, and how exactly."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapt.settings.config import TrainConfig
from runtime.errors import BackendError, ConfigError


def select(name: str) -> torch.device:
    """Return the device called `cpu`, `cuda` or `cuda:N`; never another one than was asked for.

    Raises:
        BackendError: There is no such device here.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", name):
        raise BackendError(f"unknown device '{name}'; use cpu, cuda or cuda:N")
    kind, _, number = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if count <= int(number or 0):
            raise BackendError(
                f"device '{name}' was asked for, but torch {torch.__version__} sees {count} CUDA "
                "devices; check the driver with nvidia-smi, or pass --device cpu"
            )
    return torch.device(name)


def check_precision(config: TrainConfig, device: torch.device) -> None:
    """Refuse a mixed precision that cannot work, or that would hide what is trained.

    Raises:
        BackendError: fp16 was asked for on the CPU.
        ConfigError: RST with mixed precision, without `rst_allow_rounding` and not on its grid.
    """
    if config.amp == "none":
        return
    if device.type != "cuda" and config.amp != "bf16":
        raise BackendError(
            f"amp={config.amp} needs --device cuda, this run is on {device}; take amp=bf16 or none"
        )
    if config.rst and config.grid != config.amp and not config.rst_allow_rounding:
        raise ConfigError(
            f"rst with amp={config.amp} trains what it cannot see: the forward pass casts weights, "
            "and a residual of 1e-6 to 1e-4 below half a unit in the last place (7.6e-6 in fp16, "
            "6.1e-5 in bf16, at a weight of 0.02) is rounded away; use amp=none, train on "
            f"that grid with --set grid={config.amp}, or pass "
            "--set rst_allow_rounding=true and watch 'survival' in metrics.jsonl"
        )


def check_compile(config: TrainConfig) -> None:
    """Refuse to compile where torch has no C++ compiler: it would fail in the first step only.

    Raises:
        ConfigError: compile=true, and neither `$CXX` nor g++ is there.
    """
    compiler = os.environ.get("CXX", "g++")
    if config.compile and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile=true needs a C++ compiler, found no '{compiler}'; install g++, or set "
            "compile=false"
        )


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Switch TF32 off, whose mantissa is fp16's, and make CUDA convolutions repeatable.

    Torch uses TF32 in convolutions by default, which hides RST's residuals as fp16 does.
    """
    matmul, conv, cudnn = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn,
    )
    before = matmul.fp32_precision, conv.fp32_precision, cudnn.deterministic, cudnn.benchmark
    matmul.fp32_precision = conv.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        matmul.fp32_precision, conv.fp32_precision, cudnn.deterministic, cudnn.benchmark = before


def attention(device: torch.device, low: bool) -> contextlib.AbstractContextManager[None]:
    """Return the context in which attention is fastest.

    Args:
        device: Where to compute.
        low: In a low precision: on a CPU the backward pass of torch's fused attention is then
            several times slower than plain products.
    """
    if low and device.type == "cpu":
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()
