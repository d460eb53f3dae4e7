"""List the runs of a sweep over the user's own images, with the baselines of every task."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from adapt import methods
from adapt.data import DomainPair, spelling
from adapt.data.folder import load_own
from adapt.data.origin import named
from adapt.evaluation.stored import ZERO_SHOT
from adapt.settings import text
from adapt.settings.config import TrainConfig
from adapt.settings.files import preset_names
from adapt.settings.layers import Settings, resolve, shipped
from adapt.settings.limits import check_data, check_startable
from adapt.sweep.jobs import Job, OwnImages, check_once, quiet
from runtime.errors import ConfigError
from runtime.storage.files import sha256

FOLDER = "folder"
"""Name of the settings files for own images."""
PROBE = "linear_probe"
_SPARSE = ("rst", "rst_density", "rst_threshold", "rst_allow_rounding")
"""Settings without a meaning where the encoder stays as it is."""
_BASE = ("model", "pretrained")


@dataclass(frozen=True)
class OwnSweep:
    """The runs of a sweep over own images."""

    jobs: tuple[Job, ...]
    pairs: Mapping[str, DomainPair]
    """Images by task, as the first seed splits them."""
    notes: tuple[str, ...]
    """Settings and presets that are not for all methods, for people."""

    @property
    def folder(self) -> Path:
        """Folder of the sweep: its seeds, each a root folder of artifacts, and its tables."""
        return self.jobs[0].out.parent


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
        sources: Labelled domains, folders or list files; of several, each goes with every other
            domain of `targets`.
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
        ConfigError: A setting is unknown, something is given twice, or two tasks have one id.
        DataError: A domain is missing or unusable, or too small for a batch.
        UdaError: No run could start with such settings.
    """
    sources, targets = (
        [spelling.inside(root, name) for name in domains] for domains in (sources, targets)
    )
    check_once(method=names, source=sources, target=targets, seed=seeds)
    given = [(text.override(one)[0], one) for one in settings]
    resolved, notes = _resolve(names, given, presets)
    first = next(iter(resolved.values()))
    added = [name for name in (ZERO_SHOT, PROBE) if baselines and name not in names]
    if ZERO_SHOT in added:
        resolved[ZERO_SHOT] = _zero_shot(first.config, given)
    for name, found in resolved.items():
        check_startable(found.config, name, device)
    test = test and named(root, test)
    with quiet():  # `check` warns of the images
        pairs = _pairs(root, sources, targets, test, first.config, seeds[0])
    folder = out / next(iter(pairs.values()))[1].task.dataset / _name(given, presets, test)
    jobs: list[Job] = []
    for task, (own, pair) in pairs.items():
        for name, found in _of_task([*added, *names], resolved, pair).items():
            # Zero-shot CLIP depends on the seed through the held-out images alone.
            once = name == ZERO_SHOT and not found.config.holdout
            jobs += [
                Job(
                    name, pair.task.dataset, task, found.with_seed(seed), folder / f"seed{seed}",
                    device, root, threads, own, restart,
                )
                for seed in (seeds[:1] if once else seeds)
            ]  # fmt: skip
    jobs.sort(key=lambda job: seeds.index(job.config.seed))
    return OwnSweep(tuple(jobs), {task: pair for task, (_, pair) in pairs.items()}, notes)


def _resolve(
    names: Sequence[str], given: Sequence[tuple[str, str]], presets: Sequence[str]
) -> tuple[dict[str, Settings[TrainConfig]], tuple[str, ...]]:
    """Return the settings of each method, with those of the command line that it has, and notes."""
    classes = {name: methods.get_config(name) for name in names}
    keys = {name: {field.name for field in fields(cls)} for name, cls in classes.items()}
    keys = {n: k - {*_SPARSE} if classes[n].leaves_encoder else k for n, k in keys.items()}
    settings, notes = _of_each(given, keys)
    known = {name: preset_names(FOLDER, name, shipped()) for name in names}
    chosen, more = _of_each([(preset, f"preset {preset}") for preset in presets], known)
    own = {name: [one.removeprefix("preset ") for one in chosen[name]] for name in names}
    found = {
        name: resolve(cls, FOLDER, name, [*settings[name], "seed=0"], presets=own[name])
        for name, cls in classes.items()
    }
    return found, (*notes, *more)


def _of_each(
    given: Sequence[tuple[str, str]], known: Mapping[str, Collection[str]]
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Return the texts of the keys that each method knows, and notes on what some do not know.

    What no method knows is given to the first, whose error says what is wrong.

    Args:
        given: Keys and texts.
        known: Known keys by method.
    """
    found: dict[str, list[str]] = {name: [] for name in known}
    notes: list[str] = []
    for key, one in given:
        able = [name for name in known if key in known[name]]
        lacking = [name for name in known if name not in able]
        if able and lacking and one != "rst=false":  # which all of them do anyway
            notes.append(f"{one} is not for {', '.join(lacking)}")
        for name in able or lacking[:1]:
            found[name].append(one)
    return found, tuple(dict.fromkeys(notes))


def _zero_shot(config: TrainConfig, given: Sequence[tuple[str, str]]) -> Settings[TrainConfig]:
    """Return the settings of zero-shot CLIP on a base model, with what the user named of them."""
    from adapt.training.probe import SHARED

    base = [f"{key}={json.dumps(getattr(config, key), ensure_ascii=False)}" for key in _BASE]
    own = [one for key, one in given if key in SHARED and key not in _BASE]
    return resolve(methods.get_config(ZERO_SHOT), FOLDER, ZERO_SHOT, [*base, *own, "seed=0"])


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


def _of_task(
    names: Sequence[str], resolved: Mapping[str, Settings[TrainConfig]], pair: DomainPair
) -> dict[str, Settings[TrainConfig]]:
    """Return the settings of each method on a task, with what its images decide.

    Raises:
        DataError: A domain is too small for a batch.
        ConfigError: Crops show too little of an image, or images would be seen too often.
    """
    from adapt.training.probe import probe_settings  # imports torch

    count = len(pair.source), len(pair.target)
    first, found = next(iter(resolved.values())), dict[str, Settings[TrainConfig]]()
    for name in names:
        cls = methods.get(name)
        if name in resolved:
            found[name] = resolved[name].with_data(cls.from_data, *count)
        else:
            found[name] = probe_settings(None, vars(first.config), *count)
        if cls.trains:
            check_data(found[name], *count, uses_images=cls.uses_images)
    return found


def _name(given: Sequence[tuple[str, str]], presets: Sequence[str], test: str | None) -> str:
    """Return the name of a sweep's folder: the same for the same settings, whatever the methods."""
    values = dict(text.override(one) for _, one in given)  # the last one wins
    document = json.dumps([values, list(presets), test], sort_keys=True, default=str)
    return f"own-{sha256(document.encode())[:8]}"
