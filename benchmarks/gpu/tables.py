"""The tables that `python -m benchmarks.gpu` prints."""

from __future__ import annotations

from typing import Any

import click

from runtime.console import bytes_text, table


def show(
    name: str,
    frames: list[dict[str, Any]],
    switches: list[dict[str, Any]],
    engines: list[dict[str, Any]],
    ratios: list[dict[str, Any]],
    watching: list[dict[str, Any]],
) -> None:
    """Print the tables of one model."""
    bounds = ["bound_ms"] if any(r.get("bound_ms") for r in frames) else []
    header = (name, "batch", "p50 ms", "p99", *(["bound"] if bounds else []))
    header += ("images/s", "difference", "same top", "n")
    rows = [
        [
            r["side"],
            str(r["batch"]),
            *(f"{r[key]:.3f}" for key in ("p50", "p99", *bounds)),
            f"{r['images_per_second']:.0f}",
            f"{r['difference']:.1e}",
            f"{r['agreement']:.2f}",
            str(r["samples"]),
        ]
        for r in frames
        if "reason" not in r
    ]
    click.echo(table(header, rows))
    for r in switches:
        called, done = (
            f"p50 {r[key]['p50']:.3f} p99 {r[key]['p99']:.3f} ms" for key in ("called", "done")
        )
        click.echo(
            f"{r['backend']} switch, {r['entries']} entries: called {called}, done {done} "
            f"({_limits(r)}); base "
            f"{'restored' if r['base_restored'] else 'NOT RESTORED'}; a task counts "
            f"{bytes_text(int(r['task_bytes']))}, takes "
            f"{bytes_text(int(r['device_bytes_per_task']))} on the device"
        )
        stay, change = (f"{r[key]['p50']:.3f} ms" for key in ("camera", "camera_and_switch"))
        click.echo(f"{r['backend']} frame of 1920 x 1080: {stay}, with a switch before it {change}")
    for r in watching:
        frame, watched, look = (
            f"{r[key]['p50']:.3f} ms" for key in ("frame", "watched", "base_look")
        )
        click.echo(
            f"{r['backend']} frame of 1920 x 1080: {frame}, watched {watched} "
            f"({r['ratio']:.3f} x); a look through the base {look}"
        )
    for r in engines:
        if "reason" not in r:
            build = "" if r["build_s"] is None else f"built in {r['build_s']:.1f} s, "
            click.echo(
                f"{r['side']}: {build}opened in {r['open_s']:.2f} s, the first time in "
                f"{r['first_s']:.2f} s"
            )
    for r in ratios:
        click.echo(
            f"{r['backend']} session, batch 1: {r['ratio']:.2f} x of an engine with constant "
            f"weights (target {r['target']} x)"
        )
    # Of an engine that could not be built, that is the reason, and not that it is missing.
    reasons = {r["side"]: r["reason"] for r in [*frames, *engines] if "reason" in r}
    for reason in dict.fromkeys(reasons.values()):
        named = ", ".join(side for side in reasons if reasons[side] == reason)
        click.echo(f"not measured: {named}: {reason}")
    click.echo()


def _limits(row: dict[str, Any]) -> str:
    target, bound = row["target_ms"], row["bound_ms"]
    text = "no target for this device" if target is None else f"target {target} ms"
    return text if bound is None else f"{text}, bound {bound:.3f} ms"
