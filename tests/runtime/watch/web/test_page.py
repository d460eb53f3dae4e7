"""The page in headless Chromium, over the real program."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

pytest.importorskip("starlette", reason="the extra [web] is not installed")
pytest.importorskip("uvicorn", reason="the extra [web] is not installed")

from runtime.bundles import bundle
from tests.browser import CHROMIUM, browser
from tests.runtime.routed import with_routing
from tests.runtime.watch.collecting import WAIT, eventually
from tests.runtime.watch.web.viewing import watching
from tests.runtime.watched import watch

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"
)
TOKEN = "correct horse battery"
HOSTILE = (
    "<img src=x onerror=alert(1)>", "\"><script>fetch('http://127.0.0.1:9/x')</script>",
    "W" * 300, "מכונית", "猫 🐈 mit Umlaut ä",
)  # fmt: skip
NUMBER = "+(document.querySelector('canvas')?.dataset.number ?? NaN)"
LABEL = "document.querySelector('.label').textContent"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def show(chromium):
    """Return a function that opens an address until the end of the test."""
    opened = []

    def shown(address, **options):
        opened.append(chromium.open(address, **options))
        return opened[-1]

    yield shown
    for page in opened:
        page.call("Page.navigate", url="about:blank")


def until(page, expression):
    """Wait until an expression is true in a page, and return its value."""
    return eventually(lambda: page.evaluate(expression))


def press(page, key, code):
    """Press a key."""
    text = {" ": {"text": " "}, "Enter": {"text": "\r"}}.get(key, {})
    for kind in ("keyDown", "keyUp"):
        page.call(
            "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
        )  # fmt: skip


def pixels(page):
    return page.evaluate("document.querySelector('canvas').toDataURL()")


def test_the_picture_moves_with_its_words(world, show):
    watch(world)
    with watching(world, ("door", "yard")) as (served, seen, _):
        page = show(served.address)
        assert until(page, f"{NUMBER} >= 0") is True
        first = page.evaluate(NUMBER), pixels(page)
        assert until(page, f"{NUMBER} > {first[0]}") and pixels(page) != first[1]
        assert len(first[1]) > 1000
        number, label, novelty = page.evaluate(
            f"[{NUMBER}, {LABEL}, document.querySelector('.value.novelty').textContent]"
        )
        taken = {each.frame.number: each.prediction for each in seen.of("door")}
        assert label == taken[number].label
        assert novelty.startswith(f"{taken[number].novelty:.2f} ")
        drawn = "document.querySelector('.strip .line').getAttribute('d')?.startsWith('M')"
        assert until(page, drawn)
        assert page.evaluate("[...document.querySelectorAll('.name')].map(n => n.textContent)") == [
            "door", "yard",
        ]  # fmt: skip
        assert page.evaluate("document.querySelector('.tasks').hidden"), "it only shows"
        assert page.errors() == []
        assert {re.sub(r"[^/]*$", "", url) for url in page.requested()} == {served.address}


def test_a_button_switches_the_task_of_the_next_labels(world, show):
    with_routing(world)
    with watching(world, control=True) as (served, seen, watcher):
        page = show(served.address)
        names = "[...document.querySelectorAll('.tasks button')].map(b => b.value)"
        assert until(page, f"{NUMBER} >= 0 && {names}") == ["auto", "a-b", "a-c", "a-d"]
        pressed = "document.querySelector('.tasks [aria-pressed=true]').value"
        assert page.evaluate(pressed) == "a-b"
        page.evaluate("document.querySelector('.tasks [value=a-d]').click()")
        until(page, "document.querySelector('canvas')?.dataset.task == 'a-d'")
        number, label = page.evaluate(f"[{NUMBER}, {LABEL}]")
        prediction = next(each for each in seen.seen if each.frame.number == number).prediction
        assert (prediction.task, prediction.label) == ("a-d", label)
        assert until(page, f"{pressed} == 'a-d'") and watcher.status()[0].choice == "a-d"
        until(page, "document.getElementById('said').textContent.includes('a-d is chosen')")

        # The same with the keyboard alone.
        page.evaluate("document.querySelector('.tasks [value=a-b]').focus()")
        press(page, "Tab", 9)
        focused = "[document.activeElement.value, getComputedStyle(document.activeElement).outline]"
        value, outline = page.evaluate(focused)
        assert value == "a-c" and "2px" in outline
        press(page, " ", 32)
        until(page, "document.querySelector('canvas')?.dataset.task == 'a-c'")
        assert page.errors() == []


def test_a_wrong_token_is_refused_and_the_right_one_leaves_the_address(world, show):
    with watching(world, token=TOKEN) as (served, _, _):
        page = show(served.address)
        until(page, "!document.getElementById('enter').hidden")
        enter = "document.getElementById('token').value = '{}'; "
        enter += "document.getElementById('enter').requestSubmit()"
        page.evaluate(enter.format("wrong horse battery!"))
        until(page, "document.getElementById('wrong').textContent.includes('not the token')")
        assert served.viewers == 0 and not page.evaluate("document.cookie")
        page.call("Network.clearBrowserCookies")

        link = show(f"{served.address}#token={TOKEN.replace(' ', '%20')}")
        assert until(link, f"{NUMBER} >= 0") is True and served.viewers == 1
        assert link.evaluate("location.href") == served.address
        assert link.evaluate("document.cookie") == "", "scripts cannot read it"
        assert not [url for url in link.requested() if "horse" in url.partition("#")[0]]
        link.call("Page.reload")
        eventually(
            lambda: link.evaluate("performance.getEntriesByType('navigation')[0]?.type") == "reload"
        )
        assert until(link, f"{NUMBER} >= 0") is True, "the cookie admits from now on"


def test_a_page_recovers_when_the_program_restarts(world, tmp_path, show):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with _program(world.path, port, tmp_path / "first") as address:
        page = show(address)
        until(page, f"{NUMBER} >= 5")
    until(page, "!document.getElementById('notice').hidden")
    assert page.evaluate("document.getElementById('link-text').textContent") == "Connection lost"
    before = page.evaluate(NUMBER)
    with _program(world.path, port, tmp_path / "second", "--control"):
        until(page, f"{NUMBER} < {before} || {NUMBER} > {before}")
        until(page, "document.body.dataset.link == 'live'")
        assert page.evaluate("document.getElementById('notice').hidden")
        until(page, "!document.querySelector('.tasks').hidden")


@contextlib.contextmanager
def _program(path, port, log, *options):
    """Run the command, and end it as systemd does; give the page's address."""
    command = [sys.executable, "-m", "runtime", "watch", path, "--source", "door=demo:"]
    command += ["--task", "a-b", "--web", str(port), *options]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ}
        )  # fmt: skip
    try:
        found = eventually(lambda: re.search(r"page: (http://\S+)", log.read_text()))
        yield found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_tab_that_is_not_seen_costs_nothing(world, show):
    with watching(world) as (served, _, _):
        page = show(served.address)
        until(page, f"{NUMBER} >= 0")
        for hidden in ("true", "false"):
            page.evaluate(
                "Object.defineProperty(document, 'hidden', "
                f"{{value: {hidden}, configurable: true}});"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
            eventually(lambda wanted=hidden: served.viewers == (wanted == "false"))
        number = page.evaluate(NUMBER)
        until(page, f"{NUMBER} > {number}")
        page.evaluate("document.getElementById('pause').click()")
        eventually(lambda: served.viewers == 0)
        assert page.evaluate("document.getElementById('link-text').textContent") == "Paused"
        page.evaluate("document.getElementById('pause').click()")
        until(page, "document.body.dataset.link == 'live'")


@pytest.fixture
def many(make_world):
    """60 tasks; the classes of the first one have names of the worst kinds."""
    world = make_world("many.bundle", tasks=60)
    first = world.tasks["a-b"]
    head = {"weight": first.head_tensors["weight"][[0] * len(HOSTILE)]}
    classes = tuple(HOSTILE)
    info = replace(first.info, classes=classes)
    world.tasks["a-b"] = replace(first, info=info, head_tensors=head)
    world.parts["tasks"] = list(world.tasks.values())
    bundle.write(world.path, **world.parts)
    return world


def test_names_of_any_kind_are_text_and_of_many_tasks_one_is_found(many, show):
    names = tuple(f"camera-{number:02}{'-long' * (number % 4)}" for number in range(5))
    with watching(many, names, control=True) as (served, _, watcher):
        page = show(served.address)
        drawn = "[...document.querySelectorAll('canvas')].filter(c => c.dataset.number >= 0)"
        until(page, f"{drawn}.length == 5")
        assert page.evaluate("document.images.length + document.scripts.length") == 1
        others = "[...document.querySelectorAll('.answer bdi, .label')].map(b => b.textContent)"
        assert any(text.startswith(HOSTILE[0]) for text in page.evaluate(others))
        for width in (320, 390, 768, 1280):
            page.show(width)
            inner, wide = page.evaluate("[innerWidth, document.documentElement.scrollWidth]")
            assert inner == width and wide <= width
        page.evaluate("document.querySelector('.opener').focus()")
        press(page, "Enter", 13)
        assert page.evaluate("document.querySelectorAll('#choices button').length") == 60
        page.call("Input.insertText", text="a-59")
        assert page.evaluate("document.getElementById('found').textContent") == "1 of 60"
        press(page, "Enter", 13)
        until(page, "document.querySelector('canvas')?.dataset.task == 'a-59'")
        until(page, "!document.getElementById('picker').open")
        assert page.evaluate("document.activeElement.className") == "opener", "the focus is back"
        assert watcher.status()[0].choice == "a-59"
        page.evaluate("location.hash = 'camera-03-long-long-long'")
        until(page, "[...document.querySelectorAll('.camera')].filter(c => !c.hidden).length == 1")
        assert page.errors() == []


def test_both_themes_can_be_read(world, show):
    watch(world)
    with watching(world, control=True) as (served, _, _):
        page = show(served.address)
        until(page, f"{NUMBER} >= 0")
        grounds = {}
        for scheme in ("light", "dark"):
            page.show(390, scheme)
            time.sleep(0.05)  # for what changes smoothly
            grounds[scheme] = _colour(page, ".camera", "background-color")
            for selector in (".label", ".share", ".what", ".value span", ".others", "summary"):
                found = _contrast(grounds[scheme], _colour(page, selector, "color"))
                assert found >= 4.5, (scheme, selector)
            button = ".tasks [aria-pressed=true]"
            pair = (_colour(page, button, name) for name in ("background-color", "color"))
            assert _contrast(*pair) >= 4.5
        assert min(grounds["light"]) > 0.9 and max(grounds["dark"]) < 0.2


def _colour(page, selector, name):
    found = page.evaluate(f"getComputedStyle(document.querySelector('{selector}'))['{name}']")
    return [int(part) / 255 for part in re.findall(r"\d+", found)[:3]]


def _contrast(one, other):
    """Return the contrast of two colours as WCAG defines it."""

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
