"""Train one task: batches, steps, epochs, checkpoints, and the artifact at the end.

Longer than 250 lines, since the state of a run changes in this one class alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import untouched
from adapt.artifacts.run import RunDescription
from adapt.clip import model as base_models
from adapt.clip.captions import class_prompts, fitted
from adapt.compute import parallel
from adapt.compute.device import seed_generators
from adapt.compute.seeds import draw_seed
from adapt.data import DomainPair
from adapt.data.cache import pixels
from adapt.data.inspection.training import stored, tell
from adapt.evaluation.evaluator import Evaluator
from adapt.evaluation.statistics import with_statistics
from adapt.methods.base import AMP, Method
from adapt.optim import rst
from adapt.optim.averaging import WeightAverage
from adapt.optim.optimization import Optimization
from adapt.settings.config import TrainConfig
from adapt.settings.stored import SETTINGS
from adapt.training import checkpoint, identity
from adapt.training.batches import Role, Stream
from adapt.training.best_epoch import BestEpoch, TestImages
from adapt.training.estimate import seconds_per_step, summary
from adapt.training.journal import Journal, interruptible
from adapt.training.record import EpochRow, Meter, density, epoch_row
from runtime.errors import DataError, FormatError, Interrupted, TrainingError
from runtime.storage import disk
from runtime.storage.files import storage_errors

_log = logging.getLogger(__name__)
_READ_EVERY = {"cpu": 1, "cuda": 20}
"""Iterations between reads of the losses by device; a read waits for a GPU."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    artifact: Artifact
    path: Path
    """Path of the artifact."""
    skipped: int
    """Unreadable images that were left out."""


Earlier = tuple[Run, dict[str, tuple[object, object]]]
"""A finished run, and the values in which another one differs from it, by dotted key."""


class Loop:
    """The training loop of all methods, with the state of a run."""

    def __init__(
        self,
        name: str,
        cls: type[Method],
        pair: DomainPair,
        config: TrainConfig,
        path: Path,
        device: torch.device,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Load the base model and the test images; train nothing.

        Args:
            name: Name of the method, a key of `adapt.methods.METHODS`.
            cls: Class of the method.
            pair: Images of the task.
            config: Settings, of the class's `Config` type.
            path: Path of the artifact to write.
            device: Device to train on.
            record: Sources of the settings, for the artifact.
        """
        self.name, self.pair, self.config, self.device = name, pair, config, device
        self.path, self.checkpoint = path, path.with_name(checkpoint.FILE)
        self.clip = base_models.load(config.model, config.pretrained, str(device))
        self.base = base_models.encoder_tensors(self.clip.visual)
        self.config = config = fitted(self.clip, pair.task.classes, config, pair.task.target)
        self.prompts = class_prompts(pair.task.classes, config.prompt, pair.task.target)
        self.method = cls(self.clip, self.prompts, config)
        teachers = self.method.teachers()
        self.identity = identity.of_run(name, pair, config, self.clip.info, teachers)
        self.projection = rst.over(self.method.encoder, config)
        self.optimization = Optimization(
            self.method.parameter_groups(), config, self.projection, self.method.optimizer
        )
        self.average = WeightAverage(self.method, self.optimization)
        self.total = config.epochs * config.iterations if cls.trains else 0
        self.iteration, self.seconds, self.history = 0, 0.0, list[EpochRow]()
        self.meter = Meter()
        self.evaluator = Evaluator(self.method, self.clip, pair, config, device)
        description = RunDescription(
            task=pair.task,
            method=name,
            preprocess=self.clip.preprocess(config.resize, config.interpolation, config.background),
            prompts=self.prompts,
            config=asdict(config),
            seed=config.seed,
            teachers=teachers,
            architecture=self.clip.own,
            optional=({SETTINGS: dict(record)} if record else {}) | stored(pair),
        )
        tested = TestImages(pair.held_out, len(self.evaluator.truth), self.identity["data"])
        self.best_epoch = BestEpoch(
            self.method, self.clip.info, self.base, path, description, tested
        )
        self.skipped = {pair.test.paths[i] for i in self.evaluator.test.skipped}

    def earlier(self) -> Earlier | None:
        """Return the finished run in this run's folder, if any, and how this one differs from it.

        Raises:
            FormatError: The artifact is damaged.
        """
        if not disk.exists(self.path):
            return None
        found = Artifact.load(self.path)
        before = identity.of_artifact(found) | {"prompts": found.prompts}
        different = identity.differences(before, self.identity | {"prompts": self.prompts})
        return Run(found, self.path, len(self.skipped)), different

    def __call__(self, resume: bool, show: bool, begin: Callable[[], None] = lambda: None) -> Run:
        """Train from the start, or from a checkpoint.

        Args:
            resume: Whether to continue from the checkpoint.
            show: Whether to show a progress bar.
            begin: Function to call when the run can no longer be refused.
        """
        pair = self.pair
        source = target = None
        if self.total:
            source, target = self._stream("source"), self._stream("target")
            self.method.prepare(source, target)
        if resume:
            self._restore()
        begin()
        _log.info("%s on %s %s, %s", self.name, pair.task.dataset, pair.task.id, self.device)
        if parallel.rank() == 0:
            tell(pair)
        folder = self.path.parent if parallel.rank() == 0 else None
        with Journal(folder, self.total, show) as journal, interruptible() as asked:
            if source and target:
                if show and parallel.world() == 1:
                    self._estimate(source, target, journal)
                self._loop(source, target, journal, asked)
            else:
                self._end_epoch(journal)
        with self.average.applied():
            artifact = self.best_epoch.finish(self.history, self._complete)
        if parallel.rank() == 0:
            with storage_errors(self.checkpoint):
                self.checkpoint.unlink(missing_ok=True)
        if parallel.any_process(asked()):  # too late to save time here, but not in what follows
            raise self._interrupted()
        return Run(artifact, self.path, len(self.skipped))

    def _complete(self, artifact: Artifact) -> Artifact:
        """Return the artifact of the chosen weights with what those who watch it need."""
        clip = untouched(self.clip, self.base)
        return with_statistics(artifact, self.pair.target, self.device, clip)

    def _estimate(self, source: Stream, target: Stream, journal: Journal) -> None:
        step = seconds_per_step(self.method, source, target, self.iteration)
        left = self.total - self.iteration
        epochs = -(-left // self.config.iterations)
        expected = summary(left, step, epochs, self.evaluator.seconds())
        journal.say(f"{expected} on this {self.device.type}")

    def _stream(self, role: Role) -> Stream:
        images, config = self.pair.source if role == "source" else self.pair.target, self.config
        seen = self.method.uses_images
        size = config.train_size if seen else self.clip.image_size
        content = pixels(images, size, config.resize, config.interpolation, config.background)
        self.skipped |= {images.paths[i] for i in content.skipped}
        if role == "source" and not images.labelled:
            raise DataError(
                f"the source '{images.domain}' has images without a label, training needs one for "
                "each; sort them into class folders"
            )
        labels = images.labels[content.positions] if role == "source" else None
        return Stream(
            role, content.images, labels, config, self.clip, self.device,
            digest=content.key, images=seen,
        )  # fmt: skip

    def _loop(
        self, source: Stream, target: Stream, journal: Journal, asked: Callable[[], bool]
    ) -> None:
        config, method = self.config, self.method
        pending: list[dict[str, Tensor]] = []
        started = time.monotonic() - self.seconds
        while (i := self.iteration) < self.total:
            # For dropout and the like, if any.
            seed_generators(self.device, draw_seed(config.seed, "step", i))
            if i % config.iterations == 0:
                method.start_epoch(i // config.iterations)
            method.train()
            self.optimization.set_factor(method.schedule(i))
            self.optimization.progress = (i + 1) / self.total
            terms = method.training_step(source.batch(i), target.batch(i), i, self.optimization)
            pending.append({name: term.detach() for name, term in terms.items()})
            self.iteration = i + 1
            ends = self.iteration % config.iterations == 0
            looks = ends or len(pending) == _READ_EVERY[self.device.type]
            # One process knows by itself; several ask each other, which waits for the GPU.
            stop = parallel.any_process(asked()) if looks or parallel.world() == 1 else False
            if looks or stop:
                journal.advance(self.iteration, self.meter.add(pending, self.iteration))
                pending = []
            self.seconds = time.monotonic() - started
            if ends:
                self._end_epoch(journal)
                started = time.monotonic()
            if ends or stop:
                self._save()
            if stop and self.iteration < self.total:
                raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"interrupted at iteration {self.iteration} of {self.total}, everything is saved; run "
            "the same command with --resume to continue"
        )

    def _end_epoch(self, journal: Journal) -> None:
        if not self.optimization.finite():
            raise TrainingError(
                f"a weight is not finite after iteration {self.iteration} of {self.total}; lower "
                f"the learning rate (lr={self.config.lr:g}); no artifact was written"
            )
        if len(self.history) >= self.config.epochs - self.config.average_epochs:
            self.average.add()
        with self.average.applied():
            self._evaluate(journal)

    def _evaluate(self, journal: Journal) -> None:
        sparse, amp = self.projection, AMP.get(self.config.amp)
        scores, label_free = self.evaluator()
        row = epoch_row(
            self.history,
            scores,
            epoch=self.iteration // max(self.config.iterations, 1),
            iteration=self.iteration,
            losses=self.meter.means(),
            lr=self.optimization.lr,
            density=sparse.density if sparse else density(self.method.encoder, self.base),
            survival=sparse.survival(amp) if sparse and amp else None,
            seconds=self.seconds,
            label_free=label_free,
            budget=self.config.rst_density if self.config.rst else 0.0,
        )
        self.history.append(row)
        self.meter, self.seconds = Meter(), 0.0
        journal.epoch(self.history)
        self.best_epoch.keep(self.history)

    def _save(self) -> None:
        if parallel.rank():
            return
        progress = checkpoint.Progress(
            iteration=self.iteration,
            history=tuple(self.history),
            sums=self.meter.sums,
            count=self.meter.count,
            seconds=self.seconds,
            scale=self.optimization.scale,
            averaged=self.average.epochs,
        )
        checkpoint.save(
            self.checkpoint, self.identity, progress, self.method, self.optimization, self.average
        )

    def _restore(self) -> None:
        progress = checkpoint.load(
            self.checkpoint, self.identity, self.method, self.optimization, self.average
        )
        done, epochs = progress.iteration, progress.iteration // max(self.config.iterations, 1)
        if done > self.total or len(progress.history) != epochs:
            raise FormatError(
                f"'{self.checkpoint}' is at iteration {str(done)[:20]} of {self.total} with "
                f"{len(progress.history)} finished epochs, which does not fit; start anew with "
                "--restart"
            )
        self.iteration, self.seconds = progress.iteration, progress.seconds
        self.history = list(progress.history)
        self.meter = Meter(dict(progress.sums), progress.count)
        _log.info("resumed at iteration %d of %d", self.iteration, self.total)
