import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from open_clip.model import CLIP
from torch import nn

from adapt.clip.model import encoder_tensors
from export.graphs import builder as graphs
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors, encoder_graph
from runtime.errors import BaseModelError
from runtime.models import Preprocess
from tests.export.helpers import TOWERS, random_pixels, resnet, run_onnx, torch_features, vit

MAX_FEATURE_DIFFERENCE = 1e-5  # measured 2.4e-6 (resnet), features of size 1 to 5
MAX_FP16_DIFFERENCE = 2e-2  # measured 5e-3


def exported(tower, precision="fp32"):
    form = encoders.get(tower)
    tensors = deploy_tensors(form, encoder_tensors(tower), precision)
    return form, tensors, encoder_graph(form, tensors, Preprocess(form.size))


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_weight_free_graph_computes_what_the_torch_tower_computes(name, batch):
    tower = TOWERS[name]()
    form, tensors, model = exported(tower)
    pixels = random_pixels(batch, form.size)
    found = run_onnx(model.SerializeToString(), {"pixels": pixels, **tensors})
    expected = torch_features(tower, pixels)
    assert found.shape == (batch, form.dim) and found.dtype == np.float32
    assert np.abs(found - expected).max() <= MAX_FEATURE_DIFFERENCE


@pytest.mark.parametrize("name", TOWERS)
def test_fp16_graph_stays_near_the_torch_tower(name):
    tower = TOWERS[name]()
    form, tensors, model = exported(tower, "fp16")
    pixels = random_pixels(3, form.size)
    found = run_onnx(model.SerializeToString(), {"pixels": pixels, **tensors})
    assert found.dtype == np.float32
    assert np.abs(found - torch_features(tower, pixels)).max() <= MAX_FP16_DIFFERENCE


def test_fp16_keeps_layer_norm_in_float32_and_nothing_else():
    _, tensors, _ = exported(vit(), "fp16")
    wide = {name for name, array in tensors.items() if array.dtype == np.float32}
    assert wide == {name for name in tensors if "ln_" in name} and wide


def test_vit_tensors_keep_open_clips_names_and_values():
    tower = vit()
    own, (_, tensors, _) = encoder_tensors(tower), exported(tower)
    last = "transformer.resblocks.2.attn."
    split = {n for n in tensors if n.startswith(last) and "_proj." in n and "out_proj" not in n}
    assert own.keys() - tensors.keys() == {f"{last}in_proj_weight", f"{last}in_proj_bias"}
    assert tensors.keys() - own.keys() == split and len(split) == 5
    assert all(np.array_equal(tensors[n], own[n]) for n in tensors.keys() & own.keys())
    whole = [tensors[f"{last}{part}_proj.weight"].reshape(-1, 48) for part in "qkv"]
    assert np.array_equal(np.concatenate(whole), own[f"{last}in_proj_weight"])


def test_folded_convolution_is_batch_norm_after_convolution():
    tower = resnet()
    _, tensors, _ = exported(tower)
    x = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower.bn1(tower.conv1(x))
        weight, bias = (torch.from_numpy(tensors[f"conv1.{part}"]) for part in ("weight", "bias"))
        found = nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
    assert (found - expected).abs().max() <= 2e-6
    assert not [name for name in tensors if "bn" in name or "running" in name]


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_graph_bytes_do_not_depend_on_the_weights_or_the_run(name, precision):
    first, again, other = (
        exported(TOWERS[name](seed=seed), precision)[2].SerializeToString() for seed in (0, 0, 5)
    )
    assert first == again == other


@pytest.mark.parametrize("name", TOWERS)
def test_graph_holds_no_weights_and_is_valid_onnx(name):
    _, tensors, model = exported(TOWERS[name]())
    onnx.checker.check_model(model, full_check=True)
    sizes = [numpy_helper.to_array(c).size for c in model.graph.initializer]
    assert max(sizes) <= 6 and len(model.SerializeToString()) < 20_000
    inputs = {
        i.name: [d.dim_value or d.dim_param for d in i.type.tensor_type.shape.dim]
        for i in model.graph.input
    }
    assert inputs.pop("pixels")[0] == "batch"
    assert inputs == {name: list(array.shape) for name, array in tensors.items()}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]


def test_weight_as_constant_is_refused():
    builder = graphs.Graph({}, "e")
    value = builder.op("Identity", builder.constant(np.zeros((9, 9)), np.float32))
    with pytest.raises(ValueError, match=r"constant 'ec0' \[9, 9\] is a weight"):
        builder.model(value, ("pixels", np.uint8, [1]), ("features", [9, 9]))


def test_tensor_that_no_node_reads_is_refused():
    form, tensors, _ = exported(vit())
    with pytest.raises(ValueError, match="does not use 'stray'"):
        encoder_graph(form, {**tensors, "stray": np.zeros(3, np.float32)}, Preprocess(32))


def test_images_of_another_size_are_refused():
    form, tensors, _ = exported(vit())
    with pytest.raises(BaseModelError, match="images of 48 pixels, but this base takes 32"):
        encoder_graph(form, tensors, Preprocess(48))


def test_mean_and_std_come_from_the_task():
    tower = vit()
    form, tensors, _ = exported(tower)
    spec = dataclasses.replace(Preprocess(32), mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7))
    pixels = random_pixels(2, 32)
    found = run_onnx(
        encoder_graph(form, tensors, spec).SerializeToString(), {"pixels": pixels, **tensors}
    )
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.no_grad():
        assert np.abs(found - tower(images).numpy()).max() <= MAX_FEATURE_DIFFERENCE


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ls_init_value": 0.1}, "plain residual blocks"),
        ({"act": nn.ReLU}, "plain residual blocks"),
        ({"act": lambda: nn.GELU(approximate="tanh")}, "plain residual blocks"),
        ({"pool_type": "avg"}, "the class token as its output"),
        ({"attentional_pool": True, "attn_pooler_heads": 4}, "no attentional pooling"),
    ],
)
def test_unknown_vit_parts_are_refused(changes, what):
    with pytest.raises(BaseModelError, match=f"cannot deploy this VisionTransformer.*{what}"):
        encoders.get(vit(**changes))


def test_unknown_towers_are_refused():
    with pytest.raises(BaseModelError, match="image tower of type 'Linear'"):
        encoders.get(nn.Linear(3, 3))


def test_value_beyond_float16_is_refused():
    tower = vit()
    with torch.no_grad():
        tower.proj[0, 0] = 1e5
    with pytest.raises(BaseModelError, match="'proj' holds 1e\\+05, which float16 cannot"):
        exported(tower, "fp16")


def test_activation_is_read_off_the_loaded_tower_and_not_off_a_name():
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 32,
            "layers": 1,
            "head_width": 16,
        },
        "text_cfg": {"context_length": 4, "vocab_size": 8, "width": 16, "heads": 1, "layers": 1},
    }
    forms = [encoders.get(CLIP(**config, quick_gelu=quick).visual) for quick in (True, False)]
    assert [form.quick for form in forms] == [True, False]
