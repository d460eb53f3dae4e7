import base64
import re

import numpy as np
import pytest
from PIL import Image

from adapt.demo import report

TIMES = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "mean": 1.2, "min": 0.5, "samples": 9}


@pytest.fixture
def chapter(tmp_path):
    paths = []
    for name in ("cup", "key", "lamp"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / name / "0.png")
        paths.append(tmp_path / name / "0.png")
    seen = [
        {"image": f"{name}/0.png", "task": "p-a", "top": [[said, 0.75]]}
        for name, said in (("cup", "cup"), ("key", "cup"), ("lamp", "lamp"))
    ]
    variants = [
        {"variant": v, "accuracy": a}
        for v, a in (("cmkd-rst", 90.5), ("zero_shot", 50.25), ("source_only", 40.0))
    ]
    return report.Chapter("p-a", "a <story>", paths, seen, {"variants": variants}, tmp_path)


@pytest.fixture
def bench():
    predict = {"kind": "predict", "task": "p-a", "batch": 1, "predict_ms": TIMES}
    machine = {"processor": "a chip", "cores": 2}
    return {
        "rows": [predict, {"kind": "switch", "switch_ms": {**TIMES, "p50": 0.25}}],
        "backend": "ort",
        "frame": "8x8",
        "precision": "fp32",
        "machine": machine,
    }


def test_the_sheet_counts_what_the_device_got_right(chapter):
    figure = report.sample_sheet(chapter)
    assert "2 of 3 right" in figure.get_suptitle()
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["cup", "key", "lamp", "cup 75%", "cup 75%", "lamp 75%"]
    colors = [axis.title.get_color() for axis in figure.axes[3:]]
    assert colors == [report._RIGHT, report._WRONG, report._RIGHT]


def test_bars_are_as_high_as_the_accuracies_whatever_their_order(chapter):
    (axis,) = report.accuracy_bars([chapter]).axes
    assert [bar.get_height() for bar in axis.patches] == [50.25, 40.0, 90.5]


def test_latency_bars_show_the_median_and_marks_the_tail(bench):
    (axis,) = report.latency(bench).axes
    assert [bar.get_width() for bar in axis.patches] == [1.0, 0.25]
    assert list(axis.lines[0].get_xdata()) == [3.0, 3.0]


def test_the_page_carries_its_pictures_and_escapes_what_it_shows(chapter, bench, tmp_path):
    page = report.write(tmp_path / "out", [chapter], bench, "a < b").read_text()
    assert "a &lt; b" in page and "<story>" not in page
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    names = ("accuracy", "latency", "samples-p-a")
    files = [(tmp_path / "out" / f"{name}.png").read_bytes() for name in names]
    assert [base64.b64decode(picture) for picture in pictures] == files
