"""EKDA's promises: sizes, who learns in which step, what is deployed, and that it adapts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_merged
from adapt.artifacts.run import RunDescription
from adapt.clip import demo_weights
from adapt.clip.model import Clip, encoder_tensors
from adapt.data import DomainPair
from adapt.methods.base import Batch
from adapt.methods.ekda import EKDA, EKDAConfig
from adapt.methods.parts.teacher import Teacher, class_names, divergence
from adapt.optim.optimization import Optimization
from adapt.settings import base_models as recommended
from adapt.settings.layers import resolve
from adapt.training import checkpoint
from adapt.training.loop import Loop
from runtime.errors import ConfigError
from runtime.models import BaseModel, Preprocess
from tests.adapt.steps import METRICS, TASK, batch

Make = Callable[[str], Clip]
SETTINGS = EKDAConfig(
    lr=0.02, n_ctx=2, epochs=4, iterations=3, templates="prompt", prompt="a photo of a {}"
)


def meta_clip(architecture: str) -> Clip:
    """A real architecture without any memory behind it."""
    config = open_clip.get_model_config(architecture)
    with torch.device("meta"):
        model = CLIP(**config).eval()
    return Clip(
        info=BaseModel(architecture, "none", "0" * 64), visual=model.visual, image_size=224,
        dim=config["embed_dim"], logit_scale=100.0, mean=(0.5,) * 3, std=(0.5,) * 3, _model=model,
        _tokenizer=open_clip.SimpleTokenizer(),
    )  # fmt: skip


def small_teacher(seed: int, text_width: int = 24) -> Clip:
    """Another small CLIP for 32 px, with its own widths."""
    vision = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 2, "head_width": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": text_width, "heads": 1, "layers": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(24, vision, text).eval()
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    tokenizer = open_clip.SimpleTokenizer(context_length=20)
    info = BaseModel("small-teacher", "random", "1" * 64)
    return Clip(info, model.visual, 32, 24, 20.0, mean, std, model, tokenizer)


def snapshot(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("student", "n_ctx", "teacher", "prompts", "head"),
    [
        ("ViT-B-16", 4, 3_072 + 4_096, 3_072 + 33_792, 986_112),
        ("ViT-B-16", 2, 1_536 + 2_048, 1_536 + 16_896, 986_112),
        ("RN50", 4, 3_072 + 4_096, 0, 1_379_328),
        ("RN101", 4, 3_072 + 4_096, 0, 986_112),
    ],
)
def test_a_vit_l_teacher_and_the_papers_students_learn_so_many_numbers(
    student: str, n_ctx: int, teacher: int, prompts: int, head: int
) -> None:
    config = EKDAConfig(n_ctx=n_ctx, templates="prompt")
    names = ("a photo of a bee.", "a photo of a hot dog.", "a photo of a cup.")
    method = EKDA(meta_clip(student), names, config, meta_clip("ViT-L-14"))
    counts = [sum(p.numel() for p in g.parameters) for g in method.parameter_groups()]
    assert counts == [count for count in (teacher, prompts, head) if count]
    if student == "ViT-B-16" and n_ctx == 4:
        assert sum(counts) == 1_030_144
    learned = {id(p) for g in method.parameter_groups() for p in g.parameters}
    assert learned == {id(p) for p in method.parameters() if p.requires_grad}
    assert tuple(method.head.weight.shape) == (3, 768)
    own = {**method.state_dict(), **method.tokens()}
    assert sum(t.numel() for n, t in own.items() if n.startswith("prompts.")) == prompts


def test_each_step_moves_its_own_model_and_leaves_the_other_alone(
    small_clip: Make, prompts: Sequence[str]
) -> None:
    method = EKDA(small_clip("vit"), prompts, SETTINGS, small_teacher(1))
    optimization = Optimization(method.parameter_groups(), method.config)
    method.train()
    teacher = dict(method.teacher.named_parameters())
    student = {**method.tokens(), **dict(method.head.named_parameters())}
    assert set(teacher) == {"ctx", "vctx"} and len(student) == 2 + 6

    before = snapshot(student)
    optimization.step(teacher=sum(method.teacher_losses(batch(0, True)).values()))
    assert all(torch.equal(student[n], before[n]) and student[n].grad is None for n in student)

    before, gradients = snapshot(teacher), snapshot({n: p.grad for n, p in teacher.items()})
    optimization.step(student=sum(method.student_losses(batch(1, False)).values()))
    assert all(torch.equal(teacher[n], before[n]) for n in teacher)
    assert all(torch.equal(teacher[n].grad, gradients[n]) for n in teacher)
    assert all(bool(p.grad.any()) for p in student.values())
    frozen = [*method.encoder.parameters(), *method.teacher.clip._model.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in frozen)


def test_the_student_follows_the_teacher_as_it_is_after_its_step(
    small_clip: Make, prompts: Sequence[str]
) -> None:
    teacher = small_teacher(1)
    method = EKDA(small_clip("vit"), prompts, SETTINGS, teacher).train()
    apart = EKDA(small_clip("vit"), prompts, SETTINGS, teacher).train()
    source, target = batch(0, True), batch(1, False)
    optimization = Optimization(method.parameter_groups(), method.config)
    found = method.training_step(source, target, 0, optimization)
    early = apart.losses(source, target, 0)
    optimization = Optimization(apart.parameter_groups(), method.config)
    optimization.step(teacher=sum(apart.teacher_losses(source).values()))
    late = apart.student_losses(target)
    for name in ("distill", "pseudo", "align"):
        assert torch.equal(found[name], late[name]) and not torch.equal(found[name], early[name])
    assert list(found) == list(early)


def test_the_learning_rate_falls_once_per_epoch_along_a_cosine(
    small_clip: Make, prompts: Sequence[str]
) -> None:
    method = EKDA(small_clip("resnet"), prompts, SETTINGS, small_teacher(1))
    factors = [method.schedule(i) for i in range(12)]
    for i, factor in enumerate(factors):
        assert factor == pytest.approx((1 + math.cos(math.pi * (i // 3) / 4)) / 2)
    assert factors[0] == 1.0
    assert [g.lr for g in method.parameter_groups()] == [0.02, 0.02]
    assert EKDA.epoch_length(SETTINGS, 100, 999) == 3  # source batches, the rest dropped


def test_divergence_is_the_double_sum_over_all_entries() -> None:
    generator = torch.Generator().manual_seed(0)
    target, logits = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64) * 3
    total = 0.0
    for b in range(4):
        p, q = ([math.exp(v / 2) for v in row[b].tolist()] for row in (target, logits))
        for c in range(3):
            share = p[c] / sum(p)
            total += share * math.log(share / (q[c] / sum(q)))
    assert divergence(target, logits, 2.0).item() == pytest.approx(4 * total / 12, rel=1e-12)
    certain = torch.tensor([[0.0, 500.0, -500.0]])
    assert divergence(certain, certain).item() == 0


def test_align_is_two_minus_twice_the_cosine(small_clip: Make, prompts: Sequence[str]) -> None:
    method = EKDA(small_clip("vit"), prompts, SETTINGS, small_teacher(1)).train()
    target = batch(1, False)
    found = method.student_losses(target)["align"]
    seen = method.teacher.image(target.images)
    own = method.head.project(method.encode(target.images))
    cosine = torch.cosine_similarity(seen, own).mean()
    torch.testing.assert_close(found, 2 - 2 * cosine, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_teachers_text_stays_close_to_the_mean_of_all_80_captions(
    prompts: Sequence[str],
) -> None:
    clip = small_teacher(1)
    arguments = {"words": True, "templates": "imagenet", "generator": torch.Generator()}
    teacher = Teacher(clip, prompts, "a photo of a {}", 2, **arguments)
    for row, name in zip(teacher.plain_text, ("bee", "cup", "dog"), strict=True):
        total = torch.zeros(24)
        for template in open_clip.OPENAI_IMAGENET_TEMPLATES:
            total += clip._model.encode_text(clip.tokenize([template(name)]))[0] / 80
        torch.testing.assert_close(row, total / total.norm(), rtol=0, atol=1e-6)
    expected = clip.text_features(prompts)  # as the words are still those of the prompt
    torch.testing.assert_close(teacher.text(), expected, rtol=0, atol=1e-6)


def test_class_names_are_read_out_of_the_prompts() -> None:
    names = class_names(["a sea photo of a hot dog."], "a {domain} photo of a {}.")
    assert names == ["hot dog"]
    with pytest.raises(ConfigError, match="'two cups' was not made of the prompt 'a {}'"):
        class_names(["a cup", "two cups"], "a {}")


def test_an_artifact_gives_the_methods_logits_with_the_teacher_gone(
    small_clip: Make, prompts: Sequence[str], tmp_path: Path
) -> None:
    clip = small_clip("vit")
    reference = encoder_tensors(clip.visual)
    method = EKDA(clip, prompts, SETTINGS, small_teacher(1))
    optimization = Optimization(method.parameter_groups(), method.config)
    for i in range(2):
        method.train().training_step(batch(i, True), batch(i + 9, False), i, optimization)
    method.eval()
    images = batch(7, False).images
    with torch.no_grad():
        centres = method.teacher.text()
        expected = method.logit_scale * method.head.project(method.encode(images)) @ centres.T
    deployed = method.deploy()
    run = RunDescription(
        TASK, "ekda", Preprocess(32, background=method.config.background), tuple(prompts),
        asdict(method.config), seed=0, teachers=method.teachers(),
    )  # fmt: skip
    Artifact.of(
        run, clip.info, reference, deployed.encoder, deployed.head, METRICS, deployed.tokens
    ).save(tmp_path / "a.safetensors")
    del method, deployed

    found = Artifact.load(tmp_path / "a.safetensors")
    assert found.teachers == (BaseModel("small-teacher", "random", "1" * 64),)
    assert found.density == 0 and sorted(found.tokens) == ["prompts.0", "prompts.1"]
    with torch.no_grad():
        logits = found.build_head()(load_merged(small_clip("vit"), found)(images))
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)  # logits up to 20


def test_checkpoints_hold_the_prompts_and_nothing_of_the_frozen_models(
    small_clip: Make, prompts: Sequence[str]
) -> None:
    method = EKDA(small_clip("vit"), prompts, SETTINGS, small_teacher(1))
    own = {name for name in method.state_dict() if not name.startswith(("encoder.", "head."))}
    assert own == {"prompts.0", "prompts.1", "teacher.ctx", "teacher.vctx"}


def test_a_checkpoint_refuses_another_teacher_of_the_same_name(
    pair: DomainPair, tmp_path: Path
) -> None:
    file = tmp_path / "teacher.safetensors"
    config = replace(
        SETTINGS, model="demo-rn32", pretrained="demo", teacher="demo-vit32",
        teacher_pretrained=str(file), batch_size=8,
    )  # fmt: skip

    def begin(nudge: float) -> Loop:
        state = demo_weights.load_state_dict("demo-vit32")
        state["visual.proj"] += nudge
        save_file(state, file)
        return Loop("ekda", EKDA, pair, config, tmp_path / "a.safetensors", torch.device("cpu"))

    def restored(loop: Loop) -> checkpoint.Progress:
        return checkpoint.load(
            loop.checkpoint, loop.identity, loop.method, loop.optimization, loop.average
        )

    first, start = begin(0.0), checkpoint.Progress(0)
    checkpoint.save(
        first.checkpoint, first.identity, start, first.method, first.optimization, first.average
    )
    assert restored(begin(0.0)) == start
    with pytest.raises(
        ConfigError, match="it was made with another teacher; .*start anew with --restart"
    ):
        restored(begin(0.01))


def test_a_teacher_that_wants_other_images_is_refused(
    small_clip: Make, prompts: Sequence[str]
) -> None:
    with pytest.raises(ConfigError, match="small-vit takes images of 32 px.*ViT-L-14 of 224 px"):
        EKDA(small_clip("vit"), prompts, SETTINGS, meta_clip("ViT-L-14"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["model=demo-rn32", "teacher=ViT-L-14-quickgelu"],
            "ViT-L-14-quickgelu takes images of 224 px, but the student demo-rn32 .* of 32 px; "
            "EKDA adapts .* name one: --set teacher=demo-vit32-wide --set teacher_pretrained=demo",
        ),
        (["model=ViT-L-14-336"], "name one: --set teacher=ViT-L-14-336-quickgelu --set teacher_p"),
        (["teacher=RN50-quickgelu"], "the teacher RN50-quickgelu is a ResNet, .*ViT-L-14-quick"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused_before_anything_is_loaded(
    settings: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(EKDAConfig, "folder", "ekda", settings)


@pytest.mark.parametrize("model", demo_weights.ARCHITECTURES)
def test_every_model_of_the_demo_comes_with_a_teacher(model: str) -> None:
    own = [f"model={model}", "pretrained=demo"]
    found = resolve(EKDAConfig, "folder", "ekda", own).config
    assert (found.teacher, found.teacher_pretrained) == ("demo-vit32-wide", "demo")


@pytest.mark.parametrize("model", ["ViT-B-16-quickgelu", "RN50-quickgelu", "demo-vit32"])
def test_crops_of_own_images_come_from_all_of_an_image_and_show_most_of_it(model: str) -> None:
    config = resolve(EKDAConfig, "folder", "ekda", [f"model={model}"]).config
    assert (config.resize, config.crop_min) == ("squash", 0)
    seen = (recommended.image_size(model.removesuffix("-quickgelu")) or 0) / config.train_size
    assert seen**2 > 0.75


def test_every_class_may_have_words_of_its_own(small_clip: Make, prompts: Sequence[str]) -> None:
    own = replace(SETTINGS, class_ctx=True, ctx_init="words")
    method = EKDA(small_clip("vit"), prompts, own, small_teacher(1))
    teacher = method.teacher
    assert teacher.ctx.shape == (3, 2, 24)
    torch.testing.assert_close(
        teacher.text(), teacher.clip.text_features(prompts), rtol=0, atol=1e-6
    )
    teacher.text()[1].sum().backward()
    moved = teacher.ctx.grad.flatten(1).any(1)
    assert moved.tolist() == [False, True, False]


def test_compiling_a_vit_student_is_refused_as_nothing_would_call_it(
    small_clip: Make, prompts: Sequence[str]
) -> None:
    config = replace(SETTINGS, compile=True)
    with pytest.raises(ConfigError, match="runs a ViT student block by block.*set compile=false"):
        EKDA(small_clip("vit"), prompts, config, small_teacher(1))


def toy(domain: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images that are red or green; domains differ in contrast and noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 3, 32, 32, generator=generator) * (0.5, 0.8)[domain]
    images[torch.arange(count), labels] += (1.5, 0.9)[domain]
    return images, labels


def test_on_a_separable_toy_the_student_learns_the_target_without_its_labels(
    small_clip: Make,
) -> None:
    prompts = ("a photo of a bee", "a photo of a dog")
    config = replace(SETTINGS, lr=0.1, epochs=4, iterations=10, text_weight=1.0, image_weight=1.0)
    clip = small_clip("vit")
    method = EKDA(clip, prompts, config, small_teacher(1))
    optimization = Optimization(method.parameter_groups(), config)
    images, truth = toy(1, 300, 999)
    with torch.no_grad():
        features = torch.nn.functional.normalize(clip.visual(images), dim=-1)
        zero_shot = (features @ clip.text_features(prompts).T).argmax(-1) == truth
    for i in range(40):
        (x_s, y), (x_t, _) = toy(0, 24, i), toy(1, 24, 100 + i)
        optimization.set_factor(method.schedule(i))
        target = Batch(x_t, torch.full((24,), -1), torch.arange(24))
        method.train().training_step(Batch(x_s, y, torch.arange(24)), target, i, optimization)
    with torch.no_grad():
        adapted = method.eval().logits(images).argmax(-1) == truth
    assert zero_shot.float().mean() < 0.6
    assert adapted.float().mean() > 0.9  # measured 0.97; the models are random
