"""Endless training batches whose every random draw is a function of the iteration.

A run that was killed needs no generator state to continue: permutations depend on (seed, role,
pass) and augmentations on (seed, role, iteration).
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.clip.model import Clip
from adapt.compute import parallel
from adapt.compute.seeds import draw_seed
from adapt.data.base import UNKNOWN
from adapt.data.rows import Images
from adapt.data.strong import strong
from adapt.data.transfer import to_device
from adapt.data.transforms import augment
from adapt.methods.base import Batch
from adapt.settings.config import TrainConfig
from adapt.settings.limits import SMALLEST_BATCH, check_batch
from runtime.errors import ConfigError

Role = Literal["source", "target"]


class Stream:
    """Training images of one domain in batches: shuffled in every pass, without the rest."""

    def __init__(
        self,
        role: Role,
        pixels: Images,
        labels: NDArray[np.int64] | None,
        config: TrainConfig,
        clip: Clip,
        device: torch.device,
        *,
        digest: str,
        images: bool = True,
        ahead: bool = False,
    ) -> None:
        """Check the number of images; nothing is read.

        Args:
            role: Domain; source and target draw independently, even from the same images.
            pixels: Images (N, R, R, 3) uint8 RGB, with R the training size.
            labels: Class positions (N,); None for the target, whose labels are hidden.
            config: Settings: batch size, seed, augmentation.
            clip: Base model that gives crop size S, mean and std.
            device: Device to augment and train on.
            digest: Digest of the files and how they were resized.
            images: Whether batches hold images.
            ahead: Whether a thread reads the next batch meanwhile; always so for a GPU.

        Raises:
            ConfigError: A batch has one image, so no batch statistics, or does not divide evenly
                over the processes.
            DataError: There are fewer images than a batch takes.
        """
        if config.batch_size < SMALLEST_BATCH:
            raise ConfigError(
                f"batch_size is {config.batch_size}; expected {SMALLEST_BATCH} or more, which "
                "BatchNorm needs"
            )
        if config.batch_size % parallel.world():
            raise ConfigError(
                f"batch_size is {config.batch_size}, expected a multiple of the "
                f"{parallel.world()} processes"
            )
        check_batch(config.batch_size, {role: len(pixels)})
        self.pixels, self.digest = pixels, digest
        self.labels = np.full(len(pixels), UNKNOWN) if labels is None else labels
        self._role, self._config, self._clip, self._device = role, config, clip, device
        self._images = images
        self._reader = ThreadPoolExecutor(1) if ahead or device.type == "cuda" else None
        self._next: tuple[int, Future[torch.Tensor]] | None = None
        self._batches = len(pixels) // config.batch_size
        self._pass = -1
        self._order = np.empty(0, np.int64)

    def indices(self, iteration: int) -> NDArray[np.int64]:
        """Return the positions (B,) of the images of an iteration, from 0."""
        number, position = divmod(iteration, self._batches)
        if number != self._pass:
            generator = torch.Generator().manual_seed(
                draw_seed(self._config.seed, self._role, "order", number)
            )
            self._order = torch.randperm(len(self.pixels), generator=generator).numpy()
            self._pass = number
        size = self._config.batch_size
        return self._order[position * size : (position + 1) * size]

    def batch(self, iteration: int) -> Batch:
        """Return the batch of an iteration, augmented and normalised, on the training device."""
        where = self.indices(iteration)
        labels = to_device(torch.from_numpy(self.labels[where]), self._device)
        indices = to_device(torch.from_numpy(where), self._device)
        if not self._images:
            return Batch(torch.empty(len(where), 0, device=self._device), labels, indices)
        pixels = self._read(where, iteration).to(self._device, non_blocking=True)
        config, clip = self._config, self._clip
        images = augment(
            pixels, clip.image_size, config.pad, config.flip, self._generator("augment", iteration),
            clip.mean, clip.std, crop_min=config.crop_min, crop_max=config.crop_max,
            rotate=config.rotate, interpolation=config.interpolation,
        )  # fmt: skip
        strongly = self._strong(pixels, iteration)
        # The whole batch is augmented, so that the draws do not depend on the processes.
        mine = parallel.share(len(where))
        other = None if strongly is None else strongly[mine]
        return Batch(images[mine], labels, indices, other)

    def _read(self, where: NDArray[np.int64], iteration: int) -> torch.Tensor:
        """Return the pixels of an iteration, pinned for a GPU, and begin to read the next ones."""
        if self._reader is None:
            return self._pixels(where)
        ahead, self._next = self._next, None
        if ahead and ahead[0] == iteration:
            found = ahead[1].result()
        else:
            found = self._pixels(where)
        following = self.indices(iteration + 1)
        self._next = iteration + 1, self._reader.submit(self._pixels, following)
        return found

    def _pixels(self, where: NDArray[np.int64]) -> torch.Tensor:
        pixels = torch.from_numpy(self.pixels[where])
        return pixels.pin_memory() if self._device.type == "cuda" else pixels

    def _strong(self, pixels: torch.Tensor, iteration: int) -> torch.Tensor | None:
        """Return the strong view of the target, if the settings ask for one."""
        config, clip = self._config, self._clip
        view = config.strong_view
        if self._role == "source" or view is None:
            return None
        generator = self._generator("strong", iteration)
        return strong(pixels, clip.image_size, view, config.flip, generator, clip.mean, clip.std)

    def _generator(self, purpose: str, iteration: int) -> torch.Generator:
        seed = draw_seed(self._config.seed, self._role, purpose, iteration)
        return torch.Generator().manual_seed(seed)
