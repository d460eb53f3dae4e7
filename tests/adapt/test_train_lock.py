"""Two trainings never work in one folder at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adapt.artifacts import store
from adapt.data import DomainPair
from adapt.methods.cmkd import CMKDConfig
from adapt.training.train import train
from runtime.errors import ConfigError, StorageError
from runtime.storage.locks import exclusive
from tests.adapt.forks import train_in_two

RUN = Path("street") / "day-night" / "cmkd"
TRAIN = """if True:
    from pathlib import Path
    import torch
    from adapt.data import load_folders
    from adapt.methods.cmkd import CMKDConfig
    from adapt.training.train import train

    torch.set_num_threads(1)
    train("cmkd", load_folders(Path({images!r}), "day", "night"), {config!r}, out=Path({out!r}))
"""


def test_a_second_training_is_refused_by_name_until_the_first_ends(
    pair: DomainPair, images: Path, config: CMKDConfig, tmp_path: Path
) -> None:
    endless = replace(config, epochs=100_000, iterations=1)
    code = TRAIN.format(images=str(images), config=endless, out=str(tmp_path))
    first = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / RUN / "checkpoint.safetensors").exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # it is alive, and leaves the processor to this one
        refused = f"process {first.pid} on this machine is training in '{tmp_path / RUN}'; wait"
        for options in ({}, {"resume": True}, {"restart": True}):
            with pytest.raises(ConfigError) as error:
                train("cmkd", pair, config, out=tmp_path, **options)
            assert str(error.value).startswith(refused)
    finally:
        first.kill()
        first.wait()
    assert (tmp_path / RUN / store.LOCK).exists()  # it is in nobody's way
    short = replace(config, epochs=1, iterations=1, seed=7)
    run = train("cmkd", pair, short, out=tmp_path, restart=True)
    assert run.artifact.seed == 7 and not (tmp_path / RUN / store.LOCK).exists()


def test_torchrun_is_refused_as_one(images: Path, uda_cache: Path, tmp_path: Path) -> None:
    words = [
        *("--data", images, "--source", "day", "--target", "night", "--method", "cmkd"),
        *("--artifacts", tmp_path, "--set", "model=demo-rn32", "--set", "pretrained=demo"),
        *("--set", "batch_size=8", "--no-rst"),
    ]
    with exclusive(tmp_path / RUN / store.LOCK):
        ended, said = train_in_two(*words, errors=tmp_path / "errors.txt")
    assert 1 in ended and 0 not in ended
    assert said.count(f"process {os.getpid()} on this machine is training in") == 1
    assert {path.name for path in (tmp_path / RUN).iterdir()} == {store.LOCK}


def test_a_folder_that_cannot_be_written_is_a_storage_error(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    (tmp_path / "street").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        train("cmkd", pair, config, out=tmp_path)
