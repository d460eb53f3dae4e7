"""The contract of the backends that run on a CPU; those of GPUs have it in `cuda/`."""

from pathlib import Path

import numpy as np
import pytest

from runtime import backends
from runtime.backends import BACKENDS
from runtime.errors import BackendError
from tests.runtime.conftest import TOKENS
from tests.runtime.contract import TOLERANCE, BackendContract, Where, random_pixels


@pytest.fixture(params=sorted(name for name, own in BACKENDS.items() if "cpu" in own.devices))
def where(request):
    """Each backend that runs on the CPU; one whose library is missing fails."""
    return Where(request.param, "cpu", lambda path, strategy: None)


class TestOnTheCpu(BackendContract):
    pass


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_kind_of_device_that_a_backend_does_not_run_on_is_refused(name, tmp_path):
    for device in {"cpu", "cuda"} - set(BACKENDS[name].devices):
        with pytest.raises(BackendError, match=f"found device '{device}'; pass --device"):
            backends.load(name, device, 1, tmp_path)


def test_what_backends_are_compared_with_is_what_pytorch_computes(mixed):
    """So that the contract, which compares them with NumPy, need not bring PyTorch everywhere."""
    torch, pixels = pytest.importorskip("torch"), random_pixels(3)
    for task, own in mixed.tasks.items():
        weights = {name: torch.from_numpy(array.copy()) for name, array in mixed.base.items()}
        for name, sparse in own.patch.items():
            where = torch.from_numpy(sparse.indices.astype(np.int64))
            weights[name].view(-1)[where] = torch.from_numpy(sparse.values)
        zero = np.zeros((1, 1), np.float32)
        first, second = (torch.from_numpy(own.tokens.get(name, zero)).sum(0) for name in TOKENS)
        mean = torch.from_numpy(pixels).float().mean((1, 2))
        hidden = torch.relu(mean @ weights["first.weight"] + weights["first.bias"] + first)
        features = hidden @ weights["second.weight"] + second
        head = {name: torch.from_numpy(array) for name, array in own.head_tensors.items()}
        found = torch.nn.functional.linear(features, head["weight"], head.get("bias"))
        np.testing.assert_allclose(mixed.logits(task, pixels), found.numpy(), **TOLERANCE)


def test_the_table_and_the_folder_agree():
    folder = Path(backends.__file__).parent
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py"}
    there |= {path.name for path in folder.iterdir() if (path / "__init__.py").is_file()}
    shared = {"__init__", "base", "bake", "checks", "imports", "names", "places"}
    assert there - shared == set(BACKENDS)
    for name, entry in BACKENDS.items():
        assert entry.path.startswith(f"runtime.backends.{name}") and entry.packages
