"""Choose the device of training and the exactness of its arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapt.settings.names import check_device
from runtime.errors import BackendError


def select(name: str) -> torch.device:
    """Return the device called `cpu`, `cuda` or `cuda:N`, without a fallback.

    Raises:
        BackendError: This machine does not have the device.
    """
    check_device(name)
    kind, _, number = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if count <= int(number or 0):
            raise BackendError(
                f"device '{name}' was requested, but torch {torch.__version__} sees {count} CUDA "
                "devices; check the driver with nvidia-smi, or pass --device cpu"
            )
    return torch.device(name)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the default random generators of the CPU and of a device, as `torch.manual_seed` does.

    `torch.manual_seed` also records a stack trace for each kind of accelerator that is not
    initialised, which takes 0.6 ms per call in a training.

    Args:
        device: Device to compute on; a GPU must be initialised.
        seed: Seed in [0, 2^63).
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)


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
        device: Device to compute on.
        low: Whether the precision is low, in which the backward pass of torch's fused attention
            is several times slower than plain products on a CPU.
    """
    if low and device.type == "cpu":
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()
