"""List the runs of a sweep over the user's own images, with the baselines of every task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapt.data import DomainPair, spelling
from adapt.data.folder import load_own
from adapt.data.harvest import folder_of
from adapt.data.origin import named
from adapt.evaluation.stored import PROBE, ZERO_SHOT
from adapt.settings import text
from adapt.settings.config import TrainConfig
from adapt.settings.layers import Settings
from adapt.settings.limits import check_startable
from adapt.sweep.jobs import Job, OwnImages, Sweep, check_once, quiet
from adapt.sweep.own_settings import resolve_each, with_images, zero_shot
from runtime.errors import ConfigError
from runtime.storage.files import sha256
from runtime.text import shell_command

_FIRST = (ZERO_SHOT, PROBE, "source_only")
"""Methods that come first, as people read baselines first."""


@dataclass(frozen=True)
class OwnSweep(Sweep):
    """The runs of a sweep over own images."""

    pairs: Mapping[str, DomainPair]
    """Images by task, as the first seed splits them."""
    notes: tuple[str, ...]
    """Settings and presets that are not for all methods, for people."""


def plan_own(
    names: Sequence[str],
    root: Path,
    sources: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    *,
    out: Path,
    settings: Sequence[str] = (),
    presets: Sequence[str] = (),
    test: str | None = None,
    baselines: bool = True,
    device: str = "cpu",
    threads: int | None = None,
    restart: bool = False,
) -> OwnSweep:
    """Return the runs of a sweep, all methods and tasks of a seed before the next seed.

    Args:
        names: Names of the methods.
        root: Folder of the data set.
        sources: Labelled domains, folders or list files; of several, each is paired with every
            other domain of `targets`.
        targets: Unlabelled domains, likewise.
        seeds: Seeds of the runs.
        out: Folder below which the runs go.
        settings: Settings as `key=value`; each is for the methods that have it.
        presets: Names of presets, likewise.
        test: Other labelled images to test on, if there is one target.
        baselines: Whether to add zero-shot CLIP and a linear probe.
        device: Device of each run.
        threads: CPU threads of each run.
        restart: Whether to train again what was trained before.

    Raises:
        ConfigError: A setting is unknown, something is given twice, two tasks have one id, or a
            target is a harvest, without `test`.
        DataError: A domain is missing or unusable, or too small for a batch.
        UdaError: No run could start with such settings.
    """
    sources = [spelling.inside(root, name) for name in sources]
    targets = [spelling.inside(root, name) for name in targets]
    check_once(method=names, source=sources, target=targets, seed=seeds)
    for target in targets if test is None else ():
        _check_no_harvest(root, sources[0], target)
    given = [(text.override(one)[0], one) for one in settings]
    resolved, notes = resolve_each(names, given, presets)
    first = resolved[next((name for name in resolved if name != ZERO_SHOT), ZERO_SHOT)]
    added = [name for name in (ZERO_SHOT, PROBE) if baselines and name not in names]
    if ZERO_SHOT in (*added, *names):  # the same whether it is named or not
        resolved[ZERO_SHOT] = zero_shot(first.config, given, presets)
    for name, found in resolved.items():
        check_startable(found.config, name, device)
    test = test and named(root, test)
    with quiet():  # `check` warns of the images
        pairs = _pairs(root, sources, targets, test, first.config, seeds[0])
    folder = out / next(iter(pairs.values()))[1].task.dataset / _name(given, presets, test)
    job = partial(Job, device=device, root=root, threads=threads, restart=restart, several=True)
    ranked = list(dict.fromkeys(n for n in (*_FIRST, *names) if n in (*added, *names)))
    images = {task: pair for task, (_, pair) in pairs.items()}
    by_task = {t: with_images(ranked, resolved, first.config, p) for t, p in images.items()}
    return OwnSweep(_jobs(job, folder, pairs, by_task, seeds), images, notes)


def _check_no_harvest(root: Path, source: str, target: str) -> None:
    """Refuse a harvest: on its frames, most without labels, a table of accuracies says nothing.

    Raises:
        ConfigError: The target is one.
    """
    if folder_of(root, target) is not None:
        words = ["uda-adapt", "train", "--data", root, "--source", source, "--target", target]
        raise ConfigError(
            f"'{root / target}' is a harvest, and a sweep does not compare with the task that saw "
            f"it; adapt to it alone, with: {shell_command(words)}"
        )


def _jobs(
    job: Callable[..., Job],
    folder: Path,
    pairs: Mapping[str, tuple[OwnImages, DomainPair]],
    settings: Mapping[str, Mapping[str, Settings[TrainConfig]]],
    seeds: Sequence[int],
) -> tuple[Job, ...]:
    """Return the runs, all methods and tasks of a seed before the next seed."""
    return tuple(
        job(name, pair.task.dataset, task, found.with_seed(seed), folder / f"seed{seed}", own=own)
        for seed in seeds
        for task, (own, pair) in pairs.items()
        for name, found in settings[task].items()
        # Zero-shot CLIP depends on the seed through the held-out images alone.
        if seed == seeds[0] or name != ZERO_SHOT or found.config.holdout
    )


def _pairs(
    root: Path,
    sources: Sequence[str],
    targets: Sequence[str],
    test: str | None,
    config: TrainConfig,
    seed: int,
) -> dict[str, tuple[OwnImages, DomainPair]]:
    """Return the images of every task by its id."""
    found: dict[str, tuple[OwnImages, DomainPair]] = {}
    for source in sources:
        for target in targets:
            if len(sources) > 1 and source == target:
                continue  # the upper bound of one domain is not a task of several
            pair = load_own(
                root, source, target, test,
                holdout=config.holdout, seed=seed, target_classes=config.pair_classes,
            )  # fmt: skip
            if other := found.get(pair.task.id):
                raise ConfigError(
                    f"'{source}' to '{target}' and '{other[0].source}' to '{other[0].target}' have "
                    f"the same task id '{pair.task.id}'; pass each domain once, or rename a folder"
                )
            found[pair.task.id] = OwnImages(source, target, test), pair
    if not found:
        raise ConfigError("--source and --target name the same domain; pass another target")
    return found


def _name(given: Sequence[tuple[str, str]], presets: Sequence[str], test: str | None) -> str:
    """Return the name of a sweep's folder: the same for the same settings, whatever the methods."""
    values = dict(text.override(one) for _, one in given)  # the last one wins
    document = json.dumps([values, list(presets), test], sort_keys=True, default=str)
    return f"own-{sha256(document.encode())[:8]}"
