"""The only training loop.

What a run leaves under `OUT/<dataset>/<task>/<variant>`: `artifact.safetensors`, `metrics.jsonl`
(one line per epoch) and `train.log`; while it is unfinished also `checkpoint.safetensors`.

An unfinished run is never thrown away unasked: starting again needs `go_on` (continue, on the CPU
bit for bit as if never stopped; on CUDA as far as its kernels repeat themselves) or `restart`. A
finished artifact stays until the new one replaces it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from adapt import clip as base_models
from adapt import methods, resume, store
from adapt.artifact import Artifact
from adapt.batches import Role, Stream, draw_seed
from adapt.config import TrainConfig
from adapt.data import DomainPair, class_prompts
from adapt.data.base import UNKNOWN
from adapt.data.cache import pixels
from adapt.device import check_precision, exact_float32, select
from adapt.evaluate import predict, score
from adapt.journal import Journal, interruptible, log_file
from adapt.method import AMP, Method
from adapt.optimize import Optimization
from adapt.record import Meter, Row, density, epoch_row, metrics
from adapt.rst import Projection
from runtime.errors import ConfigError, DataError, TrainingError

_log = logging.getLogger(__name__)
_LOOK_EVERY = {"cpu": 1, "cuda": 20}
"""Iterations between looks at the losses: on a GPU each look waits for it."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    artifact: Artifact
    path: Path
    """Of the artifact."""


def train(
    name: str,
    pair: DomainPair,
    config: TrainConfig,
    *,
    out: Path,
    device: str = "cpu",
    go_on: bool = False,
    restart: bool = False,
    show: bool = False,
) -> Run:
    """Adapt a base model to a task and write the artifact.

    Target labels are used for evaluation alone; the last epoch's weights are what is saved.

    Args:
        name: A key of `adapt.methods.METHODS`.
        pair: The images.
        config: Of the method's `Config` type.
        out: Root folder of the artifacts.
        device: `cpu`, `cuda` or `cuda:N`.
        go_on: Continue an unfinished run. A run that has finished with these settings is returned
            as it is; without any earlier run a new one starts.
        restart: Throw an unfinished run away.
        show: Show a progress bar on stderr.

    Raises:
        UdaError: Settings, data, base model or device are unusable, a loss is not finite, the disk
            is full, or the run was interrupted (it can then be continued).
    """
    place = select(device)
    check_precision(config, place)
    cls = methods.get(name)
    if config.rst and not (cls.trains and config.train_encoder):
        raise ConfigError(
            f"rst keeps the encoder's changes sparse, but '{name}' with these settings leaves the "
            "encoder alone; set rst=false"
        )
    kind = store.variant(name, config.rst)
    path = store.place(out, pair.task.dataset, pair.task.id, kind)
    folder = path.parent
    waiting = (folder / resume.FILE).exists()
    if waiting and not go_on and not restart:
        raise ConfigError(
            f"'{folder}' holds an unfinished run; add --resume to go on with it, or --restart to "
            "throw it away"
        )
    cuda = [place] if place.type == "cuda" else []
    with log_file(folder), exact_float32(), torch.random.fork_rng(devices=cuda):
        run = _Run(name, cls, pair, config, path, place)
        if go_on and not waiting and (done := run.finished()):
            return done
        if restart:
            (folder / resume.FILE).unlink(missing_ok=True)
        return run(go_on and waiting, show)


class _Run:
    """The moving parts of one run."""

    def __init__(
        self,
        name: str,
        cls: type[Method],
        pair: DomainPair,
        config: TrainConfig,
        path: Path,
        device: torch.device,
    ) -> None:
        self.name, self.pair, self.config, self.device = name, pair, config, device
        self.path, self.checkpoint = path, path.with_name(resume.FILE)
        self.clip = base_models.load(config.model, config.pretrained, str(device))
        self.base = base_models.encoder_tensors(self.clip.visual)
        self.identity = resume.identity(name, pair, config, self.clip.info)
        self.prompts = class_prompts(pair.task.classes, config.prompt)
        self.method = cls(self.clip, self.prompts, config)
        trained = [p for p in self.method.encoder.parameters() if p.requires_grad]
        self.projection = Projection(trained, config.rst_threshold) if config.rst else None
        self.optimization = Optimization(self.method.parameter_groups(), config, self.projection)
        self.total = config.epochs * config.iterations if cls.trains else 0
        self.iteration, self.seconds, self.history = 0, 0.0, list[Row]()
        self.meter = Meter()

    def finished(self) -> Run | None:
        """Return the run that wrote its artifact with these very settings, if there is one."""
        if not self.path.exists():
            return None
        found = Artifact.load(self.path)
        before = found.config, found.base, found.task, found.prompts, found.metrics.get("data")
        now = asdict(self.config), self.clip.info, self.pair.task, self.prompts
        return Run(found, self.path) if before == (*now, self.identity["data"]) else None

    def __call__(self, going_on: bool, show: bool) -> Run:
        pair, config = self.pair, self.config
        test = pixels(pair.test, self.clip.image_size, config.resize)
        self.test, self.truth = test.images, pair.test.labels[test.kept]
        source = target = None
        if self.total:
            source, target = self._stream("source"), self._stream("target")
            self.method.prepare(source, target)
        if going_on:
            self._restore()
        _log.info("%s on %s %s, %s", self.name, pair.task.dataset, pair.task.id, self.device)
        with Journal(self.path.parent, self.total, show) as journal, interruptible() as asked:
            if source and target:
                self._loop(source, target, journal, asked)
            else:
                self._end_epoch(journal)
        return self._finish()

    def _stream(self, role: Role) -> Stream:
        images = self.pair.source if role == "source" else self.pair.target
        content = pixels(images, self.config.train_size, self.config.resize)
        labels = images.labels[content.kept] if role == "source" else None
        if labels is not None and (labels == UNKNOWN).any():
            raise DataError(f"the source '{images.domain}' has images without a label; label them")
        return Stream(role, content.images, labels, self.config, self.clip, self.device)

    def _loop(
        self, source: Stream, target: Stream, journal: Journal, asked: Callable[[], bool]
    ) -> None:
        config, method = self.config, self.method
        pending: list[dict[str, Tensor]] = []
        started = time.monotonic() - self.seconds
        while (i := self.iteration) < self.total:
            torch.manual_seed(draw_seed(config.seed, "step", i))  # dropout and the like, if any
            if i % config.iterations == 0:
                method.start_epoch(i // config.iterations)
            method.train()
            self.optimization.set_factor(method.schedule(i))
            terms = method.training_step(source.batch(i), target.batch(i), i, self.optimization)
            pending.append({name: term.detach() for name, term in terms.items()})
            self.iteration = i + 1
            ends, stop = self.iteration % config.iterations == 0, asked()
            if ends or stop or len(pending) == _LOOK_EVERY[self.device.type]:
                journal.advance(self.iteration, self.meter.add(pending, self.iteration))
                pending = []
            self.seconds = time.monotonic() - started
            if ends:
                self._end_epoch(journal)
                started = time.monotonic()
            if ends or stop:
                self._save()
            if stop and self.iteration < self.total:
                raise TrainingError(
                    f"interrupted at iteration {self.iteration} of {self.total}, everything is "
                    "saved; run the same command with --resume to go on"
                )

    def _end_epoch(self, journal: Journal) -> None:
        if not self.optimization.finite():
            raise TrainingError(
                f"a weight is not finite after iteration {self.iteration} of {self.total}; lower "
                f"the learning rate (lr={self.config.lr:g}); no artifact was written"
            )
        method, sparse, amp = self.method.eval(), self.projection, AMP.get(self.config.amp)
        known = (self.truth != UNKNOWN).any()
        size, style = self.config.eval_batch_size, {"mean": self.clip.mean, "std": self.clip.std}
        logits = predict(method.logits, self.test, size, self.device, **style) if known else None
        row = epoch_row(
            self.history,
            None if logits is None else score(logits, self.truth, self.pair.task.classes),
            epoch=self.iteration // self.config.iterations,
            iteration=self.iteration,
            losses=self.meter.means(),
            lr=self.optimization.lr,
            density=sparse.density if sparse else density(method.encoder, self.base),
            survival=sparse.survival(amp) if sparse and amp else None,
            seconds=self.seconds,
        )
        self.history.append(row)
        self.meter, self.seconds = Meter(), 0.0
        journal.epoch(self.history)

    def _save(self) -> None:
        progress = resume.Progress(
            iteration=self.iteration,
            history=tuple(self.history),
            sums=self.meter.sums,
            count=self.meter.count,
            seconds=self.seconds,
            scale=self.optimization.scale,
        )
        resume.save(self.checkpoint, self.identity, progress, self.method, self.optimization)

    def _restore(self) -> None:
        progress = resume.load(self.checkpoint, self.identity, self.method, self.optimization)
        self.iteration, self.seconds = progress.iteration, progress.seconds
        self.history = list(progress.history)
        self.meter = Meter(dict(progress.sums), progress.count)
        _log.info("resumed at iteration %d of %d", self.iteration, self.total)

    def _finish(self) -> Run:
        deployed = self.method.deploy()
        artifact = Artifact.of(
            self.clip.info,
            self.base,
            deployed.encoder,
            deployed.head,
            task=self.pair.task,
            method=self.name,
            preprocess=self.clip.preprocess(self.config.resize),
            prompts=self.prompts,
            config=asdict(self.config),
            seed=self.config.seed,
            metrics=metrics(
                self.history[-1], self.pair.held_out, len(self.truth), self.identity["data"]
            ),
        )
        artifact.save(self.path)
        self.checkpoint.unlink(missing_ok=True)
        _log.info("wrote %s, %d bytes", self.path, self.path.stat().st_size)
        return Run(artifact, self.path)
