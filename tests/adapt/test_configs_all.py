"""Every settings file that is shipped, with each of its tasks and presets."""

import json
import shutil
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import open_clip
import pytest
import yaml

from adapt import data, methods, published
from adapt.settings import base_models, files
from adapt.settings.config import AUTO, may_be_auto
from adapt.settings.files import EXTENDS, PAPER
from adapt.settings.layers import resolve, shipped
from runtime.errors import ConfigError

FOLDER = shipped()
EVERY = sorted(path.relative_to(FOLDER) for path in FOLDER.glob("*/*.yaml"))
MODEL_FILES = [path for path in EVERY if path.parent.name == base_models.FOLDER]
SHIPPED = [path for path in EVERY if path.stem != PAPER and path not in MODEL_FILES]
DEMO = ("demo-digits", "demo-objects", "folder")
MODELS = {"RN50-quickgelu", "RN101-quickgelu", "ViT-B-16-quickgelu", "ViT-L-14-quickgelu"}
SECTIONS = ("tasks", "presets")


@cache
def resolved(method, dataset, task, presets):
    return resolve(methods.get(method).Config, dataset, method, task=task, presets=presets)


def settings(method, dataset, task=None, presets=()):
    return resolved(method, dataset, task, tuple(presets))


def load(method, dataset, task=None, presets=()):
    return settings(method, dataset, task, presets).config


def text(path):
    return (FOLDER / path).read_text()


def sections(path):
    found = yaml.safe_load(text(path))
    return {name: found.get(name, {}) for name in SECTIONS}


def reported():
    """Return `method/dataset.yaml` of every row of a paper that names a method of ours."""
    tables = [published.load(path.stem) for path in published.files()]
    rows = [(table, row) for table in tables for row in table.rows if row.variant is not None]
    return {f"{row.variant.split('-')[0]}/{table.dataset}.yaml" for table, row in rows}


def test_there_are_settings_for_the_demo_own_folders_and_whatever_a_paper_reports():
    named = {path.parent.name for path in SHIPPED}
    assert {"cmkd", "ekda", "unimos"} < named <= set(methods.METHODS)
    usual = {f"{method}/{dataset}.yaml" for method in named for dataset in DEMO}
    assert len(reported()) > 20
    assert usual | reported() <= {str(path) for path in SHIPPED}


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_data_set_without_files_has_the_defaults_of_every_method(method, monkeypatch):
    monkeypatch.setattr(files, "DATASETS", {**data.DATASETS, "streets": "streets:Streets"})
    cls = methods.get_config(method)
    found = resolve(cls, "streets", method, ["lr=0.5"])
    assert found.config == replace(cls(), lr=0.5, interpolation="bicubic", train_size=256)
    assert {k for k, v in found.sources.items() if v == "command line"} == {"lr"}
    with pytest.raises(ConfigError, match="streets have no preset 'rn50'; available: none"):
        resolve(cls, "streets", method, presets=["rn50"])
    with pytest.raises(ConfigError, match="on data set 'street'"):
        resolve(cls, "street", method)


def test_a_method_without_files_has_its_defaults_on_every_data_set(monkeypatch):
    entry = methods.METHODS["cmkd"]
    monkeypatch.setattr(files, "METHODS", {**methods.METHODS, "dann": entry})
    cls = methods.get_config("cmkd")
    for dataset in (*data.DATASETS, "folder"):
        found = resolve(cls, dataset, "dann").config
        assert found == replace(cls(), interpolation="bicubic", train_size=256)


def leaves(values):
    return sum(map(leaves, values.values())) if isinstance(values, dict) else 1


def test_the_shipped_files_hold_few_settings():
    found = {path: yaml.safe_load(text(path)) for path in EVERY}
    assert sum(leaves(values) - (EXTENDS in values) for values in found.values()) <= 450


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_file_names_only_what_differs_from_the_layers_below(path, tmp_path):
    method, dataset = path.parent.name, path.stem
    cls, plain = methods.get(method).Config, settings(method, dataset).values()
    assert type(load(method, dataset)) is cls
    shutil.copytree(FOLDER, tmp_path / "configs")
    named = yaml.safe_load(text(path))
    for key in named.keys() - {EXTENDS, *SECTIONS}:
        less = {k: v for k, v in named.items() if k != key}
        (tmp_path / "configs" / path).write_text(yaml.safe_dump(less))
        found = resolve(cls, dataset, method, folder=tmp_path / "configs").values()
        assert found[key] != plain[key], f"{path} names {key}, which is so anyway"


@pytest.mark.parametrize("method", sorted(p.parent.name for p in EVERY if p.stem == PAPER))
def test_paper_names_all_that_model_and_data_decide_and_folder_nothing_of_it(method):
    cls = methods.get(method).Config
    models = ["RN50", *(path.stem for path in (FOLDER / base_models.FOLDER).glob("*.yaml"))]
    advice = [base_models.recommended(name, method, cls, FOLDER) for name in models]
    advice.append({"interpolation": "bicubic"})  # from the tag, where no file says it
    decided = set().union(*advice, (key for key, auto in may_be_auto(cls).items() if auto))
    assert decided <= yaml.safe_load(text(f"{method}/{PAPER}.yaml")).keys()
    assert not decided & yaml.safe_load(text(f"{method}/folder.yaml")).keys()


def test_what_papers_report_extends_paper_and_nothing_else_does():
    for path in SHIPPED:
        extended = yaml.safe_load(text(path)).get(EXTENDS)
        assert extended == (None if path.stem in DEMO else PAPER), path


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_task_and_preset_of_a_file_loads_and_changes_something(path):
    method, dataset = path.parent.name, path.stem
    plain = asdict(load(method, dataset))
    found = sections(path)
    for task in found["tasks"]:
        assert asdict(load(method, dataset, task=task)) != plain
    for preset, values in found["presets"].items():
        changed = asdict(load(method, dataset, presets=[preset]))
        found_changed = {key for key in plain if plain[key] != changed[key]}
        own = dataset == "folder"  # where another base model brings values of its own
        assert values.keys() <= found_changed if own else values.keys() == found_changed
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
    assert (found.batch_size, found.lr_gamma) == (32, 1e-3)
    assert settings("unimos", dataset, presets=presets).values()["iterations"] == AUTO
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
    assert (found.resize, found.class_ctx) == ("crop", False)
    assert (found.text_weight, found.image_weight) == (25, 10)


def test_the_partial_task_of_office_home_has_25_target_classes():
    for method in ("cmkd", "source_only", "zero_shot", "linear_probe"):
        found = load(method, "office-home", presets=["partial"])
        assert (found.partial, found.target_classes) == (True, 25)


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_papers_data_set_drops_transparency_as_its_code_does_and_others_show_it(path):
    papers = yaml.safe_load(text(path)).get(EXTENDS) == PAPER
    assert load(path.parent.name, path.stem).background == ("drop" if papers else "white")


def test_folders_have_what_office_home_has_but_for_caption_and_pixels():
    for method in ("cmkd", "source_only", "zero_shot"):
        for presets in ([], ["rn50"]):
            named = asdict(load(method, "office-home", presets=presets))
            own = asdict(load(method, "folder", presets=presets))
            differs = {key for key in own if own[key] != named[key]}
            assert differs == {"prompt", "interpolation", "background"}


def test_every_settings_file_is_of_a_data_set():
    named = {path.stem for path in SHIPPED} - {"folder"}
    assert named <= set(data.DATASETS)


TABLE = json.loads((Path(__file__).parents[1] / "fixtures/549a19a/settings.json").read_text())
FROZEN = ("ekda", "linear_probe", "unimos", "zero_shot")
"""Methods that leave the encoder alone."""
DIFFERENCES = [
    # methods, data sets, keys, then (before, now), then why
    (("ekda", "linear_probe", "unimos"), None, {"iterations"}, (0, AUTO),
     "the method's own epoch has a name"),
    (("zero_shot",), None, {"select"}, ("last", "infomax"),
     "the default of all methods; nothing is trained, so nothing is selected"),
    (("zero_shot",), ("demo-digits", "demo-objects"),
     {"epochs", "iterations", "lr", "head_lr_multiplier", "flip"}, None, "nothing is trained"),
    (FROZEN, ("demo-objects",), {"rst_threshold"}, (3.5e-5, 2.5e-5),
     "the base model's; the method leaves the encoder alone"),
    (("linear_probe", "unimos"), ("demo-digits", "demo-objects"), {"pad"}, (0, 2),
     "the base model's; features are computed once, of whole images"),
    (("cmkd", "source_only", "zero_shot"), ("folder",), {"interpolation"},
     ("bilinear", "bicubic"), "the base model's: CLIP was trained on bicubic images"),
    (tuple(methods.METHODS), ("folder",),
     {"epochs", "iterations", "ramp_iterations", "rst_density", "prompt"}, None,
     "own images: the data decide, and English has two articles"),
    (("ekda",), ("folder",), {"resize", "crop_min"}, None,
     "own images: a crop may be of any place of the whole image, and shows most of it"),
    (FROZEN, ("demo-digits", "demo-objects"), {"rst_density"}, (0.0, AUTO),
     "the method leaves the encoder alone, so there is no RST"),
    (("unimos",), ("demo-digits", "demo-objects"), {"iterations"}, (0, AUTO),
     "the method's own epoch has a name"),
]  # fmt: skip
"""Every difference between the settings of 549a19a and today's."""


def explained(method, dataset, key, before, now):
    return any(
        method in names
        and dataset in (sets or {dataset})
        and key in keys
        and change in (None, (before, now))
        for names, sets, keys, change, _ in DIFFERENCES
    )


@pytest.mark.parametrize("name", TABLE)
def test_settings_are_those_of_549a19a_but_for_a_list_of_differences(name):
    file, *rest = name.split(" ")
    method, dataset = file.split("/")
    chosen = dict(zip(rest[::2], rest[1::2], strict=True))
    presets = [chosen["preset"]] if "preset" in chosen else []
    before = TABLE[file] | TABLE[name]
    now = settings(method, dataset, chosen.get("task"), presets).values()
    assert before.keys() <= now.keys()
    for key, value in before.items():
        equal = now[key] == value and type(now[key]) is type(value)
        assert equal or explained(method, dataset, key, value, now[key]), key
