"""The same sweep on a Ray cluster, one worker of which is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from adapt.sweep.cluster import outcomes
from adapt.sweep.jobs import plan
from adapt.sweep.run import LOCK, run
from runtime.errors import BackendError
from tests.adapt.offices import TINY, arguments, office31

SETTINGS = ("epochs=10", "train_encoder=false")


@pytest.fixture
def root(tmp_path):
    return office31(tmp_path / "office31")


def jobs(root, out, **more):
    return plan(
        "source_only", "office31", ("a-d", "d-a"), (0, 1), out=out, root=root, threads=1,
        settings=[*TINY, *SETTINGS], **more,
    ).jobs  # fmt: skip


def kill_a_worker(found, driver):
    """Kill the process of some run between its first checkpoint and its end; return the run."""
    deadline = time.monotonic() + 120
    while driver.poll() is None and time.monotonic() < deadline:
        for job in found:
            checkpoint = job.path.with_name("checkpoint.safetensors")
            if checkpoint.exists() and not job.path.exists():
                with suppress(OSError, IndexError, ValueError):
                    os.kill(int(job.path.with_name(LOCK).read_text().split()[0]), signal.SIGKILL)
                    return job
        time.sleep(0.002)
    return None


def test_a_killed_worker_costs_no_run_and_changes_no_byte(root, cache, tmp_path):
    line = arguments(
        root, tmp_path / "ray", "--method", "source_only", "--tasks", "a-d,d-a", "--seeds", "0,1",
        "--ray", "--workers", "2", settings=SETTINGS,
    )  # fmt: skip
    found = jobs(root, tmp_path / "ray")
    driver = subprocess.Popen(
        [sys.executable, "-m", "adapt.cli", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    expected = jobs(root, tmp_path / "alone")
    killed = kill_a_worker(found, driver)
    for job in expected:
        run(job)
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err
    assert killed is not None
    for mine, alone in zip(found, expected, strict=True):
        assert mine.path.read_bytes() == alone.path.read_bytes()
        log = mine.path.with_name("train.log").read_text()
        assert log.count(" wrote ") == 1
        assert ("resumed at iteration" in log) == (mine is killed)
        assert err.count(f"{mine}: ") == 1 and f"{mine}: failed" not in err
    assert "(already finished)" not in err and "wrote '" in out
    table = json.loads((found[0].out.parent / "table.json").read_text())
    assert len(table["runs"]) == 4 and table["failed"] == []


def test_ray_chooses_the_gpu_itself(root, tmp_path):
    with pytest.raises(BackendError, match="the device cannot be 'cuda:1'; pass --device cuda"):
        next(outcomes(jobs(root, tmp_path, device="cuda:1"), "local", 1))


def test_a_cluster_that_is_not_there_is_one_clear_line(root, tmp_path):
    with pytest.raises(BackendError, match="cannot reach a Ray cluster at '127.0.0.1:9': ") as e:
        next(outcomes(jobs(root, tmp_path), "127.0.0.1:9", None))
    assert "\n" not in str(e.value)


def test_without_ray_the_message_names_the_extra(root, tmp_path):
    # A process whose search path lies before Ray's own, with an empty package of that name.
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "ray.py").write_text("raise ImportError('no ray here')")
    line = arguments(root, tmp_path / "out", "--tasks", "a-d", "--seeds", "0", "--ray")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "path")}
    done = subprocess.run(
        [sys.executable, "-m", "adapt.cli", *line], env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "needs Ray, which is not installed; install it with the extra [ray]" in done.stderr
