import numpy as np
import onnx
import pytest
import torch

from adapt.methods.heads import HEADS, head_tensors
from export.graphs.heads import GRAPHS, head_graph, head_shapes
from runtime.errors import FormatError
from tests.export.helpers import perturb, run_onnx


def make(kind, dim, classes, seed=0):
    torch.manual_seed(seed)
    width = {"width": 9} if kind == "projector-cosine" else {}
    head = perturb(HEADS[kind](dim, classes, **width), seed)
    return head, head_tensors(head)


def test_every_kind_of_head_has_a_graph():
    assert GRAPHS.keys() == HEADS.keys()


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("classes", [2, 7, 9, 12])  # 9 and 12 are also numbers of features
def test_one_head_graph_serves_every_class_count(kind, classes):
    _, other = make(kind, 12, 5)
    graph = head_graph(kind, other)
    head, tensors = make(kind, 12, classes)
    assert head_graph(kind, tensors) == graph
    features = np.random.default_rng(0).standard_normal((4, 12), np.float32)
    features[3] = 0
    found = run_onnx(graph, {"features": features, **tensors})
    with torch.no_grad():
        expected = head(torch.from_numpy(features)).numpy()
    assert found.shape == (4, classes)
    assert np.abs(found - expected).max() <= 2e-6  # measured 5e-7


@pytest.mark.parametrize("kind", HEADS)
def test_head_graph_names_its_dynamic_axes(kind):
    model = onnx.load_from_string(head_graph(kind, make(kind, 12, 5)[1]))
    onnx.checker.check_model(model, full_check=True)
    dims = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*model.graph.input, *model.graph.output]
    }
    assert dims["features"] == ["batch", 12] and dims["logits"] == ["batch", "classes"]
    named = {name for name, shape in dims.items() if "classes" in shape}
    assert named == {"logits", *GRAPHS[kind].classes}


@pytest.mark.parametrize("kind", HEADS)
def test_the_shapes_told_of_a_head_are_those_of_its_graph(kind):
    tensors = make(kind, 12, 5)[1]
    model = onnx.load_from_string(head_graph(kind, tensors))
    inputs = {
        value.name: tuple(
            -1 if size.dim_param == "classes" else size.dim_value
            for size in value.type.tensor_type.shape.dim
        )
        for value in model.graph.input
        if value.name != "features"
    }
    assert head_shapes(kind, tensors) == inputs


def test_unknown_kind_of_head_is_refused():
    with pytest.raises(FormatError, match="unknown head kind 'forest'; available: affine, "):
        head_graph("forest", {})
