"""Watch the drift of one source, and collect its frames."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import StorageError, TaskError, UdaError
from runtime.monitoring.drift import EVERY, Drift, DriftMonitor
from runtime.monitoring.harvest import Harvester
from runtime.prediction import Prediction
from runtime.sources.live import kind_of
from runtime.sources.live.base import LiveFrame
from runtime.storage import disk
from runtime.storage.files import make_folder, storage_errors
from runtime.watch.notes import Notes
from runtime.watch.settings import Monitoring, SourceSettings


class Monitors:
    """What is noticed and kept of one source's frames. Used by one thread at a time."""

    def __init__(
        self, source: SourceSettings, monitoring: Monitoring, notes: Notes, *, alone: bool
    ) -> None:
        """Open the harvest, and read the state of drift.

        Args:
            source: The source.
            monitoring: What to do with its frames.
            notes: Where errors go that must not stop the source.
            alone: Whether there is no other source, so that the folder of the harvest is its own.

        Raises:
            UdaError: The folder of the harvest cannot be used, or a state is damaged.
        """
        self._name, self._notes = source.name, notes
        self._without: set[str] = set()
        """Tasks that lack what a monitor needs, and of which that was said."""
        self.drifts: dict[str, Drift] = {}
        """The last by the id of each task; replaced as a whole, as others read it."""
        # Frames of a video are nearly alike; pictures of a folder come one by one.
        every = 1 if kind_of(source.where) == "folder" else max(1, EVERY // source.every)
        self._drift: DriftMonitor | None = None
        self._path: Path | None = None
        if monitoring.drift:
            self._drift = DriftMonitor(every)
            if monitoring.state is not None:
                self._path = monitoring.state / f"{source.name}.drift.json"
                if disk.exists(self._path):
                    self._drift = DriftMonitor.load(self._path)
                self.save()  # a folder that cannot be written shows now
        self._harvester: Harvester | None = None
        if (harvest := monitoring.harvest) is not None:
            folder = harvest.folder
            if not alone:
                with storage_errors(folder):
                    make_folder(folder, 0o700)
                folder = folder / source.name
            self._harvester = Harvester(folder, harvest.budget, days=harvest.days, every=every)

    def see(self, frame: LiveFrame, prediction: Prediction) -> Drift | None:
        """Take in the next frame; return what its task's drift is, if it is watched."""
        if self._harvester is not None:
            try:
                self._harvester.offer(frame.image, prediction)
            except TaskError as error:
                self._lacks(f"harvest {prediction.task}", error)
            except UdaError as error:
                self._notes.say(f"harvest {self._name}", f"warning: {self._name}: {error}")
        if self._drift is None:
            return None
        try:
            drift = self._drift.see(prediction)
        except TaskError as error:
            self._lacks(f"drift {prediction.task}", error)
            return None
        self.drifts = {**self.drifts, drift.task: drift}
        return drift

    def harvested(self) -> dict[str, int] | None:
        """Return the number of images by part, from any thread; None without a harvest."""
        if self._harvester is None:
            return None
        return {str(part): count for part, count in self._harvester.counts().items()}

    def keep(self) -> None:
        """Save the state of drift, or say why that fails; called now and then, and at the end."""
        try:
            self.save()
        except StorageError as error:
            self._notes.say(f"state {self._name}", f"warning: {self._name}: {error}")

    def save(self) -> None:
        """Save the state of drift, where a folder was given for it.

        Raises:
            StorageError: It cannot be written.
        """
        if self._drift is not None and self._path is not None:
            self._drift.save(self._path)

    def close(self) -> None:
        """Write what was collected. Safe to call more than once."""
        self.keep()
        if self._harvester is not None:
            try:
                self._harvester.close()
            except UdaError as error:
                self._notes.say(f"harvest {self._name}", f"warning: {self._name}: {error}")

    def _lacks(self, what: str, error: UdaError) -> None:
        """Say once that a task lacks what a monitor needs; other tasks may have it."""
        if what not in self._without and len(self._without) < 1000:
            self._without.add(what)
            self._notes.say(f"{what} {self._name}", f"warning: {self._name}: {error}")
