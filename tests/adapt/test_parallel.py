"""Two processes, as torchrun starts them, against one."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.compute import parallel
from adapt.compute import rank as ranks
from adapt.compute.parallel import processes
from adapt.data import drawn
from adapt.settings.layers import resolve
from adapt.training.train import train
from runtime.errors import BackendError
from tests.adapt.forks import command, in_two, start, train_in_two
from tests.adapt.offices import office31

SETTINGS = ("epochs=2", "iterations=6", "batch_size=16", "rst_threshold=1e-5")
SHORT = ("epochs=2", "iterations=3", "batch_size=16", "lr=0.001")


WORLD = ("--dataset", "demo-digits", "--task", "f-h")


def words(out):
    """Return the words of a training."""
    return [
        *("train", *WORLD, "--method", "cmkd", "--rst", "--select", "infomax", "--no-baselines"),
        *("--artifacts", str(out), *(word for setting in SETTINGS for word in ("--set", setting))),
    ]


def torchrun(words):
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        [*program, "adapt.cli", *words],
        capture_output=True, text=True, env=environment, timeout=240,
    )  # fmt: skip


def history(root, count):
    path = next((root / str(count)).glob("*/*/*/metrics.jsonl"))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("parallel")
    drawn.render("demo-digits")  # once, before two processes want it
    errors = root / "errors.txt"
    _, status = os.waitpid(start(lambda: command(*words(root / "1")), errors), 0)
    assert status == 0, errors.read_text()
    done = torchrun(words(root / "2"))
    assert done.returncode == 0, done.stderr
    return root, done


def artifact(root, count):
    return Artifact.load(next((root / str(count)).glob("*/*/*/artifact.safetensors")))


def test_two_processes_give_the_result_of_one(runs):
    root, _ = runs
    one, two = artifact(root, 1), artifact(root, 2)
    assert one.residual.keys() == two.residual.keys()
    for name, own in one.residual.items():
        other = two.residual[name]
        same = np.intersect1d(own.indices, other.indices, return_indices=True)
        # A change right at the threshold may fall on either side of it.
        assert len(same[0]) >= 0.99 * max(len(own.indices), len(other.indices))
        np.testing.assert_allclose(own.values[same[1]], other.values[same[2]], rtol=0, atol=1e-5)
    for name, tensor in one.head_tensors.items():
        np.testing.assert_allclose(tensor, two.head_tensors[name], rtol=1e-5, atol=1e-5)
    assert one.density > 0


def test_both_log_the_same_losses_and_accuracies(runs):
    root, _ = runs
    for one, two in zip(history(root, 1), history(root, 2), strict=True):
        assert one["losses"] == pytest.approx(two["losses"], rel=1e-5, abs=1e-6)
        assert one["accuracy"] == pytest.approx(two["accuracy"], abs=0.26)  # two images of 797
        assert one["scores"] == pytest.approx(two["scores"], rel=1e-4)


@pytest.mark.parametrize("method", ["ekda", "unimos"])
def test_methods_that_gather_in_their_own_way_do_not_notice_two_processes(
    method, pair, cache, tmp_path
):
    config = resolve(methods.get(method).Config, "demo-digits", method, SHORT).config
    train(method, pair, config, out=tmp_path / "1")
    shutil.rmtree(cache / "features", ignore_errors=True)  # so that both compute them
    errors = tmp_path / "errors.txt"
    ended = in_two(lambda: train(method, pair, config, out=tmp_path / "2"), errors)
    assert ended == [0, 0], errors.read_text()
    one, two = artifact(tmp_path, 1), artifact(tmp_path, 2)
    assert bool(one.tokens) == (method == "ekda")
    for own, other in ((one.head_tensors, two.head_tensors), (one.tokens, two.tokens)):
        assert own.keys() == other.keys()
        for name, tensor in own.items():
            np.testing.assert_allclose(tensor, other[name], rtol=1e-5, atol=1e-5)
    for row, same in zip(history(tmp_path, 1), history(tmp_path, 2), strict=True):
        assert row["losses"] == pytest.approx(same["losses"], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("total", [0, 1, 64, 65, 130, 1000])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_portions_cut_batches_where_one_process_does(monkeypatch, total, count):
    monkeypatch.setattr(parallel, "world", lambda: count)
    starts, rows = [], []
    for rank in range(count):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        own = parallel.portion(total, 64)
        starts += range(own.start, own.stop, 64)
        rows += range(own.start, own.stop)
    assert starts == list(range(0, total, 64)) and rows == list(range(total))


def test_only_one_process_speaks(runs):
    _, done = runs
    assert done.stdout.count("accuracy ") == 1


def test_a_batch_that_cannot_be_shared_is_one_clear_line(images, cache, tmp_path):
    words = ("--data", images, "--source", "day", "--target", "night", "--method", "cmkd")
    words += ("--set", "model=demo-rn32", "--set", "pretrained=demo", "--set", "batch_size=15")
    words += ("--artifacts", tmp_path)
    ended, said = train_in_two(*words, errors=tmp_path / "errors.txt")
    assert 1 in ended and 0 not in ended
    assert "error: batch_size is 15, expected a multiple of the 2 processes" in said
    assert said.count("error: ") == 1


def test_what_is_odd_about_the_data_is_told_by_one_process(tmp_path):
    office31(tmp_path / "office31")
    words = ("--dataset", "office31", "--data", tmp_path / "office31", "--task", "a-d")
    words += ("--method", "source_only", "--set", "pretrained=nowhere", "--artifacts", tmp_path)
    words += ("--set", "batch_size=8")
    ended, said = train_in_two(*words, errors=tmp_path / "errors.txt")
    assert 1 in ended and 0 not in ended
    assert said.count("domain 'amazon' has 8 images of 2 classes") == 1
    assert said.count("error: ") == said.count("'nowhere' is neither a file") == 1


def test_an_error_that_only_a_follower_has_is_told(monkeypatch):
    monkeypatch.setattr(ranks, "PATIENCE", 0.01)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(BackendError, match="only here"), ranks.rank_zero_only():
        raise BackendError("only here")


def test_several_processes_that_torchrun_did_not_start_are_one_clear_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(BackendError, match="WORLD_SIZE is 2, but LOCAL_RANK is not set; start"):
        with processes(torch.device("cpu")):
            pass
