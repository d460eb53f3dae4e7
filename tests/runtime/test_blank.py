"""Frames that show nothing, and frames that only nearly do."""

import numpy as np
import pytest

from runtime.frames.blank import blank


def scene(height=300, width=400, seed=0):
    """Return a frame of coarse coloured squares."""
    small = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    return np.kron(small, np.ones((height // 10, width // 10, 1), np.uint8))


def noisy(colour, deviation, height=300, width=400):
    noise = np.random.default_rng(1).normal(0, deviation, (height, width, 3))
    return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 140, 20)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 900), (300, 400), (1080, 1920)])
def test_a_frame_of_one_colour_is_blank(colour, shape):
    assert blank(np.full((*shape, 3), colour, np.uint8))


@pytest.mark.parametrize(("colour", "deviation"), [((5, 5, 5), 8), ((128, 120, 110), 5)])
def test_a_covered_lens_is_blank_in_spite_of_its_noise(colour, deviation):
    assert blank(noisy(colour, deviation))


def test_a_thin_line_on_paper_is_not_blank():
    frame = np.full((300, 400, 3), 255, np.uint8)
    frame[120:123, 60:340] = 0
    assert not blank(frame)


def test_scenes_textures_and_noise_are_not_blank():
    assert not blank(scene())
    assert not blank(scene(30, 40))
    assert not blank(noisy((128, 128, 128), 60))
    assert not blank(np.tile(np.array([[60], [190]], np.uint8), (150, 400))[..., None].repeat(3, 2))
    shade = np.linspace(40, 90, 400).astype(np.uint8)
    assert not blank(np.broadcast_to(shade[None, :, None], (300, 400, 3)))


@pytest.mark.parametrize("fill", [(128, 128, 128), (127, 129, 128), (0, 135, 0)])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
def test_a_frame_whose_lower_part_a_decoder_filled_is_blank(fill, share):
    frame = scene()
    frame[int(300 * (1 - share)) :] = fill
    assert blank(frame)


def test_borders_and_small_fills_are_not_blank():
    for rows in (slice(0, 120), slice(270, 300)):
        frame = scene()
        frame[rows] = 128
        assert not blank(frame)
    framed = scene()  # transparent above and below, laid on grey
    framed[:100] = framed[200:] = 128
    assert not blank(framed)
    white = scene()
    white[150:] = 255
    assert not blank(white)
