"""A plain CMKD + RST to compare speed with, written from the method's description alone.

Images are decoded and cropped by PIL in a DataLoader, source and target pass the encoder one after
the other, SGD and RST walk over the parameters one by one, and a second full model is kept for w0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from adapt.clip.captions import class_prompts
from adapt.clip.model import Clip
from adapt.methods.cmkd import CMKDConfig


class Plain:
    """CMKD + RST as its description reads: PIL, two passes, and a second model that holds w0."""

    def __init__(
        self, clip: Clip, roots: tuple[Path, Path], config: CMKDConfig, device: str
    ) -> None:
        """Build loaders, heads, optimizer and the second model."""
        c = self.c = config
        self.device = device
        size = clip.image_size
        crop = [transforms.RandomCrop(size, padding=c.pad or None, padding_mode="edge")]
        flip = [transforms.RandomHorizontalFlip()] if c.flip else []
        view = transforms.Compose(
            [transforms.Resize((c.train_size, c.train_size)), *crop, *flip]
            + [transforms.ToTensor(), transforms.Normalize(clip.mean, clip.std)]
        )
        sets = [datasets.ImageFolder(str(root), view) for root in roots]
        workers = {"num_workers": 2, "persistent_workers": True} if device != "cpu" else {}
        self.loaders = [
            self._endless(DataLoader(s, c.batch_size, shuffle=True, drop_last=True, **workers))
            for s in sets
        ]
        self.model = clip.visual
        self.teacher = copy.deepcopy(clip._model)  # the released code keeps all of CLIP for w0
        self.text = clip.text_features(class_prompts(sets[0].classes, c.prompt))
        self.scale = clip.logit_scale
        self.bn = nn.BatchNorm1d(clip.dim).to(device)
        self.ln = nn.LayerNorm(clip.dim, eps=1e-6).to(device)
        self.fc = nn.Linear(clip.dim, len(sets[0].classes), bias=False).to(device)
        nn.init.normal_(self.fc.weight, std=0.001)
        head = [*self.bn.parameters(), *self.ln.parameters(), *self.fc.parameters()]
        self.optimizer = torch.optim.SGD(
            [
                {"params": list(self.model.parameters()), "lr": c.lr},
                {"params": head, "lr": c.lr * c.head_lr_multiplier},
            ],
            momentum=0.9, weight_decay=5e-4, nesterov=True, foreach=False,
        )  # fmt: skip
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda t: (1 + 3e-4 * t) ** -0.75
        )
        self.t = 0

    def _endless(self, loader: Any) -> Iterator[Any]:
        while True:
            yield from loader

    def step(self) -> None:
        """Do one iteration."""
        c = self.c
        (x_s, y), (x_t, _) = (next(loader) for loader in self.loaders)
        x_s, y, x_t = x_s.to(self.device), y.to(self.device), x_t.to(self.device)
        f_s, f_t = self.model(x_s), self.model(x_t)
        z_s, z_t = self._head(f_s), self._head(f_t)
        g_s, g_t = self._zero_shot(f_s), self._zero_shot(f_t)
        lam = 2 / (1 + math.exp(-min(self.t, 10000) / 10000)) - 1
        p, q = z_t.softmax(1), g_t.softmax(1)
        kl = (q * (g_t.log_softmax(1) - z_t.log_softmax(1))).sum(1)
        a = torch.exp(-kl).detach()
        m = (p + q.detach()) / 2
        loss = functional.cross_entropy(z_s, y, label_smoothing=0.1)
        loss = loss + c.lambda1 * lam * (self._gini(p, a) + self._gini(m, 1 - a))
        loss = loss + c.lambda2 * functional.cross_entropy(g_s, y)
        loss = loss + c.lambda3 * lam * self._gini(q, torch.ones_like(a))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        base = dict(self.teacher.visual.named_parameters())
        for name, parameter in self.model.named_parameters():
            moved = (parameter.data - base[name].data).abs() > c.rst_threshold
            parameter.data = torch.where(moved, parameter.data, base[name].data)
        self.schedule.step()
        self.t += 1
        loss.item()

    def _head(self, features: Tensor) -> Tensor:
        return self.fc(self.ln(self.bn(features)))

    def _zero_shot(self, features: Tensor) -> Tensor:
        return self.scale * functional.normalize(features, dim=1) @ self.text.T

    def _gini(self, p: Tensor, weight: Tensor) -> Tensor:
        return (weight * (1 - (p**2 / p.sum(0).detach()).sum(1))).sum()
