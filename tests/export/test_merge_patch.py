import struct

import numpy as np
import pytest
import torch

from adapt.clip.model import encoder_tensors
from adapt.optim.grid import GRIDS
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors
from export.merge import density, survival, task_patch
from runtime import patch
from tests.export.helpers import resnet, vit


def change(tower, seed=0, share=0.02, step=1e-5):
    """Return the base's and the merged tensors, and the residual between them."""
    base = encoder_tensors(tower)
    draw = np.random.default_rng(seed)
    merged = {}
    for name, array in base.items():
        steps = np.where(draw.random(array.shape) < share, draw.standard_normal(array.shape), 0)
        scale = 0 if "running" in name else step
        merged[name] = (array + scale * steps).astype(np.float32)
    return base, merged, patch.diff(base, merged)


@pytest.mark.parametrize("make", [vit, resnet])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_base_with_patch_is_exactly_the_deployed_merged_model(make, precision):
    tower = make()
    form = encoders.get(tower)
    base, merged, _ = change(tower)
    deployed = deploy_tensors(form, base, precision)
    changes = task_patch(form, deployed, merged, precision)
    expected = deploy_tensors(form, merged, precision)
    found = patch.merge(deployed, changes)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes()


def test_patch_of_a_vit_is_its_residual():
    tower = vit()
    form = encoders.get(tower)
    base, merged, residual = change(tower)
    changes = task_patch(form, deploy_tensors(form, base, "fp32"), merged, "fp32")
    kept = [name for name in residual if "resblocks.2.attn.in_proj" not in name]
    for name in kept:
        assert np.array_equal(changes[name].indices, residual[name].indices)
        assert np.array_equal(changes[name].values, residual[name].values)
    bias = residual["transformer.resblocks.2.attn.in_proj_bias"].indices
    without_effect = np.count_nonzero((bias >= 48) & (bias < 96))  # the last key's bias
    assert patch.size(changes) == patch.size(residual) - without_effect


def test_change_of_one_gain_patches_one_filter_and_its_bias():
    tower = resnet()
    form, base = encoders.get(tower), encoder_tensors(tower)
    merged = {name: array.copy() for name, array in base.items()}
    merged["layer2.0.bn2.weight"][3] += np.float32(0.01)
    deployed = deploy_tensors(form, base, "fp32")
    changes = task_patch(form, deployed, merged, "fp32")
    assert changes.keys() == {"layer2.0.conv2.weight", "layer2.0.conv2.bias"}
    filters = deployed["layer2.0.conv2.weight"]
    rows = changes["layer2.0.conv2.weight"].indices // filters[0].size
    assert set(rows.tolist()) == {3} and rows.size == filters[0].size


def test_untouched_encoder_has_an_empty_patch_that_survives_everywhere():
    tower = vit()
    form, base = encoders.get(tower), encoder_tensors(tower)
    for precision in ("fp32", "fp16"):
        assert task_patch(form, deploy_tensors(form, base, precision), base, precision) == {}
    assert [survival(form, base, {}, grid) for grid in GRIDS] == [1.0, 1.0, 1.0]


def naive_round(value: float, grid: str) -> float:
    """Round one number with another implementation: Python's halves, torch's bfloat16."""
    if grid == "fp16":
        return struct.unpack("e", struct.pack("e", value))[0]
    if grid == "bf16":
        return torch.tensor(value).bfloat16().item()
    return value


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("make", [vit, resnet])
def test_survival_is_what_a_loop_over_the_entries_counts(make, grid):
    tower = make()
    form = encoders.get(tower)
    base, _, residual = change(tower, step=3e-5)
    seen = total = 0
    for name, sparse in residual.items():
        for index, value in zip(sparse.indices.tolist(), sparse.values.tolist(), strict=True):
            kept = "fp32" if make is vit and "ln_" in name else grid
            old = float(base[name].reshape(-1)[index])
            seen += naive_round(old, kept) != naive_round(value, kept)
            total += 1
    found = survival(form, base, residual, grid)
    assert found == seen / total
    assert found == 1.0 if grid == "fp32" else 0 < found < 1


def test_coarser_grids_keep_less():
    tower = vit()
    base, _, residual = change(tower, step=1e-5)
    shares = [survival(encoders.get(tower), base, residual, grid) for grid in GRIDS]
    assert shares[0] == 1.0 and shares[0] > shares[1] > shares[2] > 0


def test_density_is_entries_over_all_entries():
    tensors = {"a": np.zeros((4, 5), np.float32), "b": np.zeros(20, np.float32)}
    other = {"a": np.ones((4, 5), np.float32), "b": np.zeros(20, np.float32)}
    assert density(patch.diff(tensors, other), tensors) == 0.5
