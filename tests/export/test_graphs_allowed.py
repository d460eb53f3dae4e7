"""Every graph that an export can write passes the runtime's check, with the shapes it works out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from open_clip.transformer import VisionTransformer

from adapt.clip.model import encoder_tensors
from adapt.methods.heads import HEADS, head_tensors
from export.graphs import encoders
from export.graphs.encoder import (
    blocked_graph,
    deploy_tensors,
    deploy_tokens,
    encoder_graph,
)
from export.graphs.heads import head_graph
from runtime.errors import FormatError
from runtime.graphs.check import MAX_BYTES, check_graph, shapes_of
from runtime.graphs.operators import BLOCKED, OPERATORS
from runtime.models import Preprocess
from tests.export.helpers import TOWERS, perturb, resnet, vit

FIXTURES_ALONE = {"ReduceSum"}
"""Operators that no export writes: the toy bundles of the tests use them."""


def encoder_graphs():
    """Yield every kind of encoder graph by a name."""
    for name, tower in TOWERS.items():
        for apart in (False, True) if "resnet" in name else (False,):
            form = encoders.get(tower(), apart=apart)
            base = encoder_tensors(tower())
            for precision in ("fp32", "fp16", "bf16"):
                tensors = deploy_tensors(form, base, precision)
                spec = Preprocess(form.size)
                yield f"{name} {precision} {apart}", encoder_graph(form, tensors, spec)
                blocked = blocked_graph(form, tensors, spec)
                if blocked is not None:
                    yield f"{name} {precision} blocked", blocked
    tower = vit()
    form, base = encoders.get(tower), encoder_tensors(tower)
    for blocks in ([0], [0, 1], [0, 1, 2]):
        for precision in ("fp32", "fp16"):
            drawn = {f"prompts.{block}": np.ones((4, 48), np.float32) for block in blocks}
            tokens = deploy_tokens(drawn, precision)
            tensors = deploy_tensors(form, base, precision)
            yield (
                f"prompts {blocks} {precision}",
                encoder_graph(form, tensors, Preprocess(32), tokens),
            )


def heads():
    """Yield every kind of head graph by its name."""
    for kind in HEADS:
        width = {"width": 9} if kind == "projector-cosine" else {}
        tensors = head_tensors(perturb(HEADS[kind](12, 5, **width)))
        yield kind, onnx.load_from_string(head_graph(kind, tensors))


ENCODERS, HEAD_GRAPHS = dict(encoder_graphs()), dict(heads())


@pytest.mark.parametrize("name", [*ENCODERS, *HEAD_GRAPHS])
def test_what_an_export_writes_is_allowed_and_its_shapes_are_those_that_onnx_infers(name):
    kind, model = ("encoder", ENCODERS[name]) if name in ENCODERS else ("head", HEAD_GRAPHS[name])
    found = shapes_of(model.SerializeToString(), kind, name)
    assert set(found) >= {output for node in model.graph.node for output in node.output}
    if any(node.domain for node in model.graph.node):
        return  # onnx knows nothing of ONNX Runtime's own operators
    # Numbers for the free axes, so that onnx can work out everything after a reshape.
    batch, classes = 3, 7
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = {"batch": batch, "classes": classes}[dim.dim_param]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert len(inferred.graph.value_info) == len(model.graph.node) - 1
    for value in [*inferred.graph.value_info, *inferred.graph.output]:
        want = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert [
            each.factor * batch**each.batches * classes**each.classes for each in found[value.name]
        ] == want, value.name


def test_no_operator_is_allowed_that_nothing_writes():
    written = {
        (node.domain, node.op_type, attribute)
        for model in [*ENCODERS.values(), *HEAD_GRAPHS.values()]
        for node in model.graph.node
        for attribute in [None, *(each.name for each in node.attribute)]
    }
    for domain, operators in OPERATORS.items():
        for kind, operator in operators.items():
            if kind not in FIXTURES_ALONE:
                assert {(domain, kind, each) for each in [None, *operator.attributes]} <= written
    assert {domain for domain, _, _ in written} == {"", BLOCKED}


LARGE = {
    "ViT-B/16": {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "heads": 12},
    "ViT-L/14 at 336": {
        "image_size": 336,
        "patch_size": 14,
        "width": 1024,
        "layers": 24,
        "heads": 16,
    },
    "ViT-bigG/14": {
        "image_size": 224,
        "patch_size": 14,
        "width": 1664,
        "layers": 48,
        "heads": 16,
        "mlp_ratio": 4.9231,
    },
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_large_models_are_far_within_the_bounds(name, precision):
    with torch.device("meta"):
        tower = VisionTransformer(**{"mlp_ratio": 4.0, "output_dim": 512} | LARGE[name])
    form = encoders.get(tower)
    # Only types and shapes matter: one zero stands for all values.
    zeros = {
        name: np.broadcast_to(np.zeros((), np.float32), tuple(tensor.shape))
        for name, tensor in tower.state_dict().items()
    }
    tensors = form.deploy(zeros)
    if precision == "fp16":
        tensors = {
            name: array if form.stays_float32(name) else np.broadcast_to(np.float16(0), array.shape)
            for name, array in tensors.items()
        }
    content = encoder_graph(form, tensors, Preprocess(form.size)).SerializeToString()
    assert len(content) < MAX_BYTES / 4
    check_graph(content, "encoder", name)


@pytest.mark.parametrize("name", ["resnet", "blocked resnet"])
def test_flipped_bytes_of_a_real_graph_are_one_error_or_a_graph_within_bounds(name):
    tower = resnet(width=32)
    form = encoders.get(tower)
    tensors = deploy_tensors(form, encoder_tensors(tower), "fp32")
    make = blocked_graph if "blocked" in name else encoder_graph
    content = make(form, tensors, Preprocess(form.size)).SerializeToString()
    draw, refused = np.random.default_rng(1), 0
    for _ in range(300):
        changed = bytearray(content)
        changed[draw.integers(len(changed))] = draw.integers(256)
        try:
            check_graph(bytes(changed), "encoder", "g")
        except FormatError:
            refused += 1
    assert refused > 150
