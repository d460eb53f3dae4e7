"""Trained on a grid, exported at its precision: what the device holds is what training saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, merged
from adapt.artifacts.merge import survival as whole_survival
from adapt.clip.model import encoder_tensors, load
from adapt.compute.inference import predict
from adapt.data import load_folders
from adapt.evaluation.evaluate import score
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.training.loop import Loop
from export.graphs import encoders
from export.graphs.encoder import blocked_graph, deploy_tensors, encoder_graph
from export.merge import shared_base, survival, task_patch
from export.pipeline import export_bundle
from export.verification.images import ImagePaths
from runtime import patch
from runtime.errors import BaseModelError
from runtime.models import Preprocess
from runtime.sessions.session import Session
from tests.export.helpers import random_pixels, resnet, run_onnx, torch_features, vit

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
KINDS = [(base, grid) for base in ("demo-rn32", "demo-vit32") for grid in DTYPES]


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """Loops that trained eight steps, one per base and grid, and where their artifacts are."""
    made, out = {}, tmp_path_factory.mktemp("grid")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pair = load_folders(world.root, "images", "images")
    for base, grid in KINDS:
        config = CMKDConfig(
            model=base,
            pretrained=str(world.base(base)),
            batch_size=4,
            epochs=2,
            iterations=4,
            lr=3e-3,
            head_lr_multiplier=3.0,
            rst=True,
            rst_density=0.02,
            grid=grid,
            train_size=36,
            ramp_iterations=8,
        )
        path = out / base / grid / "artifact.safetensors"
        path.parent.mkdir(parents=True)
        loop = Loop("cmkd", CMKD, pair, config, path, torch.device("cpu"))
        loop(False, False)
        made[base, grid] = loop
    torch.set_num_threads(threads)
    return made


def is_norm(visual, name):
    owner = visual.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.LayerNorm | nn.BatchNorm2d)


@pytest.mark.parametrize(("base", "grid"), KINDS)
def test_the_forward_pass_saw_the_grid_and_kept_the_budget(runs, base, grid):
    loop = runs[base, grid]
    visual = loop.method.encoder
    for name, parameter in visual.named_parameters():
        value = parameter.detach()
        assert is_norm(visual, name) or torch.equal(value, value.to(DTYPES[grid]).float())
    artifact = Artifact.load(loop.path)
    assert 0.01 < artifact.density <= 0.02
    assert artifact.density == loop.history[-1]["density"] == loop.projection.density


@pytest.mark.parametrize(("base", "grid"), KINDS)
def test_deployed_tensors_are_bit_for_bit_those_of_training(runs, base, grid):
    loop = runs[base, grid]
    trained = dict(loop.method.encoder.state_dict())
    artifact, clip = Artifact.load(loop.path), load(base, loop.config.pretrained)
    form = encoders.get(clip.visual, apart=True)
    tensors = shared_base(form, clip.visual, [grid], grid)
    changes = task_patch(form, tensors, merged(clip, artifact), grid)
    found = patch.merge(tensors, changes)
    last = "transformer.resblocks.3.attn.in_proj_"
    compared = 0
    for name, value in trained.items():
        if name in found:
            parts, expected = [found[name]], value
        elif name == f"{last}weight":
            parts, expected = [found[f"{last[:-8]}{p}_proj.weight"] for p in "qkv"], value
        else:
            continue
        array = np.concatenate([p.reshape(-1, *value.shape[1:]) for p in parts])
        if not is_norm(loop.method.encoder, name):
            expected = value.to(DTYPES[grid])
            expected = expected if grid == "fp16" else expected.float()
        assert array.dtype == expected.numpy().dtype, name
        assert array.tobytes() == expected.numpy().tobytes(), name
        compared += value.numel()
    left_out = sum(v.numel() for n, v in trained.items() if ".bn" in n or "bn" in n)
    assert compared > 0.98 * (sum(v.numel() for v in trained.values()) - left_out)
    if base == "demo-rn32":  # what is left of BatchNorm, against the formula
        scale = trained["bn1.weight"] / torch.sqrt(trained["bn1.running_var"] + 1e-5)
        shift = trained["bn1.bias"] - trained["bn1.running_mean"] * scale
        assert np.allclose(found["conv1.scale"][:, 0, 0], scale, rtol=1e-6)
        assert np.allclose(found["conv1.shift"][:, 0, 0], shift, rtol=1e-5, atol=1e-6)
        assert found["conv1.scale"].dtype == np.float32
    assert survival(form, encoder_tensors(clip.visual), artifact.residual, grid) == 1.0
    assert patch.size(changes) <= 1.05 * patch.size(artifact.residual)


@pytest.mark.parametrize(("base", "grid"), KINDS)
def test_recorded_accuracy_is_that_of_the_rounded_weights(runs, base, grid):
    loop = runs[base, grid]
    clip, artifact = load(base, loop.config.pretrained), Artifact.load(loop.path)
    style = {"mean": clip.mean, "std": clip.std}
    pixels = loop.evaluator.test.images
    expected = predict(loop.method.eval().logits, pixels, 64, **style)
    found = predict(Network.of(clip, artifact), pixels, 64, **style)
    assert torch.equal(found, expected)
    accuracy = score(found, loop.evaluator.truth, artifact.task.classes).accuracy
    assert artifact.metrics["last"]["accuracy"] == accuracy


@pytest.mark.parametrize(("base", "grid"), KINDS)
def test_bundle_at_the_grids_precision_agrees_with_pytorch(runs, world, base, grid, tmp_path):
    loop = runs[base, grid]
    images = ImagePaths.parse([str(world.images)])
    path = tmp_path / "b"
    (row,) = export_bundle([loop.path], path, precision=grid, baked=True, images=images)
    compared = row.comparison
    assert compared.agreement == 1.0 and compared.accuracy_engine == compared.accuracy_torch
    # bf16 is computed in float32; fp16's arithmetic is coarser than its weights.
    assert compared.max_difference <= {"bf16": 1e-4, "fp16": 2e-2}[grid] * compared.spread
    assert row.record.patch_density < 0.03
    with Session.open(path, threads=1) as session:
        assert session.bundle.manifest.precision == grid
        session.switch(loop.pair.task.id)
        session.infer(random_pixels(1, 32))


def test_a_bundle_in_float32_holds_the_rounded_network_too(runs, world, tmp_path):
    loop = runs["demo-vit32", "bf16"]
    images = ImagePaths.parse([str(world.images)])
    (row,) = export_bundle([loop.path], tmp_path / "b", precision="fp32", images=images)
    assert row.comparison.max_difference <= 1e-4 * row.comparison.spread
    assert row.record.patch_density < 0.03


def test_what_survives_is_the_same_whatever_precision_is_exported(runs, world, tmp_path):
    loop = runs["demo-rn32", "fp16"]
    images, found = ImagePaths.parse([str(world.images)]), []
    for precision in ("fp32", "fp16"):
        [row] = export_bundle([loop.path], tmp_path / precision, precision=precision, images=images)
        found.append(row.record.survival)
    assert found[0] == found[1] and found[0].fp16 == 1.0 > found[0].bf16
    clip = load("demo-rn32", loop.config.pretrained)  # what a report shows
    assert vars(found[0]) == whole_survival(clip, Artifact.load(loop.path))


def test_tasks_of_two_grids_share_a_base_only_where_it_is_the_same(runs):
    clip = load("demo-vit32", runs["demo-vit32", "bf16"].config.pretrained)
    form = encoders.get(clip.visual)
    for grids, precision in ((("fp16", "fp32"), "fp16"), (("bf16", "fp32"), "bf16")):
        found = shared_base(form, clip.visual, grids, precision)
        expected = deploy_tensors(form, encoder_tensors(clip.visual), precision)
        assert not patch.diff(found, expected)
    # The base is on fp16's grid, so rounding to that changes nothing; to bf16 it does.
    shared_base(form, clip.visual, ("fp16", "fp32"), "fp32")
    with pytest.raises(BaseModelError, match=r"grids \(bf16, fp32\).*differ at fp32.*--precision"):
        shared_base(form, clip.visual, ("bf16", "fp32"), "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_graph_with_batch_norm_apart_computes_what_the_tower_computes(precision):
    tower = resnet(width=32)
    if precision == "bf16":
        with torch.no_grad():
            for module in tower.modules():
                if not isinstance(module, nn.BatchNorm2d):
                    for parameter in module.parameters(recurse=False):
                        parameter.copy_(parameter.bfloat16())
    form = encoders.get(tower, apart=True)
    tensors = deploy_tensors(form, encoder_tensors(tower), precision)
    assert blocked_graph(form, tensors, Preprocess(form.size)) is None
    wide = {n for n, a in tensors.items() if a.dtype == np.float32}
    if precision == "fp16":
        assert wide == {n for n in tensors if n.endswith((".scale", ".shift"))} and wide
    pixels = random_pixels(3, form.size)
    model = encoder_graph(form, tensors, Preprocess(form.size)).SerializeToString()
    found = run_onnx(model, {"pixels": pixels, **tensors})
    tolerance = 2e-2 if precision == "fp16" else 1e-5
    assert np.abs(found - torch_features(tower, pixels)).max() <= tolerance


def test_bf16_is_float32_arrays_of_bfloat16_values_but_for_the_norms():
    tower = vit()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(1e-4)
    form = encoders.get(tower)
    tensors = deploy_tensors(form, encoder_tensors(tower), "bf16")
    for name, array in tensors.items():
        low = torch.from_numpy(array).bfloat16().float().numpy()
        assert array.dtype == np.float32
        assert ("ln_" in name) != np.array_equal(low, array)


def test_untrained_encoders_are_rounded_as_well(world):
    pair = load_folders(world.root, "images", "images")
    config = CMKDConfig(
        model="demo-rn32", pretrained=str(world.base("demo-rn32")), train_encoder=False, grid="bf16"
    )
    loop = Loop(
        "cmkd", CMKD, pair, replace(config, rst=False), world.root / "x" / "y", torch.device("cpu")
    )
    visual = loop.method.encoder
    values = {n: p.detach() for n, p in visual.named_parameters() if not is_norm(visual, n)}
    assert all(torch.equal(v, v.bfloat16().float()) for v in values.values())
