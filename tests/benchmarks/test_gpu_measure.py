"""What the GPU benchmark compares with, and that one failing side costs no row of another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks._models import Model, make_model
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import measure
from benchmarks.gpu.measure import WARMUP, interleaved
from benchmarks.gpu.targets import frame_ratios, switch_bound, switch_target
from benchmarks.gpu.watched import WATCHED, measure_watching
from runtime import Session


def test_targets_go_by_the_name_that_the_driver_gives():
    assert switch_target("NVIDIA H200") == 0.2
    assert switch_target("Orin (nvgpu)") == 1.0
    assert switch_target("NVIDIA GeForce RTX 4090") is None


def test_the_bound_of_a_switch_counts_sectors_and_rows():
    # Every entry changes: each of 100 sectors is read and written twice, the rows are 1600 x 14 B.
    assert switch_bound(1600, 1600, 1e9) == pytest.approx((100 * 32 * 2 * 2 + 1600 * 14) / 1e6)
    # So few that no two share a sector: 128 bytes an entry scattered, and 14 in a row.
    assert switch_bound(10, 10**9, 1e9) == pytest.approx(10 * (128 + 14) / 1e6, rel=1e-5)


def test_a_session_is_compared_with_constant_weights_of_its_own_backend():
    rows = [
        {"side": "ort session", "batch": 1, "p50": 1.2},
        {"side": "ort baked", "batch": 1, "p50": 1.0},
        {"side": "ort baked", "batch": 8, "p50": 9.0},
        {"side": "trt session", "batch": 1, "p50": 1.0},
        {"side": "trt baked", "reason": "no TensorRT"},
    ]
    assert frame_ratios(rows) == [{"backend": "ort", "ratio": 1.2, "target": 1.15}]


def test_a_side_that_fails_is_named_and_the_others_go_on():
    calls = {"sound": 0, "broken": 0}

    def sound(pixels):
        calls["sound"] += 1
        return np.zeros((len(pixels), 2), np.float32)

    def broken(pixels):
        calls["broken"] += 1
        if calls["broken"] == WARMUP + 3:
            raise RuntimeError("out of memory\nmore text")
        return sound(pixels)

    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    times, failed = interleaved({"broken": broken, "sound": sound}, pixels, 5)
    assert failed == {"broken": "out of memory"}
    assert len(times["sound"]) == 5 and calls["broken"] == WARMUP + 3


class Tiny(torch.nn.Module):
    """In the place of an adapted tower and its head."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean((1, 2)) @ self.weight


def test_what_takes_minutes_to_start_begins_when_all_else_is_known(monkeypatch):
    begun = []

    def compile(model, **options):
        begun.append(options)
        return lambda pixels: 1 / 0

    monkeypatch.setattr(measure, "adapted", Tiny)
    monkeypatch.setattr(measure, "FORMS", {})
    monkeypatch.setattr(torch, "compile", compile)
    rows = measure.measure_frames("ViT-B-32", {}, (2, 1), 2, "cpu", None)
    first = [next(rows) for _ in range(2)]
    assert not begun
    assert [(row["side"], row["batch"]) for row in first] == [("PyTorch eager", n) for n in (1, 2)]
    last = list(rows)
    assert last == [{"side": "torch.compile", "batch": 1, "reason": "division by zero"}]


def test_an_error_of_any_kind_costs_its_own_rows_alone(tmp_path, monkeypatch):
    """As of a call that the library of a GPU machine does not have."""

    def broken(*given: object) -> None:
        raise AttributeError("no attribute 'set_device_memory'")

    model = Model(tmp_path, tmp_path, ("t",), ())
    monkeypatch.setattr(command, "make_model", lambda *given, **options: model)
    for name in ("measure_engines", "measure_switches"):
        monkeypatch.setattr(command, name, broken)
    monkeypatch.setattr(command, "measure_frames", lambda *given: iter(()))
    out = tmp_path / "rows.json"
    command.main(["--model", "RN50", "--device", "cpu", "--json", str(out)], standalone_mode=False)
    found = json.loads(out.read_text())["RN50"]["engines"]
    assert [row["side"] for row in found] == list(measure.FORMS)
    assert {row["reason"] for row in found} == {"no attribute 'set_device_memory'"}


def test_watching_is_timed_beside_the_same_task_without_statistics(tmp_path):
    model = make_model("demo-vit32", tmp_path, (0.005,), 1, baked=False)
    row = measure_watching(model, "ort", 3, "cpu")
    assert [row[key]["samples"] for key in ("frame", "watched", "base_look")] == [3, 3, 3]
    assert 0 < row["ratio"] and measure_watching(model, "ort", 2, "cpu")  # also a second time
    frame = np.zeros((32, 32, 3), np.uint8)
    with Session.open(model.bundle) as session:
        plain, watched = (session.predict(frame, task) for task in (*model.tasks, WATCHED))
    np.testing.assert_array_equal(plain.logits, watched.logits)
    assert plain.known is None and watched.known is not None
