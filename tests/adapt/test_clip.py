import re
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch.nn.functional import normalize

from adapt.clip import download, networks, weights
from adapt.clip import model as clip
from adapt.clip.demo_weights import architecture
from runtime.errors import BackendError, BaseModelError
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256

RN, VIT = "demo-rn32", "demo-vit32"
PROMPTS = ["an image of a key", "an image of the number seven", "a photo of a lamp"]


def make(name, seed=0, **changes):
    torch.manual_seed(seed)
    return CLIP(**architecture(name), **changes).eval()


@pytest.fixture(scope="module")
def models():
    return {name: make(name) for name in (RN, VIT)}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, model in models.items():
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def vit_state(models):
    return {name: tensor.clone() for name, tensor in models[VIT].state_dict().items()}


def images(size=32):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [RN, VIT])
def test_encoder_and_text_features_equal_those_of_open_clip(name, models, files):
    loaded = clip.load(name, str(files / f"{name}.safetensors"))
    tokens = open_clip.SimpleTokenizer(context_length=12)(PROMPTS)
    with torch.no_grad():
        assert torch.equal(loaded.visual(images()), models[name].encode_image(images()))
        expected = models[name].encode_text(tokens, normalize=True)
    torch.testing.assert_close(loaded.text_features(PROMPTS), expected, atol=1e-6, rtol=0)
    assert loaded.text_features(PROMPTS).norm(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert not loaded.text_features(PROMPTS).requires_grad
    assert (loaded.image_size, loaded.dim) == (32, 96)
    assert loaded.logit_scale == pytest.approx(models[name].logit_scale.exp().item())


@pytest.mark.parametrize("name", [RN, VIT])
def test_info_names_architecture_and_file_and_digests_the_encoder(name, files):
    loaded = clip.load(name, str(files / f"{name}.safetensors"))
    assert loaded.info.architecture == name
    assert loaded.info.pretrained == f"{name}.safetensors"
    assert loaded.info.sha256 == tensors_sha256(clip.encoder_tensors(loaded.visual))


def test_only_the_image_encoder_wants_gradients_and_evaluation_mode_is_on(files):
    loaded = clip.load(VIT, str(files / f"{VIT}.safetensors"))
    visual = set(loaded.visual.parameters())
    assert all(p.requires_grad for p in visual)
    assert not any(p.requires_grad for p in loaded._model.parameters() if p not in visual)
    assert not any(module.training for module in loaded._model.modules())


def test_encoder_tensors_are_copies_and_hold_running_statistics_but_no_counters(files):
    loaded = clip.load(RN, str(files / f"{RN}.safetensors"))
    tensors = clip.encoder_tensors(loaded.visual)
    names = {n for n, _ in loaded.visual.named_parameters()}
    assert names < tensors.keys()
    assert "bn1.running_var" in tensors
    assert not any("num_batches_tracked" in name for name in tensors)
    assert {t.dtype for t in tensors.values()} == {np.dtype("float32")}
    tensors["conv1.weight"][:] = 7
    assert loaded.visual.conv1.weight.max().item() < 7


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED = {
    "plain": lambda state: state,
    "checkpoint": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"epoch": 3, "model": state},
    "data-parallel": lambda state: {"state_dict": under("module.", state)},
    "compiled": lambda state: under("_orig_mod.", state),
    "compiled, data-parallel": lambda state: {"model": under("_orig_mod.module.", state)},
    "part compiled": lambda state: {
        name.replace("visual.", "visual._orig_mod."): tensor for name, tensor in state.items()
    },
    "nested": lambda state: {"state_dict": {"model": under("module._orig_mod.", state)}},
    "nested the other way": lambda state: {"model": {"state_dict": state}},
    "lightning": lambda state: {"state_dict": under("model.", state)},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_pickled_state_dicts_load_in_every_usual_wrapping(wrap, vit_state, tmp_path, files):
    content = WRAPPED[wrap](vit_state)
    path = tmp_path / f"weights{'.bin' if wrap == 'plain' else '.pt'}"
    torch.save(content, path)
    expected = clip.load(VIT, str(files / f"{VIT}.safetensors")).info.sha256
    assert clip.load(VIT, str(path)).info.sha256 == expected


def test_half_precision_files_become_float32(vit_state, tmp_path):
    half = {name: tensor.half() for name, tensor in vit_state.items()}
    save_file(half, tmp_path / "half.safetensors")
    loaded = clip.load(VIT, str(tmp_path / "half.safetensors"))
    assert torch.equal(loaded.visual.conv1.weight, half["visual.conv1.weight"].float())


def openai_archive(state, path):
    """Write a TorchScript archive with the tensor names and extras of OpenAI's releases."""
    root = torch.nn.Module()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, torch.nn.Module())
            module = getattr(module, parent)
        module.register_buffer(leaf, tensor.half() if tensor.is_floating_point() else tensor)
    for name, value in (("input_resolution", 32), ("context_length", 12), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(root), str(path))


@pytest.mark.parametrize("kind", ["archive", "state dict"])
@pytest.mark.parametrize("asked", [VIT, f"{VIT}-quickgelu"])
def test_openai_files_run_with_quickgelu_whatever_was_asked_for(
    kind, asked, vit_state, tmp_path, monkeypatch
):
    path = tmp_path / "openai.pt"
    if kind == "archive":
        openai_archive(vit_state, path)
        monkeypatch.setattr(weights, "OPENAI_ARCHIVES", {sha256(path.read_bytes())})
    else:
        extras = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(12)}
        torch.save({**{k: v.half() for k, v in vit_state.items()}, **extras}, path)
    loaded = clip.load(asked, str(path))
    reference = make(VIT, quick_gelu=True)
    reference.load_state_dict({k: v.half().float() for k, v in vit_state.items()})
    plain = make(VIT)
    plain.load_state_dict(reference.state_dict())
    with torch.no_grad():
        features = loaded.visual(images())
        assert torch.equal(features, reference.encode_image(images()))
        assert not torch.equal(features, plain.encode_image(images()))
        text = reference.encode_text(open_clip.SimpleTokenizer(context_length=12)(PROMPTS))
    torch.testing.assert_close(loaded.text_features(PROMPTS), normalize(text, dim=-1))
    assert loaded.info.architecture == f"{VIT}-quickgelu"


def test_an_archive_that_is_not_openais_is_not_loaded(vit_state, tmp_path):
    openai_archive(vit_state, tmp_path / "other.pt")
    with pytest.raises(BaseModelError, match=r"TorchScript archive.*none of the 9 .*safetensors"):
        clip.load(VIT, str(tmp_path / "other.pt"))


def test_an_archive_that_unpacks_to_more_than_torch_writes_is_refused_before(tmp_path):
    torch.save({"w": torch.zeros(1_500_000)}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in stored.namelist():
            bomb.writestr(name, stored.read(name))
    assert weights.read(tmp_path / "stored.pt").state["w"].numel() == 1_500_000
    with pytest.raises(BaseModelError, match=r"bytes unpack to 6\d{6}, expected at most"):
        weights.read(tmp_path / "bomb.pt")


def test_openais_archives_are_known_by_their_digests():
    assert len(weights.OPENAI_ARCHIVES) == 9
    vit_b_16 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    assert vit_b_16 in weights.OPENAI_ARCHIVES


def test_a_plain_local_file_keeps_the_activation_that_was_asked_for(files):
    path = str(files / f"{VIT}.safetensors")
    assert clip.load(f"{VIT}-quickgelu", path).info.architecture == f"{VIT}-quickgelu"
    assert clip.load(VIT, path).info.architecture == VIT


def test_quickgelu_is_known_for_every_tag_that_needs_it():
    needing = [
        (model, tag)
        for model, tag in open_clip.list_pretrained()
        if open_clip.get_pretrained_cfg(model, tag).get("quick_gelu")
    ]
    assert ("ViT-B-16", "openai") in needing and ("RN50", "openai") in needing
    for model, _ in needing:
        assert networks.config_of(model.removesuffix("-quickgelu") + "-quickgelu")["quick_gelu"]


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Bad:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Bad()}, tmp_path / "bad.pt")
    with pytest.raises(BaseModelError, match=r"bad\.pt.*only state dicts of tensors"):
        clip.load(VIT, str(tmp_path / "bad.pt"))
    assert not (tmp_path / "ran").exists()


def break_state(state, how):
    name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    if how == "nan":
        state[name][3, 4] = float("nan")
    elif how == "missing":
        del state[name]
    elif how == "extra":
        state["visual.extra"] = torch.ones(1)
    elif how == "shape":
        state[name] = state[name][:-1].clone()
    elif how == "integers":
        state[name] = torch.zeros(state[name].shape, dtype=torch.int64)
    elif how == "sparse":
        state[name] = state[name].to_sparse()
    elif how == "meta":
        state[name] = state[name].to("meta")
    elif how == "quantised":
        state[name] = torch.quantize_per_tensor(state[name].float(), 0.1, 0, torch.qint8)
    elif how == "float8":
        state[name] = state[name].to(torch.float8_e4m3fn)
    elif how == "axes":
        state[name] = torch.ones([1] * 65)
    elif how == "scale":
        state["logit_scale"] = torch.tensor(1e4)
    elif how == "under another key":
        return {"epoch": 3, "ema": state}
    elif how == "twice":
        state[f"_orig_mod.{name}"] = state[name]
    return state


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "nan",
            r"'visual\.transformer\.resblocks\.1\.mlp\.c_fc\.weight' holds a value that is not",
        ),
        ("missing", r"lacks 'visual\.transformer\.resblocks\.1\.mlp\.c_fc\.weight'"),
        ("extra", r"has 'visual\.extra', which the model does not have"),
        ("shape", r"c_fc\.weight' must be \(512, 128\), found \(511, 128\)"),
        ("integers", r"c_fc\.weight' must be a floating type, found torch\.int64"),
        ("sparse", r"c_fc\.weight' is a sparse tensor \(torch\.sparse_coo\), expected a dense"),
        ("meta", r"c_fc\.weight' is a tensor without values"),
        ("quantised", r"c_fc\.weight' is a quantised tensor"),
        ("float8", r"c_fc\.weight' is of type torch\.float8_e4m3fn, expected float16, bfloat16"),
        ("axes", r"c_fc\.weight' must be \(512, 128\), found \(1, .* and 57 more axes; pass"),
        ("scale", r"'logit_scale' must be a logarithm, at most 88, found 1e\+04"),
        ("under another key", r"holds 'ema', 'epoch', expected tensors by name, alone or under"),
        ("twice", "holds a tensor twice, with and without '_orig_mod.' in its name"),
    ],
)
def test_unfit_weights_are_refused_with_the_name_of_the_tensor(how, message, vit_state, tmp_path):
    torch.save(break_state(vit_state, how), tmp_path / "x.pt")
    with pytest.raises(BaseModelError, match=message) as error:
        clip.load(VIT, str(tmp_path / "x.pt"))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_weights_of_another_architecture_are_refused(files):
    with pytest.raises(BaseModelError, match="pass the weights of that architecture"):
        clip.load(RN, str(files / f"{VIT}.safetensors"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", bytes(range(256)) * 8])
def test_damaged_files_are_refused(suffix, content, tmp_path):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(BaseModelError, match=r"cannot read the weights file .*broken"):
        clip.load(VIT, str(path))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_truncated_files_are_refused(suffix, vit_state, tmp_path):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pt":
        torch.save(vit_state, path)
    else:
        save_file(vit_state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BaseModelError, match=r"cannot read the weights file .*cut"):
        clip.load(VIT, str(path))


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(BaseModelError, match="must hold a state dict, found a list"):
        clip.load(VIT, str(tmp_path / "list.pt"))


@pytest.mark.parametrize("path", ["nowhere.safetensors", "nowhere.pt"])
def test_a_missing_file_is_named(path):
    with pytest.raises(BaseModelError, match=rf"weights file '{re.escape(path)}' not found"):
        clip.load(VIT, path)


def test_an_unknown_tag_lists_the_known_ones():
    with pytest.raises(BaseModelError, match="laion400m_e31"):
        clip.load("ViT-B-16", "openia")
    with pytest.raises(BaseModelError, match="available: demo"):
        clip.load(VIT, "openai")


def test_an_unknown_architecture_is_named():
    with pytest.raises(BaseModelError, match="unknown architecture 'ViT-B-17'.*demo-rn32"):
        clip.load("ViT-B-17", "openai")


def test_a_captioning_model_is_refused():
    with pytest.raises(BaseModelError, match="captioning"):
        clip.load("coca_ViT-B-32", "laion2b_s13b_b90k")


@pytest.mark.parametrize("model", ["ViT-B-16", "ViT-B-16-quickgelu"])
def test_weights_that_cannot_be_downloaded_say_what_to_fetch(model, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError) as caught:
        clip.load(model, "openai")
    message = str(caught.value)
    assert "'open_clip_model.safetensors' or 'open_clip_pytorch_model.bin'" in message
    assert "'timm/vit_base_patch16_clip_224.openai'" in message
    assert "--set model=ViT-B-16-quickgelu --set pretrained=PATH" in message
    assert "\n" not in message


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """The hub is a port where nobody listens, and nothing is cached."""
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_without_a_network_missing_weights_are_one_quick_and_quiet_line(
    no_network, capfd, caplog, recwarn
):
    started = time.monotonic()
    with pytest.raises(BaseModelError) as caught:
        clip.load("ViT-B-16-quickgelu", "openai", advice="--set teacher={} --set t_pretrained=PATH")
    assert time.monotonic() - started < 8
    assert capfd.readouterr() == ("", "") and not caplog.records and not recwarn.list
    message = str(caught.value)
    assert "cannot be downloaded ([Errno 111] Connection refused)" in message
    assert message.endswith("pass --set teacher=ViT-B-16-quickgelu --set t_pretrained=PATH")
    assert len(message) < 500


def test_a_missing_teacher_is_asked_for_by_the_teachers_settings(no_network, small_clip):
    from adapt.methods.ekda import EKDA, EKDAConfig

    config = EKDAConfig(teacher="ViT-B-16-quickgelu")
    with pytest.raises(BaseModelError, match="--set teacher=ViT-B-16-q.* teacher_pretrained=PATH$"):
        EKDA(small_clip("vit"), ["a photo of a cup."], config)


def test_weights_in_the_cache_need_no_network(no_network, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--timm--vit_base_patch16_clip_224.openai"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("abc")
    file = snapshot / "snapshots" / "abc" / "open_clip_model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    config = open_clip.get_pretrained_cfg("ViT-B-16", "openai")
    assert download.fetch(config, "the weights", "") == file


def test_a_demo_model_with_other_weights_says_which_to_pass():
    with pytest.raises(BaseModelError, match="pass --set model=demo-rn32 --set pretrained=demo$"):
        clip.load("demo-rn32", "openai")


def test_an_unusable_device_is_a_backend_error(files):
    with pytest.raises(BackendError, match="cannot use device 'cuda:99'"):
        clip.load(VIT, str(files / f"{VIT}.safetensors"), device="cuda:99")


def test_a_prompt_that_the_text_encoder_would_cut_is_refused(files):
    loaded = clip.load(VIT, str(files / f"{VIT}.safetensors"))
    with pytest.raises(BaseModelError, match="more than the 10 tokens"):
        loaded.text_features(["an image of a key", "an image of a very long name " * 2])


def test_many_prompts_give_the_same_features_as_one_at_a_time(files):
    loaded = clip.load(RN, str(files / f"{RN}.safetensors"))
    prompts = [f"an image of a key {i % 10}" for i in range(300)]
    many = loaded.text_features(prompts)
    assert many.shape == (300, 96)
    torch.testing.assert_close(many[299:], loaded.text_features(prompts[299:]))


def test_preprocess_has_the_models_size_and_statistics(files):
    spec = clip.load(RN, str(files / f"{RN}.safetensors")).preprocess("crop")
    assert (spec.size, spec.resize, spec.interpolation) == (32, "crop", "bilinear")
    assert spec.mean == (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("architecture", "pretrained", "mean"),
    [
        ("ViT-B-16-quickgelu", "openai", 0.48145466),
        ("ViT-L-14", "laion2b_s32b_b82k", 0.5),
        ("ViT-L-14", "weights.pt", 0.48145466),
        ("ViT-B-16-SigLIP", "weights.pt", 0.5),
        ("MobileCLIP-S1", "weights.pt", 0.0),
        (RN, "demo", 0.48145466),
    ],
)
def test_pixels_are_normalised_as_the_weights_were_trained(architecture, pretrained, mean):
    assert networks.statistics(architecture, pretrained)[0][0] == mean
