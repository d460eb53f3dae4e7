"""Results in files: whole rows whatever happens, and pictures that overwrite nothing."""

import csv
import json
import os
import resource
import signal

import numpy as np
import pytest
from PIL import Image

from runtime import outputs
from runtime.errors import ConfigError, DataError, StorageError
from runtime.outputs.accuracy import Accuracy
from runtime.outputs.annotated import Annotated
from runtime.outputs.base import Result
from runtime.outputs.csv_file import CsvFile
from runtime.outputs.drawing import annotate
from runtime.outputs.json_file import JsonFile
from runtime.outputs.jsonl_file import JsonlFile
from runtime.outputs.targets import check_targets
from runtime.prediction import Prediction
from runtime.sources.base import Input, Item
from runtime.storage.lines import LineFile
from tests.users import in_child

CLASSES = ("cup", "key", "mug")
FRAME = np.full((40, 50, 3), 90, np.uint8)


def result(name="a.png", best=1, true=None, number=None, frame=FRAME, labels=()):
    logits = np.zeros(3, np.float32)
    logits[best] = 2
    item = Item(Input(name, name, labels), frame, number=number, seconds=number and number / 25)
    return Result(item, "d-n", Prediction("d-n", CLASSES, logits), true_label=true)


def failure(name="b.png"):
    error = DataError(f"cannot read the image '{name}'")
    return Result(Item(Input(name, name), error=error), "d-n", error=error)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_and_json_an_object_for_each_result(tmp_path):
    results = [result(true="mug"), failure('x, "y"\nz.png'), result("v.avi", 2, number=5)]
    kinds = {"csv": CsvFile, "jsonl": JsonlFile, "json": JsonFile}
    sinks = [kind(tmp_path / f"new/out.{name}", 2) for name, kind in kinds.items()]
    for each in results:
        for sink in sinks:
            sink.write(each)
    for sink in sinks:
        sink.close()
        sink.close()
    found = rows(tmp_path / "new/out.csv")
    documents = json.loads((tmp_path / "new/out.json").read_text())
    lines = (tmp_path / "new/out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == documents
    assert [row["image"] for row in found] == [d["image"] for d in documents]
    first, second, third = documents
    scores = results[0].prediction.scores
    assert first == {
        "image": "a.png",
        "task": "d-n",
        "label": "key",
        "score": float(scores[1]),
        "top": [["key", float(scores[1])], ["cup", float(scores[0])]],
        "calibration": "uncalibrated",
        "true_label": "mug",
    }
    assert second == {"image": 'x, "y"\nz.png', "task": "d-n", "error": str(results[1].error)}
    assert third["image"] == "v.avi#5" and (third["frame"], third["seconds"]) == (5, 0.2)
    assert [row["label_2"] for row in found] == ["cup", "", "cup"]
    assert float(found[0]["score"]) == float(scores[1])
    assert found[1]["error"] == str(results[1].error) and found[1]["label"] == ""


def test_every_row_is_on_the_disk_when_it_was_written(tmp_path):
    table, lines = CsvFile(tmp_path / "o.csv"), JsonlFile(tmp_path / "o.jsonl")
    for number in range(1, 4):
        table.write(result())
        lines.write(result())
        assert len(rows(tmp_path / "o.csv")) == number
        assert len((tmp_path / "o.jsonl").read_text().splitlines()) == number


@pytest.mark.parametrize("kind", [CsvFile, JsonlFile, JsonFile])
def test_a_run_without_results_leaves_earlier_files_and_no_new_ones(tmp_path, kind):
    (tmp_path / "old").write_text("earlier")
    for name in ("old", "new"):
        kind(tmp_path / name).close()
    assert os.listdir(tmp_path) == ["old"] and (tmp_path / "old").read_text() == "earlier"
    done = kind(tmp_path / "old")
    done.write(result())
    done.close()
    assert "earlier" not in (tmp_path / "old").read_text()


@pytest.mark.parametrize("kind", [CsvFile, JsonlFile, JsonFile])
def test_what_is_no_file_is_refused(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    for path, reason in {
        tmp_path / "pipe": "not a regular file; choose another name",
        tmp_path: "Is a directory",
        tmp_path / "file" / "x": "File exists|Not a directory",
    }.items():
        with pytest.raises(StorageError, match=reason):
            done = kind(path)
            done.write(result())
            done.close()


def test_a_line_that_does_not_fit_on_the_disk_is_not_written_in_part(tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    def fill():
        file = LineFile(tmp_path / "o.txt")
        try:
            for number in range(100):
                file.write(f"{number}{'x' * 95}\n")
        finally:
            file.close()

    said = in_child(limit, fill)
    assert said.startswith("StorageError: cannot write '") and "File too large" in said
    lines = (tmp_path / "o.txt").read_text().splitlines()
    assert [line.rstrip("x") for line in lines] == [str(number) for number in range(10)]


def test_names_that_are_no_text_are_escaped(tmp_path):
    file = CsvFile(tmp_path / "o.csv")
    file.write(result(os.fsdecode(b"\x80.png")))
    file.close()
    assert rows(tmp_path / "o.csv")[0]["image"] == r"\udc80.png"


def test_a_name_with_line_breaks_is_one_row(tmp_path):
    names = ["a\rb.png", "a\nb.png", "a\r\nb.png", 'a\r".png']
    file = CsvFile(tmp_path / "o.csv")
    for name in names:
        file.write(result(name))
    file.close()
    assert [row["image"] for row in rows(tmp_path / "o.csv")] == names
    assert (tmp_path / "o.csv").read_bytes().splitlines()[0].endswith(b",error")


def test_no_path_is_a_formula_of_a_spreadsheet(tmp_path):
    names = ["=1+1.png", "@sum.png", "+1.png", "-1.png", "\t=1.png", "\r=1.png", "a=1.png"]
    file = CsvFile(tmp_path / "o.csv")
    for name in names:
        one = result(name)
        one.saved = name
        file.write(one)
    file.close()
    found = rows(tmp_path / "o.csv")
    assert [row["image"] for row in found] == [*(f"./{name}" for name in names[:-1]), "a=1.png"]
    assert [row["saved"] for row in found] == [row["image"] for row in found]


def test_pictures_are_saved_under_their_names_and_never_over_another(tmp_path):
    kinds = {".jfif": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP"}
    kinds |= {".jpg": "JPEG", ".png": "PNG"}
    others = [f"d{ending}" for ending in kinds]
    names = ["x/a.jpg", "x/a.jpg", "X/A.jpg", "b.heic", "c.gif", "plain", *others]
    sink = Annotated(tmp_path / "out")
    saved = []
    for name in names:
        each = result(name)
        sink.write(each)
        saved.append(each.saved)
    sink.write(failure())
    sink.close()
    expected = ["x/a.jpg", "x/a-2.jpg", "X/A-3.jpg", "b.heic.png", "c.gif.png", "plain.png"]
    expected += others
    assert saved == [str(tmp_path / "out" / name) for name in expected]
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert list(map(str, files)) == sorted(saved)
    for path in files:
        with Image.open(path) as image:
            assert image.format == kinds[path.suffix] and image.size >= (320, 256)


@pytest.mark.parametrize("number", [None, 0])
def test_a_disk_without_room_for_the_first_picture_leaves_no_folder(tmp_path, number):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    def save():
        annotated = Annotated(tmp_path / "new" / "saved")
        try:
            annotated.write(result("shelf/a.avi", number=number))
        finally:
            annotated.close()

    assert in_child(limit, save).startswith(f"StorageError: cannot write '{tmp_path}/new/saved/")
    assert not os.listdir(tmp_path)


def test_a_folder_with_files_is_not_saved_to(tmp_path):
    (tmp_path / "mine.jpg").write_text("x")
    with pytest.raises(ConfigError, match="is not empty; choose a new folder for --save"):
        Annotated(tmp_path)


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (900, 2), (64, 64), (640, 480), (3000, 2000)])
def test_text_is_drawn_on_frames_of_any_size(size):
    width, height = size
    frame = np.full((height, width, 3), 200, np.uint8)
    before = frame.copy()
    image = annotate(frame, ["hand_gesture 97.1%", "key 1.0%"])
    pixels = np.asarray(image)
    assert image.width >= 320 and (frame == before).all()
    strip = pixels[-image.height // 3 :] if height > 400 else pixels
    assert strip.max() == 255 and strip.min() < 80  # white text on a dark ground
    assert annotate(255 - frame, ["a", "b"]).size == image.size


def test_the_picture_is_untouched_above_its_text():
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    pixels = np.asarray(annotate(frame, ["cup 50.0%"]))
    changed = (pixels != frame).any((1, 2))
    assert pixels.shape == frame.shape and not changed[:400].any() and changed[-20:].all()


def test_different_labels_look_different_and_long_ones_are_cut():
    texts = ["cup", "key", "犬", "猫", "x" * 500, "x" * 499 + "y"]
    drawn = [annotate(np.zeros((100, 400, 3), np.uint8), [text]).tobytes() for text in texts]
    assert len(set(drawn[:5])) == 5 and drawn[4] == drawn[5]


def test_accuracy_counts_known_classes_and_names_the_others():
    accuracy = Accuracy()
    assert accuracy.report() == ""
    for best, true in ((0, "cup"), (1, "cup"), (1, "key")):
        accuracy.write(result(best=best, true=true))
    for _ in range(2):
        accuracy.write(result(labels=("misc",)))
    accuracy.write(result())
    accuracy.write(failure())
    lines = accuracy.report().splitlines()
    assert lines[0] == "accuracy  66.7% (2 of 3 images of a known class)"
    assert lines[1] == "excluded  2 images under other names: misc 2"
    assert [line.split() for line in lines[-2:]] == [
        ["cup", "2", "1", "50.0%"], ["key", "1", "1", "100.0%"],
    ]  # fmt: skip


def test_without_a_known_class_there_is_no_accuracy():
    accuracy = Accuracy()
    accuracy.write(result(labels=("misc",)))
    assert accuracy.report() == ""


def test_outputs_never_overwrite_inputs_each_other_or_a_bundle(tmp_path):
    bundle = tmp_path / "b.bundle"
    bundle.mkdir()
    (tmp_path / "a.png").write_text("x")
    os.link(tmp_path / "a.png", tmp_path / "hard.json")
    os.symlink("a.png", tmp_path / "soft.json")
    inputs = [str(tmp_path / name) for name in ("missing", "a.png")]
    for name in ("a.png", "hard.json", "soft.json"):
        with pytest.raises(ConfigError, match=f"{name}' is an input; write the --csv"):
            check_targets({"csv": tmp_path / name}, inputs, bundle)
    with pytest.raises(ConfigError, match="--csv and --json both name"):
        check_targets({"csv": tmp_path / "o", "json": tmp_path / "." / "o"}, inputs, bundle)
    for inside in (bundle / "manifest.json", bundle):
        with pytest.raises(ConfigError, match="lies in the bundle; write the --save elsewhere"):
            check_targets({"save": inside}, inputs, bundle)
    check_targets({"csv": tmp_path / "o.csv", "save": tmp_path / "new"}, inputs, bundle)


def test_the_table_names_classes_that_exist(tmp_path):
    for name in outputs.OUTPUTS:
        sink = outputs.load(name, tmp_path / name, 1)
        sink.write(result())
        sink.close()
    assert len(list(tmp_path.iterdir())) == len(outputs.OUTPUTS)
