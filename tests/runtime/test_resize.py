from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from runtime.frames.filters import make_axis
from runtime.frames.preprocess import preprocess
from runtime.frames.resize import Resizer, resizer
from runtime.models import Preprocess

KINDS = ("noise", "smooth", "two", "columns", "rows", "white")


def picture(height, width, kind="noise", seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "smooth":
        return np.asarray(Image.fromarray(noise[:5, :5]).resize((width, height), 3))
    if kind == "two":
        return (noise > 127).astype(np.uint8) * 255
    if kind in ("columns", "rows"):  # every sum may be exactly a half
        line = (np.arange(height if kind == "rows" else width) % 2 * 255).astype(np.uint8)
        return np.broadcast_to(
            line[:, None, None] if kind == "rows" else line[:, None], noise.shape
        )
    return np.full_like(noise, 255) if kind == "white" else noise


def by_pillow(frame, spec):
    height, width, _ = frame.shape
    target = (spec.size, spec.size)
    if spec.resize == "crop":
        target = tuple(spec.size * side // min(height, width) for side in (width, height))
    image = Image.fromarray(np.ascontiguousarray(frame))
    resized = image.resize(target, {"bilinear": 2, "bicubic": 3}[spec.interpolation])
    left, top = (round((side - spec.size) / 2) for side in target)
    return np.asarray(resized)[top : top + spec.size, left : left + spec.size]


def check(frame, spec):
    """The first frame of a size goes through Pillow, the second through products."""
    want = by_pillow(frame, spec)
    for _ in range(2):
        got = preprocess(frame, spec)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, want)


side = st.one_of(st.integers(1, 12), st.integers(13, 700))


@settings(max_examples=150, deadline=None)
@given(
    height=side,
    width=side,
    size=st.integers(8, 100),
    resize=st.sampled_from(["squash", "crop"]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
)
@example(1, 1, 8, "squash", "bicubic", "noise", 0)
@example(1, 700, 8, "crop", "bilinear", "noise", 0)
@example(700, 7, 8, "crop", "bicubic", "noise", 0)
@example(200, 200, 100, "squash", "bilinear", "two", 0)
@example(600, 600, 100, "crop", "bilinear", "columns", 0)
@example(600, 600, 100, "squash", "bilinear", "rows", 0)
@example(600, 600, 100, "squash", "bicubic", "two", 0)
@example(500, 230, 32, "squash", "bilinear", "noise", 0)  # Pillow 13 filters its columns first
def test_every_frame_becomes_what_pillow_makes_of_it(
    height, width, size, resize, interpolation, kind, seed
):
    if max(height, width) > 100 * min(height, width):
        resize = "squash"
    check(picture(height, width, kind, seed), Preprocess(size, resize, interpolation))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (480, 640), (1000, 800), (448, 896)])
def test_camera_frames_become_what_pillow_makes_of_them(height, width, resize, interpolation):
    for kind in ("noise", "smooth", "two"):
        check(picture(height, width, kind), Preprocess(224, resize, interpolation))


@pytest.mark.parametrize(("height", "width"), [(60, 9000), (9000, 60), (50, 8192), (2500, 4100)])
def test_very_long_frames_become_what_pillow_makes_of_them(height, width):
    check(picture(height, width), Preprocess(40, "squash", "bicubic"))


@pytest.mark.parametrize(
    "view",
    [
        lambda frame: frame[::-1],
        lambda frame: frame[:, ::-1],
        lambda frame: frame[..., ::-1],  # OpenCV's BGR seen as RGB
        lambda frame: frame[::2, 30:-50:3],
        lambda frame: np.asfortranarray(frame),
        lambda frame: frame.transpose(1, 0, 2)[:200],
        lambda frame: np.broadcast_to(frame[:, :, :1], frame.shape),
    ],
)
def test_views_become_what_their_copies_become(view):
    frame = view(picture(300, 640))
    before = frame.copy()
    check(frame, Preprocess(48, "crop", "bicubic"))
    check(frame, Preprocess(48))
    np.testing.assert_array_equal(frame, before)


def test_products_are_used_from_the_second_frame_on_and_their_results_are_fresh():
    frame = picture(300, 400)
    make = Resizer((400, 300), (64, 64), (0, 0, 64, 64), "bilinear")
    first, second, third = make(frame), make(frame), make(frame)
    assert first.dtype == np.uint8
    assert second.dtype == np.float32
    second[:] = 0
    np.testing.assert_array_equal(first, third)


def test_threads_may_share_the_weights():
    frames = [picture(240, 320, seed=seed) for seed in range(16)]
    spec = Preprocess(40, "crop", "bicubic")
    resizer.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda frame: preprocess(frame, spec), frames * 4))
    for frame, result in zip(frames * 4, results, strict=True):
        np.testing.assert_array_equal(result, by_pillow(frame, spec))


@pytest.mark.parametrize(("length", "most"), [(1920, 600_000), (8192, 3_000_000)])
def test_weights_take_bounded_memory(length, most):
    axis = make_axis(length, 224, slice(0, 224), "bicubic", channels=3)
    held = sum(block.matrix.nbytes for block in axis.blocks) + axis.weights.nbytes
    assert most / 2 < held < most


def test_the_weights_of_few_frame_sizes_are_kept():
    for height in range(100, 140):
        preprocess(picture(height, 100), Preprocess(16))
    assert resizer.cache_info().currsize == 16
