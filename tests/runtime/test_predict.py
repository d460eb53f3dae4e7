"""`uda-runtime predict` as people use it: folders, lists, videos, files of results, Ctrl-C."""

import csv
import itertools
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.classify import classify
from runtime.cli import main
from runtime.errors import BackendError
from runtime.outputs.tally import Tally
from runtime.prediction import Prediction
from runtime.sources.base import Input, Item
from tests.runtime.conftest import SIZE, _make_world
from tests.users import in_child

TASK = "a-d"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return _make_world(tmp_path_factory.mktemp("world") / "toy.bundle")


@pytest.fixture
def shop(world, tmp_path, monkeypatch):
    """Images in folders named after classes of the task, and the label of each as predicted."""
    rng, found = np.random.default_rng(1), {}
    classes = world.tasks[TASK].info.classes
    for number in range(24):
        frame = np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (SIZE, SIZE, 3))
        path = tmp_path / "shop" / classes[number % len(classes)] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path)
        best = int(world.logits(TASK, frame[None]).argmax())
        found[str(path.relative_to(tmp_path))] = classes[best]
    monkeypatch.chdir(tmp_path)
    return dict(sorted(found.items()))


def run(world, *words, task=TASK):
    command = ["predict", str(world.path), *map(str, words), "--task", task]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def table(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch", [1, 5, 1000])
def test_a_folder_gives_a_row_for_each_image(world, shop, batch):
    done = run(world, "shop", "--recursive", "--csv", "o.csv", "--batch", batch, "--top", 2)
    assert done.exit_code == 0 and done.stderr == ""
    rows = table("o.csv")
    assert {row["image"]: row["label"] for row in rows} == shop
    assert [row["image"] for row in rows] == list(shop)
    for row in rows:
        assert row["true_label"] == Path(row["image"]).parent.name
        assert float(row["score"]) >= float(row["score_2"]) and row["label"] != row["label_2"]
    first, _, *lines = done.stdout.splitlines()
    assert first == "found     24 images; nothing left out"
    for line, (name, label) in zip(lines, shop.items(), strict=False):
        assert line.startswith(f"{name}: {label} ")


def test_no_more_classes_are_shown_than_the_task_has(world, shop):
    done = run(world, "shop", "--recursive", "--csv", "o.csv", "--top", 10**9)
    columns = [name for name in table("o.csv")[0] if name.startswith("score")]
    assert done.exit_code == 0 and columns == ["score", "score_2", "score_3", "score_4"]


def test_the_accuracy_is_printed_where_folders_are_classes(world, shop):
    right = sum(Path(name).parent.name == label for name, label in shop.items())
    done = run(world, "shop", "--recursive")
    said = f"accuracy  {right / 24:.1%} ({right} of 24 images of a known class)"
    assert said in done.stdout and "right  accuracy" in done.stdout
    assert said in run(world, "shop/*/*.png").stdout
    os.rename("shop/class 0", "shop/others")
    done = run(world, "shop", "--recursive")
    assert "excluded  6 images under other names: others 6" in done.stdout
    assert "of 18 images of a known class" in done.stdout
    assert "accuracy" not in run(world, "shop/others").stdout


def test_labels_of_a_list_are_compared(world, shop):
    wrong = {"class 0": "class 1"}
    lines = [f"{name}\t{wrong.get(label, label)}\n" for name, label in shop.items()]
    Path("list.txt").write_text("".join(lines))
    right = sum(label != "class 0" for label in shop.values())
    assert f"({right} of 24 images of a known class)" in run(world, "list.txt").stdout


def test_labels_that_are_no_classes_are_named(world, shop):
    Path("list.txt").write_text("".join(f"{name}\tsock\n" for name in shop))
    assert (
        "accuracy  unknown: the labels are not classes of the task: sock 24; expected labels such "
        "as 'class 0'"
    ) in run(world, "list.txt").stdout


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_rows_on_the_standard_output_are_alone_there(world, shop, kind):
    done = run(world, "shop", "--recursive", f"--{kind}", "-")
    Path("o").write_text(done.stdout)
    found = {
        "csv": lambda: table("o"),
        "json": lambda: json.loads(done.stdout),
        "jsonl": lambda: [json.loads(line) for line in done.stdout.splitlines()],
    }[kind]()
    assert {row["image"]: row["label"] for row in found} == shop
    assert done.stderr.startswith("found     24 images") and "accuracy" in done.stderr
    assert ": class" not in done.stderr and not Path("-").exists()
    refused = run(world, "shop", "--csv", "-", "--json", "-")
    assert "--csv and --json both name '-'; choose two paths" in refused.stderr


def in_terminal(command):
    """Return what a command writes to a terminal."""
    reading, terminal = pty.openpty()
    child = subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL)
    os.close(terminal)
    found = b""
    try:
        while part := os.read(reading, 1 << 16):
            found += part
    except OSError:  # Linux' way to say that nobody writes any more
        pass
    os.close(reading)
    assert child.wait() == 0, found
    return found.decode()


def test_a_terminal_shows_how_far_it_is(world, shop):
    words = ["predict", world.path, "shop", "--recursive", "--task", TASK]
    shown = in_terminal([sys.executable, "-m", "runtime", *map(str, words)])
    name, label = list(shop.items())[-1]
    assert f"\r\x1b[K{name}: {label} " in shown  # in the place of the bar, which comes again
    assert "23/24" in shown and "24/24" in shown.rpartition(name)[2]


def test_unreadable_images_are_counted_and_the_others_classified(world, shop):
    for name, content in {"bad.png": b"x", "empty.jpg": b"", "cut.png": None}.items():
        good = Path(next(iter(shop))).read_bytes()
        Path("shop", name).write_bytes(good[:60] if content is None else content)
    Image.new("RGB", (1, 20_000)).save("shop/thin.png")
    words = ("--csv", "o.csv", "--json", "o.json", "--jsonl", "o.jsonl", "--save", "out")
    done = run(world, "shop", "missing.png", "--recursive", *words)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 5 and all(line.startswith("error: ") for line in lines)
    assert lines[-1] == "error: 4 of 29 images could not be classified; see above"
    rows = table("o.csv")
    assert len(rows) == 29 and {r["image"]: r["label"] for r in rows if r["label"]} | shop == {
        **shop, "shop/thin.png": rows[-2]["label"],
    }  # fmt: skip
    assert [bool(row["error"]) for row in rows].count(True) == 4
    document = json.loads(Path("o.json").read_text())
    assert document == [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    saved = [row["saved"] for row in rows if row["saved"]]
    assert len(set(saved)) == 25 and all(Path(path).is_file() for path in saved)


def test_the_only_image_is_one_line_and_its_error_is_kept(world, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"x")
    done = run(world, tmp_path / "bad.png", "--json", tmp_path / "o.json")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (1, 1, "")
    assert "cannot read the image" in json.loads((tmp_path / "o.json").read_text())[0]["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("empty",), "'empty' holds no images or videos"),
        (("empty", "--recursive"), "'empty' holds no images or videos"),
        (("shop",), "'shop' holds no images or videos; it has 4 folders, which --recursive enters"),
        (("*.gif",), "no file matches '*.gif'; check the pattern"),
        (("nowhere",), "error: 'nowhere' does not exist; check the path"),
        (("gone.txt",), "cannot read the list 'gone.txt': No such file or directory"),
        (("pipe.png",), "cannot read the image 'pipe.png': not a regular file"),
        (("shop", "--recursive", "--save", "shop"), "'shop' is not empty; choose a new folder"),
        (("note.txt", "--csv", "note.txt"), "'note.txt' is an input; write the --csv els"),
        (("note.txt", "--csv", "classes.txt"), "'classes.txt' is an input; write the --csv else"),
        (("note.txt", "--csv", "o", "--json", "o"), "--csv and --json both name 'o'; choose two"),
        (("note.txt", "--csv", "pipe.png"), "cannot write 'pipe.png'"),
    ],
)
def test_a_mistake_is_one_clear_line(world, shop, words, message):
    os.mkfifo("pipe.png")
    Path("empty").mkdir()
    Path("note.txt").write_text(next(iter(shop)))
    Path("classes.txt").write_text("cup\n")
    done = run(world, *words)
    assert done.exit_code == 1 and message in done.stderr, done.output
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not Path("o").exists()


def test_a_bundle_is_not_written_to(world, shop):
    before = (world.path / "manifest.json").read_bytes()
    done = run(world, next(iter(shop)), "--json", world.path / "manifest.json")
    assert done.exit_code == 1 and "lies in the bundle; write the --json elsewhere" in done.stderr
    assert (world.path / "manifest.json").read_bytes() == before


def test_a_name_cannot_control_the_terminal(world, shop):
    name = "shop/\x1b[2J\n.png"
    os.link(next(iter(shop)), name)
    done = run(world, "shop", "--csv", "o.csv")
    assert done.exit_code == 0 and "\x1b" not in done.output
    assert [row["image"] for row in table("o.csv")] == [name]


def film(path, count):
    cv2 = pytest.importorskip("cv2", reason="the extra [camera] is not installed")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), 5 * number % 250, np.uint8))
    writer.release()


def test_a_video_of_300_frames_gives_300_rows(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film("clip.avi", 300)
    done = run(world, "clip.avi", "--csv", "o.csv", "--jsonl", "o.jsonl")
    assert done.exit_code == 0 and done.stderr == ""
    rows = table("o.csv")
    assert [row["image"] for row in rows] == [f"clip.avi#{number}" for number in range(300)]
    assert [int(row["frame"]) for row in rows] == list(range(300))
    assert float(rows[-1]["seconds"]) == pytest.approx(299 / 30, abs=1e-3)
    assert "done      300 frames in" in done.stdout


def test_a_truncated_video_keeps_its_rows_and_is_saved_annotated(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film("clip.avi", 100)
    Path("clip.avi").write_bytes(Path("clip.avi").read_bytes()[:15_000])
    done = run(world, "clip.avi", "--csv", "o.csv", "--save", "out")
    assert done.exit_code == 1
    first, last = done.stderr.splitlines()
    *rows, failed = table("o.csv")
    assert 20 < len(rows) < 80 and not any(row["error"] for row in rows)
    assert f"clip.avi' is truncated or damaged: {len(rows)} of 100 frames were read" in first
    assert failed["error"] in first and failed["frame"] == ""
    assert last == f"error: 1 of {len(rows) + 1} frames could not be classified; see above"
    cv2 = pytest.importorskip("cv2")
    video = cv2.VideoCapture("out/clip.avi")
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == len(rows)
    assert {row["saved"] for row in rows} == {"out/clip.avi"}


@pytest.fixture
def many(tmp_path):
    """A folder that takes long: 3,000 names of an image of 4 megapixels."""
    folder = tmp_path / "many"
    folder.mkdir()
    Image.new("RGB", (2000, 2000), (9, 99, 199)).save(folder / "0.png")
    for number in range(1, 3000):
        os.link(folder / "0.png", folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_ctrl_c_and_sigterm_keep_the_results_so_far(world, many, tmp_path, number, status, word):
    outs = {name: tmp_path / f"o.{name}" for name in ("csv", "jsonl", "json")}
    options = [word for name, path in outs.items() for word in (f"--{name}", str(path))]
    words = ["predict", world.path, many, "--task", TASK, "--batch", "4", *options]
    command = [sys.executable, "-m", "runtime", *map(str, words)]
    child = subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not outs["jsonl"].exists() or outs["jsonl"].read_bytes().count(b"\n") < 4:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.send_signal(number)
    said = child.communicate(timeout=60)[1]
    rows, lines = table(outs["csv"]), outs["jsonl"].read_text().splitlines()
    document = json.loads(outs["json"].read_text())
    assert child.returncode == status
    assert said.startswith(f"error: {word}; ") and said.count("\n") == 1
    assert f"see '{outs['csv']}', '{outs['jsonl']}' and '{outs['json']}'" in said
    assert 4 <= len(document) < 3000
    assert abs(len(rows) - len(document)) <= 1 and abs(len(lines) - len(document)) <= 1
    assert [json.loads(line)["image"] for line in lines][: len(document)] == [
        row["image"] for row in document
    ][: len(lines)]


def test_a_disk_that_fills_up_keeps_whole_rows_and_is_one_line(world, shop, tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    def predict():
        done = run(world, "shop", "--recursive", "--csv", "o.csv", "--batch", 2)
        raise RuntimeError(f"{done.exit_code} {done.stderr}")

    said = in_child(limit, predict)
    rows = table("o.csv")
    assert said.startswith("RuntimeError: 1 error: cannot write 'o.csv': File too large")
    assert f"; {len(rows)} images done, see 'o.csv'" in said and said.count("\n") <= 1
    assert 5 < len(rows) < 24 and all(row["label"] == shop[row["image"]] for row in rows)


def test_a_file_that_cannot_be_finished_does_not_hide_the_others(world, shop, tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    def predict():
        done = run(world, "shop", "--recursive", "--csv", "o.csv", "--json", "o.json")
        raise RuntimeError(f"{done.exit_code} {done.stderr}")

    said = in_child(limit, predict)
    assert said.startswith("RuntimeError: 1 error: cannot write 'o.json': File too large")
    assert said.rstrip().endswith("; 24 images done, see 'o.csv'")
    assert len(table("o.csv")) == 24 and not Path("o.json").exists()


def test_an_error_of_the_session_says_how_many_results_there_are(world, tmp_path):
    """As when a GPU is lost: here the session is closed between two batches."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    (tmp_path / "o.csv").touch()
    tally = Tally([tmp_path / "o.csv"])

    def items(session):
        for number in range(16):
            if number == 8:
                session.close()
            yield Item(Input(str(number), ""), frame)

    with runtime.Session.open(world.path) as session:
        session.switch(TASK)
        with pytest.raises(BackendError, match=r"closed.*; 8 images done, see '.*o\.csv'$"):
            with tally.explained():
                for result in classify(session, items(session), 8):
                    tally.write(result)
    assert tally.good == 8


def test_each_item_of_an_endless_source_is_answered_at_once(world):
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    asked = []

    def camera():
        for number in itertools.count():
            asked.append(number)
            yield Item(Input("camera", ""), frame, number=number)

    with runtime.Session.open(world.path) as session:
        session.switch(TASK)
        results = classify(session, camera(), batch=1)
        for number in range(5):
            result = next(results)
            assert result.item.name == f"camera#{number}" and asked[-1] == number
            assert result.prediction == session.predict(frame)


def test_a_prediction_as_a_dictionary_is_plain_json():
    found = Prediction("d-n", ("cup", "key"), np.array([0, 1], np.float32))
    row = found.to_dict(top=2)
    assert json.loads(json.dumps(row)) == {
        "task": "d-n", "label": "key", "score": found.score,
        "top": [["key", found.score], ["cup", float(found.scores[0])]],
        "calibration": "uncalibrated",
    }  # fmt: skip
    assert found.to_dict()["top"] == [("key", found.score)]
