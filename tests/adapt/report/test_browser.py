"""Pages in headless Chromium, as a reader opens them: on a phone, in the dark, on paper."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapt.data import DomainPair, ImageSet
from adapt.evaluation.compare import Line
from adapt.evaluation.confusion import Confusion
from adapt.evaluation.predictions import Predictions
from adapt.evaluation.trust import trust
from adapt.report.runs import ReportedRun
from adapt.report.tasks import ReportedTask
from adapt.report.write import Table, write
from runtime.models import TaskInfo
from runtime.monitoring.confidence import Calibration
from tests.browser import CHROMIUM, Browser, Page, browser

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"
)
FORMER = Path(__file__).parents[2] / "fixtures" / "549a19a"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\"><script>fetch('http://127.0.0.1:9/x')</script>",
    "</style><iframe src=http://127.0.0.1:9/>",
    "{{ 7 * 7 }} {% raw %}",
    "a\x1b[2J\u202eb\x00\n",
    "W" * 300,
    "猫 mit Umlaut ä",
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def report(folder: Path, classes: tuple[str, ...], images: int = 40) -> ReportedTask:
    """Return a task with random predictions over some classes, and images of every name."""
    generator = torch.Generator().manual_seed(0)
    draws = np.random.default_rng(0)
    labels = draws.integers(0, len(classes), images)
    paths = []
    for number in range(images):
        name = os.fsdecode(b"\xff") if number == 0 else HOSTILE[number % 4].replace("/", "|")
        path = folder / f"day{number % 2}" / f"{name[:40]}{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 256, (20 + number, 60, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        paths.append(path)
    test = ImageSet(tuple(paths), labels, classes, classes[0])
    logits = torch.randn(images, len(classes), generator=generator)
    found = Predictions.of(logits, np.arange(images))
    run = replace(next(_runs()), label=classes[1], lost="no history: " + HOSTILE[0])
    run = replace(run, task=replace(run.task, source="<i>a</i>", target="b"))
    history = tuple(
        {
            "epoch": epoch,
            "accuracy": 66.67,
            "density": 0.01,
            "survival": None,
            "scores": {"infomax": -0.4485 / epoch},
            "losses": {"small": 1.234e-5 / epoch, "reg": 0.04506 * epoch, "large": 9876.5 * epoch},
        }
        for epoch in (1, 2, 3)
    )
    run = replace(run, history=history)
    counted = Confusion.counted(found.classes[:, 0], labels, classes)
    lines = [
        Line(
            variant=name, base="x", seed=0, epoch=1, selected_by="infomax",
            accuracy=counted.accuracy, mean_per_class=counted.mean_per_class,
            last=1.0, last_mean_per_class=1.0, oracle_best=2.0, oracle_best_mean_per_class=2.0,
            density=0.1, file_bytes=10, images=counted.images, infomax=found.infomax,
            survival={"fp32": 1.0, "fp16": 0.5, "bf16": 0.1},
            trust=trust(found, labels, Calibration(1.5, 60) if name == run.label else None),
            confusion=counted, predictions=found,
        )
        for name in ("zero_shot", run.label)
    ]  # fmt: skip
    info = TaskInfo("a-b", "street", "<i>a</i>", "b", tuple(f"c{i}" for i in range(9)))
    pair = DomainPair(info, test, test, test, held_out=False)
    return ReportedTask(info, [run], pair, lines, HOSTILE[0], list(HOSTILE))


def _runs() -> Iterator[ReportedRun]:
    for path in sorted(FORMER.rglob("artifact.safetensors")):
        yield ReportedRun.read(path)


@pytest.fixture(scope="module")
def page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page of two tasks: one of hostile names, one of 345 classes, with a table on top."""
    folder = tmp_path_factory.mktemp("page")
    many = tuple(f"class {'long ' * (i % 9)}{i:03}" for i in range(345))
    tasks = [report(folder / "a", HOSTILE), report(folder / "b", many, 400)]
    table = Table("Sweep", ["%", *(f"task {i}" for i in range(40))], [["x"] * 41], HOSTILE)
    path = folder / "report.html"
    write(path, tasks, title=HOSTILE[1], tables=[table], notes=HOSTILE)
    assert path.stat().st_size < 4 << 20
    return chromium.open(path)


def test_nothing_is_wrong_and_nothing_is_fetched(page: Page) -> None:
    assert page.errors() == []
    assert page.requested() == [page.evaluate("location.href")]


def test_hostile_names_are_text(page: Page) -> None:
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.querySelectorAll('iframe, object, [onerror]').length") == 0
    text = page.evaluate("document.body.textContent")
    assert all(name in text for name in HOSTILE[:4]) and "49" not in text.split("Sweep")[0]
    assert "a\\x1b[2J\\u202eb\\x00\\n" in text and "\\udcff" in page.evaluate(
        "document.body.innerHTML"
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", text.replace("\n", ""))


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_a_page_is_never_wider_than_the_screen(width: int, page: Page) -> None:
    page.show(width)
    inner, scrolled = page.evaluate("[innerWidth, document.documentElement.scrollWidth]")
    assert inner == width and scrolled <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre') "
        "&& e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 99))"
    )
    assert wide == []
    page.show(1280)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_figures_of_a_chart_are_whole(width: int, page: Page) -> None:
    page.show(width)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.curve text')].map(t => [t.getBBox().x, "
        "t.getBBox().x + t.getBBox().width - t.ownerSVGElement.viewBox.baseVal.width])"
    )
    assert boxes and all(left >= 0 and over <= 0.5 for left, over in boxes)
    page.show(1280)


def contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast of two colours as WCAG defines it."""

    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colours(page: Page, selector: str, property_: str) -> list[float]:
    found = page.evaluate(
        f"getComputedStyle(document.querySelector('{selector}')).getPropertyValue('{property_}')"
    )
    return [int(part) / 255 for part in re.findall(r"\d+", found)[:3]]


def test_dark_and_light_differ_and_both_can_be_read(page: Page) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        page.show(1280, scheme)
        ground = colours(page, "body", "background-color")
        seen[scheme] = ground
        for selector, property_ in (
            ("body", "color"), ("a", "color"), (".soft", "color"), ("b.bad", "color"),
            (".bar .value", "fill"),
        ):  # fmt: skip
            assert contrast(ground, colours(page, selector, property_)) >= 4.5, selector
    assert min(seen["light"]) > 0.9 and max(seen["dark"]) < 0.2
    page.show(1280)


def test_every_picture_is_shown_and_every_link_leads_somewhere(page: Page) -> None:
    assert page.evaluate("document.images.length") > 50
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate(
        "[...document.querySelectorAll('a')].every(a => document.querySelector("
        "a.getAttribute('href')) !== null)"
    )


def test_of_345_classes_the_worst_are_open_and_the_rest_is_folded(page: Page) -> None:
    text = page.evaluate("document.body.textContent")
    assert "19 of 345 classes with the most mistakes" in text
    assert "Samples of 64 of 345 classes" in text
    rows = page.evaluate(
        "[...document.querySelectorAll('[aria-label=\"results per class\"]')]"
        ".map(t => [t.closest('details') === null, t.querySelectorAll('tbody tr').length])"
    )
    opened = [count for is_open, count in rows if is_open]
    assert max(opened) <= 20 and sum(count for _, count in rows) > 200


def test_folded_settings_are_printed(page: Page) -> None:
    height = "document.querySelector('details.printed table').getBoundingClientRect().height"
    folded = page.evaluate("document.querySelector('details.printed').open")
    page.call("Emulation.setEmulatedMedia", media="print")
    assert not folded and page.evaluate(height) > 100
    page.call("Emulation.setEmulatedMedia", media="")
    page.show(1280)


def test_a_page_prints(page: Page, tmp_path: Path) -> None:
    page.pdf(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF") and 5 < len(re.findall(rb"/Type /Page\b", content)) < 60
