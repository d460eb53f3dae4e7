"""What a benchmark has measured is in its JSON when a time limit or an error ends it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import click
import pytest

from benchmarks import training
from benchmarks.gpu import probe
from runtime.errors import BackendError


class Trainer:
    """Takes steps, until one fails."""

    def __init__(self, steps: int = 99) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of memory")


def train(monkeypatch, path, *groups):
    monkeypatch.setattr(training, "variants", lambda *given: list(groups))
    command = ["--folder", str(path.parent), "--case", "small", "--no-memory", "--json", str(path)]
    training.main(command, standalone_mode=False)


def test_steps_are_in_the_file_when_a_later_one_fails(tmp_path, monkeypatch):
    path = tmp_path / "rows.json"
    with pytest.raises(RuntimeError, match="out of memory"):
        train(monkeypatch, path, {"plain": Trainer, "ours": lambda: Trainer(4)})
    rows = json.loads(path.read_text())["rows"]
    assert [(row["variant"], row["steps"]) for row in rows] == [("plain", 3), ("ours", 3)]


def test_what_is_compiled_apart_is_compared_with_the_plain_steps_beside_it(tmp_path, monkeypatch):
    path, plain = tmp_path / "rows.json", [Trainer(), Trainer()]
    first = {"plain": lambda: plain[0], "ours": Trainer}
    train(monkeypatch, path, first, {"plain": lambda: plain[1], "compiled": Trainer})
    steps = training.CASES["small"].steps
    rows = json.loads(path.read_text())["rows"]
    assert {row["variant"]: row["steps"] for row in rows} == dict.fromkeys(
        ("plain", "ours", "compiled"), steps
    )
    assert [trainer.left for trainer in plain] == [98 - steps] * 2


def test_what_the_probe_knows_is_in_the_file_when_the_device_fails(tmp_path, monkeypatch):
    def measure(device, samples):
        yield {"entries": 7}
        yield {"called": {"p50": 0.1}}
        raise BackendError("out of memory")

    device = SimpleNamespace(
        name="a GPU", capability=(9, 0), driver=13000, integrated=False, close=lambda: None
    )
    monkeypatch.setattr(probe, "CudaDevice", lambda: device)
    monkeypatch.setattr(probe, "measure", measure)
    path = tmp_path / "rows.json"
    with pytest.raises((BackendError, click.ClickException, SystemExit)):
        probe.main(["--json", str(path)], standalone_mode=False)
    found = json.loads(path.read_text())
    assert (found["gpu"], found["entries"], found["called"]["p50"]) == ("a GPU", 7, 0.1)
