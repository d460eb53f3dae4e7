import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from adapt.data import drawn
from adapt.data.drawn import DEMO_SETS, DemoPart, DemoSet, pixel_digest, render
from adapt.drawing import batches
from adapt.drawing.jobs import Job
from adapt.drawing.shapes import TASK_CLASSES
from runtime.errors import DataError

TINY = DemoSet(
    TASK_CLASSES,
    tuple(
        DemoPart(split, domain, Job("adapt.drawing.batches:objects", (domain, 5, 2), 24))
        for split, domain in (("train", "clipart"), ("test", "real"))
    ),
    "0" * 64,
)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(drawn.DEMO_SETS, "tiny", TINY)


@pytest.mark.parametrize("name", ["demo-digits", "demo-objects"])
def test_the_pixels_are_the_ones_that_figures_were_measured_on(name):
    folder = render(name)
    assert pixel_digest(folder) == DEMO_SETS[name].sha256
    assert json.loads((folder / "DONE.json").read_text())["sha256"] == DEMO_SETS[name].sha256


@pytest.mark.parametrize(
    ("name", "split", "domain", "images"),
    [
        ("demo-digits", "train", "font", 2000),
        ("demo-digits", "test", "font", 500),
        ("demo-digits", "train", "hand", 1000),
        ("demo-digits", "test", "hand", 797),
        *(("demo-objects", "train", d, 1200) for d in ("art", "clipart", "product", "real")),
        *(("demo-objects", "test", d, 600) for d in ("art", "clipart", "product", "real")),
    ],
)
def test_every_domain_has_its_classes_and_images(name, split, domain, images):
    folder = render(name) / split / domain
    assert {path.name for path in folder.iterdir()} == set(DEMO_SETS[name].classes)
    assert len(list(folder.glob("*/????.png"))) == images


def test_pictures_are_small_rgb_pngs():
    with Image.open(render("demo-objects") / "train" / "art" / "clock" / "0007.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))


@pytest.mark.parametrize(("domain", "seed"), [("clipart", 200), ("product", 201), ("art", 202)])
def test_a_fresh_drawing_equals_the_stored_pictures(domain, seed):
    rng = np.random.default_rng(seed)
    folder = render("demo-objects") / "test" / domain / "bottle"
    for number in range(10):  # "bottle" is drawn first
        fresh = batches.shrink(batches.draw_object(domain, "bottle", rng))
        with Image.open(folder / f"{number:04d}.png") as stored:
            assert (np.asarray(stored) == fresh).all()


def test_the_hand_split_is_the_one_of_torch_randperm():
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(123)).tolist()
    adapt, test = batches.hand_split()
    assert adapt.tolist() == order[:1000]
    assert test.tolist() == order[1000:]


def test_the_pixels_do_not_depend_on_the_number_of_workers(tiny, tmp_path):
    with pytest.warns(UserWarning, match="came out different"):
        folders = [render("tiny", tmp_path / str(n), workers=n) for n in (1, 2)]
    assert pixel_digest(folders[0]) == pixel_digest(folders[1])


def test_the_digest_sees_a_changed_pixel_and_a_moved_file(tiny, tmp_path):
    with pytest.warns(UserWarning):
        folder = render("tiny", tmp_path)
    before = pixel_digest(folder)
    first = folder / "test" / "real" / "cup" / "0000.png"
    first.rename(first.with_name("0009.png"))
    moved = pixel_digest(folder)
    with Image.open(first.with_name("0009.png")) as image:
        pixels = np.array(image)
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(first.with_name("0009.png"))
    assert len({before, moved, pixel_digest(folder)}) == 3


def test_different_pixels_warn_with_both_digests_and_the_library_versions(tiny, tmp_path):
    with pytest.warns(UserWarning) as caught:
        folder = render("tiny", tmp_path)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert pixel_digest(folder) in text and "0" * 64 in text
    assert all(library in text for library in ("pillow", "freetype", "numpy", "matplotlib"))


def test_two_processes_that_render_at_once_share_one_complete_folder(tiny, tmp_path):
    with pytest.warns(UserWarning), ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: render("tiny", tmp_path), range(2)))
    assert folders[0] == folders[1]
    assert len(list(folders[0].rglob("*.png"))) == 48
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["tiny-v1"]


def test_an_interrupted_rendering_leaves_nothing(tiny, tmp_path, monkeypatch):
    def interrupt(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(drawn, "pixel_digest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        render("tiny", tmp_path)
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.filterwarnings("ignore:tiny came out different")
@pytest.mark.parametrize("contents", [True, False], ids=["", "drawn before contents were noted"])
def test_damaged_pictures_are_drawn_again(contents, tiny, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path))
    folder = render("tiny", tmp_path)
    right, done = pixel_digest(folder), folder / "DONE.json"
    picture = folder / "test" / "real" / "cup" / "0000.png"
    content, summary = picture.read_bytes(), json.loads(done.read_text())

    def damage(harm):
        if harm == "pipe":
            picture.unlink()
            os.mkfifo(picture)
        elif harm == "picture":
            picture.write_bytes((folder / "test" / "real" / "cup" / "0001.png").read_bytes())
        elif harm != "nothing":
            done.write_bytes(harm)

    notes = (b"[" * 9000, b'{"contents": ""}') if contents else ()
    for harm in ("nothing", "picture", "pipe", *notes):
        if not contents:
            done.write_text(json.dumps({k: v for k, v in summary.items() if k != "contents"}))
        damage(harm)
        caplog.clear()
        assert render("tiny", tmp_path) == folder
        assert pixel_digest(folder) == right and picture.read_bytes() == content
        assert json.loads(done.read_text()) == summary
        assert ("are damaged and are made again" in caplog.text) == (harm != "nothing")


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="'demo-digits', 'demo-objects'"):
        render("demo-cats", tmp_path)


def test_a_failing_child_says_why(monkeypatch, tmp_path):
    job = Job("adapt.drawing.batches:objects", ("watercolour", 0, 1), 12)
    broken = DemoSet(TASK_CLASSES, (DemoPart("train", "watercolour", job),), "")
    monkeypatch.setitem(drawn.DEMO_SETS, "broken", broken)
    with pytest.raises(DataError, match="KeyError: 'watercolour'"):
        render("broken", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rendering_needs_neither_torch_nor_pyplot():
    code = (
        "import sys, adapt.data.drawn, adapt.drawing.batches, adapt.drawing.corpus;"
        "print({'torch', 'open_clip', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "set()"
