"""Every settings file that is shipped, with each of its tasks and presets."""

from dataclasses import asdict, fields
from functools import cache

import open_clip
import pytest
import yaml

from adapt import data, methods, published
from adapt.config import load_config, shipped

FOLDER = shipped()
SHIPPED = sorted(path.relative_to(FOLDER) for path in FOLDER.glob("*/*.yaml"))
DEMO = ("demo-digits", "demo-objects", "folder")
PAPERS = {
    "cmkd": ("office-home", "office31", "imageclef", "digits", "visda", "domainnet"),
    "source_only": ("office-home", "office31", "imageclef", "digits", "visda", "domainnet"),
    "zero_shot": tuple(path.stem for path in published.files()),
    "linear_probe": tuple(path.stem for path in published.files()),
    "unimos": ("office-home", "visda", "domainnet", "mini-domainnet"),
    "ekda": ("office-home", "office31", "visda", "domainnet", "mini-domainnet"),
}
"""The data sets for which a paper reports a method, and all for the baselines of no paper."""
MODELS = {"RN50-quickgelu", "RN101-quickgelu", "ViT-B-16-quickgelu", "ViT-L-14-quickgelu"}
SECTIONS = ("tasks", "presets")


@cache
def loaded(method, dataset, task, presets):
    return load_config(methods.get(method).Config, dataset, method, task=task, presets=presets)


def load(method, dataset, task=None, presets=()):
    return loaded(method, dataset, task, tuple(presets))


def text(path):
    return (FOLDER / path).read_text()


def sections(path):
    found = yaml.safe_load(text(path))
    return {name: found.get(name, {}) for name in SECTIONS}


def test_there_are_settings_for_every_method_and_every_data_set_that_a_paper_reports():
    assert {str(path) for path in SHIPPED} == {
        f"{method}/{dataset}.yaml"
        for method in methods.METHODS
        for dataset in (*DEMO, *PAPERS[method])
    }


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_shipped_file_loads_and_names_every_key_in_order(path):
    cls = methods.get(path.parent.name).Config
    assert type(load(path.parent.name, path.stem)) is cls
    lines = [line for line in text(path).splitlines() if line[0] not in "# "]
    names = [line.split(":")[0] for line in lines]
    keys = list(dict.fromkeys(field.name for field in fields(cls)))
    assert [name for name in names if name not in SECTIONS] == keys
    assert names[: len(keys)] == keys  # the sections come last, and no key comes twice


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_task_and_preset_of_a_file_loads_and_changes_something(path):
    method, dataset = path.parent.name, path.stem
    plain = asdict(load(method, dataset))
    found = sections(path)
    for task in found["tasks"]:
        assert asdict(load(method, dataset, task=task)) != plain
    for preset, values in found["presets"].items():
        changed = asdict(load(method, dataset, presets=[preset]))
        assert {key for key in plain if plain[key] != changed[key]} == values.keys()
    if found["presets"]:
        load(method, dataset, presets=list(found["presets"]))  # they go together


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_model_is_one_that_open_clip_or_the_demo_has(path):
    method, dataset = path.parent.name, path.stem
    found = {load(method, dataset, presets=[p]).model for p in sections(path)["presets"]}
    found.add(load(method, dataset).model)
    if dataset.startswith("demo-"):
        assert all(name.startswith("demo-") for name in found)
    else:
        assert found <= MODELS


def test_every_model_of_a_paper_is_known_to_open_clip_with_openais_weights():
    for name in MODELS:
        assert "openai" in open_clip.list_pretrained_tags_by_model(name)
        assert open_clip.get_model_config(name)["quick_gelu"]


@pytest.mark.parametrize(
    ("dataset", "presets", "lr", "head_lr", "steps", "batch", "threshold"),
    [
        ("office-home", [], 3e-6, 3e-3, 10_000, 32, 1e-6),
        ("office-home", ["rn50"], 3e-7, 3e-3, 10_000, 32, 1e-6),
        ("office31", [], 3e-6, 3e-3, 10_000, 32, 1e-6),
        ("imageclef", ["rn50"], 3e-7, 3e-3, 10_000, 32, 1e-6),
        ("digits", [], 3e-6, 3e-3, 20_000, 64, 1e-6),
        ("digits", ["rn50"], 3e-7, 3e-3, 20_000, 64, 1e-6),
        ("visda", [], 3e-7, 3e-4, 20_000, 32, 1e-7),
        ("visda", ["rn101"], 3e-9, 3e-5, 20_000, 32, 1e-8),
        ("domainnet", [], 3e-6, 3e-3, 40_000, 32, 1e-6),
    ],
)
@pytest.mark.parametrize("method", ["cmkd", "source_only"])
def test_the_table_of_cmkds_hyper_parameters(
    method, dataset, presets, lr, head_lr, steps, batch, threshold
):
    found = load(method, dataset, presets=presets)
    assert found.lr == lr and found.lr * found.head_lr_multiplier == pytest.approx(head_lr)
    assert found.epochs * found.iterations == steps
    assert (found.batch_size, found.rst_threshold) == (batch, threshold)
    assert (found.momentum, found.nesterov, found.weight_decay) == (0.9, True, 5e-4)
    assert (found.resize, found.interpolation) == ("squash", "bilinear")
    assert found.train_size == (224 if dataset in ("visda", "digits") else 256)
    assert found.flip == (dataset != "digits")


@pytest.mark.parametrize(
    ("dataset", "weight", "threshold", "lambdas"),
    [
        ("office-home", 0.5, 0.95, (0.25, 0.1, 0.025)),
        ("visda", 2.0, 0.80, (0.25, 0.1, 0.025)),
        ("domainnet", 0.1, 0.95, (0.025, 0.1, 0.0025)),
    ],
)
def test_cmkds_weights_by_data_set(dataset, weight, threshold, lambdas):
    plain, fixmatch = load("cmkd", dataset), load("cmkd", dataset, presets=["fixmatch"])
    assert (plain.fixmatch, fixmatch.fixmatch) == (0.0, weight)
    assert fixmatch.fixmatch_threshold == threshold
    assert (plain.lambda1, plain.lambda2, plain.lambda3) == lambdas
    assert plain.ramp_iterations == 10_000


def test_usps_is_augmented_like_nothing_else():
    other, usps = (load("cmkd", "digits", task=task) for task in ("s-m", "u-m"))
    assert (other.crop_min, other.crop_max, other.pad, other.rotate) == (0.75, 1.2, 0, 0)
    # 28 pixels, padded by 4, turned by up to 10 degrees: the same in units of 224 pixels.
    assert (usps.train_size, usps.pad, usps.crop_min, usps.rotate) == (28 * 8, 4 * 8, 0, 10)


@pytest.mark.parametrize(
    ("dataset", "presets", "model", "epochs", "lr", "weights"),
    [
        ("office-home", [], "RN50", 50, 3e-3, (1, 1)),
        ("office-home", ["vit-b16"], "ViT-B-16", 50, 3e-3, (1, 1)),
        ("office-home", ["vit-l14"], "ViT-L-14", 50, 3e-3, (1, 1)),
        ("visda", [], "RN101", 10, 9e-4, (0.001, 0.1)),
        ("domainnet", [], "ViT-B-16", 50, 3e-3, (1, 1)),
        ("mini-domainnet", [], "RN50", 50, 3e-3, (1, 1)),
        ("mini-domainnet", ["vit-b16"], "ViT-B-16", 50, 3e-3, (1, 1)),
    ],
)
def test_unimos_settings_are_those_of_paper_and_code(dataset, presets, model, epochs, lr, weights):
    found = load("unimos", dataset, presets=presets)
    assert (found.model, found.epochs, found.lr) == (f"{model}-quickgelu", epochs, lr)
    assert (found.alpha, found.beta) == weights
    assert (found.batch_size, found.iterations, found.lr_gamma) == (32, 0, 1e-3)
    assert (found.weight_decay, found.nesterov, found.gamma) == (0, False, 0.01)
    assert (found.resize, found.interpolation) == ("crop", "bicubic")
    assert found.prompt == "a {domain} photo of a {}."


@pytest.mark.parametrize(
    ("dataset", "batch", "epochs", "lr"),
    [
        ("office31", 32, 20, 0.005),
        ("office-home", 32, 20, 0.005),
        ("visda", 8, 10, 0.003),
        ("domainnet", 32, 10, 0.005),
        ("mini-domainnet", 32, 10, 0.005),
    ],
)
def test_ekda_settings_are_those_of_the_code(dataset, batch, epochs, lr):
    found = load("ekda", dataset)
    assert (found.model, found.teacher) == ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu")
    assert (found.batch_size, found.epochs, found.lr) == (batch, epochs, lr)
    assert (found.n_ctx, found.kd_weight, found.tau) == (4, 100, 1)
    assert (found.momentum, found.weight_decay, found.nesterov) == (0.9, 5e-4, False)
    assert (found.crop_min, found.crop_max, found.interpolation) == (0.08, 1.0, "bicubic")


def test_the_partial_task_of_office_home_has_25_target_classes():
    for method in ("cmkd", "source_only", "zero_shot", "linear_probe"):
        found = load(method, "office-home", presets=["partial"])
        assert (found.partial, found.target_classes) == (True, 25)


def test_folders_have_what_office_home_has_but_for_the_caption():
    for method in ("cmkd", "source_only", "zero_shot"):
        for presets in ([], ["rn50"]):
            named = asdict(load(method, "office-home", presets=presets))
            own = asdict(load(method, "folder", presets=presets))
            assert {key for key in own if own[key] != named[key]} == {"prompt"}


def test_every_named_data_set_has_settings_and_every_settings_file_a_data_set():
    named = {path.stem for path in SHIPPED} - {"folder"}
    assert set(data.DATASETS) == named
