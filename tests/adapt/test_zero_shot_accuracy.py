"""Zero-shot CLIP has one accuracy on one set of images, whichever command and method print it."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from adapt.cli import main

MODEL = ("model=demo-vit32", "pretrained=demo")
QUICK = ("batch_size=4", "epochs=1", "iterations=1", "select=last")
TEACHER = ("teacher=demo-vit32-wide", "teacher_pretrained=demo", "templates=prompt")
CLASSES = ("circle", "ladder", "star")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Office-31 of three classes: long pictures, of which squashing shows more than cropping."""
    root = tmp_path_factory.mktemp("zero_shot") / "office31"
    draws = np.random.default_rng(0)
    for domain in ("amazon", "dslr", "webcam"):
        for name in CLASSES:
            (root / domain / name).mkdir(parents=True)
            for number in range(30):
                pixels = draws.integers(0, 256, (4, 9, 3)).astype(np.uint8)
                picture = Image.fromarray(pixels).resize((90, 40))
                picture.save(root / domain / name / f"{number}.png")
    return root


def call(*words, settings=()):
    pairs = [part for setting in settings for part in ("--set", setting)]
    done = CliRunner().invoke(main, [*map(str, words), *pairs], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def of_table(done):
    """Return the accuracy in the table's line of zero-shot CLIP."""
    return float(re.search(r"^zero_shot .*?(\d+\.\d\d) / ", done.output, re.MULTILINE)[1])


def of_run(done):
    return float(re.search(r"(\d+\.\d\d) %", done.output)[1])


def evaluated(out, *images):
    call("eval", *images, "--artifacts", out, "--json", out / "eval.json")
    lines = json.loads((out / "eval.json").read_text())["variants"]
    return round(next(line["accuracy"] for line in lines if line["variant"] == "zero_shot"), 2)


@pytest.mark.parametrize("method", ["cmkd", "unimos", "ekda"])
def test_train_and_eval_of_own_images_agree(method, root, tmp_path, uda_cache):
    images = ("--data", root, "--source", "amazon", "--target", "webcam")
    done = call("train", *images, "--method", "zero_shot", "--artifacts", tmp_path, settings=MODEL)
    found = {of_run(done)}
    out = tmp_path / method
    settings = (*MODEL, *QUICK)
    found.add(
        of_table(call("train", *images, "--method", method, "--artifacts", out, settings=settings))
    )
    found.add(evaluated(out, *images))
    assert len(found) == 1


@pytest.mark.parametrize("method", ["cmkd", "ekda"])
def test_train_eval_and_sweep_of_a_papers_data_set_agree(method, root, tmp_path, uda_cache):
    images = ("--dataset", "office31", "--data", root)
    swept = call(
        "sweep", *images, "--method", "zero_shot", "--tasks", "a-w", "--seeds", 0,
        "--out", tmp_path / "sweep", settings=MODEL,
    )  # fmt: skip
    found, task, out = {of_run(swept)}, (*images, "--task", "a-w"), tmp_path / method
    settings = (*MODEL, *QUICK, "train_size=36", *(TEACHER if method == "ekda" else ()))
    found.add(
        of_table(call("train", *task, "--method", method, "--artifacts", out, settings=settings))
    )
    found.add(evaluated(out, *task))
    assert len(found) == 1


def test_a_prompt_that_is_named_is_zero_shots_too(root, tmp_path, uda_cache):
    images = ("--data", root, "--source", "amazon", "--target", "webcam")
    own = (*MODEL, "prompt={}", "resize=crop")
    alone = call("train", *images, "--method", "zero_shot", "--artifacts", tmp_path, settings=own)
    out = tmp_path / "cmkd"
    done = call("train", *images, "--method", "cmkd", "--artifacts", out, settings=(*own, *QUICK))
    default = call(
        "train", *images, "--method", "zero_shot", "--artifacts", out / "x", settings=MODEL
    )
    assert of_run(alone) == of_table(done) == evaluated(out, *images) != of_run(default)
