"""Targets of switches and frames per device, and the least time that memory allows a switch."""

from __future__ import annotations

from typing import Any

SWITCH_MS = {"Orin": 1.0, "Thor": 1.0, "H200": 0.2, "H100": 0.2}
"""Milliseconds until the device is done with a switch of 0.5 % of ViT-B/16, by the GPU's name."""
FRAME_RATIO = 1.15
"""Ratio of a session's p50 at batch 1 to that of a baked engine, both with CUDA graphs."""
SECTOR = 32
"""Bytes that a GPU's memory moves at least."""


def switch_target(gpu: str) -> float | None:
    """Return the target in milliseconds for a GPU, or None if it has none.

    Args:
        gpu: Name of the GPU, as the driver gives it.
    """
    return next((ms for name, ms in SWITCH_MS.items() if name.lower() in gpu.lower()), None)


def switch_bound(entries: int, parameters: int, bandwidth: float) -> float:
    """Return the least milliseconds of a switch between two patches of a size in fp16.

    The entries of the task that leaves are written back, those of the next are saved and replaced.
    Either touches as many sectors as so many entries at random places lie in, each read and
    written. The rest lies in a row: two times indices of 4 bytes, and values of 2 bytes that are
    restored, saved and taken.

    Args:
        entries: Entries that each patch changes.
        parameters: Entries of the base.
        bandwidth: Bytes that the memory reads and writes per second.
    """
    per_sector = SECTOR // 2
    sectors = parameters / per_sector * (1 - (1 - entries / parameters) ** per_sector)
    scattered, sequential = 2 * sectors * 2 * SECTOR, entries * (2 * 4 + 3 * 2)
    return 1e3 * (scattered + sequential) / bandwidth


def frame_ratios(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each backend's session at batch 1 over its engine with constant weights.

    Args:
        frames: Rows of `measure_frames`.
    """
    p50 = {row["side"]: row["p50"] for row in frames if row.get("batch") == 1 and "p50" in row}
    pairs = [(name, f"{name} session", f"{name} baked") for name in ("ort", "trt")]
    return [
        {"backend": name, "ratio": p50[session] / p50[baked], "target": FRAME_RATIO}
        for name, session, baked in pairs
        if session in p50 and baked in p50
    ]
