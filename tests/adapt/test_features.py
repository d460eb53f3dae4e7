"""The feature bank: what it holds, when it is used again, and when it must not be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transformer import QuickGELU

from adapt.clip.model import Clip
from adapt.data import DomainPair
from adapt.data.cache import pixels
from adapt.data.transforms import normalise
from adapt.methods.linear_probe import LinearProbe, LinearProbeConfig
from adapt.methods.parts.features import FeatureMethod
from adapt.optim import rst
from adapt.training.batches import Stream
from runtime.errors import BaseModelError
from runtime.storage import checksummed

CONFIG = LinearProbeConfig(batch_size=8)
Make = Callable[..., tuple[FeatureMethod, Stream]]


@pytest.fixture
def make(
    small_clip: Callable[[str], Clip], pair: DomainPair, tmp_path: Path,
    prompts: Sequence[str], monkeypatch: pytest.MonkeyPatch,
) -> Make:  # fmt: skip
    """Give a fresh method and the source's images, with a cache of this test's own."""
    monkeypatch.setenv("UDA_CACHE", str(tmp_path))

    def build(kind: str = "vit", resize: str = "squash") -> tuple[FeatureMethod, Stream]:
        clip, content = small_clip(kind), pixels(pair.source, 32, resize)
        stream = Stream(
            "source", content.images, pair.source.labels, CONFIG, clip, torch.device("cpu"),
            digest=content.key, images=False,
        )  # fmt: skip
        return LinearProbe(clip, prompts, CONFIG), stream

    return build


def files(folder: Path) -> list[Path]:
    return sorted((folder / "features").glob("*"))


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_the_bank_holds_each_images_unit_feature(make: Make, kind: str) -> None:
    method, stream = make(kind)
    bank = method.bank(stream.pixels, stream.digest)
    assert bank.dtype == torch.float32 and bank.shape == (27, 16)
    for row, picture in zip(bank, stream.pixels, strict=True):
        image = normalise(
            torch.from_numpy(np.array(picture[None])),
            method._mean, method._std,
        )  # fmt: skip
        with torch.no_grad():
            feature = method.encode(image)[0]
        torch.testing.assert_close(row, feature / feature.norm(), rtol=0, atol=1e-6)


def test_a_second_run_computes_nothing(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method, stream = make()
    with caplog.at_level(logging.INFO, "adapt.methods.parts.features"):
        first = method.bank(stream.pixels, stream.digest)
        (file,) = files(tmp_path)
        written = file.stat().st_mtime_ns
        method, stream = make()
        again = method.bank(stream.pixels, stream.digest)
    assert torch.equal(first, again) and file.stat().st_mtime_ns == written
    assert [record.getMessage() for record in caplog.records] == [
        "computing the features of 27 images"
    ]


def test_another_base_preprocessing_or_file_gets_a_bank_of_its_own(
    make: Make, tmp_path: Path, pair: DomainPair
) -> None:
    for kind, resize in (("vit", "squash"), ("resnet", "squash"), ("vit", "crop")):
        method, stream = make(kind, resize)
        method.bank(stream.pixels, stream.digest)
    assert len(files(tmp_path)) == 3
    path = pair.source.paths[0]
    before = path.read_bytes(), path.stat()
    try:
        path.write_bytes(pair.source.paths[20].read_bytes())
        method, stream = make()
        fresh = method.bank(stream.pixels, stream.digest)
        assert len(files(tmp_path)) == 4
        assert torch.equal(fresh[0], fresh[20]) and not torch.equal(fresh[0], fresh[1])
    finally:
        path.write_bytes(before[0])


def test_a_changed_weight_of_the_base_gets_a_bank_of_its_own(
    make: Make, tmp_path: Path, small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    clip = small_clip("vit")
    with torch.no_grad():
        next(clip.visual.parameters()).mul_(1.5)
    clip.info = type(clip.info)("small-vit", "random", "1" * 64)
    second = LinearProbe(clip, prompts, CONFIG).bank(stream.pixels, stream.digest)
    assert len(files(tmp_path)) == 2 and not torch.equal(first, second)


def test_the_same_weights_with_another_activation_get_a_bank_of_their_own(
    make: Make, tmp_path: Path, small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    clip = small_clip("vit")
    for block in clip.visual.transformer.resblocks:
        block.mlp.gelu = QuickGELU()
    clip.info = replace(clip.info, architecture="small-vit-quickgelu")
    second = LinearProbe(clip, prompts, CONFIG).bank(stream.pixels, stream.digest)
    assert len(files(tmp_path)) == 2 and not torch.equal(first, second)


def test_another_grid_gets_a_bank_of_its_own(
    make: Make, tmp_path: Path, small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    config = replace(CONFIG, grid="bf16")
    method = LinearProbe(small_clip("vit"), prompts, config)
    assert rst.over(method.encoder, config) is None  # it rounds, as the loop lets it
    second = method.bank(stream.pixels, stream.digest)
    assert len(files(tmp_path)) == 2 and not torch.equal(first, second)


@pytest.mark.parametrize("harm", ["cut", "altered", "another's", "not finite", "too short"])
def test_a_file_that_cannot_be_trusted_is_made_again(
    make: Make, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    found = checksummed.read(file, "uda-features", 1)
    rows = found.tensors["features"].copy()
    if harm == "cut":
        file.write_bytes(content[:-7])
    elif harm == "altered":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "another's":
        checksummed.write(
            file, "uda-features", 1, {**found.document, "pixels": "others"}, {"features": -rows}
        )
    else:
        rows[0, 0] = np.nan
        wrong = rows if harm == "not finite" else first.numpy()[:-1]
        checksummed.write(file, "uda-features", 1, found.document, {"features": wrong})
    method, stream = make()
    assert torch.equal(method.bank(stream.pixels, stream.digest), first)
    assert file.read_bytes() == content
    assert "features are computed again" in caplog.text


def test_whatever_happens_to_the_cache_features_stay_right(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    harms = [content[:length] for length in (0, 1, 8, len(content) // 2)]
    harms += [content + b"\0", bytes(len(content)), b"{" * 3000]
    draw = np.random.default_rng(0)
    for start in range(0, len(content), len(content) // 30):
        flipped = bytearray(content)
        flipped[min(int(start + draw.integers(30)), len(content) - 1)] ^= 1 << int(draw.integers(8))
        harms.append(bytes(flipped))
    for number, harm in enumerate(harms):
        file.write_bytes(harm)
        caplog.clear()
        assert torch.equal(method.bank(stream.pixels, stream.digest), first), number
        assert "features are computed again" in caplog.text, number
        assert file.read_bytes() == content


def test_touched_and_copied_images_keep_their_bank(
    make: Make, tmp_path: Path, pair: DomainPair, caplog: pytest.LogCaptureFixture
) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    copies = [tmp_path / "copy" / f"{number}.png" for number in range(len(pair.source))]
    copies[0].parent.mkdir()
    for copy, path in zip(copies, pair.source.paths, strict=True):
        copy.write_bytes(path.read_bytes())
    found = pixels(replace(pair.source, paths=tuple(copies)), 32)
    with caplog.at_level(logging.INFO, "adapt.methods.parts.features"):
        assert torch.equal(method.bank(found.images, found.key), first)
    assert not caplog.records


@pytest.mark.parametrize("harm", ["pipe", "link to nowhere"])
def test_what_is_not_a_file_is_replaced(make: Make, tmp_path: Path, harm: str) -> None:
    method, stream = make()
    first = method.bank(stream.pixels, stream.digest)
    (file,) = files(tmp_path)
    file.unlink()
    if harm == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(tmp_path / "nowhere")
    assert torch.equal(method.bank(stream.pixels, stream.digest), first)
    assert file.is_file() and not file.is_symlink()


def test_a_base_that_gives_no_numbers_is_refused_and_nothing_is_kept(
    make: Make, tmp_path: Path
) -> None:
    method, stream = make()
    with torch.no_grad():
        next(method.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(BaseModelError, match="features that are not finite"):
        method.bank(stream.pixels, stream.digest)
    assert not files(tmp_path)


def test_two_writers_at_once_leave_one_whole_file(make: Make, tmp_path: Path) -> None:
    made = [make() for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        banks = list(pool.map(lambda m: m[0].bank(m[1].pixels, m[1].digest), made))
    assert torch.equal(*banks)
    (file,) = files(tmp_path)
    stored = checksummed.read(file, "uda-features", 1).tensors["features"]
    np.testing.assert_array_equal(stored, banks[0].numpy())
