"""`uda-adapt data check`, and the options that say which images a command is about."""

import json
import shutil
import subprocess
import sys

import pytest
from click import UsageError
from click.testing import CliRunner
from PIL import Image

from adapt.cli import main
from adapt.commands.image_options import pair_loader
from adapt.data import DATASETS, load_folders
from adapt.data.base import Domain
from adapt.data.benchmark import count
from adapt.data.folder import read_domain
from adapt.data.office_home import OfficeHome


def call(*words):
    return CliRunner().invoke(main, ["data", "check", *map(str, words)])


def domains(root, names, classes, count=1):
    for name in names:
        for label in classes:
            for number in range(count):
                path = root / name / label / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(path)


def row(result, domain):
    return next(line.split() for line in result.output.splitlines() if line.startswith(domain))


@pytest.fixture
def home(tmp_path):
    domains(tmp_path, ("Art", "Clipart", "Product", "Real World"), OfficeHome.classes[:5])
    return tmp_path


def test_a_table_compares_with_the_published_counts(home):
    result = call("--dataset", "office-home", "--data", home)
    assert result.exit_code == 0
    assert row(result, "real_world ") == ["real_world", "r", "5", "5", "4,357", "-4,352"]
    assert "art: missing 60 classes: 'Bottle', 'Bucket', " in result.output
    assert "art: has 5 images, published: 2,427" in result.output


def test_a_complete_domain_has_no_remarks(tmp_path):
    for short in ("i", "p"):
        domains(tmp_path, (short,), ["bike"], 40)
    result = call("--dataset", "imageclef", "--data", tmp_path, "--task", "i-p")
    assert result.exit_code == 1 and "has only the class 'bike'" in result.stderr
    for short in ("i", "p"):
        names = "aeroplane bike bird boat bottle bus car dog horse monitor motorbike people".split()
        domains(tmp_path, (short,), [n for n in names if n != "bike"], 51)
    result = call("--dataset", "imageclef", "--data", tmp_path, "--task", "i-p")
    assert result.exit_code == 0
    assert row(result, "imagenet") == ["imagenet", "i", "12", "601", "600", "+1"]
    (tmp_path / "i" / "bike" / "0.jpg").unlink()
    result = call("--dataset", "imageclef", "--data", tmp_path, "--task", "i-i")
    assert row(result, "imagenet")[-1] == "0" and "imagenet:" not in result.output


def test_a_class_missing_in_one_domain_makes_it_unusable(home):
    (home / "Clipart" / "Bed" / "0.jpg").unlink()
    (home / "Clipart" / "Bed").rmdir()
    result = call("--dataset", "office-home", "--data", home)
    assert result.exit_code == 1
    assert (
        result.stderr == "error: the classes differ: 'clipart' lacks 'Bed'; complete the images\n"
    )
    assert "clipart: missing 61 classes: 'Bed'" in result.output
    assert call("--dataset", "office-home", "--data", home, "--task", "a-p").exit_code == 0


def test_a_missing_domain_and_an_unknown_class_are_told(home):
    (home / "Product").rename(home / "Produce")
    domains(home, ("Art",), ("zebra",))
    result = call("--dataset", "office-home", "--data", home)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "has no folder of the domain 'product'" in result.stderr
    assert row(result, "product") == ["product", "p", "-", "-", "4,439", "-"]
    assert "art: has unpublished 1 class: 'zebra'" in result.output


def test_json_has_the_names_and_decode_finds_broken_images(home, tmp_path):
    domains(home, ("Art",), OfficeHome.classes[:5], 21)
    broken = home / "Art" / "Bed" / "21.jpg"
    broken.write_bytes((home / "Art" / "Bed" / "0.jpg").read_bytes()[:300])
    words = ("--dataset", "office-home", "--data", home, "--task", "a-c", "--decode")
    result = call(*words, "--json", tmp_path / "r.json")
    assert result.exit_code == 0
    assert f"art: 1 of 106 images cannot be read, the first: '{broken}'" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["usable"] and report["dataset"] == "office-home"
    assert [r["short"] for r in report["rows"]] == ["a", "c"]
    assert report["rows"][0]["classes"] == list(OfficeHome.classes[:5])
    assert report["rows"][0]["images"] == 106
    assert report["unreadable"] == {"art": [str(broken)], "clipart": []}


def test_images_that_training_would_refuse_make_a_data_set_unusable(home, tmp_path):
    bad = [home / "Art" / name / "0.jpg" for name in ("Bed", "Bike")]
    for path in bad:
        path.write_bytes(b"")
    words = ("--data", home, "--source", "Art", "--target", "Clipart")
    result = call(*words)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "2 of 5 images of 'Art' cannot be read; training tolerates less than 1 %" in (
        result.stderr
    )
    assert "--report FILE.html or --json FILE" in result.stdout
    result = call(*words, "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert not report["usable"] and report["unreadable"]["Art"] == [str(path) for path in bad]
    assert "--json" not in result.stdout


def test_own_folders_of_which_no_two_make_a_task_are_unusable(tmp_path):
    domains(tmp_path, ("day",), ("bee", "cup", "dog"))
    assert call("--data", tmp_path).exit_code == 0  # the supervised bound
    domains(tmp_path, ("night",), ("bee", "cup"))
    result = call("--data", tmp_path)
    assert result.exit_code == 1
    assert "'night' lacks 'dog'; complete the images, or train with --set partial=true" in (
        result.stderr
    )
    domains(tmp_path, ("fog",), ("cat", "cup"))
    assert call("--data", tmp_path, "--source", "night", "--target", "fog").stderr.endswith(
        "complete the images\n"
    )
    domains(tmp_path, ("rain",), ("cat", "cup"))
    assert call("--data", tmp_path).exit_code == 0


def test_folders_of_which_none_can_be_a_source_are_unusable(tmp_path):
    domains(tmp_path, ("day",), ("bee", "cup"), 2)
    result = call("--data", tmp_path / "day")  # the classes are taken for domains
    assert result.exit_code == 1
    assert f"no folder of '{tmp_path / 'day'}' has class folders" in result.stderr
    assert result.stderr.endswith(f"is itself a domain, pass --data {tmp_path}\n")
    (tmp_path / "night").mkdir()
    (tmp_path / "day" / "bee" / "0.jpg").rename(tmp_path / "night" / "0.jpg")
    assert call("--data", tmp_path, "--target", "night").exit_code == 0
    result = call("--data", tmp_path, "--source", "night", "--target", "day")
    assert result.exit_code == 1 and "night' has images but no class folders" in result.stderr


def test_the_table_has_no_columns_without_a_value(tmp_path):
    domains(tmp_path, ("day", "night"), ("bee", "cup"))
    assert call("--data", tmp_path).stdout.splitlines()[2].split() == [
        "domain",
        "classes",
        "images",
    ]
    (tmp_path / "day" / "train").mkdir()
    (tmp_path / "day" / "test").mkdir()
    for name in ("bee", "cup"):
        shutil.copytree(tmp_path / "day" / name, tmp_path / "day" / "test" / name)
        (tmp_path / "day" / name).rename(tmp_path / "day" / "train" / name)
    header = call("--data", tmp_path).stdout.splitlines()[2].split()
    assert header == ["domain", "classes", "train", "test"]


def test_one_usable_folder_of_two_makes_no_task(tmp_path):
    domains(tmp_path, ("day",), ("bee", "cup"))
    (tmp_path / "night").mkdir()
    result = call("--data", tmp_path)
    assert result.exit_code == 1 and "night' holds no images" in result.stderr


def test_another_data_sets_folder_is_told_once(home):
    result = call("--dataset", "office31", "--data", home)
    assert result.exit_code == 1 and result.output.count("has no folder of the domain") == 1
    assert "(unusable too: 'dslr', 'webcam')" in result.stderr


def test_absent_split_files_are_told(tmp_path):
    domains(tmp_path, ("clipart", "sketch"), ("axe", "bat"), 2)
    words = ("--dataset", "domainnet", "--data", tmp_path, "--task", "c-s")
    result = call(*words)
    assert (
        "no split files ('clipart_train.txt', 'clipart_test.txt', ...) of clipart, sketch: who"
        in (result.output)
    )
    assert "published: 345; compare with the original" in result.output
    for name in ("clipart", "sketch"):
        for split, number in (("train", 0), ("test", 1)):
            lines = [f"{name}/{c}/{number}.jpg {n}\n" for n, c in enumerate(("axe", "bat"))]
            (tmp_path / f"{name}_{split}.txt").write_text("".join(lines))
    assert "no split files" not in call(*words).output


class Plain:
    """A data set that is no `Benchmark`."""

    name, domains, classes, class_count = "plain", {"a": Domain("Art", 5)}, (), 5

    def load(self, task, *, root=None, holdout=0.0, seed=0, target_classes=None):
        return load_folders(root, "Art", "Art")

    def tasks(self):
        return ("a-a",)

    def survey(self, root, short):
        return {"all": count(read_domain(root, "Art"))}


def test_decode_reads_a_data_set_of_any_kind(home, monkeypatch):
    monkeypatch.setitem(DATASETS, "plain", f"{__name__}:Plain")
    broken = home / "Art" / "Bed" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    result = call("--dataset", "plain", "--data", home, "--decode")
    assert f"Art: 1 of 5 images cannot be read, the first: '{broken}'" in result.output


def test_splits_have_columns_of_their_own(tmp_path):
    domains(tmp_path, ("clipart", "sketch"), ("axe", "bat"), 2)
    for name in ("clipart", "sketch"):
        text = "".join(f"{name}/{c}/0.jpg {n}\n" for n, c in enumerate(("axe", "bat")))
        (tmp_path / f"{name}_test.txt").write_text(text)
        (tmp_path / f"{name}_train.txt").write_text(text.replace("0.jpg", "1.jpg"))
    (tmp_path / "sketch_train.txt").write_text("sketch/axe/1.jpg 0\nsketch/axe/1.jpg 0\n")
    result = call("--dataset", "domainnet", "--data", tmp_path, "--task", "c-s")
    assert "has only the class" in result.stderr
    domains(tmp_path, ("clipart", "sketch"), ("cat",), 2)
    for name in ("clipart", "sketch"):
        with (tmp_path / f"{name}_test.txt").open("a") as stream:
            stream.write(f"{name}/cat/0.jpg 7\n")
    text = "sketch/axe/1.jpg 0\nsketch/bat/1.jpg 1\n"
    (tmp_path / "sketch_train.txt").write_text(text)
    result = call("--dataset", "domainnet", "--data", tmp_path, "--task", "c-s")
    assert result.exit_code == 0
    assert row(result, "sketch ") == ["sketch", "s", "3", "2", "3", "69,128", "-69,123"]
    assert "sketch: has test images only of 1 class: 'cat'" in result.output
    assert "all domains: 3 classes, published: 345" in result.output


def test_own_folders_are_listed_and_compared(home):
    (home / "Clipart" / "Bed" / "0.jpg").unlink()
    (home / "Clipart" / "Bed").rmdir()
    (home / "notes").mkdir()
    result = call("--data", home)
    assert result.exit_code == 0
    assert row(result, "Real World") == ["Real", "World", "5", "5"]
    assert "Clipart: missing 1 class: 'Bed'" in result.output
    assert "notes: " in result.output and "holds no images" in result.output
    result = call("--data", home, "--source", "Art", "--target", "Clipart")
    assert result.exit_code == 1 and "'Clipart' lacks 'Bed'" in result.stderr


def test_a_domain_named_by_its_absolute_path_has_its_own_name(home):
    result = call("--data", home, "--source", home / "Art", "--target", "Clipart")
    assert result.exit_code == 0, result.output
    assert row(result, "Art")[0] == "Art" and "\nArt: 5 images" in result.output


def test_an_unlabelled_target_is_no_mismatch(home):
    (home / "new.txt").write_text("Art/Bed/0.jpg\n")
    result = call("--data", home, "--source", "Art", "--target", "new.txt")
    assert result.exit_code == 0 and row(result, "new.txt") == ["new.txt", "0", "1"]


def test_a_folder_of_nothing_is_an_error(tmp_path):
    result = call("--data", tmp_path)
    assert result.exit_code == 1 and "has no folders" in result.stderr


def test_the_demo_is_whole():
    result = call("--dataset", "demo-digits")
    assert result.exit_code == 0
    assert row(result, "hand") == ["hand", "h", "10", "1,000", "797", "1,797", "0"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "say what to check"),
        (("--task", "a-c"), "say what to check"),
        (("--dataset", "visda", "--source", "x"), "leave out --dataset"),
    ],
)
def test_a_check_of_nothing_is_a_usage_error(words, text):
    result = call(*words)
    assert result.exit_code == 2 and text in result.output


def test_unknown_names_and_missing_roots_are_one_line():
    for words, text in (
        (
            ("--dataset", "offce31"),
            "unknown data set 'offce31'; did you mean 'office31'; available: demo-",
        ),
        (("--dataset", "visda"), "pass its folder with --data ROOT"),
        (("--dataset", "demo-digits", "--task", "x-y"), "has no task 'x-y'"),
    ):
        result = call(*words)
        assert result.exit_code == 1 and text in result.stderr and result.stderr.count("\n") == 1


def test_help_names_every_data_set_and_loads_none():
    code = (
        "import sys; from click.testing import CliRunner; from adapt.cli import main\n"
        "for words in (['train'], ['sweep'], ['data', 'check']):\n"
        "    print(CliRunner().invoke(main, [*words, '--help']).output, end='<end>')\n"
        "assert not {'adapt.data', 'torch'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for text in shown.split("<end>")[:3]:
        assert f"Oneof{','.join(DATASETS)}." in "".join(text.split())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((None, None, None, None, None), "no images;"),
        (("visda", None, None, None, None), "--dataset visda needs a --task"),
        ((None, "s-r", None, None, None), "--task s-r needs the --dataset"),
        ((None, None, "root", None, None), "--data needs a --dataset and --task, or --source"),
        ((None, None, "root", "a", None), "--source needs the other domain too"),
        ((None, None, None, "a", "b"), "need the --data folder"),
        (("visda", "s-r", None, "a", "b"), "--source and --target name your own folders"),
    ],
)
def test_a_choice_of_images_that_says_too_little_or_too_much_is_a_usage_error(options, problem):
    with pytest.raises(UsageError, match=problem):
        pair_loader(*options)


def test_the_options_load_data_sets_folders_and_parts_of_them(home):
    pair = pair_loader("office-home", "a-c", home, None, None)(0.4, 0, 2)
    assert pair.held_out and len(pair.target) + len(pair.test) == 2
    pair = pair_loader(None, None, home, "Art", "Real World")(0.0, 0, 3)
    assert pair.task.id == "art-real_world" and len(pair.target) == 3
