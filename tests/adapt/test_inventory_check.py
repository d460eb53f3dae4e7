"""The full inventory that `uda-adapt data check` takes, its page, and what training warns of."""

import base64
import io
import json
import os
import re
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from adapt.cli import main
from adapt.data import load_folders
from adapt.data.inspection.repeats import warnings
from adapt.data.inventory import line_of
from adapt.report.samples import SAMPLES
from runtime.inventory.left_out import reasons
from tests.adapt.odd_world import CLASSES, clutter, domain, picture

pytestmark = pytest.mark.usefixtures("uda_cache", "without_heif")


@pytest.fixture
def root(tmp_path):
    """Two domains with pictures of every kind in `day`."""
    shop = tmp_path / "shop"
    for name in ("day", "night"):
        domain(shop, name)
    for path, options in {
        "circle/clear.png": {"mode": "RGBA"},
        "circle/opaque.png": {"mode": "RGB"},
        "circle/deep.png": {"mode": "I;16"},
        "square/grey.jpg": {"mode": "L"},
        "square/grey.png": {"mode": "LA"},
        "square/white.png": {"tint": 255},
        "square/black.jpg": {"tint": 0},
        "triangle/wide.png": {"size": (90, 30)},
    }.items():
        picture(shop / "day" / path, **options)
    image = Image.open(shop / "day" / "circle" / "opaque.png").convert("RGBA")
    image.save(shop / "day" / "circle" / "opaque.png")
    shutil.copy(shop / "day" / "circle" / "0.png", shop / "day" / "circle" / "copy.png")
    return shop


def check(*words):
    return CliRunner().invoke(main, ["data", "check", *map(str, words)])


def test_a_name_that_is_not_text_is_escaped_on_the_page(root, tmp_path):
    folder, page = root / "day" / "circle", tmp_path / "r.html"
    shutil.copy(folder / "0.png", folder / os.fsdecode(b"\xff.png"))
    result = check("--data", root, "--report", page)
    assert result.exit_code == 0, result.output
    assert "\\udcff.png" in page.read_text("utf-8")


def test_names_of_files_cannot_steer_the_terminal_or_the_log(root, tmp_path):
    for name in ("circle", "square"):  # copies of each other, of one colour
        picture(root / "day" / name / "\a工.png", tint=9)
    result = check("--data", root)
    assert result.exit_code == 0 and "\a" not in result.output
    assert "\\x07工.png" in result.output
    train = "train --source day --target night --method zero_shot --no-baselines".split()
    settings = ["--set", "model=demo-rn32", "--set", "pretrained=demo"]
    result = CliRunner().invoke(main, [*train, *settings, "--data", root, "--artifacts", tmp_path])
    assert result.exit_code == 0, result.output
    log = next(tmp_path.glob("*/*/*/train.log")).read_text("utf-8")
    for text in (result.stderr, log):
        assert "\\x07工.png" in text and "\a" not in text


def test_the_inventory_counts_every_kind_and_warnings_are_no_error(root, tmp_path):
    expected = clutter(root / "day")
    result = check("--data", root, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())["inventory"]
    day, night = report["day"], report["night"]
    assert day["images"] == 21 and day["classes"] == {"circle": 8, "square": 8, "triangle": 5}
    assert day["per_class"] == {"min": 5, "median": 8, "max": 8}
    assert day["kinds"] == {
        "transparent": 1, "16-bit": 1, "grey": 3, "blank": 2, "copies": 1, "unreadable": 0,
    }  # fmt: skip
    assert day["sizes"] == {"24x24": 20, "90x30": 1}
    assert day["left_out"] == expected and len(day["left_out_paths"]) >= len(expected)
    assert [path.rpartition("/")[2] for path in day["blank"]] == ["black.jpg", "white.png"]
    assert set(night["kinds"].values()) == {0} and night["left_out"] == {}
    for line in (
        "day: 21 images of 3 classes; per class min 5 (triangle), median 8, max 8 (circle)",
        "  sizes 24 x 24 (20), 90 x 30 (1); transparent 1, 16-bit 1, grey 3, blank 2, copies 1, un",
        "day: one colour fills 2 of 21 images, the first: ",
        "day: 1 image is a copy of another, the first: ",
    ):
        assert line in result.output


def test_what_lies_beside_the_domains_is_counted_and_is_no_domain(root, tmp_path):
    picture(root / "stray.png")
    picture(root / "@eaDir" / "circle" / "0.png")
    (root / "day.txt").write_text("day/circle/0.png\n")
    os.symlink(".", root / "loop")
    os.symlink("day", root / "noon")
    result = check("--data", root, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert [row["domain"] for row in report["rows"]] == ["day", "night", "noon"]
    assert report["beside"] == {
        ".txt": 1, "images in no domain": 1, "links to a folder above": 1, "thumbnails": 1,
    }  # fmt: skip
    assert "beside the domains: left out 4: .txt 1, " in result.output
    two = check("--data", root, "--source", "day", "--target", "night")
    assert "beside the domains" not in two.output


def test_near_empty_classes_and_classes_of_one_domain_are_named(root):
    picture(root / "day" / "star" / "0.png")
    result = check("--data", root)
    assert "day: few images (up to 1) in 'star'" in result.output
    assert "night: missing 1 class: 'star'" in result.output
    assert result.exit_code == 1 and "the classes differ: 'night' lacks 'star'" in result.stderr


def test_the_same_content_under_two_labels_or_in_two_domains_is_told(root):
    shutil.copy(root / "day" / "circle" / "1.png", root / "day" / "square" / "wrong.png")
    shutil.copy(root / "day" / "circle" / "2.png", root / "night" / "circle" / "leak.png")
    result = check("--data", root)
    assert result.exit_code == 0
    assert "day: 1 image is a copy of another, the first: " in result.output
    assert "with two labels; keep one of each" in result.output
    assert "'day' and 'night': 1 image is a copy of another, the first: " in result.output


def test_sizes_of_many_kinds_are_summed_up(root):
    for number in range(3):
        picture(root / "night" / "circle" / f"x{number}.png", size=(10 + number, 200))
    assert "  sizes 24 x 24 to 12 x 200, median 24 x 24; " in check("--data", root).output


def test_the_page_needs_no_other_file_and_has_samples_of_each_class_and_domain(root, tmp_path):
    clutter(root / "day")
    for name in ("day", "night"):
        domain(root, name, 1, ("<b>&'",))
    (root / "night" / "circle" / "bad.png").write_bytes(b"x")
    page = tmp_path / "out.html"
    found = tmp_path / "out.json"
    result = check("--data", root, "--report", page, "--json", found)
    assert result.exit_code == 1 and f"report     {page}" in result.output
    text = page.read_text()
    assert "<b>&amp;" not in text and "&lt;b&gt;&amp;&#39;" in text
    assert not re.search(r"(src|href)=['\"](?!data:)|url\(|https?:", text)
    shown = [base64.b64decode(found) for found in re.findall(r"jpeg;base64,([^\"]+)", text)]
    domains = json.loads(found.read_text())["inventory"].values()
    counts = [count for one in domains for count in one["classes"].values()]
    assert len(counts) == 2 * (len(CLASSES) + 1)
    assert len(shown) == sum(min(count, SAMPLES) for count in counts) - 1
    assert text.count("cannot be read</span>") == 1
    sizes = {Image.open(io.BytesIO(one)).size for one in shown}
    assert (80, 27) in sizes and max(map(max, sizes)) == 80  # one has 90 x 30
    assert "Training would refuse: 1 of 14 images of &#39;night&#39; cannot be read" in text
    assert "left out: thumbnails (6)" in text and "@eaDir (5 files)" in text
    check("--data", root, "--report", page, "--no-images")
    assert "base64" not in page.read_text() and "night/circle/bad.png" in page.read_text()


def test_a_page_of_a_named_data_set_is_a_usage_error(tmp_path):
    result = check("--dataset", "demo-digits", "--report", tmp_path / "out.html")
    assert result.exit_code == 2 and "leave out --dataset" in result.output


def test_a_page_that_no_browser_would_open_is_a_usage_error(root, tmp_path):
    domain(root, "day", 1, ("a", "b"))
    result = check("--data", root, "--report", tmp_path / "page")
    assert result.exit_code == 2 and "--report must end in .html, found '" in result.output
    assert "page.html" in result.output and not (tmp_path / "page").exists()


def test_training_warns_of_copies_that_mislead_it_or_its_test(root):
    day, night = root / "day", root / "night"
    assert warnings(load_folders(root, "night", "day", holdout=0.3)) == []
    shutil.copy(night / "circle" / "1.png", night / "square" / "wrong.png")
    domain(root, "dusk/train")
    domain(root, "dusk/test", 1)
    shutil.copy(root / "dusk/train/square/2.png", root / "dusk/test/square/2.png")
    shutil.copy(night / "triangle" / "0.png", root / "dusk/test/triangle/0.png")
    found = warnings(load_folders(root, "night", "dusk"))
    assert len(found) == 3
    assert found[0].startswith(
        "1 of 13 images of the source 'night' are copies of images with another"
    )
    assert found[1].startswith("1 of 4 test images are copies of source images, so training has")
    assert found[2].startswith("1 of 4 test images are copies of target images, so training has")
    assert day.is_dir()


def test_a_kept_inventory_of_any_shape_is_shown_or_passed_over():
    assert line_of(None) is line_of(["x"]) is None
    assert line_of({"source": {"name": "a\x1b[2J", "images": 3}, "target": 5, "left_out": 1}) == (
        r"source a\x1b[2J 3; left out: nothing"
    )
    assert line_of({"left_out": {".heic": 2}}) == "; left out: .heic 2"


def test_an_empty_class_folder_is_a_finding_and_the_rest_is_reported(root, tmp_path):
    (root / "day" / "hexagon").mkdir()
    (root / "day" / "square" / "broken.png").write_bytes(b"no image")
    result = check("--data", root, "--json", tmp_path / "r.json")
    finding = f"'{root / 'day'}' has class folders without images: 'hexagon'; fill or delete them"
    assert result.exit_code == 1 and result.stderr == f"error: {finding}\n"
    assert f"day: {finding}" in result.stdout and "cannot be read, the first" in result.stdout
    day = json.loads((tmp_path / "r.json").read_text())["inventory"]["day"]
    assert day["classes"]["hexagon"] == 0 and day["kinds"]["unreadable"] == 1


def test_a_line_names_the_most_frequent_endings_and_sums_up_the_others():
    counts = {f".e{number}": 20 - number for number in range(9)} | {"hidden": 2}
    assert reasons(counts) == (
        ".e0 20, .e1 19, .e2 18, .e3 17, .e4 16, hidden 2, 4 more endings 54"
    )
