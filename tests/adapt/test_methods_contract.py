"""What every method promises, whatever it computes."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_merged
from adapt.artifacts.run import RunDescription
from adapt.clip.model import Clip, encoder_tensors
from adapt.clip.prompts import Prompted
from adapt.methods.base import Method
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.methods.heads import HEADS
from adapt.optim import rst
from adapt.optim.optimization import Optimization
from adapt.optim.topk import topk_threshold_on_gpu
from adapt.settings.config import TrainConfig
from adapt.training.batches import Role, Stream
from runtime.errors import ConfigError
from runtime.models import Preprocess
from tests.adapt.steps import METRICS, TASK, batch

Make = Callable[..., Method]
SETTINGS = {
    "lr": 1e-3,
    "head_lr_multiplier": 10.0,
    "ramp_iterations": 10,
    "prompt": "a photo of a {}",
    "teacher": "demo-vit32",
    "teacher_pretrained": "demo",
    "templates": "prompt",
}


def settings(cls: type[Method], **changes: object) -> TrainConfig:
    known = {k: v for k, v in SETTINGS.items() if k in cls.Config.__dataclass_fields__}
    return replace(cls.Config(**known), **changes)


def stream(role: Role, clip: Clip, config: TrainConfig) -> Stream:
    """Return twelve small pictures, for methods that look at all of them before training."""
    pixels = np.random.default_rng(len(role)).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(12) % 3 if role == "source" else None
    few = replace(config, batch_size=6)
    return Stream(role, pixels, labels, few, clip, torch.device("cpu"), digest=f"contract {role}")


@pytest.fixture(
    params=[(name, kind) for name in sorted(methods.METHODS) for kind in ("resnet", "vit")],
    ids="-".join,
)
def make(
    request: pytest.FixtureRequest, small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> Make:
    name, kind = request.param
    cls = methods.get(name)

    def build(**changes: object) -> Method:
        clip, config = small_clip(kind), settings(cls, **changes)
        method = cls(clip, prompts, config)
        method.prepare(stream("source", clip, config), stream("target", clip, config))
        return method

    return build


def steps(method: Method, count: int = 3) -> None:
    optimization = Optimization(method.parameter_groups(), method.config)
    for iteration in range(count if method.trains else 0):
        method.train()
        source, target = batch(2 * iteration, True), batch(2 * iteration + 1, False)
        method.training_step(source, target, iteration + 5, optimization)
    method.eval()


def test_losses_are_finite_named_scalars(make: Make) -> None:
    method = make()
    if not method.trains:
        assert method.parameter_groups() == []
        return
    terms = method.train().losses(batch(0, True), batch(1, False), 5)
    assert terms and all(term.shape == () and bool(term.isfinite()) for term in terms.values())


class Waits(TorchDispatchMode):
    """Names the operations whose result's size or value the host has to wait for on a GPU."""

    ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if masks or name in self.ASKING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("density", [0.0, 0.015])
def test_a_step_never_waits_for_a_gpu(make: Make, density: float) -> None:
    method = make()
    if not method.trains:
        return
    if method.trains_encoder:
        method = make(rst=True, rst_density=density)
    projection = rst.over(method.encoder, method.config)
    if projection:
        projection.find_threshold = topk_threshold_on_gpu  # the one that a GPU gets
    optimization = Optimization(method.parameter_groups(), method.config, projection)
    method.train()
    with Waits() as waits:
        method.training_step(batch(0, True), batch(1, False), 5, optimization)
        torch.ones(1).item()  # what every waiting operation comes down to
    assert waits.found == ["_local_scalar_dense"]


def test_only_declared_parameters_are_trained(make: Make) -> None:
    method = make()
    declared = {id(p) for group in method.parameter_groups() for p in group.parameters}
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    steps(method)
    moved = {n for n, p in method.named_parameters() if not torch.equal(p.detach(), before[n])}
    names = {n for n, p in method.named_parameters() if id(p) in declared}
    assert moved <= names
    assert bool(moved) == method.trains


def test_train_encoder_false_leaves_the_encoder_alone(make: Make) -> None:
    method = make(train_encoder=False)
    before = encoder_tensors(method.encoder)
    steps(method)
    assert all((before[n] == t).all() for n, t in encoder_tensors(method.encoder).items())
    assert not any(p.requires_grad for p in method.encoder.parameters())


def test_buffers_of_the_encoder_stay_the_bases(make: Make) -> None:
    method = make()
    before = copy.deepcopy(dict(method.encoder.named_buffers()))
    steps(method)
    for name, buffer in method.encoder.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_target_labels_do_not_enter_the_losses(make: Make) -> None:
    method = make()
    if not method.trains:
        return
    target = batch(1, False)
    labelled = replace(target, labels=torch.tensor([0, 1, 2, 0, 1, 2]))
    state = copy.deepcopy(method.state_dict())
    torch.manual_seed(5)  # as the loop does before every iteration
    blind = method.train().losses(batch(0, True), target, 5)
    method.load_state_dict(state)
    torch.manual_seed(5)
    for name, term in method.train().losses(batch(0, True), labelled, 5).items():
        assert torch.equal(term, blind[name])


def test_the_head_is_drawn_from_the_seed_alone(make: Make) -> None:
    torch.manual_seed(1)
    first = make(seed=3).head.state_dict()
    torch.manual_seed(2)
    again, other = make(seed=3).head.state_dict(), make(seed=4).head.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    if "linear.weight" in first:
        assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_the_deployed_head_gives_the_methods_logits(make: Make) -> None:
    method = make()
    steps(method)
    deployed, images = method.deploy(), batch(7, False).images
    encoder = Prompted(deployed.encoder, deployed.tokens) if deployed.tokens else deployed.encoder
    with torch.no_grad():
        assert torch.equal(deployed.head(encoder(images)), method.logits(images))
    assert type(deployed.head) in HEADS.values()


def test_an_artifact_gives_the_same_logits_bit_for_bit(
    make: Make, small_clip: Callable[[str], Clip], tmp_path: Path, prompts: Sequence[str]
) -> None:
    method = make()
    clip = small_clip("resnet" if hasattr(method.encoder, "attnpool") else "vit")
    steps(method)
    deployed = method.deploy()
    name = next(n for n in methods.METHODS if methods.get(n) is type(method))
    path = tmp_path / "artifact.safetensors"
    preprocess = Preprocess(32, background=method.config.background)
    run = RunDescription(TASK, name, preprocess, tuple(prompts), asdict(method.config), seed=0)
    reference = encoder_tensors(clip.visual)
    Artifact.of(
        run, clip.info, reference, deployed.encoder, deployed.head, METRICS, deployed.tokens
    ).save(path)
    loaded, images = Artifact.load(path), batch(7, False).images
    with torch.no_grad():
        logits = loaded.build_head()(load_merged(clip, loaded)(images))
        assert torch.equal(logits, method.logits(images))


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_one_pass_over_both_domains_equals_two(
    small_clip: Callable[[str], Clip], prompts: Sequence[str], kind: str
) -> None:
    method = CMKD(small_clip(kind), prompts, CMKDConfig()).train()
    source, target = batch(0, True).images, batch(1, False).images
    together = method.encode(torch.cat([source, target]))
    apart = torch.cat([method.encode(source), method.encode(target)])
    torch.testing.assert_close(together, apart, rtol=0, atol=2e-6)  # measured 2e-7


def test_table_and_folder_name_the_same_methods() -> None:
    folder = Path(methods.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "heads", "losses"}
    assert files == set(methods.METHODS)
    assert all(issubclass(methods.get(name), Method) for name in methods.METHODS)


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_methods_settings_are_known_without_it(name: str) -> None:
    cls = methods.get(name)
    assert methods.get_config(name) is cls.Config
    assert cls.Config.leaves_encoder == (not (cls.trains and cls.trains_encoder))


def test_listing_methods_loads_no_torch() -> None:
    code = "import sys, adapt.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_method_lists_the_known_ones() -> None:
    names = ", ".join(sorted(methods.METHODS))
    with pytest.raises(ConfigError, match=f"available: {names}"):
        methods.get("dann")


def test_only_methods_know_methods() -> None:
    """What training, evaluation and export need of a method is in its contract."""
    root = Path(methods.__file__).parents[2]
    own = {methods.get_config(name).__name__ for name in methods.METHODS} - {"TaskHeadConfig"}
    named = []
    for path in (*root.glob("adapt/**/*.py"), *root.glob("export/**/*.py")):
        if path.is_relative_to(root / "adapt/methods") or path.name == "methods.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                module, names = str(node.module), {alias.name for alias in node.names}
                shared = module in ("adapt.methods.base", "adapt.methods.heads")
                if module.startswith("adapt.methods.") and not shared or names & own:
                    named.append(f"{path.relative_to(root)} imports {module}")
    assert not named
