"""RandAugment's operations against timm's, image by image, and the distribution of its draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import auto_augment as timm
from torch import Tensor

from adapt.data.randaugment import COLOURS, WARPS, draw, randaugment, warp_maps
from adapt.data.warp import warp

pytestmark = pytest.mark.usefixtures("cache")

SIDE = 20
FILL = (123, 117, 104)
TIMM = {
    "autocontrast": "AutoContrast", "equalize": "Equalize", "invert": "Invert",
    "posterize": "Posterize", "solarize": "Solarize", "solarize-add": "SolarizeAdd",
    "color": "Color", "contrast": "Contrast", "brightness": "Brightness",
    "sharpness": "Sharpness", "rotate": "Rotate", "shear-x": "ShearX", "shear-y": "ShearY",
    "translate-x": "TranslateXRel", "translate-y": "TranslateYRel",
}  # fmt: skip
NAMES = [*COLOURS, *WARPS]
LEVELS = (0.0, 3.3, 8.4, 9.43, 10.0)


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).to(torch.uint8)


@pytest.fixture
def by_timm(monkeypatch: pytest.MonkeyPatch):
    """A function that does timm's operation to an image; its sign is given, not drawn."""

    def do(image: NDArray[np.uint8], name: str, m: float) -> NDArray[np.uint8]:
        monkeypatch.setattr(timm, "_randomly_negate", lambda value: math.copysign(1, m) * value)
        to_argument = timm.LEVEL_TO_ARG[TIMM[name]]
        arguments = to_argument(10 * abs(m), {}) if to_argument else ()
        if name == "posterize" and arguments == (0,):
            return image & 0  # Pillow wants a bit or more
        style = {"resample": Image.Resampling.BILINEAR, "fillcolor": FILL}
        picture = Image.fromarray(image.transpose(1, 2, 0))
        done = timm.NAME_TO_OP[TIMM[name]](picture, *arguments, **style)
        return np.asarray(done).transpose(2, 0, 1)

    return do


def apart(mine: Tensor | NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(np.asarray(mine).astype(int) - other.astype(int)).max())


def test_the_fifteen_operations_are_timms() -> None:
    assert [TIMM[name] for name in NAMES] == list(TIMM.values())
    assert {*TIMM.values()} == {*timm._RAND_TRANSFORMS}


@pytest.mark.parametrize("name", COLOURS)
def test_a_colour_operation_at_any_magnitude_equals_timms(name: str, by_timm) -> None:
    change, strength = COLOURS[name]
    m = torch.tensor(LEVELS, dtype=torch.float64) / 10
    found = change(images(len(LEVELS)), strength(m))
    for image, level, mine in zip(images(len(LEVELS)), m.tolist(), found, strict=True):
        assert apart(mine, by_timm(image.numpy(), name, level)) <= 1


@pytest.mark.parametrize("number", range(len(WARPS)))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_geometric_operation_at_any_magnitude_equals_timms(
    number: int, sign: int, by_timm
) -> None:
    m = sign * torch.tensor(LEVELS, dtype=torch.float64) / 10
    maps = warp_maps(torch.full((len(LEVELS),), number), m, SIDE)
    found = warp(images(len(LEVELS)), maps, FILL).round().to(torch.uint8)
    for image, level, mine in zip(images(len(LEVELS)), m.tolist(), found, strict=True):
        assert apart(mine, by_timm(image.numpy(), WARPS[number], level)) <= 1


def test_a_batch_is_its_draws_done_one_after_the_other(by_timm) -> None:
    found = images(200)
    randaugment(found, FILL, torch.Generator().manual_seed(3))
    operations, magnitudes = draw(200, torch.Generator().manual_seed(3))
    untouched = 0
    for image, mine, which, m in zip(images(200), found, operations, magnitudes, strict=True):
        expected = image.numpy()
        for number, level in zip(which.tolist(), m.tolist(), strict=True):
            if number >= 0:
                expected = by_timm(expected, NAMES[number], level)
        untouched += np.array_equal(mine, image)
        off = np.abs(mine.numpy().astype(int) - expected.astype(int))
        # Where the first operation was off by one, the second may spread bytes or cross a limit.
        names = [NAMES[i] for i in which if i >= 0]
        assert off.mean() < (3 if "equalize" in names[1:] else 1), names
    assert 40 < untouched < 75  # a quarter, and what solarize at 10 leaves


def test_every_operation_is_drawn_as_often_and_half_are_done() -> None:
    operations, _ = draw(30_000, torch.Generator().manual_seed(0))
    share = (operations + 1).flatten().bincount() / operations.numel()
    assert share.tolist() == pytest.approx([0.5, *[1 / 30] * 15], abs=0.005)
    both = (operations >= 0).all(1).double().mean()
    assert both.item() == pytest.approx(0.25, abs=0.01)


def test_magnitudes_are_normal_about_ten_cut_at_ten_and_of_either_sign() -> None:
    _, m = draw(30_000, torch.Generator().manual_seed(0))
    assert (m > 0).double().mean().item() == pytest.approx(0.5, abs=0.01)
    level = 10 * m.abs()
    assert (level == 10).double().mean().item() == pytest.approx(0.5, abs=0.01)
    below = 10 - level[level < 10]
    assert below.mean().item() == pytest.approx(0.5 * math.sqrt(2 / math.pi), abs=0.01)
    assert below.square().mean().item() == pytest.approx(0.25, abs=0.01)
