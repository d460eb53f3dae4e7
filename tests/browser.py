"""A headless Chromium, driven over a pipe, that opens pages as a reader would."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
# Chromium reads commands from 3 and answers on 4; dash has no numbers above 9 for them.
_START = """
import fcntl, os, sys
high = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(high[0], 3)
os.dup2(high[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page, opened from a file or an address."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol and return its result."""
        return self._browser.call(method, self._session, **arguments)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def show(self, width: int, scheme: str = "light", height: int = 900) -> None:
        """Show the page as wide as a device, in a colour scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 700,
        )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(done["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        done = self.call("Page.printToPDF", printBackground=False, preferCSSPageSize=False)
        path.write_bytes(base64.b64decode(done["data"]))

    def events(self, method: str) -> list[Mapping[str, Any]]:
        """Return the arguments of all events of a name so far."""
        return [
            event["params"]
            for event in self._browser.seen
            if event.get("sessionId") == self._session and event["method"] == method
        ]

    def errors(self) -> list[str]:
        """Return what the console says is wrong, violations of the security policy among it."""
        logged = [event["entry"]["text"] for event in self.events("Log.entryAdded")]
        thrown = [str(event) for event in self.events("Runtime.exceptionThrown")]
        called = [str(event["args"]) for event in self.events("Runtime.consoleAPICalled")]
        return [*logged, *thrown, *called]

    def requested(self) -> list[str]:
        """Return the addresses that the page asked for, itself among them."""
        urls = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]


class Browser:
    """A process of Chromium."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._number, self._rest = 0, b""
        self.seen: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **arguments: Any) -> Any:
        """Send a command and return its result; events meanwhile are kept in `seen`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.seen.append(answer)

    def open(self, where: Path | str, width: int = 1280, scheme: str = "light") -> Page:
        """Open a file or an address, and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Network", "Log", "Runtime"):
            page.call(f"{domain}.enable")
        page.show(width, scheme)
        url = where.resolve().as_uri() if isinstance(where, Path) else where
        page.call("Page.navigate", url=url)
        while not page.events("Page.loadEventFired"):
            self.seen.append(self._next())
        return page

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium, and end it with the block.

    Args:
        profile: Folder for everything that it writes.
    """
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    environment = {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile)}
    start = [sys.executable, "-c", _START, str(theirs_in), str(theirs_out)]
    command = [*start, CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"]
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    found = Browser(process, ours_out, ours_in)
    try:
        yield found
        found.call("Browser.close")
    finally:
        os.close(ours_out)
        os.close(ours_in)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
