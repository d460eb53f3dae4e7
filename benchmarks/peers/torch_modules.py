"""PyTorch: one module, whose weights are replaced, all of them or those that changed.

The tower is open_clip's, in eager mode and inference mode, with the same head.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import get_model_config
from open_clip.model import _build_vision_tower
from safetensors.torch import load_file
from torch import Tensor, nn

from adapt.methods.heads import TaskHead
from benchmarks.peers import Files

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class Network(nn.Module):
    """Pixels (N, S, S, 3) uint8 to logits (N, K)."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        config = get_model_config(files.name)
        tower = _build_vision_tower(config["embed_dim"], config["vision_cfg"], True)
        state = load_file(files.merged(0))
        classes, dim = state["head.linear.weight"].shape
        self.tower, self.head = tower, TaskHead(dim, classes)
        self.load_state_dict(state, strict=False)
        self.eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.mean = torch.tensor(_MEAN).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(_STD).view(1, 3, 1, 1) * 255

    def forward(self, pixels: Tensor) -> Tensor:
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        logits: Tensor = self.head(self.tower(images.contiguous()))
        return logits

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = self(torch.from_numpy(pixels)).numpy()
        return logits


class LoadStateDict:
    """Loads the merged model's state dict from its mapped file: one copy of every weight.

    Nothing but the module stays in memory, and the page cache gives the file: the most favourable
    case for this peer. The first switch after a start reads the disk.
    """

    def __init__(self, files: Files, tasks: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self._files, self._network = files, Network(files)
        self.predict = self._network.predict

    def switch(self, number: int) -> None:
        self._network.load_state_dict(load_file(self._files.merged(number)), strict=False)

    def close(self) -> None:
        del self._network, self.predict


class SparseCopy:
    """Writes changed entries in place and restores them: what we do, in PyTorch.

    All parameters are views of one flat tensor, so that a switch is two indexed copies: faster than
    a loop over the parameters. Indices are 64-bit in memory, as PyTorch wants them, and 32-bit on
    the disk.
    """

    def __init__(self, files: Files, tasks: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = Network(files)
        self._network.load_state_dict(load_file(files.base()), strict=False)
        parameters = list(self._network.tower.parameters())
        self._flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        start = 0
        for parameter in parameters:
            parameter.data = self._flat[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        self._tasks = []
        for number in range(tasks):
            file = load_file(files.sparse(number))
            where, values = file["indices"].long(), file["values"].clone()
            head = {k.removeprefix("head."): v.clone() for k, v in file.items() if "head" in k}
            self._tasks.append((where, values, self._flat[where], head))
        self._undo: tuple[Tensor, Tensor] | None = None
        self.predict = self._network.predict
        self.switch(0)

    def switch(self, number: int) -> None:
        if self._undo is not None:
            self._flat.index_copy_(0, *self._undo)
        where, values, undo, head = self._tasks[number]
        self._flat.index_copy_(0, where, values)
        self._undo = where, undo
        self._network.head.load_state_dict(head)

    def close(self) -> None:
        self._tasks.clear()
        del self._network, self._flat, self.predict
