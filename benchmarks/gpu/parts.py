"""Run the GPU tests and benchmarks in parts that do not wait for each other.

    python -m benchmarks.gpu.parts [PART ...] [--without-torch] [--bundle BUNDLE] [--folder FOLDER]

A part runs what its machine has the packages for, lists what it left out and why, and ends within
four minutes. It writes `gpu-PART.json` when it starts and again after every test. It exits with 1
where a test failed, nothing ran or there is no GPU. `--without-torch` is for a device: what needs
PyTorch is left out even where it is installed, and `--bundle` is measured with `uda-runtime bench`.
Only the standard library is imported here.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import BUNDLE, DEVICE_PARTS, PARTS, Step, find_gpu, missing

SECONDS = 235.0
"""Seconds of a part: four minutes, less the time that ending it takes."""
_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
)
"""Starts a process with a group, which is ended as a whole, within our session and its end."""


def run_part(
    part: str,
    folder: Path,
    without_torch: bool = False,
    seconds: float = SECONDS,
    rehearsal: bool = False,
    bundle: Path | None = None,
) -> bool:
    """Run a part and write its JSON; return whether something ran and nothing failed.

    Args:
        part: A key of `PARTS`.
        folder: Where `gpu-<part>.json` goes.
        without_torch: Whether to leave out what needs PyTorch.
        seconds: Time after which a step that still runs is stopped.
        rehearsal: Whether the driver is emulated: what has to compute is collected, not run.
        bundle: Bundle to measure, or None.
    """
    path, end = folder / f"gpu-{part}.json", time.monotonic() + seconds
    gpu, why = find_gpu()
    wanted = [step for step in PARTS[part] if not (without_torch and "torch" in step.needs)]
    left_out = {step.name: missing(step, without_torch, bundle) for step in PARTS[part]}
    document: dict[str, Any] = {
        "part": part,
        "gpu": gpu,
        "python": sys.version.split()[0],
        "needs": sorted({need for step in wanted for need in step.needs}),
        "left_out": [{"step": name, "why": text} for name, text in left_out.items() if text],
        "steps": [],
        "status": "running",
    }
    if gpu is None:
        document["status"] = f"no GPU: {why}"
    _write(path, document)
    _say(part, f"needs {', '.join(document['needs'])}")
    for each in document["left_out"]:
        _say(part, f"left out: {each['step']} ({each['why']})")
    if gpu is None:
        _say(part, document["status"])
        return False
    try:
        for step in PARTS[part]:
            if left_out[step.name] is None:
                run_step(step, path, document, end, rehearsal, bundle)
    except BaseException:
        document["status"] = "interrupted"
        _write(path, document)
        raise
    document["status"] = _status(document["steps"])
    _write(path, document)
    _say(part, f"{document['status']}; see {path}")
    return document["status"] == "passed"


def run_step(
    step: Step,
    path: Path,
    document: dict[str, Any],
    end: float,
    rehearsal: bool = False,
    bundle: Path | None = None,
) -> None:
    """Run a step as a process and add what it found to a part's document.

    Args:
        step: Step to run.
        path: JSON of the part, written again whenever a test ends.
        document: Content of that file.
        end: Moment on the monotonic clock at which the step is stopped.
        rehearsal: As for `run_part`.
        bundle: As for `run_part`.
    """
    number = len(document["steps"])
    lines = path.with_suffix(f".{number}.jsonl")
    lines.unlink(missing_ok=True)
    if step.tests:
        # Packages that nobody has tried together warn, and bring plugins of their own.
        command = [*step.under, sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default"]
        command += ["-p", "benchmarks.gpu.report", "-p", "no:cacheprovider"]
        command += ["--continue-on-collection-errors", *step.tests]
        command += ["--collect-only"] if rehearsal and step.computes else []
    else:
        words = step.rehearsal if rehearsal else step.benchmark
        rows = path.with_name(f"{path.stem}-{step.rows}.json")
        command = [str(bundle) if word == BUNDLE else word for word in words]
        command = [sys.executable, "-m", *command, "--json", str(rows)]
    found: dict[str, Any] = {"command": command[1:], "exit": None}
    document["steps"].append(found)
    print(*command, flush=True)
    start, seen = time.monotonic(), -1
    env = {**os.environ, "GPU_REPORT": str(lines), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.Popen(command, env=env, **_GROUP)
    try:
        while process.poll() is None and time.monotonic() < end:
            if step.tests and len(tests := _read(lines)) != seen:
                seen, found["tests"] = len(tests), tests
                _write(path, document)
            time.sleep(0.2)
    finally:
        found["exit"] = process.poll()
        if found["exit"] is None:  # with all that it started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            late = time.monotonic() >= end
            found["exit"] = "stopped at the time limit" if late else "interrupted"
        found["seconds"] = round(time.monotonic() - start, 1)
        if step.tests:
            found["tests"] = _read(lines)
        lines.unlink(missing_ok=True)


def _status(steps: list[dict[str, Any]]) -> str:
    """Return whether steps that have ended passed, failed, or left everything out."""
    if any(step["exit"] != 0 for step in steps):
        return "failed"
    ran = any(
        "tests" not in step
        or "--collect-only" in step["command"]
        or any(test["result"] != "skipped" for test in step["tests"])
        for step in steps
    )
    return "passed" if ran else "nothing ran"


def _read(lines: Path) -> list[Any]:
    try:
        text = lines.read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _write(path: Path, document: dict[str, Any]) -> None:
    beside = path.with_suffix(".tmp")
    try:
        beside.write_text(json.dumps(document, indent=1) + "\n")
        beside.replace(path)
    except OSError as error:
        raise SystemExit(
            f"error: cannot write '{path}': {error.strerror}; choose another --folder"
        ) from error


def _say(part: str, text: str) -> None:
    print(f"{part}: {text}", flush=True)


def main(words: list[str] | None = None) -> int:
    """Run the parts that are named, or all; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--without-torch", action="store_true", help="as on a device")
    parser.add_argument("--bundle", type=Path, help="to measure with uda-runtime bench")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the JSON goes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a part may take")
    parser.add_argument("--rehearsal", action="store_true", help="over an emulated driver")
    given = parser.parse_args(words)
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part '{unknown[0]}'; available: {', '.join(PARTS)}")
    parts = given.parts or (DEVICE_PARTS if given.without_torch else PARTS)
    # So that a part that is ended leaves nothing running on the GPU.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        given.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot use --folder: {error}; choose another")
    passed = [
        run_part(
            part,
            given.folder,
            given.without_torch,
            given.seconds,
            given.rehearsal,
            given.bundle,
        )
        for part in parts
    ]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
