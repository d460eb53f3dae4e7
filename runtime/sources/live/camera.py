"""A live source: connects, reads, notices stalls, and connects again, for months.

Longer than most files: a third of it says what a caller may ask of a camera, and the rest is the
life of one thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.closing import Closing
from runtime.errors import ConfigError, DataError, UdaError
from runtime.sources.live import connection_to, kind_of
from runtime.sources.live.address import redacted
from runtime.sources.live.backoff import STEADY, Backoff
from runtime.sources.live.base import Connection, Counts, LiveFrame, Settings
from runtime.sources.live.latest import Latest
from runtime.sources.live.reader import Reader
from runtime.text import printable

State = Literal["connecting", "running", "stalled", "reconnecting", "ended"]
_OPENING = 20.0
"""Seconds that opening and the first frame may take, at least: network cameras may need ten."""
_MOST_LEFT = 4
"""Threads of one camera that hang in a driver, at most; then no other one is started."""
_DAY = 86_400
_END = 1.0
"""Seconds that `close` waits for the threads."""


class Camera(Closing):
    """Frames of one source, in `frames`, which holds `room` of them and drops the oldest.

    One thread looks after another one that reads. A driver or a library may hang for ever; its
    thread is then left behind, and ends with its call or with the process.
    """

    def __init__(
        self,
        name: str,
        where: str,
        room: int = 2,
        *,
        every: int = 1,
        stall: float = Settings.stall,
        settings: Settings | None = None,
        wake: Callable[[], object] | None = None,
        on_error: Callable[[Camera, UdaError], object] | None = None,
    ) -> None:
        """Start to connect.

        Args:
            name: Name of the source, for messages.
            where: What `CONNECTIONS` knows: number or device of a camera, address in the network,
                pipeline, video file, folder, or `demo:`.
            room: Largest number of frames that wait.
            every: Give one frame of so many, and leave out the others.
            stall: Seconds without a frame after which a camera is connected again.
            settings: How files are read; None for the defaults.
            wake: Called when a frame was added to `frames`, and when the state changed; from
                threads of the camera, so it must not wait.
            on_error: Called with each new reason why there are no frames, and each file of a folder
                that cannot be read; from threads of the camera.

        Raises:
            ConfigError: A setting is wrong, or what the source needs is not installed.
            DataError: There is no such file.
        """
        _check(name, room, every, stall)
        self.name, self.every = name, every
        self._where = where
        self._settings = replace(settings or Settings(), stall=stall)
        self.shown = printable(redacted(where))
        """Where the frames come from, without passwords."""
        self.frames = Latest(room, wake)
        self.state: State = "connecting"
        self.error: UdaError | None = None
        """Why it is not running; None while it is."""
        self.reconnects = 0
        """How often frames came again after the connection was lost."""
        self.unreadable = 0
        """Files of a folder that could not be read."""
        self._stall, self._wake_other, self._on_error = stall, wake, on_error
        self._numbers, self._ran = 0, False
        self._wake, self._stopping = threading.Event(), False
        self._left: list[Reader] = []
        self._reader: Reader | None = None
        self._kind = kind_of(
            self._where
        )  # once: a folder that has vanished is one that will come back
        self._connection = self._connected()
        self._backoff = Backoff()
        self._thread = threading.Thread(target=self._run, name="uda-camera", daemon=True)
        self._thread.start()

    def counts(self) -> Counts:
        """Return where the frames are that came so far, all read at one moment."""
        return self.frames.counts()

    @property
    def hanging(self) -> int:
        """Number of threads that were left behind, and hang."""
        return sum(reader.thread.is_alive() for reader in self._left)

    def close(self) -> None:
        """Read no more, within two seconds also where a driver hangs; drop what waits.

        Safe to call more than once.
        """
        self._stopping = True
        end = time.monotonic() + _END
        self._wake.set()
        if self._reader is not None:
            self._reader.stop()
        self._thread.join(_END)
        reader = self._reader  # another one, if the thread had just begun with it
        if reader is not None and reader not in self._left:
            reader.stop()
            reader.thread.join(max(0.0, end - time.monotonic()))
            if reader.thread.is_alive():
                self._left.append(reader)
        self.state = "ended"
        self.frames.close(drop=True)

    def _run(self) -> None:
        try:
            while not self._stopping and self._connect():
                self._pause(self._backoff.wait())
        finally:
            self.state = "ended"
            self.frames.close()  # which wakes

    def _connect(self) -> bool:
        """Read a connection until it ends; return whether to connect again."""
        self._left = [reader for reader in self._left if reader.thread.is_alive()]
        if len(self._left) >= _MOST_LEFT:
            self._fail(_hanging(len(self._left)), "stalled")
            return True
        if self._reader is not None:
            try:
                self._connection = self._connected(self._reader.connection)
            except UdaError as error:
                self._fail(error, "reconnecting")
                return True
        try:
            reader = Reader(
                *(self._connection, self.frames),
                begin=self._begin,
                give=self._give,
                on_unreadable=self._unreadable,
                wake=self._wake,
            )
        except RuntimeError as error:
            self._fail(DataError(f"the system refuses a thread: {error}"), "reconnecting")
            return True
        self._reader = reader
        self._watch(reader)
        if self._stopping:
            return False
        if not reader.ended:
            self._leave(reader)
        elif reader.error is not None:
            self._fail(reader.error, "reconnecting" if reader.connection.live else "ended")
        if reader.first is not None and reader.alive - reader.first >= STEADY:
            self._backoff.reset()
        return reader.connection.live

    def _connected(self, earlier: Connection | None = None) -> Connection:
        """Return a connection that is not open yet.

        Args:
            earlier: The one that it follows, if any.

        Raises:
            UdaError: There cannot be one now.
        """
        try:
            connection = connection_to(self._where, self._settings, self._kind)
        except UdaError as error:  # may quote the address, mistyped so that it is taken for a file
            raise type(error)(redacted(str(error))) from None
        if earlier is not None:
            connection.resume(earlier)
        return connection

    def _watch(self, reader: Reader) -> None:
        """Wait until a reader has ended, has stalled, or the camera is closed."""
        started = time.monotonic()
        while not (self._stopping or reader.ended):
            known = reader.first is not None
            limit = self._stall if known else max(self._stall, _OPENING)
            since = max(started, reader.alive if known else reader.connection.began)
            left = min(since + limit - time.monotonic(), limit)
            if not reader.connection.live:
                left = threading.TIMEOUT_MAX  # a file has no stalls, and may be slow by intent
            elif left <= 0:
                return
            self._wake.wait(left)
            self._wake.clear()

    def _begin(self) -> None:
        """Note that a connection works, before it gives its first frame."""
        self.reconnects += self._ran
        self._ran = True
        self.error = None
        self._change("running")

    def _leave(self, reader: Reader) -> None:
        """Give up a connection from which nothing comes."""
        reader.stop()
        self._left.append(reader)
        what = "no frame" if reader.opened else "no answer"
        seconds = time.monotonic() - reader.alive
        self._fail(
            DataError(
                f"'{self.shown}' gives {what} for {seconds:.0f} s; check the camera and its cable"
            ),
            "stalled",
        )

    def _fail(self, error: UdaError, state: State) -> None:
        new = str(error) != str(self.error)
        self.error = error
        self._change(state)
        if new:
            self._report(error)

    def _change(self, state: State) -> None:
        self.state = state
        if self._wake_other is not None:
            self._wake_other()

    def _unreadable(self, error: UdaError) -> None:
        self.unreadable += 1
        self._report(error)

    def _report(self, error: UdaError) -> None:
        if self._on_error is not None:
            self._on_error(self, error)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def _give(self, image: NDArray[np.uint8], name: str | None) -> None:
        number = self._numbers
        self._numbers += 1
        if number % self.every:
            self.frames.skip()
        else:
            self.frames.put(LiveFrame(image, number, time.time(), time.perf_counter(), name))


def _check(name: str, room: int, every: int, stall: float) -> None:
    if room < 1 or every < 1 or not 0 < stall <= _DAY:
        raise ConfigError(
            f"source '{name}': queue and every must be positive, and stall at most {_DAY} "
            f"seconds; found {room}, {every} and {stall:g}"
        )


def _hanging(count: int) -> DataError:
    return DataError(
        f"{count} earlier connections hang in the camera's driver; unplug the camera, or restart "
        "the program"
    )
