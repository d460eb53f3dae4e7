"""The table of sinks: what it names exists, and what is not installed is one clear error."""

import inspect
import sys
from pathlib import Path

import pytest

from runtime.commands.watch_options import SINK_OPTIONS
from runtime.errors import ConfigError
from runtime.lookup import imported
from runtime.watch import sinks
from runtime.watch.sinks.base import Sink

ROOT = Path(__file__).parents[4]
PACKAGES = {"mqtt": "paho", "metrics": "prometheus_client"}


@pytest.mark.parametrize("name", sinks.SINKS)
def test_a_sink_takes_its_options_and_its_extra_exists(name):
    entry = sinks.SINKS[name]
    assert entry.options.keys() - {sinks.PRINTED} <= SINK_OPTIONS.keys()
    if entry.extra is not None:
        assert f"\n{entry.extra} = [" in (ROOT / "pyproject.toml").read_text()
    try:
        kind = imported(entry.sink)
    except ModuleNotFoundError as error:
        pytest.skip(f"'{error.name}' is not installed")
    assert issubclass(kind, Sink)
    assert set(entry.options.values()) <= set(inspect.signature(kind).parameters)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_is_not_installed_is_named_with_its_extra(name, monkeypatch):
    for module in list(sys.modules):
        if module.startswith((PACKAGES[name], f"runtime.watch.sinks.{name}")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(ConfigError, match=rf"--{name} needs .* run pip install '\.\[{name}\]'"):
        sinks.load(name, dict.fromkeys(sinks.SINKS[name].options))
