import hashlib
import json

import open_clip
import pytest
import torch
from safetensors import safe_open

from adapt.clip import demo_weights
from adapt.clip.demo_weights import WEIGHTS, architecture, load_state_dict
from adapt.demo.zero_shot import accuracies, held_out_splits, prompts
from runtime.errors import BaseModelError

NAMES = ["demo-rn32", "demo-vit32", "demo-vit32-wide"]


def last_log_line(name):
    return json.loads(WEIGHTS[name].with_suffix(".log").read_text().splitlines()[-1])


@pytest.fixture(scope="module", params=NAMES)
def loaded(request):
    demo_weights.register()
    model = open_clip.create_model(request.param)
    model.load_state_dict(load_state_dict(request.param), strict=True)
    return request.param, model, open_clip.get_tokenizer(request.param)


@pytest.fixture(scope="module")
def splits():
    return held_out_splits()


def test_zero_shot_accuracies_are_those_of_the_log(loaded, splits):
    name, model, tokenizer = loaded
    found = accuracies(model, tokenizer, splits)
    # half a point: another CPU may round a few of 500 to 797 pictures to the other side
    assert found == pytest.approx(last_log_line(name)["zero_shot"], abs=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_log_belongs_to_the_committed_file(name):
    content = WEIGHTS[name].read_bytes()
    assert last_log_line(name)["sha256"] == hashlib.sha256(content).hexdigest()


def test_all_files_together_stay_small():
    assert set(WEIGHTS) == set(NAMES)
    assert sum(path.stat().st_size for path in WEIGHTS.values()) < 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_fp32_with_the_whole_vocabulary(name):
    state = load_state_dict(name)
    width = architecture(name)["text_cfg"]["width"]
    assert state["token_embedding.weight"].shape == (49408, width)
    assert "token_embedding.rows" not in state
    assert {v.dtype for v in state.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("name", NAMES)
def test_stored_words_keep_their_row_and_unknown_words_are_zero(name):
    with safe_open(WEIGHTS[name], framework="pt") as file:
        rows = file.get_tensor("token_embedding.rows")
        stored = file.get_tensor("token_embedding.weight")
    full = load_state_dict(name)["token_embedding.weight"]
    assert torch.equal(full[rows], stored.float())
    unknown = torch.ones(len(full), dtype=torch.bool)
    unknown[rows] = False
    assert unknown.sum() == 49408 - len(rows)
    assert not full[unknown].any()
    assert full[rows].any(1).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_word_of_the_prompts_has_a_row(name):
    demo_weights.register()
    tokenizer = open_clip.get_tokenizer(name)
    captions = prompts("demo-digits") + prompts("demo-objects")
    known = load_state_dict(name)["token_embedding.weight"].any(1)
    assert known[tokenizer(list(captions))].all()


@pytest.mark.parametrize("name", NAMES)
def test_metadata_says_where_the_weights_come_from(name):
    with safe_open(WEIGHTS[name], framework="pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == name
    assert metadata["seed"] == "0"
    assert metadata["images"] == "40000"
    assert metadata["command"].startswith("python -m adapt.demo.pretrain --model")


def test_the_wide_transformer_is_better_than_the_narrow_one_on_most_domains():
    wide, narrow = (last_log_line(f"demo-vit32{end}")["zero_shot"] for end in ("-wide", ""))
    better = {domain for domain in wide if wide[domain] > narrow[domain]}
    assert better == {"font", "hand", "art", "clipart"}


def test_architecture_is_a_fresh_open_clip_configuration():
    config = architecture("demo-rn32")
    assert config["vision_cfg"] == {
        "image_size": 32,
        "layers": [1, 1, 1, 1],
        "width": 16,
        "head_width": 64,
    }
    config.clear()
    assert architecture("demo-rn32")


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(BaseModelError, match="demo-rn32, demo-vit32"):
        load_state_dict("demo-rn64")


def test_a_truncated_file_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "demo-rn32.safetensors"
    path.write_bytes(WEIGHTS["demo-rn32"].read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="unusable: .*reinstall the package"):
        load_state_dict("demo-rn32", path)


def test_a_missing_file_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(BaseModelError, match=r"python -m adapt\.demo\.pretrain --model demo-rn32"):
        load_state_dict("demo-rn32", tmp_path / "demo-rn32.safetensors")


def test_the_file_of_another_model_is_refused():
    with pytest.raises(BaseModelError, match="it must hold 'demo-vit32', found 'demo-rn32'"):
        load_state_dict("demo-vit32", WEIGHTS["demo-rn32"])


@pytest.mark.parametrize(
    ("rows", "width", "reason"),
    [
        ([1, 1], 48, "repeats a row"),
        ([1, 49408], 48, "leaves the vocabulary"),
        ([-1, 2], 48, "leaves the vocabulary"),
        ([1, 2], 32, r"must be \(2, 48\), found \(2, 32\)"),
    ],
)
def test_a_token_embedding_that_does_not_fit_is_refused(tmp_path, rows, width, reason):
    path = tmp_path / "demo-rn32.safetensors"
    tensors = {
        "token_embedding.weight": torch.ones(2, width, dtype=torch.float16),
        "token_embedding.rows": torch.tensor(rows),
    }
    demo_weights.save_file(tensors, path, {"architecture": "demo-rn32"})
    with pytest.raises(BaseModelError, match=reason):
        load_state_dict("demo-rn32", path)


def test_a_weight_that_is_not_finite_is_refused(tmp_path):
    state = load_state_dict("demo-rn32")
    state["logit_scale"] = torch.tensor(float("nan"))
    path = tmp_path / "demo-rn32.safetensors"
    demo_weights.save_state_dict(path, state, torch.tensor([3]), {"architecture": "demo-rn32"})
    with pytest.raises(BaseModelError, match="'logit_scale' must be finite fp16"):
        load_state_dict("demo-rn32", path)
