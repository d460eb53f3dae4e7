"""`adapt.load`, and what importing the package costs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import adapt
from adapt.clip import demo_weights as demo
from runtime.errors import BackendError, BaseModelError, DataError, FormatError
from tests.adapt.artifacts import bases, load, make


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture
def path(files, tmp_path):
    base = load("demo-rn32", files)
    artifact = make(base)
    artifact.config["pretrained"] = str(files / "demo-rn32.safetensors")
    artifact.save(tmp_path / "artifact.safetensors")
    return tmp_path


def test_every_public_name_is_there_and_no_other():
    for name in adapt.__all__:
        assert getattr(adapt, name).__name__ == name and name in dir(adapt)
    with pytest.raises(AttributeError, match="'adapt' has no attribute 'loads'"):
        _ = adapt.loads


def test_importing_the_package_loads_no_library():
    code = (
        "import sys, adapt; dir(adapt); "
        "print(sorted({'torch', 'open_clip', 'numpy', 'onnx'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_and_its_file_are_the_same_model(path):
    image = torch.zeros(1, 3, 32, 32)
    one, other = adapt.load(path), adapt.load(str(path / "artifact.safetensors"))
    assert torch.equal(one.logits(image), other.logits(image))
    assert one.class_names == ("cup", "key", "lamp") and one.task.id == "p-a"
    assert one.encode_image(image).shape == (1, 96) and not one.network.training


@pytest.mark.parametrize("call", ["classify", "encode_image", "logits"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_single_path_where_several_are_expected_is_refused(path, call, kind):
    with pytest.raises(DataError, match=r"a list of images, .* pass \[image\]"):
        getattr(adapt.load(path), call)(kind("one.png"))


def test_weights_that_moved_are_named_and_others_are_refused(path, files, tmp_path):
    moved, other = tmp_path / "moved.safetensors", tmp_path / "other.safetensors"
    here = files / "demo-rn32.safetensors"
    moved.write_bytes(here.read_bytes())
    save_file(demo.load_state_dict("demo-rn32"), other)
    assert adapt.load(path, pretrained=moved).class_names == ("cup", "key", "lamp")
    with pytest.raises(BaseModelError, match="pass the right ones with pretrained=PATH"):
        adapt.load(path, pretrained=other)
    with pytest.raises(
        BaseModelError, match="not found; pass an existing one with pretrained=PATH"
    ):
        adapt.load(path, pretrained=tmp_path / "gone.safetensors")


def test_what_is_no_artifact_and_a_device_that_is_not_there_are_refused(path, tmp_path):
    with pytest.raises(FormatError, match=r"cannot read .*gone.*: No such file .*; check the path"):
        adapt.load(tmp_path / "gone")
    with pytest.raises(BackendError, match="device 'cuda:97' was requested"):
        adapt.load(path, device="cuda:97")


def test_a_tensor_that_is_not_preprocessed_images_is_refused(path):
    model = adapt.load(path)
    pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    for wrong in (pixels, pixels.double(), torch.zeros(3, 32, 32), torch.tensor(1.0)):
        with pytest.raises(DataError, match=r"must be \(N, 3, 32, 32\) float32, found"):
            model.logits(wrong)
    assert model.logits(pixels.float()).shape == (2, 3)
