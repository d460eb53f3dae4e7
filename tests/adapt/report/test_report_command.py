"""`uda-adapt report`, `train --report` and `eval --report`, as a user types them."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import shutil
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from adapt.artifacts.artifact import Artifact
from adapt.cli import main
from adapt.report.finished import write_finished
from tests.adapt.conftest import draw

SETTINGS = (
    "model=demo-rn32 pretrained=demo batch_size=8 epochs=3 iterations=3 train_size=36 "
    "head_lr_multiplier=10.0 lr=1e-3 rst_threshold=1e-4"
).split()


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def text_of(page: Path) -> str:
    """Return what a reader sees of a page, without tags and pictures."""
    body = page.read_text().partition("<body>")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, uda_cache: Path) -> Path:
    """Images in `street`; a run of CMKD and one of source-only in `artifacts`, with a page."""
    here = tmp_path_factory.mktemp("made")
    for domain, tint in (("day", 60), ("night", 10)):
        draw(here / "street", domain, tint, count=4)
    draw(here / "street", "fog", 20, labelled=False, count=4)
    own = [word for setting in SETTINGS for word in ("--set", setting)]
    for target, method, *more in (
        ("night", "cmkd", "--rst", "--report"),
        ("night", "source_only", "--no-baselines"),
        ("fog", "zero_shot"),
    ):
        settings = own[:4] if method == "zero_shot" else own
        done = call(
            "train", "--data", here / "street", "--source", "day", "--target", target,
            "--method", method, *more, *settings, "--artifacts", here / "artifacts",
            "--threads", 1,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    return here


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    """A copy to be changed, whose artifacts name its own images."""
    shutil.copytree(made / "artifacts", tmp_path / "artifacts")
    return tmp_path


def test_train_leaves_a_page_beside_the_artifact(made: Path) -> None:
    page = made / "artifacts" / "street" / "day-night" / "cmkd-rst" / "report.html"
    found, source = text_of(page), page.read_text()
    for title in ("Images", "Epochs", "Confusion", "Classes", "Settings", "Commands"):
        assert f"<h3>{title}</h3>" in source or f"<h4>{title}</h4>" in source
    assert "The least confident predictions" in found and "source: day: 4 images" in found
    for name in ("zero_shot", "linear_probe", "cmkd-rst"):
        assert name in found
    names = re.findall(r"<figcaption><b>([^<]+)</b>", source)
    assert names[:6] == [
        "accuracy, %", "encoder changed, %", "score: entropy", "score: infomax", "score: snd",
        "score: nuclear",
    ]  # fmt: skip
    assert {"loss: source", "loss: task", "loss: distill", "loss: reg"} <= set(names)
    assert "oracle-best: " in found and "chosen: " in found
    assert "rst_threshold 0.0001 command line" in found
    assert f"uda-adapt train --data {made / 'street'} --source day --target night" in found
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', source)
    assert len(pictures) >= 24 + 12  # samples, and every test image among the least confident
    assert {Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures} == {(24, 24)}


def test_the_figures_of_a_page_are_those_of_eval(made: Path, tmp_path: Path) -> None:
    words = ("--data", made / "street", "--source", "day", "--target", "night")
    page, file = tmp_path / "a.html", tmp_path / "a.json"
    done = call(
        "eval", *words, "--artifacts", made / "artifacts", "--json", file, "--report", page,
        "--threads", 1,
    )  # fmt: skip
    assert done.exit_code == 0 and done.stdout.endswith(f"report     {page}\n"), done.output
    found = text_of(page)
    for line in json.loads(file.read_text())["variants"]:
        row = f"{line['variant']} {line['accuracy']:.2f} {line['mean_per_class']:.2f} "
        assert row in found
        if line["survival"]:
            kept = line["survival"]
            assert f"{100 * kept['fp16']:.1f}, {100 * kept['bf16']:.1f}" in found
    assert "Measured now." in found
    counts = re.findall(r'<td class="[^"]*" style="--s: [^"]*"[^>]*>(\d*)</td>', page.read_text())
    assert sum(int(count or 0) for count in counts) == 2 * 12  # two runs of 12 test images


def test_a_report_of_all_artifacts_reuses_what_was_evaluated(
    made: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    first = call("report", "--threads", 1)
    assert first.exit_code == 0, first.output
    assert first.stdout == "report     report.html: 3 artifacts of 2 tasks\n"
    assert "The test images have no labels." in text_of(Path("report.html"))
    source = Path("report.html").read_text()
    links = re.findall(r'href="#([^"]+)"', source)
    assert links and all(f'id="{anchor}"' in source for anchor in links)
    fog = Path("artifacts/street/day-fog/zero_shot/artifact.safetensors")
    again = call("report", fog, "--out", "again.html", "--title", "A <title>", "--no-images")
    assert again.exit_code == 0
    found, source = text_of(Path("again.html")), Path("again.html").read_text()
    assert "<h1>A &lt;title&gt;</h1>" in source and "1 task, 1 artifact." in found
    assert "Measured in an earlier evaluation." in found
    assert "The most confident predictions" in found and "source_only" not in found
    assert "data:image" not in source and "<img" not in source  # --no-images
    assert "fog/bee0.png" in source and "Images are left out, as --no-images asks" in found


def test_images_that_are_gone_leave_a_page_that_says_so(
    made: Path, tmp_path: Path, uda_cache: Path
) -> None:
    shutil.copytree(made / "street", tmp_path / "street")
    words = ("--data", tmp_path / "street", "--source", "day", "--target", "night")
    own = [word for setting in SETTINGS[:2] for word in ("--set", setting)]
    out = tmp_path / "out"
    done = call(
        "train", *words, "--method", "zero_shot", *own, "--artifacts", out, "--no-baselines"
    )
    assert done.exit_code == 0, done.output
    shutil.move(tmp_path / "street", tmp_path / "moved")
    page = tmp_path / "x.html"
    done = call("report", out, "--out", page)
    gone = f"are no longer in '{tmp_path / 'street'}'; pass the folder where they are now with"
    assert done.exit_code == 0 and done.stderr.count("\n") == 1 and gone in done.stderr
    assert gone in text_of(page) and "Measured in training." in text_of(page)
    assert "source day 12, target night 12" in text_of(page) and "bee" in text_of(page)
    done = call("report", out, "--out", page, "--data", tmp_path / "moved")
    assert done.exit_code == 0 and not done.stderr and "source: day: 4 images" in text_of(page)


def test_a_damaged_artifact_is_left_out_by_name_and_the_others_are_reported(
    world: Path, tmp_path: Path
) -> None:
    path = world / "artifacts" / "street" / "day-night" / "source_only" / "artifact.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    page = tmp_path / "x.html"
    done = call("report", path.parents[1], "--out", page)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"error: 1 of 2 artifacts cannot be read, the first: '{path}'" in done.stderr
    assert "1 artifact of 1 task" in done.stdout and f"'{path}'" in text_of(page)
    done = call("report", path, "--out", tmp_path / "y.html")
    assert done.exit_code == 1 and f"error: '{path}'" in done.stderr
    assert not (tmp_path / "y.html").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"{}\n", "row 0 of the finished epochs lacks"),
        (b"[1]\n", "expected a mapping, found list"),
        (b'{"epoch": 1\x1b[2J', "is damaged"),
    ],
)
def test_a_history_that_is_lost_costs_the_curves_alone(
    content: bytes | None, reason: str, world: Path, tmp_path: Path
) -> None:
    folder = world / "artifacts" / "street" / "day-night" / "cmkd-rst"
    (folder / "metrics.jsonl").unlink()
    if content is not None:
        (folder / "metrics.jsonl").write_bytes(content)
    page = tmp_path / "x.html"
    write_finished(page, [folder / "artifact.safetensors"], evaluate=False)
    found = text_of(page)
    assert "no curves: " in found and reason in found and "\x1b" not in page.read_text()
    assert "recall, %" in found and '<figure class="curve">' not in page.read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], 1, "'nowhere' does not exist; pass what `uda-adapt train` wrote"),
        ([], 1, "'artifacts' does not exist; pass what `uda-adapt train` wrote"),
        (["empty"], 1, "'empty' and its subfolders have no artifact.safetensors"),
        (["file"], 1, "'file'"),
        (["pipe"], 1, "'pipe'"),
        (["empty", "--out", "page"], 2, "--out must end in .html, found 'page'; pass --out page."),
        (["empty", "--out", "x.html"], 1, "'x.html' is a folder, expected a file"),
        (["empty", "--pretrained", "no.pt"], 1, "empty"),
    ],
)
def test_what_cannot_be_reported_is_one_clear_line(
    words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("x.html").mkdir()
    Path("file").write_bytes(b"x" * 100)
    os.mkfifo("pipe")
    done = call("report", *words)
    assert done.exit_code == code and message in done.stderr, done.output
    assert not Path("report.html").exists()
    assert code == 2 or done.stderr.count("\n") == 1


def test_eval_says_where_confusion_matrices_go_now(made: Path) -> None:
    words = ("--data", made / "street", "--source", "day", "--target", "night")
    done = call("eval", *words, "--report", "folder")
    assert done.exit_code == 2
    assert "--report must end in .html, found 'folder'; pass --report folder.html" in done.stderr
    assert "pass --confusion DIR" in " ".join(done.stderr.split())


@pytest.mark.parametrize("variant", ["cmkd-rst", "source_only"])
def test_the_command_on_a_page_resolves_to_the_same_settings(
    variant: str, made: Path, tmp_path: Path
) -> None:
    folder = made / "artifacts" / "street" / "day-night" / variant
    page = tmp_path / "x.html"
    write_finished(page, [folder / "artifact.safetensors"], evaluate=False)
    commands = unescape(re.findall(r'<pre class="wrap">(.*?)</pre>', page.read_text(), re.S)[0])
    train, evaluate, export = commands.strip().splitlines()
    program, *words = shlex.split(train)
    assert program == "uda-adapt"
    shown = call(*words, "--show-settings").stdout.splitlines()[2:]
    values = {line.split()[0]: line for line in shown if line}
    for key, value in Artifact.load(folder / "artifact.safetensors").config.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert text in values[key], key
    assert shlex.split(evaluate)[:2] == ["uda-adapt", "eval"]
    assert shlex.split(export)[:4] == ["uda-export", "onnx", "--task", f"day-night={variant}"]


def test_runs_of_one_variant_are_told_apart_and_share_the_baselines(
    made: Path, world: Path, tmp_path: Path
) -> None:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    images = ("--data", made / "street", "--source", "day", "--target", "night", "--threads", 1)
    for seed, method in ((3, "cmkd"), (3, "linear_probe")):
        own = settings if method == "cmkd" else settings[:6]
        done = call(
            "train", *images, "--method", method, *(["--rst"] * (method == "cmkd")), *own,
            "--seed", seed, "--artifacts", tmp_path / "other", "--no-baselines",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    page = tmp_path / "x.html"
    task = world / "artifacts" / "street" / "day-night" / "cmkd-rst"
    shutil.copytree(task, tmp_path / "copy")
    paths = (task, tmp_path / "copy", tmp_path / "other")
    assert call("report", *paths, "--out", page, "--no-images").exit_code == 0
    found = page.read_text()
    titles = re.findall(r"<h3[^>]*>([^<]*)</h3>", found)
    own = [f"cmkd-rst, seed 0, {folder}" for folder in sorted((str(task), str(tmp_path / "copy")))]
    assert titles == ["Images", "linear_probe", *own, "cmkd-rst, seed 3"]
    rows = re.findall(r'<tr(?: class="best")?><th>(?:<a[^>]*>)?([^<]*)', found)
    assert rows[1:6] == ["zero_shot", "linear_probe", *own, "cmkd-rst, seed 3"]
    verdicts = re.findall(r'<p class="lead">([^<]*)</p>', found)
    assert len(verdicts) == 3 and all("better than" in text for text in verdicts)
    assert not any("better than cmkd" in text for text in verdicts)
