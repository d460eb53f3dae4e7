import numpy as np
import pytest

from runtime.cuda import resize
from runtime.cuda.resize import DeviceResizer
from runtime.errors import DataError
from runtime.frames.preprocess import preprocess_batch
from runtime.models import Preprocess


def pixels(device, resizer, frames, spec):
    array = resizer(frames, spec)
    found = np.empty(array.shape, array.dtype)
    device.download(array.address, found)
    return found


def test_any_frame_becomes_the_pixels_that_pillow_makes_bit_for_bit(any_device):
    rng, resizer = np.random.default_rng(0), DeviceResizer(any_device)
    for trial in range(60):
        how, kind = ("squash", "crop")[trial % 2], ("bilinear", "bicubic")[trial // 2 % 2]
        spec = Preprocess(int(rng.integers(8, 50)), how, kind)
        shapes = rng.integers(8, 120, (1 + trial % 3, 2))
        frames = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in shapes]
        if trial % 5 == 0:  # BGR, upside down
            frames = [frame[::-1, :, ::-1] for frame in frames]
        found = pixels(any_device, resizer, frames, spec)
        np.testing.assert_array_equal(found, preprocess_batch(frames, spec))
    resizer.close()
    resizer.close()


@pytest.mark.parametrize("shape", [(480, 640), (224, 224), (1080, 1920), (700, 240), (40, 30)])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_frames_of_cameras_do(device, shape, kind):
    frame = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    frame[: shape[0] // 2] = 255 * (frame[: shape[0] // 2] > 127)  # overshoots are cut off
    for how in ("squash", "crop"):
        spec = Preprocess(224, how, kind)
        found = pixels(device, DeviceResizer(device), [frame], spec)
        np.testing.assert_array_equal(found, preprocess_batch([frame], spec))


def test_frames_that_do_not_fit_at_once_wait_their_turn(device, monkeypatch):
    monkeypatch.setattr(resize, "_STAGED", 20_000)
    rng, spec = np.random.default_rng(2), Preprocess(16)
    frames = [rng.integers(0, 256, (50 + n, 60, 3), dtype=np.uint8) for n in range(7)]
    resizer = DeviceResizer(device)
    for _ in range(2):
        found = pixels(device, resizer, frames, spec)
        np.testing.assert_array_equal(found, preprocess_batch(frames, spec))


def test_more_sizes_at_once_than_are_kept_are_resized_all_the_same(device):
    rng, spec = np.random.default_rng(3), Preprocess(16)
    frames = [rng.integers(0, 256, (20 + n, 40, 3), np.uint8) for n in range(2 * resize._PLANS)]
    found = pixels(device, DeviceResizer(device), frames, spec)
    np.testing.assert_array_equal(found, preprocess_batch(frames, spec))


def test_a_frame_goes_up_once_and_only_the_part_that_matters(device, driver):
    spec, resizer = Preprocess(16, "crop"), DeviceResizer(device)
    frame = np.zeros((64, 640, 3), np.uint8)
    resizer([frame], spec)
    names = ["cuMemcpyHtoDAsync_v2", "cuMemAllocAsync", "cuLaunchKernel"]
    before = driver.counts(*names)
    resizer([frame], spec)
    assert np.subtract(driver.counts(*names), before).tolist() == [1, 0, 2]
    assert resizer._staged.nbytes < frame.nbytes / 8


def test_a_frame_waits_for_the_upload_before_it_and_for_nothing_behind_that(any_device, driver):
    """Such as a switch, or the frame before; also where host and device share one memory."""
    rng, spec, resizer = np.random.default_rng(4), Preprocess(16), DeviceResizer(any_device)
    frames = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(5)]
    resizer(frames[:1], spec)
    kept = any_device.allocate(5 * 16 * 16 * 3)
    before = driver.counts("cuStreamSynchronize", "cuEventSynchronize")
    for number, frame in enumerate(frames):
        made = resizer([frame], spec)
        any_device.copy(made.address, kept.address + number * made.nbytes, made.nbytes)
    after = driver.counts("cuStreamSynchronize", "cuEventSynchronize")
    assert np.subtract(after, before).tolist() == [0, 5]
    found = np.empty((5, 16, 16, 3), np.uint8)
    any_device.download(kept.address, found)
    np.testing.assert_array_equal(found, preprocess_batch(frames, spec))


def test_weights_of_sizes_that_are_long_gone_are_freed(device, driver):
    spec, resizer = Preprocess(16), DeviceResizer(device)
    for width in range(20, 120):
        resizer([np.zeros((30, width, 3), np.uint8)], spec)
    live = driver.live_bytes()
    for width in range(20, 120):
        resizer([np.zeros((30, width, 3), np.uint8)], spec)
    device.synchronize()
    assert driver.live_bytes() <= live + 4096


def test_a_frame_too_narrow_to_crop_is_refused(device):
    with pytest.raises(DataError, match="too narrow to crop"):
        DeviceResizer(device)([np.zeros((2, 400, 3), np.uint8)], Preprocess(16, "crop"))
