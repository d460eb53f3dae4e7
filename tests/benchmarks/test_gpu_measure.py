"""What the GPU benchmark compares with, and that one failing side costs no row of another."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu.measure import WARMUP, interleaved
from benchmarks.gpu.targets import frame_ratios, switch_bound, switch_target


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
