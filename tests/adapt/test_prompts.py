"""Prompt tokens inside open_clip's own transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from adapt.clip.model import Clip
from adapt.clip.prompts import Captions, Prompted, check_context, encode_images
from runtime.errors import BaseModelError, ConfigError, FormatError

Make = Callable[[str], Clip]
PATCHES, WIDTH, BLOCKS = 4, 32, 2  # of conftest's small ViT


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def tokens(count: int, blocks: Sequence[int] = (0, 1), seed: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"prompts.{b}": torch.randn(count, WIDTH, generator=generator) for b in blocks}


def entering(visual: nn.Module, run: Callable[[], Tensor]) -> list[Tensor]:
    """Return the sequence (N, L, W) that enters each block while `run` runs."""
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
        for block in visual.transformer.resblocks
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def test_without_tokens_the_image_pass_is_open_clips(small_clip: Make) -> None:
    visual = small_clip("vit").visual
    assert torch.equal(encode_images(visual, images(), {}), visual(images()))


@torch.no_grad()
def test_the_sequence_keeps_its_length_and_each_block_sees_its_own_tokens(small_clip: Make) -> None:
    visual, own = small_clip("vit").visual, tokens(3)
    prompted = Prompted(visual, own)
    plain = entering(visual, lambda: visual(images()))
    first, second = entering(visual, lambda: prompted(images()))
    assert first.shape == second.shape == (3, 1 + 3 + PATCHES, WIDTH)
    torch.testing.assert_close(first[:, 0], plain[0][:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(first[:, 4:], plain[0][:, 1:], rtol=0, atol=1e-6)
    expected = visual.ln_pre(own["prompts.0"])
    torch.testing.assert_close(first[:, 1:4], expected.expand(3, 3, WIDTH), rtol=0, atol=1e-6)
    assert torch.equal(second[:, 1:4], own["prompts.1"].expand(3, 3, WIDTH))


@torch.no_grad()
def test_tokens_of_the_first_block_alone_flow_on(small_clip: Make) -> None:
    visual = small_clip("vit").visual
    prompted = Prompted(visual, tokens(2, [0]))
    first, second = entering(visual, lambda: prompted(images()))
    torch.testing.assert_close(second, visual.transformer.resblocks[0](first), rtol=0, atol=1e-6)
    assert not torch.allclose(prompted(images()), visual(images()), atol=1e-3)


def test_tokens_are_copies_that_learn_while_the_encoder_needs_not(small_clip: Make) -> None:
    visual, own = small_clip("vit").visual.requires_grad_(False), tokens(2)
    prompted = Prompted(visual, {name: value.numpy() for name, value in own.items()})
    prompted(images()).sum().backward()
    assert {n for n, p in prompted.named_parameters() if p.grad is not None} == set(own)
    assert all(bool(p.grad.any()) for p in prompted.prompts.values())
    with torch.no_grad():
        prompted.prompts["0"].zero_()
    assert own["prompts.0"].any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompts.1": torch.ones(2, WIDTH)}, r"for the blocks \[1\]; expected block 0"),
        (tokens(2, [0, BLOCKS]), r"blocks \[0, 2\]; expected block 0 and any others below 2"),
        ({"prompts.0": torch.ones(2, 5)}, r"shapes \[\(2, 5\)\]; expected one shape \(n, 32\)"),
        (tokens(2) | {"prompts.1": torch.ones(3, WIDTH)}, "expected one shape"),
        ({"ctx": torch.ones(2, WIDTH)}, "'ctx' is not a name of prompt tokens"),
        ({}, r"for the blocks \[\]"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(
    small_clip: Make, wrong: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        Prompted(small_clip("vit").visual, wrong)


def test_a_resnet_has_no_place_for_tokens(small_clip: Make) -> None:
    with pytest.raises(BaseModelError, match="ModifiedResNet .*cannot take prompt tokens"):
        Prompted(small_clip("resnet").visual, tokens(2))


@torch.no_grad()
def test_uncut_words_as_context_give_open_clips_text_features(small_clip: Make) -> None:
    clip = small_clip("vit")
    prompts = ("a photo of a bee", "a photo of a hot dog", "a photo of a cup")
    captions = Captions(clip, prompts)
    assert captions.length == 8  # start, six words, end
    expected = clip._model.encode_text(clip.tokenize(prompts))
    torch.testing.assert_close(captions.encode(), expected, rtol=0, atol=1e-6)
    words = captions.words[0, 1:5]
    torch.testing.assert_close(captions.encode(words), expected, rtol=0, atol=1e-6)
    other = captions.encode(torch.randn_like(words))
    assert not torch.allclose(other, expected, atol=1e-3)


@torch.no_grad()
def test_cutting_to_the_longest_caption_changes_nothing(small_clip: Make) -> None:
    clip = small_clip("vit")
    captions = Captions(clip, ["bee", "a cup"])
    assert captions.length == 4
    assert captions.words.shape == (2, 4, 16)
    expected = clip._model.encode_text(clip.tokenize(["bee", "a cup"]))
    torch.testing.assert_close(captions.encode(), expected, rtol=0, atol=1e-6)


def test_context_that_would_overwrite_the_class_name_is_refused(small_clip: Make) -> None:
    clip = small_clip("vit")
    check_context(clip, "a photo of a {}.", 4)
    check_context(clip, "a {domain} photo of a {}.", 5)
    with pytest.raises(ConfigError, match="has 5 words"):  # whatever the domain is called
        check_context(clip, "a {domain} photo of a {}.", 6)
    with pytest.raises(ConfigError, match="n_ctx is 5, but the prompt 'a photo of a {}.' has 4"):
        check_context(clip, "a photo of a {}.", 5)
    with pytest.raises(ConfigError, match="has 0 words before the class name"):
        check_context(clip, "{}", 1)


def test_a_text_encoder_that_looks_ahead_is_refused(small_clip: Make) -> None:
    clip = small_clip("vit")
    clip._model.attn_mask = None
    with pytest.raises(BaseModelError, match="small-vit cannot take learned words"):
        Captions(clip, ["a cup"])
