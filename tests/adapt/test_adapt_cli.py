"""`uda-adapt` as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.metrics import Digests, Last, Metrics, OracleBest, Selected
from adapt.artifacts.reproduce import export_command
from adapt.cli import main
from adapt.clip import demo_weights as demo
from adapt.commands.run_tables import epochs_table
from adapt.evaluation.verdict import verdict
from export.cli import main as exporting
from runtime.cli import main as running
from runtime.models import TaskInfo
from tests.adapt.conftest import draw

QUICK = (
    "model=demo-rn32 pretrained=demo batch_size=8 epochs=1 iterations=3 train_size=36 "
    "head_lr_multiplier=10.0 lr=1e-3 rst_threshold=1e-4"
).split()


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def own_images(images: Path, *more: object) -> tuple[object, ...]:
    return ("--data", images, "--source", "day", "--target", "night", "--threads", 1, *more)


def quick(*settings: str) -> list[str]:
    return [word for setting in (*QUICK, *settings) for word in ("--set", setting)]


@pytest.fixture
def trained(images: Path, cache: Path, tmp_path: Path) -> Path:
    """A folder with one artifact of CMKD under RST."""
    out = tmp_path / "artifacts"
    result = call("train", *own_images(images, "--rst", "--artifacts", out), *quick())
    assert result.exit_code == 0, result.output
    return out


def test_train_ends_with_a_readable_summary(images: Path, cache: Path, tmp_path: Path) -> None:
    result = call(
        "train", *own_images(images, "--rst", "--seed", 4, "--artifacts", tmp_path), *quick()
    )
    assert result.exit_code == 0
    assert "epoch 1: accuracy" in result.stderr and "━" not in result.stderr  # not a terminal
    summary, baselines, following = result.stdout.split("\n\n")
    assert following == (
        f"next       uda-export onnx --task day-night=cmkd-rst --artifacts {tmp_path} "
        "--out day-night.bundle\n"
    )
    lines = summary.splitlines()[-4:]
    assert [line[:11].strip() for line in lines] == ["accuracy", "", "density", "artifact"]
    assert "% last epoch" in lines[0] and "% oracle-best (epoch 1)" in lines[0]
    assert "the same 27 target images it was adapted to" in lines[1]
    path = tmp_path / "street" / "day-night" / "cmkd-rst" / "artifact.safetensors"
    assert str(path) in lines[3] and path.exists()
    *table, verdict = baselines.splitlines()
    names = [line.split()[0] for line in table[2:]]
    assert names == ["zero_shot", "linear_probe", "cmkd-rst"]
    assert verdict.startswith(("better than its baselines", "NOT better than"))
    assert [p.name for p in path.parent.parent.iterdir()] == ["cmkd-rst"]  # baselines leave nothing
    assert ("--set fixmatch=0.5" in verdict) == verdict.startswith("NOT")
    words = ("--rst", "--seed", 5, "--artifacts", tmp_path / "x", "--no-baselines")
    assert "zero_shot" not in call("train", *own_images(images, *words), *quick()).stdout


def test_a_linear_probe_is_compared_with_zero_shot_too(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    words = ("--method", "linear_probe", "--artifacts", tmp_path)
    own = [word for setting in QUICK[:4] for word in ("--set", setting)]
    result = call("train", *own_images(images, *words), *own)
    *table, verdict = result.stdout.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in table[2:]] == ["zero_shot", "linear_probe"]
    assert verdict.startswith(("better than its baselines", "NOT better than zero_shot"))


def test_show_settings_with_rst_says_what_both_ends_of_the_budget_give() -> None:
    with_rst = call("train", "--show-settings", "--rst").stdout
    assert "61.2% accuracy in a file of 97 kB, 0.5% reached 60.2% in 43 kB" in with_rst
    assert "kB" not in call("train", "--show-settings").stdout
    assert "60.2% in 43 kB" in " ".join(call("train", "--help").stdout.split())


def test_eval_compares_zero_shot_with_every_variant(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    words = own_images(images, "--method", "source_only", "--artifacts", trained)
    call("train", *words, *quick("epochs=3", "select=infomax"))
    file, folder = tmp_path / "out.json", tmp_path / "confusion"
    words = own_images(images, "--artifacts", trained, "--json", file, "--confusion", folder)
    result = call("eval", *words, "--method", "cmkd-rst")
    assert result.exit_code == 0, result.output
    table, _, classes = result.stdout.partition("cmkd-rst:")
    rows = [line.split() for line in table.splitlines()[4:8]]
    assert rows.pop(1)[0] == "linear_probe"
    assert [row[:4] for row in (rows[0], rows[2])] == [
        ["zero_shot", "demo-rn32", "-", "-"], ["cmkd-rst", "demo-rn32", "1", "infomax"],
    ]  # fmt: skip
    assert rows[1][0] == "source_only" and rows[1][3] == "infomax"
    assert [line.split()[0] for line in classes.splitlines()[4:7]] == ["bee", "cup", "dog"]
    document = json.loads(file.read_text())
    lines = document["variants"]
    assert lines.pop(1)["variant"] == "linear_probe"
    assert [v["variant"] for v in lines] == [row[0] for row in rows]
    assert lines[0]["density"] == 0 < lines[2]["density"] < 1
    assert document["held_out"] is False
    path = trained / "street" / "day-night" / "source_only" / "artifact.safetensors"
    metrics = Artifact.load(path).metrics
    chosen = metrics["selected"]
    assert (lines[1]["epoch"], lines[1]["accuracy"]) == (chosen["epoch"], chosen["accuracy"])
    assert lines[1]["last"] == metrics["last"]["accuracy"]
    best = metrics["oracle_best"]["mean_per_class"]
    assert lines[1]["oracle_best_mean_per_class"] == best
    for line in lines:
        found = json.loads((folder / line["variant"] / "confusion.json").read_text())
        assert found["accuracy"] == line["accuracy"]
        assert found["mean_per_class"] == line["mean_per_class"]
        assert sum(map(sum, found["counts"])) == line["images"] == 27
        assert (folder / line["variant"] / "confusion.png").stat().st_size > 1000


def test_the_confusion_of_an_unlabelled_target_is_none_for_a_reason(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    words = ("--data", images, "--source", "day", "--target", "fog", "--threads", 1)
    assert call("train", *words, "--artifacts", trained, *quick()).exit_code == 0
    result = call("eval", *words, "--artifacts", trained, "--confusion", tmp_path / "folder")
    assert result.exit_code == 0, result.output
    assert "confusion  none: a confusion matrix needs labels; sort a few" in result.stdout
    assert not (tmp_path / "folder").exists()


def test_train_starts_with_its_budget_and_says_that_one_domain_is_supervised(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    words = ("--data", images, "--source", "day", "--target", "day", "--threads", 1)
    result = call("train", *words, "--density", "0.1", "--artifacts", tmp_path, *quick())
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[:2]
    assert first == (
        "run        cmkd-rst-d0.1 on street day-day, seed 0, at most 10 % of the encoder's "
        "weights will change"
    )
    assert second.startswith(
        "supervised source and target are the same domain: training on its labels"
    )
    within = " of those within the budget), mean"
    assert re.search(rf"% oracle-best \(epoch \d+{re.escape(within)}", result.stdout)
    plain = call("train", *own_images(images, "--artifacts", tmp_path), *quick())
    assert plain.stdout.startswith("run        cmkd on street day-night, seed 0\nimages     source")
    assert within not in plain.stdout


def test_eval_of_a_variant_that_is_not_there_says_which_are(trained: Path, images: Path) -> None:
    words = own_images(images, "--artifacts", trained, "--method", "ekda")
    result = call("eval", *words)
    assert result.exit_code == 1
    assert "was not trained with 'ekda'; available: cmkd-rst" in result.stderr


def test_eval_finds_moved_weights_with_pretrained(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    here, moved = tmp_path / "here.safetensors", tmp_path / "moved.safetensors"
    state = demo.load_state_dict("demo-rn32")
    save_file(state, here)
    words = own_images(images, "--artifacts", tmp_path)
    assert call("train", *words, *quick(f"pretrained={here}")).exit_code == 0
    here.rename(moved)
    words = own_images(images, "--artifacts", tmp_path)
    lost = call("eval", *words)
    assert lost.exit_code == 1 and "not found; pass an existing one" in lost.stderr
    found = call("eval", *words, "--pretrained", moved)
    assert found.exit_code == 0 and "cmkd" in found.stdout, found.output
    state["visual.conv1.weight"] += 1
    save_file(state, moved)
    other = call("eval", *words, "--pretrained", moved)
    assert other.exit_code == 1 and "pass the right ones with --pretrained FILE" in other.stderr


def test_train_ends_with_the_number_of_unreadable_images(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "street"
    draw(root, "day", 60, count=34)
    draw(root, "night", 10, count=34)
    (root / "day" / "cup" / "cup3.png").write_bytes(b"no image")
    result = call("train", *own_images(root, "--artifacts", tmp_path), *quick())
    assert result.exit_code == 0, result.output
    log = tmp_path / "street" / "day-night" / "cmkd" / "train.log"
    assert f"skipped    1 unreadable image, see '{log}'" in result.stdout
    assert "1 of 102 images of 'day' cannot be read" in log.read_text()
    assert "cup3.png" in log.read_text()


def test_eval_without_artifacts_shows_zero_shot(tmp_path: Path) -> None:
    result = call("eval", "--dataset", "demo-digits", "--task", "f-h", "--artifacts", tmp_path)
    assert result.exit_code == 0, result.output
    *_, zero_shot, probe, _, calibrated = result.stdout.splitlines()
    assert [line.split()[0] for line in (zero_shot, probe)] == ["zero_shot", "linear_probe"]
    assert calibrated == "scores     uncalibrated"
    assert "797 held-out target images" in result.stdout


def test_eval_of_an_unknown_task_says_what_there_is(trained: Path) -> None:
    result = call("eval", "--task", "x-y", "--artifacts", trained)
    assert result.exit_code == 1
    assert "street/day-night" in result.stderr and "uda-adapt train" in result.stderr


def test_eval_of_own_images_that_nobody_trained_on_fetches_nothing(
    trained: Path, images: Path
) -> None:
    swapped = ("--data", images, "--source", "night", "--target", "day")
    result = call("eval", *swapped, "--artifacts", trained)
    assert result.exit_code == 1
    assert "night-day" in result.stderr and "street/day-night" in result.stderr


def test_inspect_prints_what_an_artifact_is(trained: Path) -> None:
    result = call("inspect", trained / "street" / "day-night" / "cmkd-rst" / "artifact.safetensors")
    assert result.exit_code == 0, result.output
    assert call("inspect", trained / "street" / "day-night" / "cmkd-rst").output == result.output
    assert "street day-night: day -> night" in result.stdout
    above = call("inspect", trained / "street")
    assert above.exit_code == 1
    assert f"pass one below it: '{trained / 'street' / 'day-night' / 'cmkd-rst'}'" in (above.stderr)
    assert re.search(r"^rst +true +command line$", result.stdout, re.M)
    assert re.search(r"^batch_size +8 +command line$", result.stdout, re.M)
    assert re.search(r"^momentum +0.9 +default$", result.stdout, re.M)
    assert re.search(r"^rst_density +\S+ +data$", result.stdout, re.M)
    assert "\nclasses   3: bee, cup, dog\n" in result.stdout
    for role, domain in (("source", "day"), ("target", "night")):
        assert re.search(rf"^{role} +{domain} +27 +9 / 9 / 9$", result.stdout, re.M)
    assert "\nleft out: nothing\n" in result.stdout
    assert "demo-rn32/demo" in result.stdout and "oracle-best" in result.stdout


def test_inspect_shows_the_losses_of_every_epoch_or_says_why_not(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    words = own_images(images, "--artifacts", tmp_path, "--no-baselines")
    assert call("train", *words, *quick("epochs=3", "iterations=2")).exit_code == 0
    folder = tmp_path / "street" / "day-night" / "cmkd"
    history = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    shown = [line.split() for line in call("inspect", folder).stdout.splitlines()]
    start = next(n for n, words in enumerate(shown) if words[:3] == ["epoch", "loss", "source"])
    for row, cells in zip(rows, shown[start + 2 :], strict=True):
        losses = [f"{value:.4f}" for value in row["losses"].values()]
        assert cells[: 2 + len(losses)] == [
            *(str(row["epoch"]), *losses, f"{row['accuracy']:.2f}"),
        ]
    saved = Artifact.load(folder / "artifact.safetensors").metrics["selected"]["epoch"]
    assert [w[0] for w in shown[start + 2 :] if "saved" in " ".join(w)] == [str(saved)]
    history.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    assert f"losses    unknown: the history in '{folder}' is of" in call("inspect", folder).stdout
    history.write_text("{}\n")
    assert f"losses    unknown: '{history}' is damaged: row 0" in call("inspect", folder).stdout
    history.unlink()
    alone = call("inspect", folder)
    assert alone.exit_code == 0 and f"unknown: cannot read '{history}'" in alone.stdout


def test_a_long_history_is_thinned_but_for_the_epochs_that_matter() -> None:
    numbers = {"losses": {"source": 1.0}, "accuracy": 50.0, "density": 0.0}
    history = [{"epoch": number, **numbers} for number in range(1, 1001)]
    digests = Digests(*("0" * 64,) * 3)
    known = (77, 50.0, 50.0, {"a": 50.0})
    metrics = Metrics(
        Last(1000, *known[1:]), OracleBest(13, 50.0), 0.0, True, 9, digests,
        Selected("infomax", *known),
    )  # fmt: skip
    lines = epochs_table(history, metrics).splitlines()
    marked = {line.split()[-1]: line.split()[0] for line in lines[2:-1]}
    assert marked["saved"] == "77" and marked["oracle-best"] == "13"
    assert lines[-2].split()[0] == "1000" and len(lines) < 50
    assert lines[-1] == f"{1000 - (len(lines) - 3)} epochs between these left out"


def test_what_does_not_train_says_so_and_has_no_losses(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    words = ("--method", "zero_shot", "--artifacts", tmp_path)
    result = call("train", *own_images(images, *words), *quick()[: 2 * 2])
    assert result.exit_code == 0, result.output
    assert "on 27 target images\n" in result.stdout and "adapted" not in result.stdout
    assert re.search(r"epoch 0: accuracy [0-9.]+ %, [0-9.]+ s\n", result.stderr)


def test_resume_without_a_run_says_that_a_new_one_starts(trained: Path, images: Path) -> None:
    words = own_images(images, "--rst", "--resume", "--no-baselines", "--artifacts")
    assert "resume  " not in call("train", *words, trained, *quick()).stdout
    started = call("train", *words, trained.with_name("other"), *quick())
    assert started.exit_code == 0 and "day-night/cmkd-rst'; a new run starts\n" in started.stdout
    assert re.search(r"\d+ (short )?steps.*: about \d+ s on this cpu\n", started.stderr)


def test_fixmatch_is_advised_only_where_it_can_be_set() -> None:
    lines = [
        SimpleNamespace(variant=name, accuracy=value, infomax=0.0)
        for name, value in (("zero_shot", 10.0), ("linear_probe", 48.0), ("run", 44.0))
    ]
    for settings, advised in (({}, False), ({"fixmatch": 0.0}, True), ({"fixmatch": 0.5}, False)):
        said = verdict(lines, "run", settings)
        assert said.startswith("NOT better than linear_probe (44.00 % against 48.00 %)")
        assert ("--set fixmatch=0.5" in said) == advised


def test_variants_that_are_never_right_are_compared_too() -> None:
    lines = [
        SimpleNamespace(variant=name, accuracy=0.0, infomax=0.5) for name in ("zero_shot", "run")
    ]
    said = verdict(lines, "run", {})
    assert said.startswith("NOT better than zero_shot (0.00 % against 0.00 %) by accuracy")


def test_a_users_error_is_one_line_and_exit_code_one(images: Path, cache: Path) -> None:
    result = call("train", *own_images(images), "--set", "learning_rate=1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "unknown key 'learning_rate'" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--dataset", "demo-digts", "--task", "f-h"], 1, "'demo-digts'; did you mean 'demo-di"),
        (["--method", "cmdk"], 2, "'zero_shot'; did you mean 'cmkd'"),
        (["--density", "abc"], 2, "--density must be a share of the encoder's weights"),
        (["--density", "0"], 2, "above 0 % and up to 100 %"),
        (["--density", "1%", "--no-rst"], 2, "leave out --no-rst"),
    ],
)
def test_a_mistyped_name_or_share_says_what_was_meant(
    images: Path, words: list[str], code: int, line: str
) -> None:
    given = words if "--dataset" in words else own_images(images, *words)
    result = call("train", *given)
    assert result.exit_code == code and line in result.stderr
    assert "no-rst" not in result.stderr or "--no-rst" in words


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "--dataset", "demo-digits"],
        ["train", "--dataset", "demo-digits", "--task", "f-h", "--source", "x"],
        ["train", "--dataset", "demo-digits", "--task", "f-h", "--resume", "--restart"],
        ["train", "--dataset", "demo-digits", "--task", "f-h", "--method", "dann"],
    ],
)
def test_wrong_usage_exits_with_two(words: list[str]) -> None:
    result = call(*words)
    assert result.exit_code == 2 and "Usage:" in result.stderr


def test_options_win_over_set(images: Path, cache: Path, tmp_path: Path) -> None:
    words = own_images(images, "--artifacts", tmp_path, "--seed", 7)
    result = call("train", *words, *quick("seed=3", "rst=true"), "--no-rst")
    assert result.exit_code == 0, result.output
    path = tmp_path / "street" / "day-night" / "cmkd" / "artifact.safetensors"
    assert "seed 7" in call("inspect", path).stdout


def test_a_setting_typed_as_an_option_says_how_to_set_it() -> None:
    result = call("train", "--head-lr-multiplier", "3")
    assert result.exit_code == 2 and "pass --set head_lr_multiplier=VALUE" in result.stderr
    assert "--set" not in call("train", "--nothing", "3").stderr


def test_a_renamed_option_is_refused_with_its_new_name() -> None:
    for words in (("--out", "a"), ("--out=a",)):
        result = call("train", *words)
        assert result.exit_code == 2
        assert "'--out' is now called '--artifacts'; pass --artifacts instead" in result.stderr


def test_the_command_that_train_proposes_names_its_task_whatever_else_there_is(
    tmp_path: Path,
) -> None:
    odd = tmp_path / "my runs\n\x1b[2J"
    fixed, place = r"uda-export onnx --task a-b=cmkd", r"/my runs\012\033[2J' --out a-b.bundle"
    for dataset, more in (("street", ""), ("shop", " --dataset shop")):
        path = odd / dataset / "a-b" / "cmkd" / "artifact.safetensors"
        path.parent.mkdir(parents=True)
        path.touch()
        shown = export_command(TaskInfo("a-b", dataset, "a", "b", ("x", "y")), "cmkd", odd)
        assert shown == f"{fixed}{more} --artifacts $'{tmp_path}{place}"


@pytest.mark.parametrize("group", [main, exporting, running])
def test_no_summary_of_a_command_is_cut_off(group: click.Group) -> None:
    shown = CliRunner().invoke(group, ["--help"]).stdout
    assert "..." not in shown.partition("Commands:")[2]
