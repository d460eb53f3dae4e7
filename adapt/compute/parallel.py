"""Share one run among the processes that `torchrun` started, and join their results.

Every process takes its share of each batch through the encoder. The features of all are gathered,
gradients included, and heads and losses are computed on the whole batch everywhere, so that batch
statistics and class sums are those of one device. Gathering backwards adds up the equal
gradients of all processes, which the mean over processes takes back; gradients of the heads are
equal everywhere, and their mean changes nothing. So one mean over all gradients, as
DistributedDataParallel takes it, is right for every parameter of every method.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from runtime.errors import BackendError


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did, and yield this one's device.

    Args:
        device: Requested device; `cuda` becomes the process's own GPU.

    Raises:
        BackendError: A numbered GPU was requested, there are fewer GPUs than processes, the
            processes were not started by torchrun, or they cannot reach each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield device
        return
    if "LOCAL_RANK" not in os.environ:
        raise BackendError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but LOCAL_RANK is not set; start the "
            "processes with torchrun, or unset WORLD_SIZE to train in one"
        )
    number = int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        if device.index is not None or torch.cuda.device_count() <= number:
            raise BackendError(
                f"torchrun started process {number} for device '{device}', and this machine has "
                f"{torch.cuda.device_count()} CUDA devices; pass --device cuda, and as many "
                "processes as there are devices"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        distributed.barrier()  # reports a process that fails at once as such
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BackendError(f"the processes of torchrun cannot connect: {reason}") from error
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def world() -> int:
    """Return the number of processes of this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0. Only process 0 writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(count: int) -> slice:
    """Return which of `count` images of a batch are this process's; `count` divides evenly."""
    size = count // world()
    return slice(rank() * size, (rank() + 1) * size)


def gather(features: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the features of all processes, split into batches, each in the order of its images.

    Args:
        features: Features (sum of sizes, D) of this process.
        sizes: Sizes of the joined batches, equal in every process.
    """
    if world() == 1:
        return torch.split(features, list(sizes))
    joined: Tensor = _Gather.apply(features)
    parts = [torch.split(part, list(sizes)) for part in joined]
    return tuple(torch.cat(batch) for batch in zip(*parts, strict=True))


class _Gather(Function):
    """Features (n, D) of each process to (processes, n, D) in all; gradients add up backwards."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        parts = [torch.empty_like(features) for _ in range(world())]
        distributed.all_gather(parts, features.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[rank()]


def collect(part: Tensor, total: int, batch: int = 1) -> Tensor:
    """Return the rows (total, D) of which each process computed `portion(total, batch)`.

    Args:
        part: Rows (n, D) of this process.
        total: Number of rows of all processes.
        batch: Batch size, as for `portion`.
    """
    if world() == 1:
        return part
    padded = part.new_zeros(_rows(total, batch), part.shape[1])
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(world())]
    distributed.all_gather(parts, padded)
    return torch.cat(parts)[:total]


def portion(total: int, batch: int = 1) -> slice:
    """Return which of `total` rows this process computes; the last ones may compute fewer.

    Args:
        total: Number of rows of all processes.
        batch: Batch size; portions start at its multiples, so that batches are those of one
            process.
    """
    rows = _rows(total, batch)
    return slice(min(rank() * rows, total), min((rank() + 1) * rows, total))


def _rows(total: int, batch: int) -> int:
    return -(-total // (world() * batch)) * batch


def any_process(here: bool) -> bool:
    """Return whether `here` is true in any process; every process must call it."""
    if world() == 1:
        return here
    flag = torch.tensor([float(here)], device=_device())
    distributed.all_reduce(flag)
    return bool(flag.item())


def wait() -> None:
    """Wait until all processes are here."""
    if world() > 1:
        distributed.barrier()


def _device() -> torch.device:
    cuda = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def average(gradients: Sequence[Tensor]) -> None:
    """Replace gradients by their means over all processes, in place."""
    if world() == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
        start += gradient.numel()
