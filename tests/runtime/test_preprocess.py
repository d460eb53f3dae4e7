import numpy as np
import pytest
from PIL import Image

from runtime.errors import DataError
from runtime.frames.preprocess import preprocess, preprocess_batch, read_image
from runtime.models import Preprocess


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 48), (7, 300), (224, 224), (16, 16), (1, 1)])
def test_squash_equals_torchvision_resizing_a_picture(height, width):
    v2 = pytest.importorskip("torchvision.transforms.v2")

    frame = picture(height, width)
    for name, mode in [("bilinear", 2), ("bicubic", 3)]:
        resize = v2.Resize((32, 32), interpolation=mode)
        want = np.asarray(resize(Image.fromarray(frame)))
        got = preprocess(frame, Preprocess(32, interpolation=name))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (301, 97), (50, 50), (30, 41)])
def test_crop_equals_resizing_the_short_side_then_cropping_the_centre(height, width):
    v2 = pytest.importorskip("torchvision.transforms.v2")

    frame = picture(height, width)
    both = v2.Compose([v2.Resize(224, interpolation=3), v2.CenterCrop(224)])
    want = np.asarray(both(Image.fromarray(frame)))
    np.testing.assert_array_equal(preprocess(frame, Preprocess(224, "crop", "bicubic")), want)


def test_a_frame_of_the_right_size_is_returned_as_it_is():
    frame = picture(32, 32)
    assert preprocess(frame, Preprocess(32)) is frame


def test_a_batch_holds_what_each_frame_becomes():
    spec = Preprocess(32, "crop", "bicubic")
    frames = [picture(*size) for size in [(40, 90), (32, 32), (300, 200), (40, 90), (7, 9)]]
    batch = preprocess_batch(frames, spec)
    assert batch.dtype == np.uint8
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, [preprocess(frame, spec) for frame in frames])
    one = preprocess_batch(frames[:1], spec)
    np.testing.assert_array_equal(one, batch[:1])
    assert one.flags.c_contiguous


def test_a_reducing_gap_gives_what_pillow_gives_with_it():
    frame = picture(600, 800)
    want = np.asarray(Image.fromarray(frame).resize((64, 64), 2, reducing_gap=2.0))
    got = preprocess(frame, Preprocess(64), reducing_gap=2.0)
    np.testing.assert_array_equal(got, want)
    assert (got != preprocess(frame, Preprocess(64))).any()


@pytest.mark.parametrize("gap", [0.5, -1.0, float("nan")])
def test_a_reducing_gap_below_one_is_refused(gap):
    with pytest.raises(DataError, match="a reducing gap must be at least 1, found"):
        preprocess(picture(64, 64), Preprocess(32), reducing_gap=gap)


@pytest.mark.parametrize(("draft", "shape"), [(32, (41, 75)), (42, (82, 150)), (500, (328, 600))])
def test_a_draft_of_a_jpeg_file_keeps_at_least_so_many_pixels(tmp_path, draft, shape):
    smooth = Image.fromarray(picture(5, 9)).resize((600, 328), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.jpg", quality=95)
    got = read_image(tmp_path / "x.jpg", draft=draft)
    assert got.shape == (*shape, 3)
    whole = preprocess(read_image(tmp_path / "x.jpg"), Preprocess(32)).astype(int)
    assert abs(preprocess(got, Preprocess(32)) - whole).max() <= 6


def test_a_draft_changes_no_other_format_and_turns_what_is_to_be_turned(tmp_path):
    frame = picture(90, 50)
    Image.fromarray(frame).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", draft=8), frame)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(80, 160)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg", draft=20).shape == (40, 20, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "LA", "I;16"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    suffix = ".tif" if mode == "CMYK" else ".png"
    Image.fromarray(picture(5, 6)).convert("L" if mode == "I;16" else "RGB").convert(mode).save(
        tmp_path / f"x{suffix}"
    )
    got = read_image(tmp_path / f"x{suffix}")
    assert got.shape == (5, 6, 3)
    assert got.dtype == np.uint8


def test_a_sixteen_bit_picture_keeps_its_brightness(tmp_path):
    Image.fromarray(np.full((4, 4), 32768, np.uint16)).save(tmp_path / "x.png")
    assert abs(int(read_image(tmp_path / "x.png")[0, 0, 0]) - 128) <= 1


def test_a_picture_is_turned_as_its_exif_orientation_says(tmp_path):
    frame = picture(5, 9)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 270 degrees
    Image.fromarray(frame).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.rot90(frame, 3))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read the image '.*bad\.png'"):
        read_image(tmp_path / "bad.png")


def test_a_truncated_or_missing_image_is_named(tmp_path):
    Image.fromarray(picture(200, 200)).save(tmp_path / "x.jpg")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) // 2])
    for name in ("x.jpg", "missing.jpg"):
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    Image.fromarray(picture(40, 40)).save(tmp_path / "x.png")
    monkeypatch.setattr("runtime.frames.decode.MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="40 x 40 pixels, too many"):
        read_image(tmp_path / "x.png")


def test_a_frame_too_narrow_to_crop_is_refused_before_it_fills_the_memory():
    thin = np.zeros((1, 50_000, 3), np.uint8)
    with pytest.raises(DataError, match="50000 x 1 pixels is too narrow to crop"):
        preprocess(thin, Preprocess(224, "crop"))
    assert preprocess(thin, Preprocess(224)).shape == (224, 224, 3)
