"""What must be true after the acceptance of `uda-runtime watch`, and its figures.

- No logit of the frames that were kept differs from what a session of its own says for that frame
  and task, and no frame came twice or out of order.
- Each frame has the task that was chosen when its turn came (`time` and `waited_ms` of its line);
  where `auto` was, any task that the bundle had.
- At every moment, captured = predicted + failed + skipped + dropped + waiting, and none failed.
- Each prediction has a line of JSON, a row of CSV and a message of MQTT; there are pictures and
  metrics; no viewer lost the page.
- The camera came back after every kill, and the task that was installed has frames.
- Memory grows by 1 % at most, from the median of the first third after a warm-up of a tenth of the
  run, at least a minute, to that of the last.
- SIGTERM ended the command with 0, and stderr has no traceback and no loss of lines or messages.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import Any

import numpy as np

from benchmarks._watch_soak import SOURCES, Choice, Ended
from runtime.console import bytes_text, table
from runtime.models import AUTO

GROWTH = 0.01
_WARM, _SHARE = 60.0, 0.1
"""Seconds of warm-up at least, and its share of the run."""
_SLACK = 0.05
"""Seconds by which the time of a frame, read from two clocks, may be wrong."""


def verdict(ended: Ended) -> dict[str, Any]:
    """Return the figures, and a sentence for everything that is not as it must be."""
    report = ended.folder / "report.json"
    if not report.is_file():
        return {"failures": [f"the command ended with {ended.status}: {ended.errors[-1:]}"]}
    inside = json.loads(report.read_text())
    lines = [json.loads(line) for line in (ended.folder / "out.jsonl").read_text().splitlines()]
    with (ended.folder / "out.csv").open(newline="") as file:
        rows = sum(1 for _ in csv.DictReader(file))
    saved = sum(1 for _ in (ended.folder / "pictures").rglob("*.jpg"))
    predicted = sum(source["predicted"] for source in inside["sources"])
    wrong, sure = _tasks(ended.choices, lines)
    memory = _memory(ended.memory)
    found = {
        "sources": inside["sources"],
        "checked": inside["checked"],
        "tasks": Counter(line["task"] for line in lines if "task" in line),
        "choices": Counter(choice.task for choice in ended.choices),
        "installed": ended.installed,
        "sure_of_task": sure,
        "outputs": {"jsonl": len(lines), "csv": rows, "save": saved},
        "said": ended.errors,
        "kills": ended.kills,
        "viewers": ended.viewers,
        "memory": memory,
    }
    failures = [*inside["wrong"], *wrong[:5], *_delivered(found, predicted)]
    # Pictures are left out where a disk or a processor is slow; lines and messages wait.
    lost = [line for line in ended.errors if " lost " in line and "--save:" not in line]
    if not inside["last"]:
        failures.append("something hung when the command was ended: the last counts are missing")
    failures += [*lost, *(line for line in ended.errors if "Traceback" in line)]
    if ended.status != 0:
        failures.append(f"SIGTERM ended the command with {ended.status}, expected 0")
    if not found["tasks"][ended.installed] or not found["checked"].get(ended.installed):
        failures.append(f"no frame by {ended.installed}, which was installed, was checked")
    camera = inside["sources"][SOURCES.index("camera")]
    if camera["reconnects"] < ended.kills - 1:  # it may be away at the end
        failures.append(f"{camera['reconnects']} reconnects after {ended.kills} kills")
    failures += [
        f"{s['name']}: {s['failed']} frames failed" for s in inside["sources"] if s["failed"]
    ]
    if memory["growth"] > GROWTH:
        failures.append(f"memory grew by {memory['growth']:.2%}; at most {GROWTH:.0%} is allowed")
    return {**found, "failures": failures}


def _tasks(choices: list[Choice], lines: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Return what is wrong, and the number of lines that could have one task alone."""
    own = {name: [choice for choice in choices if choice.source == name] for name in SOURCES}
    wrong, sure = [], 0
    for line in lines:
        if "task" not in line:
            continue
        began = line["time"] + line["waited_ms"] / 1000
        there = own[line["source"]]
        ends = [after.answered for after in there[1:]] + [float("inf")]
        allowed = {
            choice.task
            for choice, end in zip(there, ends, strict=True)
            if choice.asked - _SLACK <= began <= end + _SLACK
        }
        sure += len(allowed) == 1 and AUTO not in allowed
        if line["task"] not in allowed and AUTO not in allowed:
            wrong.append(f"{line['source']}, frame {line['frame']}: {line['task']} for {allowed}")
    return wrong, sure


def _delivered(found: dict[str, Any], predicted: int) -> list[str]:
    """Return what outputs and viewers did not get."""
    outputs, seen = found["outputs"], found["viewers"]
    # The subscriber comes a little later than the command, and leaves a little earlier.
    messages = seen["messages"] >= 0.98 * predicted - 200
    checks = {
        f"{outputs['jsonl']} lines of JSON for {predicted} predictions": outputs["jsonl"]
        == predicted,
        f"{outputs['csv']} rows of CSV for {predicted} predictions": outputs["csv"] == predicted,
        "no picture was saved": outputs["save"] > 0,
        "metrics were never read": seen["scrapes"] > 0,
        f"{seen['messages']} messages of {predicted} predictions": messages,
        f"{seen['lost']} viewers lost the page": not seen["lost"],
        "a viewer got no picture": all(seen["pictures"]),
    }
    return [text for text, good in checks.items() if not good]


def _memory(samples: list[tuple[float, int]]) -> dict[str, Any]:
    """Return the growth, and the median of each minute in megabytes."""
    seconds, held = np.array(samples).T
    minutes = [held[(seconds // 60) == minute] for minute in range(int(seconds[-1] // 60) + 1)]
    warm = max(_WARM, _SHARE * seconds[-1])
    after = held[seconds >= min(warm, seconds[-1] / 2)]
    third = max(1, len(after) // 3)
    first, last = (float(np.median(part)) for part in (after[:third], after[-third:]))
    return {
        "warm_seconds": warm,
        "first": first,
        "last": last,
        "growth": last / first - 1,
        "minutes_mb": [round(float(np.median(part)) / 1e6, 2) for part in minutes if len(part)],
    }


def render(found: dict[str, Any]) -> str:
    """Return the figures for people."""
    if "sources" not in found:
        return "no report"
    names = ("captured", "predicted", "failed", "skipped", "dropped", "switches", "reconnects")
    rows = [[s["name"], *(f"{s[name]:,}" for name in names)] for s in found["sources"]]
    memory, seen = found["memory"], found["viewers"]
    return "\n".join(
        [
            table(("source", *names), rows),
            f"{sum(found['checked'].values()):,} frames checked, the task of "
            f"{found['sure_of_task']:,} could be one alone; "
            f"{sum(found['choices'].values()):,} choices of "
            f"{', '.join(found['choices'])}",
            f"{found['outputs']}, {seen['messages']:,} messages, {seen['scrapes']:,} scrapes, "
            f"{sum(seen['pictures']):,} pictures for {len(seen['pictures'])} viewers",
            f"memory {bytes_text(round(memory['first']))} to {bytes_text(round(memory['last']))}, "
            f"{memory['growth']:+.2%}",
        ]
    )
