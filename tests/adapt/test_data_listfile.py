import numpy as np
import pytest
from PIL import Image

from adapt.data import load_folders
from adapt.data.listfile import take_list
from runtime.errors import DataError
from runtime.inventory.lists import Line, read_lines


@pytest.fixture
def root(tmp_path):
    """Two cameras with three classes in folders, and the same images flat."""
    folder = tmp_path / "shop"
    (folder / "flat").mkdir(parents=True)
    for camera in ("day", "Real World"):
        for name in ("mug", "key", "cup"):
            (folder / camera / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (8, 8)).save(folder / camera / name / f"{number}.png")
                Image.new("RGB", (8, 8)).save(folder / "flat" / f"{name}{number}.png")
    return folder


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))


def read_list(root, name):
    return take_list(root, name)[0]


def names(images):
    return [images.classes[label] for label in images.labels]


def test_paths_and_labels_may_have_blanks_tabs_backslashes_and_a_byte_order_mark(tmp_path):
    text = "\ufeffReal World/a b.jpg 3\n\nx\\y.JPG\t12\nz.png\talarm clock\r\n  w.png mug \n"
    text += "a.jpg b.PNG  alarm clock\nx/y 7\n"
    (tmp_path / "l.txt").write_text(text, "utf-8")
    assert read_lines(tmp_path / "l.txt") == [
        Line("Real World/a b.jpg", "3"),
        Line("x/y.JPG", "12"),
        Line("z.png", "alarm clock"),
        Line("w.png", "mug"),
        Line("a.jpg b.PNG", "alarm clock"),
        Line("x/y", "7"),
    ]


@pytest.mark.parametrize("ending", ["", " -1", "\t-1"])
def test_lines_without_labels_are_a_target(ending, root):
    write(root / "t.txt", *(f"Real World/mug/{n}.png{ending}" for n in range(2)))
    images = read_list(root, "t.txt")
    assert images.labels.tolist() == [-1, -1] and images.classes == ()
    assert [path.name for path in images.paths] == ["0.png", "1.png"]


def test_class_names_are_taken_as_they_are(root):
    write(root / "s.txt", "flat/mug0.png Mug", "flat/key0.png key", "flat/mug1.png Mug")
    images = read_list(root, "s.txt")
    assert images.classes == ("Mug", "key") and images.labels.tolist() == [0, 1, 0]
    assert images.domain == "s"


def test_numbers_of_two_lists_that_disagree_are_matched_by_folder(root):
    write(root / "a.txt", *(f"day/{c}/0.png {n}" for n, c in enumerate(("mug", "key", "cup"))))
    write(
        root / "b.txt", *(f"Real World/{c}/1.png {n}" for n, c in enumerate(("key", "cup", "mug")))
    )
    pair = load_folders(root, "a.txt", "b.txt")
    assert pair.task.id == "a-b" and pair.task.classes == ("cup", "key", "mug")
    assert names(pair.source) == ["mug", "key", "cup"]
    assert names(pair.target) == ["key", "cup", "mug"]
    assert pair.target.labels.tolist() == [1, 0, 2]


def test_numbers_get_the_names_beside_the_list(root):
    write(root / "classes.txt", "cup", "key", "mug")
    write(root / "a.txt", "flat/mug0.png 2", "flat/cup1.png 0")
    assert names(read_list(root, "a.txt")) == ["mug", "cup"]


def test_names_that_contradict_the_folders_are_refused(root):
    write(root / "classes.txt", "cup", "key", "mug")
    write(root / "a.txt", "day/mug/0.png 0", "day/cup/0.png 2")
    with pytest.raises(DataError, match=r"gives label 0 to the folder 'mug', but .* 'cup'"):
        read_list(root, "a.txt")


def test_a_label_beyond_the_names_is_refused(root):
    write(root / "classes.txt", "cup", "key")
    write(root / "a.txt", "flat/mug0.png 2", "flat/cup1.png 0")
    with pytest.raises(DataError, match="has label 2, but there are 2 class names"):
        read_list(root, "a.txt")


@pytest.mark.parametrize(
    "lines",
    [
        ("flat/mug0.png 2", "flat/cup1.png 0"),
        ("day/mug/0.png 0", "day/cup/0.png 0"),
        ("day/mug/0.png 0", "day/mug/1.png 1"),
    ],
)
def test_numbers_without_names_ask_for_them(lines, root):
    write(root / "a.txt", *lines)
    with pytest.raises(DataError, match=r"have no names, .*classes\.txt', one per line and label"):
        read_list(root, "a.txt")


def test_a_list_and_a_folder_make_a_task(root):
    write(root / "new.txt", *(f"Real World/mug/{n}.png" for n in range(2)), "flat/key0.png")
    pair = load_folders(root, "day", "new.txt")
    assert (pair.task.id, pair.task.dataset) == ("day-new", "shop")
    assert pair.target.labels.tolist() == [-1] * 3 and pair.target.classes == pair.source.classes


def test_a_list_elsewhere_names_images_below_the_root(root, tmp_path):
    write(tmp_path / "here.txt", "day/mug/0.png mug", "day/key/0.png key")
    images = read_list(root, str(tmp_path / "here.txt"))
    assert images.paths[0] == root / "day" / "mug" / "0.png"


def test_paths_may_be_relative_to_the_list(root):
    write(root / "day" / "list.txt", "mug/0.png 5", "key/1.png 2")
    images = read_list(root, "day/list.txt")
    assert images.paths[0] == root / "day" / "mug" / "0.png" and names(images) == ["mug", "key"]


def test_an_absolute_path_counts_only_below_the_root(root):
    write(root / "a.txt", f"{root}/day/mug/0.png mug", "day/key/0.png key")
    assert len(read_list(root, "a.txt")) == 2
    for outside in ("/etc/passwd.png", f"{root}x/1.png"):
        write(root / "a.txt", f"{outside} mug", "day/key/0.png key")
        with pytest.raises(DataError, match="is an absolute path outside of .* write paths relat"):
            read_list(root, "a.txt")


@pytest.mark.parametrize("path", ["../secret.png", "day/../../secret.png", ".."])
def test_a_path_that_leaves_the_root_is_refused(path, root):
    Image.new("RGB", (8, 8)).save(root.parent / "secret.png")
    write(root / "a.txt", f"{path} mug", "day/key/0.png key")
    with pytest.raises(DataError, match="leads outside of"):
        read_list(root, "a.txt")


def test_a_linked_root_is_as_good_as_the_folder(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    write(root / "a.txt", f"{root}/day/mug/0.png mug", "day/key/0.png key")
    assert len(read_list(tmp_path / "link", "a.txt")) == 2


def test_missing_images_are_counted_and_the_first_is_named(root):
    write(root / "a.txt", "day/mug/0.png mug", "day/mug/7.png mug", "no/\0/x.png key")
    with pytest.raises(DataError, match=r"names 2 images not found .* 'day/mug/7\.png'"):
        read_list(root, "a.txt")


def test_a_source_list_needs_labels(root):
    write(root / "a.txt", "day/mug/0.png")
    with pytest.raises(DataError, match=r"no class folders.*or name them in a list file"):
        load_folders(root, "a.txt", "day")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"day/\xff.png 1\n", "not UTF-8 text"),
        (b"day/mug/0.png mug\nday/mug/1.png\n", "1 of 2 lines .* no label, the first: 'day/mug/1"),
        (b"day/mug/0.png mug\n", "has only the class 'mug'"),
    ],
)
def test_a_damaged_list_is_one_clear_error(content, message, root):
    (root / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_list(root, "a.txt")


def test_a_missing_list_is_told(root):
    with pytest.raises(DataError, match=r"list file 'gone\.txt' not found, neither in"):
        load_folders(root, "day", "gone.txt")


def test_a_holdout_keeps_shared_images_out_of_the_source(root):
    lines = [f"day/{c}/{n}.png {c}" for c in ("mug", "key", "cup") for n in range(2)]
    write(root / "a.txt", *lines)
    write(root / "b.txt", *lines)
    pair = load_folders(root, "a.txt", "b.txt", holdout=0.5)
    assert len(pair.test) == 3 and not set(pair.source.paths) & set(pair.test.paths)
    assert not np.intersect1d(pair.target.labels, [-1]).size
