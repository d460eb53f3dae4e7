"""Where settings come from, and what files of other versions make of them."""

import logging
from dataclasses import asdict, dataclass, field, make_dataclass
from typing import ClassVar

import open_clip
import pytest
import torch
from click.testing import CliRunner

from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.cli import main
from adapt.methods.base import BUDGET
from adapt.methods.unimos import UniMoS
from adapt.settings import architectures
from adapt.settings.architectures import check_model
from adapt.settings.config import AutoRequest, TaskHeadConfig, TrainConfig, by_data, may_be_auto
from adapt.settings.layers import resolve, shipped
from adapt.settings.limits import check_batch, check_crops, check_data, check_passes
from adapt.settings.stored import SETTINGS, restore
from adapt.training.train import train
from runtime.errors import BaseModelError, ConfigError, DataError, FormatError

FOLDER = shipped()


@dataclass(frozen=True)
class Larger(TaskHeadConfig):
    """A later version's settings."""

    extra: int = 1
    passes: int = by_data(3)


@pytest.fixture
def layered(tmp_path):
    """Every layer there is, each naming one setting of its own and one of the layer below."""
    for name, text in {
        "base_models/RN50.yaml": "lr: 1e-1\nmomentum: 0.1\nmethods:\n  m: {pad: 1, extra: 2}\n",
        "base_models/demo-rn32.yaml": "lr: 9e-1\n",
        "m/paper.yaml": "momentum: 0.2\nweight_decay: 0.2\nmodel: demo-rn32\n",
        "m/d.yaml": "extends: paper\nweight_decay: 0.3\nlr_gamma: 0.3\n"
        "tasks:\n  a-b: {lr_gamma: 0.4, lr_power: 0.4}\n"
        "presets:\n  one: {lr_power: 0.5, holdout: 0.5, model: RN50-quickgelu}\n"
        "  two: {holdout: 0.6}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def resolved(*overrides, cls=Larger, **keywords):
        return resolve(cls, "d", "m", overrides, tmp_path, **keywords)

    return resolved


@dataclass(frozen=True)
class Taught(TrainConfig):
    """Settings of a method that learns from a second base model."""

    teacher: str = "demo-vit32"

    def check_models(self) -> None:
        super().check_models()
        check_model(self.teacher, "demo", "--set teacher={}")


def test_a_method_says_in_its_settings_which_base_models_it_needs(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/d.yaml").write_text("model: demo-rn32\npretrained: demo\n")
    assert resolve(Taught, "d", "m", folder=tmp_path).config.teacher == "demo-vit32"
    with pytest.raises(BaseModelError, match="unknown architecture 'demo-vit3'; did you mean"):
        resolve(Taught, "d", "m", ["teacher=demo-vit3"], tmp_path)


def test_every_layer_overrules_those_below_and_is_named(layered):
    found = layered("seed=7", task="a-b", presets=["one", "two"])
    assert {key: (found.values()[key], found.sources[key]) for key in LAYERS} == LAYERS


LAYERS = {
    "batch_size": (32, "default"),
    "lr": (0.1, "base model RN50-quickgelu"),
    "pad": (1, "base model RN50-quickgelu"),
    "extra": (2, "base model RN50-quickgelu"),
    "train_size": (256, "base model RN50-quickgelu"),
    "momentum": (0.2, "m/paper.yaml"),
    "weight_decay": (0.3, "m/d.yaml"),
    "lr_gamma": (0.4, "m/d.yaml, task a-b"),
    "lr_power": (0.5, "m/d.yaml, preset one"),
    "model": ("RN50-quickgelu", "m/d.yaml, preset one"),
    "holdout": (0.6, "m/d.yaml, preset two"),
    "seed": (7, "command line"),
    "passes": ("auto", "default"),
}


def test_the_model_is_known_through_all_layers_before_it_recommends(layered):
    assert layered().config.lr == 0.9  # paper.yaml's model
    assert layered(presets=["one"]).config.lr == 0.1
    assert layered("model=RN50").config.lr == 0.1  # the activation changes nothing
    assert layered("model=RN101").config.lr == 3e-6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: other\n", "'extends' in .* must be paper, found 'other'"),
        ("extends: [1]\n", "'extends' in .* must be paper"),
        ("extends: paper\n", "cannot read the settings .*paper.yaml"),
    ],
)
def test_a_file_extends_paper_or_nothing(tmp_path, text, message):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/d.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve(Larger, "d", "m", folder=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "rate: 1\n",
        "methods:\n  m: {fixmach: 1}\n",
        "methods:\n  ekda: {fixmatch: 1}\n",  # of a method that is not in use
        "extra: 3\n",
        "5: 1\nrate: 1\n",
    ],
)
def test_a_base_model_recommends_only_settings_that_there_are(tmp_path, text):
    (tmp_path / "m").mkdir()
    (tmp_path / "base_models").mkdir()
    (tmp_path / "m/d.yaml").write_text("model: RN50-quickgelu\n")
    (tmp_path / "base_models/RN50.yaml").write_text(text)
    with pytest.raises(ConfigError, match="RN50.yaml' recommends the unknown setting"):
        resolve(Larger, "d", "m", folder=tmp_path)


def test_a_base_model_recommends_for_methods_that_there_are(tmp_path):
    for name, text in {
        "m/d": "model: RN50\n",
        "base_models/RN50": "methods: {ekd: {lr: 1}}",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError, match="unknown method 'ekd'; did you mean 'ekda'"):
        resolve(Larger, "d", "m", folder=tmp_path)


@pytest.mark.parametrize("section", ["tasks", "presets"])
def test_a_section_that_is_not_in_use_is_checked_too(tmp_path, section):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/d.yaml").write_text(f"{section}:\n  a-b: {{epoch: 1}}\n")
    with pytest.raises(ConfigError, match="unknown key 'epoch'; did you mean 'epochs'"):
        resolve(Larger, "d", "m", folder=tmp_path)


@pytest.mark.parametrize("text", ["model: RN101\n", "methods:\n  m: {pretrained: demo}\n"])
def test_a_base_model_recommends_no_other_one(tmp_path, text):
    (tmp_path / "m").mkdir()
    (tmp_path / "base_models").mkdir()
    (tmp_path / "m/d.yaml").write_text("model: RN50-quickgelu\n")
    (tmp_path / "base_models/RN50.yaml").write_text(text)
    with pytest.raises(ConfigError, match="RN50.yaml' cannot recommend '"):
        resolve(Larger, "d", "m", folder=tmp_path)


@pytest.mark.parametrize(
    ("model", "size", "train_size"),
    [("ViT-B-16-quickgelu", 224, 256), ("ViT-L-14-336-quickgelu", 336, 384), ("RN50x4", 288, 329)],
)
def test_the_training_size_follows_the_models(model, size, train_size):
    config = open_clip.get_model_config(model)
    assert config["vision_cfg"]["image_size"] == size
    found = resolve(TrainConfig, "folder", "zero_shot", [f"model={model}"])
    assert (found.config.train_size, found.sources["train_size"]) == (
        train_size,
        f"base model {model}",
    )


def test_the_interpolation_follows_the_tag_unless_a_file_says_it():
    tag = ["model=ViT-L-14-CLIPA", "pretrained=datacomp1b"]  # of few that are not bicubic
    found = resolve(TrainConfig, "folder", "zero_shot", tag)
    assert found.config.interpolation == "bilinear"
    assert found.sources["interpolation"] == "base model ViT-L-14-CLIPA"
    plain = resolve(TrainConfig, "folder", "zero_shot", tag[:1])
    assert plain.config.interpolation == "bicubic"
    demo = ["model=demo-rn32", "pretrained=demo"]
    assert resolve(TrainConfig, "folder", "zero_shot", demo).config.interpolation == "bilinear"
    named = resolve(TrainConfig, "folder", "zero_shot", [*demo, "interpolation=bicubic"])
    assert named.config.interpolation == "bicubic"


def test_the_size_of_every_model_of_open_clip_is_known():
    for name in open_clip.list_models():
        size = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
        size = size[0] if isinstance(size, (list, tuple)) else size
        assert architectures.image_size(name.removesuffix("-quickgelu")) in (size, None)


def test_a_papers_data_set_keeps_its_values_whatever_the_base_model_says():
    cls = methods.get("cmkd").Config
    plain = resolve(cls, "office-home", "cmkd")
    other = resolve(cls, "office-home", "cmkd", ["model=demo-rn32", "pretrained=demo"])
    changed = {k for k, v in plain.values().items() if other.values()[k] != v}
    assert changed == {"model", "pretrained"}


def test_what_is_auto_waits_for_the_data(pair):
    found = resolve(UniMoS.Config, "folder", "unimos", ["batch_size=4"])
    assert found.auto == ("epochs", "iterations", "rst_density")
    assert ("iterations", "auto", "default") in found.rows()
    done = found.with_data(UniMoS.from_data, len(pair.source), len(pair.target))
    assert done.auto == () and done.sources["iterations"] == "data"
    assert done.config.iterations == UniMoS.epoch_length(found.config, 27, 27) == 27 // 4
    fixed = resolve(UniMoS.Config, "folder", "unimos", ["iterations=7"]).with_data(
        UniMoS.from_data, len(pair.source), len(pair.target)
    )
    assert (fixed.config.iterations, fixed.sources["iterations"]) == (7, "command line")
    asked = resolve(methods.get("cmkd").Config, "office-home", "cmkd", ["iterations=auto"])
    assert asked.auto == ("iterations",) and asked.sources["iterations"] == "command line"


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_answers_for_what_may_be_auto(name, pair):
    cls = methods.get(name)
    request = AutoRequest(50, 40, frozenset(may_be_auto(cls.Config)))
    found = cls.from_data(cls.Config(), request)
    assert found.keys() == request.auto
    config = cls.Config(**{**asdict(cls.Config()), **found})
    assert config.iterations >= 1


def test_an_artifact_keeps_values_and_sources(pair, tmp_path):
    cls = methods.get("cmkd").Config
    own = ["model=demo-rn32", "pretrained=demo", "epochs=1", "iterations=2", "batch_size=4"]
    settings = resolve(cls, "folder", "cmkd", own).with_data(
        methods.get("cmkd").from_data, len(pair.source), len(pair.target)
    )
    run = train("cmkd", pair, settings.config, out=tmp_path, record=settings.record())
    found = Artifact.load(run.path)
    assert dict(found.config) == asdict(settings.config)
    record = found.optional[SETTINGS]
    assert record["sources"]["lr"] == "base model demo-rn32"
    assert record["sources"]["epochs"] == "command line" and "momentum" not in record["sources"]
    assert "lr" in record["changed"] and "momentum" not in record["changed"]


def test_show_settings_prints_every_value_with_its_source_and_trains_nothing(images, tmp_path):
    args = [
        "train",
        "--show-settings",
        "--method",
        "linear_probe",
        "--artifacts",
        str(tmp_path / "a"),
    ]
    own = ["--data", str(images), "--source", "day", "--target", "night"]
    own += ["--set", "model=demo-rn32", "--set", "batch_size=9"]
    done = CliRunner().invoke(main, [*args, *own], catch_exceptions=False)
    assert done.exit_code == 0 and not (tmp_path / "a").exists()
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.output.splitlines()[2:]}
    cls = methods.get("linear_probe").Config
    assert rows.keys() == asdict(cls()).keys()
    assert rows["iterations"] == ["3", "data"]
    assert rows["train_size"] == ["32", "base model demo-rn32"]
    assert rows["batch_size"] == ["9", "command line"]
    assert rows["lr"] == ["1.0", "default"] and rows["nesterov"] == ["true", "default"]
    named = ["--dataset", "office-home", "--task", "a-c"]  # whose images are not here
    done = CliRunner().invoke(main, [*args, *named], catch_exceptions=False)
    assert "linear_probe/paper.yaml" in done.output and " auto " in done.output


# Files of other versions.

OLD = asdict(TaskHeadConfig(lr=0.5))


def test_a_new_setting_breaks_no_file():
    assert restore(Larger, OLD, {}, "a") == {**asdict(Larger(lr=0.5)), "extra": 1, "passes": 3}


@dataclass(frozen=True)
class Changed(Larger):
    """A version with settings that change what is done by default."""

    turned: bool = True
    when_missing: ClassVar = {"turned": False, "passes": 1}


@dataclass(frozen=True)
class Again(Changed):
    """One that builds on it."""

    when_missing: ClassVar = {"extra": 5, "passes": 2}


def test_a_file_of_before_a_setting_means_what_was_done_then():
    old = {key: value for key, value in OLD.items() if key != "background"}
    assert TrainConfig().background == "white"
    for cls in (
        TrainConfig,
        TaskHeadConfig,
        *(methods.get(name).Config for name in methods.METHODS),
    ):
        values = {key: value for key, value in asdict(cls()).items() if key != "background"}
        assert restore(cls, values, {}, "a") == {**asdict(cls()), "background": "drop"}
        assert restore(cls, asdict(cls()), {}, "a") == asdict(cls())
    found = restore(Changed, old, {}, "a")
    assert found == {**asdict(Changed(lr=0.5)), "background": "drop", "turned": False, "passes": 1}
    again = restore(Again, old, {}, "a")
    assert again == {**found, "extra": 5, "passes": 2}  # each class adds to those below it
    named = {"turned": True, "background": "grey"}
    assert restore(Again, {**old, **named}, {}, "a") == {**again, **named}


@dataclass(frozen=True)
class Smaller(TrainConfig):
    """A version that has given settings up."""

    removed: ClassVar = {"warmup": 0, "mode": "plain"}


@pytest.mark.parametrize("gone", [{"warmup": 0}, {"mode": "plain"}, {"warmup": 0, "mode": "plain"}])
def test_a_setting_that_is_gone_is_ignored_at_its_default_with_a_note(gone, caplog):
    values = {**asdict(TrainConfig()), **gone}
    with caplog.at_level(logging.WARNING, "adapt"):
        assert restore(Smaller, values, {}, "'x'") == asdict(TrainConfig())
    for key in gone:
        assert f"the setting '{key}' = {gone[key]!r}, its default" in caplog.text


def test_many_ignored_settings_are_one_note(caplog):
    names = [f"later{number}" for number in range(2000)]
    values = {**asdict(TrainConfig()), **dict.fromkeys(names, 1)}
    with caplog.at_level(logging.WARNING, "adapt"):
        restore(TrainConfig, values, {SETTINGS: {"changed": []}}, "'x'")
    (record,) = caplog.records
    assert "'later0' = 1" in record.getMessage() and len(record.getMessage()) < 500
    assert record.getMessage().endswith("; and 1997 more such settings")


def test_a_setting_that_is_gone_and_was_used_is_refused_by_name():
    with pytest.raises(FormatError, match="'x' was made with the setting 'warmup' = 5, which this"):
        restore(Smaller, {**asdict(TrainConfig()), "warmup": 5}, {}, "'x'")


def test_a_later_versions_setting_is_ignored_only_where_the_file_says_it_is_default(caplog):
    newer = make_dataclass(
        "Newer", [("later", int, field(default=4))], bases=(TrainConfig,), frozen=True
    )
    record = resolve(newer, "folder", "zero_shot", ["seed=2"]).record()
    values = asdict(newer(seed=2))
    assert restore(TrainConfig, values, {SETTINGS: record}, "'x'")["seed"] == 2
    assert "ignored the setting 'later' = 4" in caplog.text
    record = resolve(newer, "folder", "zero_shot", ["later=5"]).record()
    for optional in ({SETTINGS: record}, {}, {SETTINGS: 3}, {SETTINGS: {"changed": "later"}}):
        with pytest.raises(FormatError, match="setting 'later' = 5, .*update uda-edge"):
            restore(TrainConfig, {**values, "later": 5}, optional, "'x'")


def test_a_method_may_bring_another_optimizer_and_resume_with_it(pair, config, tmp_path):
    """AdamW by a method's own word: the loop, checkpoints and RST do not know the difference."""
    from dataclasses import replace

    from adapt.compute.parallel import processes
    from adapt.methods.cmkd import CMKD
    from adapt.training.loop import Loop

    class Own(CMKD):
        def optimizer(self, groups):
            return torch.optim.AdamW(groups, weight_decay=self.config.weight_decay, fused=True)

    settings = replace(config, rst=True, rst_threshold=1e-4, select="last")

    def run(folder, stop=None):
        with processes(torch.device("cpu")) as device:
            loop = Loop("cmkd", Own, pair, settings, folder / "artifact.safetensors", device)
            resume = loop.checkpoint.exists()
            if stop is not None:
                loop.total = stop
            try:
                return loop, loop(resume, False)
            finally:
                if stop is not None:
                    loop._save()

    torch.manual_seed(0)
    loop, whole = run(tmp_path / "whole")
    keys = {name.rpartition(".")[2] for name in loop.optimization.state()}
    assert keys == {"step", "exp_avg", "exp_avg_sq"}
    run(tmp_path / "parts", stop=5)
    (tmp_path / "parts/artifact.safetensors").unlink()
    _, parts = run(tmp_path / "parts")
    assert whole.path.read_bytes() == parts.path.read_bytes()
    sgd = train("cmkd", pair, settings, out=tmp_path / "sgd")
    assert sgd.path.read_bytes() != whole.path.read_bytes()


# What own images decide.


@pytest.mark.parametrize(
    ("images", "epochs", "iterations"),
    [
        (713, 20, 44),  # 40 passes of 22 iterations
        (100, 20, 15),  # at least 300 steps
        (40, 20, 5),  # but at most 100 passes
        (4_365, 20, 272),
        (20_000, 20, 500),  # at most 10,000 steps
        (200_000, 20, 500),
    ],
)
def test_the_length_of_a_run_follows_the_larger_domain(images, epochs, iterations):
    cls = methods.get("cmkd")
    config = resolve(cls.Config, "folder", "cmkd").config
    auto = frozenset(may_be_auto(cls.Config))
    for request in (AutoRequest(images, 33, auto), AutoRequest(33, images, auto)):
        found = cls.from_data(config, request)
        assert (found["epochs"], found["iterations"]) == (epochs, iterations)
        assert found["ramp_iterations"] == epochs * iterations
        assert epochs * iterations * 32 / images <= 100


def test_a_length_that_somebody_named_stays_and_the_ramp_follows():
    cls = methods.get("cmkd")
    config = resolve(cls.Config, "folder", "cmkd", ["epochs=3"]).config
    request = AutoRequest(713, 713, frozenset({"iterations", "ramp_iterations", "rst_density"}))
    found = cls.from_data(config, request)
    assert found == {"iterations": 44, "ramp_iterations": 132, "rst_density": 0.0}


def test_rst_has_a_budget_unless_the_threshold_was_named(pair):
    cls = methods.get("cmkd")

    def density(*own):
        settings = resolve(cls.Config, "folder", "cmkd", ["batch_size=4", *own])
        return settings.with_data(
            cls.from_data, len(pair.source), len(pair.target)
        ).config.rst_density

    assert density() == 0 and density("rst=true") == BUDGET
    assert density("rst=true", "rst_threshold=1e-5") == 0
    assert density("rst=true", "rst_density=0.5") == 0.5


def test_crops_that_show_little_are_refused_unless_they_were_set_by_name():
    cls = methods.get("cmkd").Config
    own = ["model=demo-rn32", "pretrained=demo"]
    check_crops(resolve(cls, "folder", "cmkd", own), 32)
    paper = resolve(cls, "office-home", "cmkd", own)
    with pytest.raises(ConfigError, match=r"train_size is 256 \(cmkd/paper.yaml\), so crops of 32"):
        check_crops(paper, 32)
    check_crops(resolve(cls, "office-home", "cmkd", [*own, "train_size=256"]), 32)
    check_crops(resolve(cls, "office-home", "cmkd"), 224)
    check_crops(resolve(cls, "digits", "cmkd", own), 32)  # crops are resized


def test_too_many_passes_are_refused_unless_somebody_named_the_length(pair):
    cls = methods.get("cmkd")
    settings = resolve(cls.Config, "folder", "cmkd", ["batch_size=4"]).with_data(
        cls.from_data, len(pair.source), len(pair.target)
    )
    check_passes(settings, 27)
    with pytest.raises(ConfigError, match="at most 100 are useful; add images, or set the length"):
        auto = resolve(cls.Config, "folder", "cmkd")  # 20 epochs of 500, had nothing followed
        check_passes(auto, 27)
    check_passes(resolve(cls.Config, "folder", "cmkd", ["epochs=20"]), 27)
    check_passes(resolve(cls.Config, "office31", "cmkd"), 795)  # the paper's


def test_a_domain_that_is_too_small_for_a_batch_is_refused_with_advice_that_helps():
    check_batch(12, {"source": 12, "target": 40})
    for images, message in (
        ({"source": 12, "target": 3}, "the target has 3 training images, .* batch_size=3 or less"),
        ({"source": 12, "target": 1}, "the target has 1 training image, .* 2 or more; add images$"),
        ({"source": 0, "target": 1}, "the source has 0 training images, .* 2 or more; add images$"),
    ):
        with pytest.raises(DataError, match=message):
            check_batch(16, images)
    cls = methods.get("cmkd")
    settings = resolve(
        cls.Config, "folder", "cmkd", ["model=demo-rn32", "pretrained=demo", "batch_size=4"]
    )
    check_data(settings.with_data(cls.from_data, 8, 4), 8, 4, uses_images=True)
    with pytest.raises(DataError, match="batch_size=3 or less"):
        check_data(settings, 8, 3, uses_images=True)
