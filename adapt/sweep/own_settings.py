"""Resolve the settings of several methods from one command line."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields

from adapt import methods
from adapt.data import DomainPair
from adapt.evaluation.stored import ZERO_SHOT
from adapt.settings.config import TrainConfig
from adapt.settings.files import preset_names
from adapt.settings.layers import Settings, resolve, shipped
from adapt.settings.limits import check_data

FOLDER = "folder"
"""Name of the settings files for own images."""
_SPARSE = ("rst", "rst_density", "rst_threshold", "rst_allow_rounding")
"""Settings without a meaning where the encoder stays as it is."""
_BASE = ("model", "pretrained")


def resolve_each(
    names: Sequence[str], given: Sequence[tuple[str, str]], presets: Sequence[str]
) -> tuple[dict[str, Settings[TrainConfig]], tuple[str, ...]]:
    """Return the settings of each method on own images, and notes on what is not for all.

    Args:
        names: Names of the methods.
        given: Keys and texts of `key=value`; each is for the methods that have it.
        presets: Names of presets, likewise.

    Raises:
        ConfigError: No method has a setting or a preset, or a value is wrong.
        BaseModelError: A base model or a weights file does not exist.
    """
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
            notes.append(f"{one} does not apply to {', '.join(lacking)}")
        for name in able or lacking[:1]:
            found[name].append(one)
    return found, tuple(dict.fromkeys(notes))


def zero_shot(
    config: TrainConfig, given: Sequence[tuple[str, str]], presets: Sequence[str]
) -> Settings[TrainConfig]:
    """Return the settings of zero-shot CLIP on a base model, with what the user named of them.

    Args:
        config: Settings of a method on that base model.
        given: Keys and texts of `key=value`.
        presets: Names of presets, some of which it may have.
    """
    from adapt.training.probe import SHARED

    base = [f"{key}={json.dumps(getattr(config, key), ensure_ascii=False)}" for key in _BASE]
    own = [one for key, one in given if key in SHARED and key not in _BASE]
    has = preset_names(FOLDER, ZERO_SHOT, shipped())
    return resolve(
        methods.get_config(ZERO_SHOT), FOLDER, ZERO_SHOT, [*base, *own, "seed=0"],
        presets=[preset for preset in presets if preset in has],
    )  # fmt: skip


def with_images(
    names: Sequence[str],
    resolved: Mapping[str, Settings[TrainConfig]],
    first: TrainConfig,
    pair: DomainPair,
) -> dict[str, Settings[TrainConfig]]:
    """Return the settings of each method on a task, with what its images decide.

    Args:
        names: Names of the methods.
        resolved: Settings by method; a linear probe that is not among them gets its own.
        first: Settings that this linear probe shares.
        pair: Images of the task.

    Raises:
        DataError: A domain is too small for a batch.
        ConfigError: Crops show too little of an image, or images would be seen too often.
    """
    from adapt.training.probe import probe_settings  # imports torch

    count = len(pair.source), len(pair.target)
    found: dict[str, Settings[TrainConfig]] = {}
    for name in names:
        cls = methods.get(name)
        if name in resolved:
            found[name] = resolved[name].with_data(cls.from_data, *count)
        else:
            found[name] = probe_settings(None, vars(first), *count)
        if cls.trains:
            check_data(found[name], *count, uses_images=cls.uses_images)
    return found
