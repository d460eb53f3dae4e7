"""The demo's page: what the device saw, how fast, and the page of its artifacts."""

import math
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from adapt.data import load_folders
from adapt.demo import report
from adapt.methods.zero_shot import ZeroShot
from adapt.training.train import train
from tests.adapt.conftest import draw
from tests.adapt.demo.figures import loop_figures

TIMES = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "mean": 1.2, "min": 0.5, "samples": 9}


@pytest.fixture
def chapter(tmp_path):
    paths = []
    for name in ("cup", "key", "lamp"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(tmp_path / name / "0.png")
        paths.append(tmp_path / name / "0.png")
    seen = [
        {"image": f"{name}/0.png", "task": "p-a", "top": [[said, 0.75], ["key", 0.25]]}
        for name, said in (("cup", "cup"), ("key", "cup"), ("lamp", "lamp"))
    ]
    return report.Chapter("p-a", "a <story>", [], paths, seen, tmp_path)


@pytest.fixture
def bench():
    predict = {"kind": "predict", "task": "p-a", "batch": 1, "predict_ms": TIMES}
    return {
        "rows": [predict, {"kind": "switch", "switch_ms": {**TIMES, "p50": 0.25, "p99": 0.75}}],
        "backend": "ort",
        "frame": "8x8",
        "precision": "fp32",
        "machine": {"processor": "a chip", "cores": 2},
    }


def test_the_pictures_say_what_the_device_got_right(chapter):
    found = report.device(chapter)
    assert [card.predicted for card in found.source.shown] == ["cup", "key", "lamp"]
    assert [card.right for card in found.source.shown] == [None] * 3
    assert [(c.predicted, c.score, c.right) for c in found.seen.shown] == [
        ("cup", 0.75, True), ("cup", 0.75, False), ("lamp", 0.75, True),
    ]  # fmt: skip
    assert found.right == 2


def test_the_bars_of_latencies_are_logarithms(bench):
    predict, switch = report.timings(bench)
    assert (predict.name, switch.name) == ("p-a, batch 1", "switch")
    whole = math.log(3.0 / 0.125)  # from half of the fastest p50 to the slowest p99
    for one, p50, p99 in ((predict, 1.0, 3.0), (switch, 0.25, 0.75)):
        assert one.bar == pytest.approx(100 * math.log(p50 / 0.125) / whole)
        assert one.mark == pytest.approx(100 * math.log(p99 / 0.125) / whole)


def test_the_page_has_the_demos_own_sections_and_those_of_every_report(
    chapter, bench, tmp_path, cache
):
    for domain, tint in (("day", 60), ("night", 10)):
        draw(tmp_path / "street", domain, tint, count=2)
    pair = load_folders(tmp_path / "street", "day", "night")
    config = ZeroShot.Config(model="demo-rn32", pretrained="demo")
    run = train("zero_shot", pair, config, out=tmp_path / "artifacts")
    chapter = report.Chapter("p-a", "a <story>", [run.path], chapter.source, chapter.seen, tmp_path)
    page = report.write(
        tmp_path / "out", [chapter], bench, "a < b\n  c", (loop_figures(), tmp_path)
    ).read_text()
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert "<pre>a &lt; b\n  c\n</pre>" in page and "<story>" not in page
    assert "Target as the device sees it: 2 of 3 right" in text and "a <story>" in text
    assert "p-a, batch 1 1 3" in text and "switch 0.25 0.75" in text
    assert "ort on a chip, 2 cores; frame 8x8, fp32." in text
    assert "before clip art p-c 100.0 during paintings p-c 45.5" in text
    assert "Without labels: cannot tell. With 9 held-out frames sorted: better." in text
    assert "+1 to +2 % &lt;against&gt;" in page and page.count('class="drifting"') == 1
    for title in ("Comparison", "street day-night: day to night", "Confusion", "Commands"):
        assert title in text
