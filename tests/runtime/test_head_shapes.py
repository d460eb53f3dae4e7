"""Tasks whose head tensors have the right names and wrong shapes."""

from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime.bundles import bundle
from runtime.bundles.install import install
from runtime.errors import FormatError
from tests.runtime.conftest import head
from tests.runtime.helpers import as_schema_1, smuggle, tree

BROKEN = {
    (2, 7): r"\(2, 7\), expected \(2, 6\)",
    (5, 6): r"\(5, 6\), expected \(2, 6\)",
    (): r"\((1,)?\), expected \(2, 6\)",  # a task file has no rank 0: writing makes it 1
}
"""Shapes of a head's weights that two classes and six features do not have."""


@pytest.mark.parametrize("shape", BROKEN)
@pytest.mark.parametrize("schema", [1, 2])
def test_head_tensors_of_other_shapes_are_refused_before_they_replace_a_task(
    world, write_task, shape, schema
):
    if schema == 1:  # which knows no shapes: a neighbour's are all there is
        as_schema_1(world.path)
    broken = replace(world.tasks["a-b"], head_tensors={"weight": np.zeros(shape, np.float32)})
    before = tree(world.path)
    with pytest.raises(FormatError, match=f"'a-b' has 2 classes.*{BROKEN[shape]}"):
        install(world.path, write_task(broken))
    assert tree(world.path) == before


@pytest.mark.parametrize("shape", BROKEN)
def test_head_tensors_of_other_shapes_are_not_written(world, shape):
    before = tree(world.path)
    broken = replace(world.tasks["a-b"], head_tensors={"weight": np.zeros(shape, np.float32)})
    for heads in (world.parts["heads"], [head("linear", known=False)]):
        parts = {"heads": heads, "tasks": [world.tasks["a-c"], broken]}
        with pytest.raises(FormatError, match=BROKEN[shape]):
            bundle.write(world.path, **{**world.parts, **parts})
    assert tree(world.path) == before


@pytest.mark.parametrize("shape", BROKEN)
def test_head_tensors_of_other_shapes_are_not_loaded(world, frame, shape):
    broken = replace(world.tasks["a-b"], head_tensors={"weight": np.zeros(shape, np.float32)})
    smuggle(world.path, broken)
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        with pytest.raises(FormatError, match=BROKEN[shape]):
            session.switch("a-b")
        assert session.predict(frame).task == "a-c"
