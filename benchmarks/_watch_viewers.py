"""Viewers of the live page, a Prometheus and a subscriber of MQTT, in a process of their own.

    python -m benchmarks._watch_viewers WEB_PORT METRICS_PORT MQTT_PORT VIEWERS

Reads lines from stdin: `go` has all of them connect, and prints `ready` when each viewer has had a
picture; `stop` has them leave, and prints as JSON what they got and what processor time they took.
A viewer reads pictures and shows none of them: a browser would also decode them.
"""

from __future__ import annotations

import http.client
import json
import struct
import sys
import threading
import time
from typing import Any

import paho.mqtt.client

SCRAPE = 1.0
"""Seconds between two scrapes; Prometheus asks every 15 or 60."""
HOST = "127.0.0.1"


class Viewer(threading.Thread):
    """Reads the stream of the page until it is told to leave, or the stream ends."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.pictures = self.bytes = 0
        self.first, self.leaving, self.lost = threading.Event(), False, False
        self._port = port

    def run(self) -> None:
        try:
            self._read()
        except (OSError, http.client.HTTPException):
            self.lost = not self.leaving
        self.first.set()

    def _read(self) -> None:
        link = http.client.HTTPConnection(HOST, self._port, timeout=60)
        link.request("GET", "/stream")
        answer = link.getresponse()
        while not self.leaving and len(lengths := answer.read(8)) == 8:
            text, picture = struct.unpack("<II", lengths)
            document = json.loads(answer.read(text))
            self.bytes += len(lengths) + text + len(answer.read(picture))
            if document["kind"] == "frame":
                self.pictures += 1
                self.first.set()
        self.lost = not self.leaving
        link.close()


class Visit:
    """All who look, from `go` to `stop`."""

    def __init__(self, web: int, metrics: int, mqtt: int, viewers: int) -> None:
        self.messages = self.scrapes = 0
        self._cpu, self._metrics, self._left = time.process_time(), metrics, threading.Event()
        self._listener: Any = paho.mqtt.client.Client(paho.mqtt.client.CallbackAPIVersion.VERSION2)
        self._listener.on_message = self._heard
        self._listener.connect(HOST, mqtt)
        self._listener.subscribe("uda/+/prediction")
        self._listener.loop_start()
        self._scraper = threading.Thread(target=self._scrape, daemon=True)
        self._scraper.start()
        self._viewers = [Viewer(web) for _ in range(viewers)]
        for viewer in self._viewers:
            viewer.start()
        for viewer in self._viewers:
            viewer.first.wait(60)

    def stop(self) -> dict[str, Any]:
        self._left.set()
        for viewer in self._viewers:
            viewer.leaving = True
        for thread in (*self._viewers, self._scraper):
            thread.join(60)
        self._listener.disconnect()
        self._listener.loop_stop()
        return {
            "pictures": [viewer.pictures for viewer in self._viewers],
            "bytes": sum(viewer.bytes for viewer in self._viewers),
            "lost": sum(viewer.lost for viewer in self._viewers),
            "scrapes": self.scrapes,
            "messages": self.messages,
            "cpu_seconds": time.process_time() - self._cpu,
        }

    def _heard(self, *_: object) -> None:
        self.messages += 1

    def _scrape(self) -> None:
        while not self._left.wait(SCRAPE):
            link = http.client.HTTPConnection(HOST, self._metrics, timeout=60)
            link.request("GET", "/metrics")
            self.scrapes += b"uda_frames_predicted_total" in link.getresponse().read()
            link.close()


def main(words: list[str]) -> None:
    visit: Visit | None = None
    for line in sys.stdin:
        if line == "go\n":
            visit = Visit(*map(int, words))
            print("ready", flush=True)
        elif visit is not None:
            print(json.dumps(visit.stop()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
