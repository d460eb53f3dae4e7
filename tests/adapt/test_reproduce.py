"""The commands that make an artifact again name its images and what was set by name."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from adapt.artifacts.reproduce import train_command
from adapt.data.origin import Origin
from adapt.methods.cmkd import CMKDConfig
from adapt.settings.layers import Settings, resolve
from runtime.models import TaskInfo

OWN = TaskInfo("day-night", "street", "day", "night", ("bee", "cup"))


def found(settings: Settings[Any], task: TaskInfo = OWN, origin: Origin | None = None) -> list[str]:
    record = settings.record()
    command = train_command(task, "cmkd", origin, vars(settings.config), record["sources"])
    return shlex.split(command)


def again(words: list[str], dataset: str, task: str | None = None) -> Settings[Any]:
    """Return the settings that a command resolves to."""
    pairs = list(zip(words, words[1:], strict=False))
    settings = [value for key, value in pairs if key == "--set"]
    settings += ["rst=true"] * ("--rst" in words) + ["rst=false"] * ("--no-rst" in words)
    settings += [f"{key[2:]}={value}" for key, value in pairs if key in ("--seed", "--grid")]
    settings += [f"select={value}" for key, value in pairs if key == "--select"]
    presets = [value for key, value in pairs if key == "--preset"]
    return resolve(CMKDConfig, dataset, "cmkd", settings, task=task, presets=presets)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "rst=true", "rst_density=0.005", "grid=fp16", "select=last"],
        ["rst=false", "lr=3e-6", "fixmatch=0.5"],
        ["prompt=it's {}: a '[photo]'", "background=black"],
        ["prompt='a: {}'", "pretrained=openai"],
        ["prompt=\"yes {}\"", "model=RN50"],
    ],
)  # fmt: skip
def test_the_same_settings_come_back(overrides: list[str]) -> None:
    settings = resolve(CMKDConfig, "folder", "cmkd", overrides)
    words = found(settings)
    assert again(words, "folder").values() == settings.values()
    assert words[:8] == [
        "uda-adapt", "train", "--data", "ROOT", "--source", "day", "--target", "night",
    ]  # fmt: skip


@pytest.mark.parametrize("presets", [["rn50"], ["fixmatch"], ["rn50", "fixmatch", "partial"]])
def test_presets_come_back_whatever_their_order(presets: list[str]) -> None:
    task = TaskInfo("a-c", "office-home", "art", "clipart", ("bee", "cup"))
    settings = resolve(CMKDConfig, "office-home", "cmkd", ["rst=true"], task="a-c", presets=presets)
    words = found(settings, task, Origin("/data/office home"))
    assert words[2:8] == [
        "--dataset", "office-home", "--task", "a-c", "--data", "/data/office home",
    ]  # fmt: skip
    assert again(words, "office-home", "a-c").config == settings.config


def test_images_of_ones_own_are_named_as_training_had_them() -> None:
    settings = resolve(CMKDConfig, "folder", "cmkd", ["rst=true"])
    origin = Origin("/a b/street", "day", "/else/night.txt", "dusk")
    words = found(settings, OWN, origin)
    assert words[2:10] == [
        "--data", "/a b/street", "--source", "day", "--target", "/else/night.txt", "--test", "dusk",
    ]  # fmt: skip


@pytest.mark.parametrize("sources", [None, {"lr": ["x"], "seed": 3, "rst": {"a": 1}}])
def test_a_record_that_is_missing_or_odd_is_no_error(sources: Any) -> None:
    settings = resolve(CMKDConfig, "folder", "cmkd", ["lr=0.5"])
    command = train_command(OWN, "cmkd", None, vars(settings.config), sources, "elsewhere")
    assert command.endswith("--artifacts elsewhere")
    assert ("--set lr=0.5" in command) == (sources is None)
