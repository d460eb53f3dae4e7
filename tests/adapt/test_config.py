from dataclasses import dataclass

import pytest

from adapt import methods
from adapt.settings.config import TaskHeadConfig
from adapt.settings.layers import resolve, shipped
from runtime.errors import ConfigError

FOLDER = shipped()


def load(*overrides, dataset="demo-digits", method="source_only"):
    return resolve(TaskHeadConfig, dataset, method, overrides).config


def test_cmkd_on_folders_has_the_papers_values_for_vit_b_16():
    cls = methods.get("cmkd").Config
    loaded = resolve(cls, "folder", "cmkd").config
    assert loaded == cls(interpolation="bicubic")  # the base model's
    assert (loaded.model, loaded.pretrained) == ("ViT-B-16-quickgelu", "openai")
    assert (loaded.lr, loaded.lr * loaded.head_lr_multiplier) == (3e-6, 3e-3)
    assert (loaded.epochs, loaded.iterations, loaded.batch_size) == (20, 500, 32)
    assert (loaded.lambda1, loaded.lambda2, loaded.lambda3) == (0.25, 0.1, 0.025)
    assert (loaded.rst_threshold, loaded.ramp_iterations) == (1e-6, 10000)
    assert (loaded.train_size, loaded.pad, loaded.flip) == (256, 0, True)


@pytest.mark.parametrize("dataset", ["demo-digits", "demo-objects"])
def test_cmkd_on_the_demo_has_the_measured_values(dataset):
    loaded = resolve(methods.get("cmkd").Config, dataset, "cmkd").config
    assert (loaded.model, loaded.pretrained) == ("demo-rn32", "demo")
    assert loaded.epochs * loaded.iterations == loaded.ramp_iterations == 800
    assert loaded.lr * loaded.head_lr_multiplier == pytest.approx(3e-3)
    assert loaded.lr == 3e-4
    assert loaded.flip == (dataset == "demo-objects")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("lr=3e-6", "lr", 3e-6),
        ("lr=1E-3", "lr", 1e-3),
        ("lr=2", "lr", 2.0),
        ("lr=.5", "lr", 0.5),
        ("pad=3", "pad", 3),
        ("flip=true", "flip", True),
        ("rst = true", "rst", True),
        ("amp=none", "amp", "none"),
        ("pretrained=/data/ViT-B-16", "pretrained", "/data/ViT-B-16"),
        ("pretrained='2024'", "pretrained", "2024"),
        ('prompt=a photo of the number: "{}"', "prompt", 'a photo of the number: "{}"'),
        ("prompt={} = a thing [drawn]", "prompt", "{} = a thing [drawn]"),
    ],
)
def test_an_override_is_a_yaml_scalar(override, key, value):
    loaded = getattr(load(override), key)
    assert loaded == value and type(loaded) is type(value)


def test_the_last_override_wins():
    assert load("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("text", ["lr", "=3", "lr=", "", "lr 3"])
def test_a_malformed_override_says_what_one_looks_like(text):
    with pytest.raises(ConfigError, match="not of the form key=value, for example --set lr=3e-6"):
        load(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", "unknown key 'learning_rate'; available: amp, average_epochs"),
        ("epohcs=1", "unknown key 'epohcs'; did you mean 'epochs'$"),
        ("Train_Size=64", "unknown key 'Train_Size'; did you mean 'train_size'$"),
        ("lr=fast", "'lr' must be a number, found 'fast'"),
        ("flip=1", "'flip' must be true or false, found 1"),
        ("epochs=1.5", "'epochs' must be a whole number, found 1.5"),
        ("epochs=true", "'epochs' must be a whole number, found true"),
        ("seed=null", "'seed' must be a whole number, found nothing"),
        ("pretrained=2024", "'pretrained' must be text, found 2024"),
        ("amp=fp8", "'amp' must be one of none, bf16, fp16, found 'fp8'"),
        ("lr=.nan", "'lr' must be finite"),
        ("lr=-1", "'lr' must be above 0, found -1"),
        ("epochs=0", "'epochs' must be at least 1, found 0"),
        ("rst_density=0.01", "'rst_density' must be 0 unless rst is true, found 0.01"),
        ("holdout=1", r"'holdout' must be in \[0, 1\)"),
        ("pad=-1", "'pad' must be 0 or more"),
        ("prompt=a photo", r"'prompt' must be text with one \{\} for the class"),
        ("prompt='a", "the value in '--set prompt='a' is not readable"),
        ("seed=2020-13-45", "not readable"),
        ("lr=auto", "'lr' must be a number, found 'auto'"),
        ("iterations=0", "'iterations' must be at least 1, found 0"),
        ("seed=9223372036854775808", "'seed' must be below 2\\^63, found 9223372036854775808"),
        ("train_size=7", r"'train_size' must be in 8..4096, found 7"),
        ("train_size=4097", r"'train_size' must be in 8..4096, found 4097"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "dataset", "message"),
    [
        (
            "ekda",
            "office",
            "; did you mean 'office31'; available: demo-digits, demo-objects, domainnet",
        ),
        ("cmkd", "demo-digts", "; did you mean 'demo-digits'; available: demo-digits, d"),
        ("cmkd", "../cmkd/folder", "available: demo-digits"),
        ("../cmkd", "folder", "available: cmkd/demo-digits, .*cmkd/folder"),
    ],
)
def test_missing_settings_list_those_that_exist(method, dataset, message):
    with pytest.raises(ConfigError, match=rf"no settings for .*{message}"):
        load(method=method, dataset=dataset)


@pytest.mark.parametrize("name", methods.METHODS)
def test_fixmatch_goes_with_methods_that_have_its_settings_and_others_say_why_not(name):
    cls = methods.get(name).Config
    settings = ["fixmatch=0.5", "strong=mild"]
    able = [each for each in methods.METHODS if hasattr(methods.get(each).Config, "fixmatch")]
    assert {"cmkd", "source_only"} <= set(able)
    if name in able:
        assert resolve(cls, "folder", name, settings).config.fixmatch == 0.5
        return
    for given in ({"overrides": settings}, {"presets": ["fixmatch"]}):
        with pytest.raises(ConfigError) as caught:
            resolve(cls, "folder", name, **given)
        assert str(caught.value).startswith("fixmatch needs a task head that learns from weak")
        assert f"'{name}' " in str(caught.value)
        assert f"{cls.no_fixmatch}; choose --method {' or '.join(sorted(able))}" in str(
            caught.value
        )


@pytest.mark.parametrize(
    ("method", "key"),
    [("cmkd", "lambda1"), ("cmkd", "lambda2"), ("cmkd", "lambda3"), ("unimos", "alpha"),
     ("unimos", "beta"), ("unimos", "gamma"), ("ekda", "kd_weight"), ("cmkd", "fixmatch")],
)  # fmt: skip
def test_a_negative_loss_weight_is_refused(method, key):
    cls = methods.get(method).Config
    with pytest.raises(ConfigError, match=f"'{key}' must be 0 or more, found -1.0"):
        resolve(cls, "folder", method, [f"{key}=-1.0"])


@pytest.fixture
def own(tmp_path):
    (tmp_path / "m").mkdir()
    return tmp_path / "m" / "d.yaml"


@dataclass(frozen=True)
class Tiny(TaskHeadConfig):
    extra: int = 1


@pytest.mark.parametrize("text", ["", "# nothing\n", "lr: 1e-3\n"])
def test_a_file_names_only_what_differs(own, text):
    own.write_text(text)
    found = resolve(Tiny, "d", "m", folder=own.parent.parent)
    assert (found.config.extra, found.config.epochs) == (1, 20)
    assert (found.config.lr, found.sources["lr"]) == (
        (1e-3, "m/d.yaml") if text.startswith("lr") else (3e-6, "default")
    )


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "a: b: c\n", "\x00"])
def test_a_file_that_is_no_flat_yaml_is_refused(own, text):
    own.write_text(text)
    with pytest.raises(ConfigError, match=r"d\.yaml") as caught:
        resolve(Tiny, "d", "m", folder=own.parent.parent)
    assert "\n" not in str(caught.value)


@pytest.fixture
def sections(own):
    text = (FOLDER / "cmkd/demo-digits.yaml").read_text()
    own.write_text(
        text
        + "lr: 3e-4\n"
        + "tasks:\n  f-h: {lr: 2e-4, flip: true}\n"
        + "presets:\n  slow: {lr: 1e-4, epochs: 3}\n  short: {epochs: 2}\n"
    )

    def load(*overrides, **keywords):
        cls = methods.get("cmkd").Config
        return resolve(cls, "d", "m", overrides, own.parent.parent, **keywords).config

    return load


def test_the_values_of_a_task_overrule_the_file(sections):
    assert (sections().lr, sections().flip) == (3e-4, False)
    assert (sections(task="h-f").lr, sections(task="f-h").lr) == (3e-4, 2e-4)
    assert sections(task="f-h").flip


def test_presets_overrule_the_task_and_overrides_overrule_presets(sections):
    slow = sections(task="f-h", presets=["slow"])
    assert (slow.lr, slow.epochs, slow.flip) == (1e-4, 3, True)
    assert sections(presets=["slow", "short"]).epochs == 2
    assert sections(presets=["short", "slow"]).epochs == 3
    assert sections("epochs=9", presets=["slow", "short"]).epochs == 9


def test_an_unknown_preset_lists_those_of_the_file(sections):
    with pytest.raises(ConfigError, match="m/d have no preset 'rn50'; available: slow, short"):
        sections(presets=["rn50"])
    with pytest.raises(ConfigError, match="have no preset 'rn50'; available: none"):
        resolve(methods.get("cmkd").Config, "demo-digits", "cmkd", presets=["rn50"])


@pytest.mark.parametrize("text", ["presets: 3\n", "presets: [a]\n", "tasks:\n  f-h: 3\n"])
def test_a_malformed_section_says_what_one_looks_like(own, text):
    own.write_text((FOLDER / "cmkd/demo-digits.yaml").read_text() + text)
    with pytest.raises(ConfigError, match=r"must hold one 'name: \{key: value\}' per line"):
        resolve(methods.get("cmkd").Config, "d", "m", folder=own.parent.parent)


LAUGHS = "lr: [&a0 [x, x, x, x, x, x, x, x, x]" + "".join(
    f", &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: " + "[" * 5000, "cannot read the settings"),
        ("lr: " + "{a: " * 3000, "cannot read the settings"),
        ("lr: !!timestamp x", "cannot read the settings"),
        (f"{LAUGHS}]", "it holds more than 10000 values, aliases expanded"),
        ("lr: &a [*a]", "it holds more than 10000 values, aliases expanded"),
        ("extends: &a [*a]", "it holds more than 10000 values, aliases expanded"),
        ("".join(f"k{n}:\n" for n in range(5000)), "it holds more than 10000 values"),
        (r'lr: "\ud800"', r"'\\ud800' .*surrogates not allowed"),
        (r'"\ud800": 1', r"'\\ud800' .*surrogates not allowed"),
        (f"lr: {'x' * 70_000}", "larger than the 65536 bytes"),
        ("lr: !!int ''", r"a value does not fit its tag \(IndexError\)"),
        ("lr: !!bool x", r"a value does not fit its tag \(KeyError\)"),
        (f"lr: {'1:' * 3000}1.5", r"a value does not fit its tag \(OverflowError\)"),
        (f"lr: 0x{'f' * 5000}", "a whole number has 5002 characters"),
        (f"extends: 0x{'f' * 5000}", "a whole number has 5002 characters"),
        (f"? {'1:' * 3000}1\n: 1", "a whole number has 6001 characters"),
        ("lr: 1e-3\nlr: 2e-3", "'lr' stands there twice .*line 2"),
        ("tasks: {a-b: {lr: 1}, a-b: {lr: 2}}", "'a-b' stands there twice"),
        (f"? {'k' * 9999}\n: 1", "unknown key 'k{80}'"),
    ],
)
def test_an_odd_settings_file_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "m" / "d.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(TaskHeadConfig, "d", "m", folder=tmp_path)
    assert len(str(caught.value)) < 1200


def test_a_merged_mapping_may_be_overruled(tmp_path):
    path = tmp_path / "m" / "d.yaml"
    path.parent.mkdir()
    path.write_text("tasks:\n  a-b: &one {lr: 1e-3, seed: 1}\n  a-c: {<<: *one, seed: 2}\n")
    found = resolve(TaskHeadConfig, "d", "m", folder=tmp_path, task="a-c").config
    assert (found.lr, found.seed) == (1e-3, 2)


@pytest.mark.parametrize(
    "text",
    ['pretrained="\\ud800"', "prompt={}\udcff", "prompt='['" + ": [" * 3000, "seed=" + "9" * 5000],
)
def test_an_odd_override_is_one_clear_line(text):
    with pytest.raises(ConfigError, match="'--set |--set ") as caught:
        load(text)
    str(caught.value).encode()
    assert len(str(caught.value)) < 700
