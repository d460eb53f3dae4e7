import numpy as np
import pytest
import torch

from adapt.methods.heads import (
    HEADS,
    CosineHead,
    ProjectorHead,
    TaskHead,
    build_head,
    head_dim,
    head_tensors,
)
from runtime.errors import FormatError

FEATURES = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)) * 3 + 1


def trained_head():
    torch.manual_seed(1)
    head = TaskHead(8, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(FEATURES), torch.tensor([0, 1, 2] * 2)).backward()
        optimizer.step()
    return head.eval()


def cosine_head():
    text = torch.nn.functional.normalize(
        torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    )
    return CosineHead.of(text, 100.0)


def projector_head():
    torch.manual_seed(3)
    head = ProjectorHead(8, 3, 5)
    for _ in range(3):
        head.project(FEATURES)  # moves the running statistics
    head.weight.normal_()
    return head.eval()


def test_task_head_equals_the_formula_written_out():
    head = trained_head()
    t = {name: torch.from_numpy(array).double() for name, array in head_tensors(head).items()}
    x = (FEATURES.double() - t["bn.running_mean"]) / (t["bn.running_var"] + 1e-5).sqrt()
    x = x * t["bn.weight"] + t["bn.bias"]
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    expected = (x * t["ln.weight"] + t["ln.bias"]) @ t["linear.weight"].T
    torch.testing.assert_close(head(FEATURES).double(), expected, atol=1e-5, rtol=1e-5)


def test_task_head_starts_as_the_released_code_does():
    torch.manual_seed(0)
    head = TaskHead(512, 200)
    assert head.linear.bias is None
    assert head.linear.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert abs(head.linear.weight.mean().item()) < 1e-5
    assert head.bn.weight.eq(1).all() and head.bn.bias.eq(0).all()
    assert not head.bn.bias.requires_grad
    trained = {name for name, p in head.named_parameters() if p.requires_grad}
    assert trained == {"bn.weight", "ln.weight", "ln.bias", "linear.weight"}
    assert (head.bn.eps, head.bn.momentum, head.ln.eps) == (1e-5, 0.1, 1e-6)


def test_cosine_head_is_the_scaled_cosine_to_each_prompt():
    text = torch.nn.functional.normalize(torch.randn(3, 8))
    logits = CosineHead.of(text, 100.0)(FEATURES)
    for row, feature in zip(logits, FEATURES, strict=True):
        for value, prompt in zip(row, text, strict=True):
            cosine = torch.cosine_similarity(feature, prompt, dim=0)
            assert value.item() == pytest.approx(100 * cosine.item(), abs=1e-4)


def test_cosine_head_trains_nothing():
    assert not list(cosine_head().parameters())
    assert list(head_tensors(cosine_head())) == ["weight"]


def test_projector_head_equals_the_formula_written_out():
    head = projector_head()
    t = {name: torch.from_numpy(array).double() for name, array in head_tensors(head).items()}
    x = FEATURES.double() @ t["proj1.weight"].T + t["proj1.bias"]
    x = (x - t["bn.running_mean"]) / (t["bn.running_var"] + 1e-5).sqrt()
    x = (x * t["bn.weight"] + t["bn.bias"]).clamp(min=0)
    x = x @ t["proj2.weight"].T + t["proj2.bias"]
    expected = x / (x**2).sum(1, keepdim=True).sqrt() @ t["weight"].T
    torch.testing.assert_close(head(FEATURES).double(), expected, atol=1e-5, rtol=1e-5)


def test_a_projector_takes_the_students_features_and_not_the_teachers():
    assert head_dim("projector-cosine", head_tensors(projector_head())) == 8
    assert head_dim("bn-ln-linear", head_tensors(trained_head())) == 8
    with pytest.raises(FormatError, match="'projector-cosine' needs a tensor 'proj1.weight'"):
        head_dim("projector-cosine", {"weight": np.ones((3, 5), np.float32)})


@pytest.mark.parametrize("make", [trained_head, cosine_head, projector_head])
def test_a_head_built_from_its_tensors_gives_the_same_bits(make):
    head = make()
    built = build_head(head.kind, head_tensors(head))
    assert not built.training
    with torch.no_grad():
        assert torch.equal(built(FEATURES), head(FEATURES))


def test_tensors_are_float32_copies_without_counters():
    head = trained_head()
    tensors = head_tensors(head)
    assert sorted(tensors) == [
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.weight",
        "linear.weight",
        "ln.bias",
        "ln.weight",
    ]
    assert {t.dtype for t in tensors.values()} == {np.dtype("float32")}
    tensors["linear.weight"][:] = 9
    assert not head.linear.weight.eq(9).any()


def test_building_a_head_leaves_the_random_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    build_head("bn-ln-linear", head_tensors_without_draw())
    assert torch.equal(torch.rand(4), expected)


def head_tensors_without_draw():
    ones = np.ones(8, np.float32)
    names = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "ln.weight", "ln.bias")
    return {**{name: ones for name in names}, "linear.weight": np.ones((3, 8), np.float32)}


def test_kinds_are_the_keys_of_the_table():
    assert {kind: cls.kind for kind, cls in HEADS.items()} == {k: k for k in HEADS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("ln.bias"), "missing or an extra tensor 'ln.bias'"),
        (lambda t: t.update(more=t["ln.bias"]), "missing or an extra tensor 'more'"),
        (lambda t: t.pop("linear.weight"), "needs a tensor 'linear.weight'"),
        (lambda t: t.update({"linear.weight": t["ln.bias"]}), "needs a tensor 'linear.weight'"),
        (lambda t: t.update({"linear.weight": np.ones((0, 8), np.float32)}), "needs a tensor"),
        (lambda t: t.update({"ln.bias": np.ones(7, np.float32)}), r"found float32\(7,\)"),
        (lambda t: t.update({"ln.bias": np.ones(8)}), r"'ln\.bias' must be float32.*found float64"),
        (lambda t: t.update({"ln.bias": np.full(8, np.nan, np.float32)}), "not finite"),
        (lambda t: t.update({"bn.running_var": -np.ones(8, np.float32)}), "negative variance"),
    ],
)
def test_unfit_tensors_are_refused(change, message):
    tensors = head_tensors_without_draw()
    change(tensors)
    with pytest.raises(FormatError, match=message):
        build_head("bn-ln-linear", tensors)


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(
        FormatError, match="unknown head kind 'mlp'; available: affine, bn-ln-linear, cosine, "
    ):
        build_head("mlp", {})
