import numpy as np
import pytest

from adapt.drawing.draw import CANVAS, TONE_STEP, Pose, tone_map
from adapt.drawing.geometry import DARK, HOLE, MAIN, SECOND
from adapt.drawing.shapes import OBJECTS, TASK_CLASSES


def test_the_twelve_task_classes_are_in_label_order():
    assert TASK_CLASSES == (
        "bottle",
        "chair",
        "clock",
        "cup",
        "fork",
        "hammer",
        "key",
        "lamp",
        "pencil",
        "scissors",
        "table",
        "umbrella",
    )


def test_the_table_has_the_task_classes_first_and_twenty_more():
    assert tuple(OBJECTS)[:12] == TASK_CLASSES
    assert len(OBJECTS) == 32
    assert len(set(OBJECTS.values())) == 32


@pytest.mark.parametrize("name", OBJECTS)
def test_an_outline_stays_near_the_unit_box_and_has_a_main_tone(name):
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = OBJECTS[name](rng)
        assert {part.tone for part in parts} <= {HOLE, MAIN, SECOND, DARK}
        assert MAIN in {part.tone for part in parts}
        for part in parts:
            assert part.points.ndim == 2 and part.points.shape[1] == 2
            assert np.abs(part.points).max() <= 1.2


@pytest.mark.parametrize("name", OBJECTS)
def test_two_drawings_of_an_object_differ_in_more_than_their_pose(name):
    fixed = Pose(rotation=0, scale=(0.8, 0.8), shift=0, shear=0)
    rng = np.random.default_rng(1)
    maps = [np.asarray(tone_map(OBJECTS[name](rng), rng, fixed)) for _ in range(2)]
    assert maps[0].shape == (CANVAS, CANVAS)
    assert set(np.unique(maps[0])) <= {tone * TONE_STEP for tone in range(4)}
    assert (maps[0] != maps[1]).any()
