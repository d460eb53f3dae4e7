import dataclasses

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from adapt.clip.model import encoder_tensors
from adapt.data.transforms import normalise
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors, deploy_tokens, encoder_graph
from runtime.errors import BaseModelError
from runtime.models import Preprocess
from tests.export.helpers import random_pixels, resnet, run_onnx, vit

MAX_FEATURE_DIFFERENCE = 1e-5  # measured 2e-6, features of size 1 to 5
MAX_FP16_DIFFERENCE = 1e-2  # measured 2e-3
MAX_BF16_DIFFERENCE = 5e-2  # measured 2.2e-2


def draw_tokens(blocks, count=4, width=48, seed=0):
    draw = np.random.default_rng(seed)
    return {
        f"prompts.{block}": draw.standard_normal((count, width)).astype(np.float32)
        for block in blocks
    }


def naive(tower, pixels, tokens):
    """Features of one image after the other, in open_clip's own blocks."""
    rows = []
    with torch.no_grad():
        for image in normalise(torch.from_numpy(pixels)):
            patches = tower.conv1(image[None])[0].flatten(1).T
            sequence = torch.cat([tower.class_embedding[None], patches])
            sequence = list(sequence + tower.positional_embedding)
            prompts = [torch.from_numpy(token) for token in tokens["prompts.0"]]
            sequence[1:1] = prompts
            sequence = tower.ln_pre(torch.stack(sequence))
            for index, block in enumerate(tower.transformer.resblocks):
                if index and f"prompts.{index}" in tokens:
                    for position, token in enumerate(tokens[f"prompts.{index}"]):
                        sequence[1 + position] = torch.from_numpy(token)
                sequence = block(sequence[None])[0]
            rows.append(tower.ln_post(sequence[0]) @ tower.proj)
    return torch.stack(rows).numpy()


def exported(tower, tokens, precision="fp32"):
    form = encoders.get(tower)
    tensors = deploy_tensors(form, encoder_tensors(tower), precision)
    own = deploy_tokens(tokens, precision)
    model = encoder_graph(form, tensors, Preprocess(form.size), own)
    return {**tensors, **own}, model


@pytest.mark.parametrize(
    ("make", "blocks", "count"),
    [
        (vit, (0,), 4),  # they flow through all blocks
        (vit, (0, 1, 2), 4),
        (vit, (0, 2), 1),
        (lambda: vit(nn.GELU), (0, 1, 2), 7),
        (lambda: vit(no_ln_pre=True), (0, 1), 3),
        (lambda: vit(layers=1), (0,), 2),
        (lambda: vit(layers=2), (0, 1), 16),  # as many as patches
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_prompted_graph_computes_what_open_clips_blocks_compute(make, blocks, count, batch):
    tower, tokens = make(), draw_tokens(blocks, count)
    inputs, model = exported(tower, tokens)
    pixels = random_pixels(batch, 32)
    found = run_onnx(model.SerializeToString(), {"pixels": pixels, **inputs})
    expected = naive(tower, pixels, tokens)
    assert np.abs(found - expected).max() <= MAX_FEATURE_DIFFERENCE
    other = draw_tokens(blocks, count, seed=1)
    assert np.abs(naive(tower, pixels, other) - expected).max() > 0.1


@pytest.mark.parametrize(
    ("precision", "limit"), [("fp16", MAX_FP16_DIFFERENCE), ("bf16", MAX_BF16_DIFFERENCE)]
)
def test_low_precision_keeps_prompted_features_near(precision, limit):
    tower, tokens = vit(), draw_tokens((0, 1, 2))
    inputs, model = exported(tower, tokens, precision)
    kind = np.float16 if precision == "fp16" else np.float32
    assert {inputs[name].dtype for name in tokens} == {np.dtype(kind)}
    for name, array in tokens.items():
        error = np.abs(inputs[name].astype(np.float32) - array) / np.abs(array)
        assert 0 < error.max() <= (2.0**-11 if precision == "fp16" else 2.0**-8)
    pixels = random_pixels(3, 32)
    found = run_onnx(model.SerializeToString(), {"pixels": pixels, **inputs})
    assert np.abs(found - naive(tower, pixels, tokens)).max() <= limit


def test_graph_bytes_depend_on_the_number_of_tokens_and_not_on_their_values():
    def content(blocks, count, seed=0):
        tokens = draw_tokens(blocks, count, seed=seed)
        return exported(vit(), tokens)[1].SerializeToString(deterministic=True)

    assert content((0, 1, 2), 4) == content((0, 1, 2), 4, seed=1)
    different = [content((0, 1, 2), 4), content((0, 1, 2), 5), content((0,), 4), content((0, 2), 4)]
    assert len(set(different)) == 4


def test_prompted_graph_is_valid_holds_no_weights_and_adds_only_the_tokens():
    inputs, model = exported(vit(), draw_tokens((0, 1, 2)))
    onnx.checker.check_model(model, full_check=True)
    found = {
        i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in model.graph.input
    }
    assert found.pop("pixels") == (0, 32, 32, 3)
    assert found == {name: array.shape for name, array in inputs.items()}
    assert max(np.prod(c.dims) for c in model.graph.initializer) <= 6


@pytest.mark.parametrize(
    "tokens",
    [
        draw_tokens((1, 2)),  # nothing to replace
        draw_tokens((0, 3)),  # there are three blocks
        draw_tokens((0, 1), width=47),
        {**draw_tokens((0,), 4), **draw_tokens((1,), 5)},
        {**draw_tokens((0,)), "prompts.x": np.zeros((4, 48), np.float32)},
        {"prompts.0": np.zeros((0, 48), np.float32)},
        {"prompts.0": np.zeros(48, np.float32)},
    ],
)
def test_tokens_that_do_not_fit_the_tower_are_refused(tokens):
    with pytest.raises(BaseModelError, match=r"takes 'prompts.0' \(n, 48\).*of its 3 blocks"):
        exported(vit(), tokens)


def test_a_resnet_takes_no_tokens():
    with pytest.raises(BaseModelError, match=r"prompts.0\), which only a vision transformer takes"):
        exported(resnet(), draw_tokens((0,)))


def test_a_token_beyond_float16_is_refused():
    tokens = draw_tokens((0,))
    tokens["prompts.0"][1, 1] = 1e5
    with pytest.raises(BaseModelError, match="'prompts.0' hold a value that float16 cannot"):
        exported(vit(), tokens, "fp16")


def test_mean_and_std_of_a_prompted_graph_come_from_the_task():
    tower, tokens = vit(), draw_tokens((0,))
    form = encoders.get(tower)
    tensors = deploy_tensors(form, encoder_tensors(tower), "fp32")
    spec = dataclasses.replace(Preprocess(32), mean=(0.5, 0.4, 0.3))
    models = [encoder_graph(form, tensors, s, tokens) for s in (spec, Preprocess(32))]
    pixels = random_pixels(1, 32)
    one, two = (
        run_onnx(m.SerializeToString(), {"pixels": pixels, **tensors, **tokens}) for m in models
    )
    assert np.abs(one - two).max() > 0.05
