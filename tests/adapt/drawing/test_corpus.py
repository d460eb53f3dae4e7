import hashlib
import re

import numpy as np
import pytest

from adapt.drawing.corpus import DIGIT_NAMES, LETTERS, captioned
from adapt.drawing.draw import COLORS, shrink
from adapt.drawing.shapes import OBJECTS


@pytest.fixture(scope="module")
def sample():
    return captioned(0, 400)


def test_the_first_captions_of_seed_0_are_these(sample):
    assert sample[1][:6] == FIRST_CAPTIONS


def test_the_first_pictures_of_seed_0_are_these(sample):
    assert hashlib.sha256(sample[0][:100].tobytes()).hexdigest() == FIRST_PIXELS


def test_every_caption_follows_the_grammar(sample):
    opening = r"(an?( product| catalog| line)? \w+|clip art) of"
    thing = rf"a (({'|'.join(COLORS)}) )?({'|'.join(OBJECTS)})"
    sign = rf"the ((number|digit) ({'|'.join(DIGIT_NAMES)})|letter [{LETTERS}])"
    for caption in sample[1]:
        assert re.fullmatch(rf"{opening} ({thing}|{sign})", caption), caption


def test_about_a_third_of_the_pictures_are_glyphs(sample):
    glyphs = sum("the " in caption for caption in sample[1])
    assert 0.35 * 400 - 40 < glyphs < 0.35 * 400 + 40


def test_shrinking_averages_blocks_and_rounds_halves_to_even():
    image = np.zeros((64, 64, 3), np.uint8)
    image[0, 0] = 2  # mean 0.5
    image[0, 2] = image[0, 3] = image[1, 2] = 2  # mean 1.5
    small = shrink(image)
    assert small.shape == (32, 32, 3) and small.dtype == np.uint8
    assert small[0, 0].tolist() == [0, 0, 0]
    assert small[0, 1].tolist() == [2, 2, 2]
    assert small.sum() == 6


FIRST_CAPTIONS = [
    "a photo of a fish",
    "a photo of a balloon",
    "a photo of a bed",
    "a photograph of a balloon",
    "a line drawing of the letter k",
    "a line drawing of a table",
]
FIRST_PIXELS = "e56edc6dafb63d7e8cef354c93182a3a7d04bbfcb3c487d87778bea046185861"
