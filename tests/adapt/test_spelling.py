"""Names of folders: slashes, composed and decomposed letters, other scripts."""

import os
import unicodedata

import pytest

from adapt.data import load_folders
from adapt.data.own_domains import read_test
from adapt.data.spelling import short, tidy
from adapt.methods.zero_shot import ZeroShot
from adapt.training.train import train
from runtime.errors import ConfigError, DataError
from runtime.storage.spelling import on_disk
from tests.adapt.odd_world import domain, picture

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("source", ["a", "a/", "./a", "a//", "./a/."])
@pytest.mark.parametrize("target", ["b", "b/"])
def test_slashes_make_no_difference(tmp_path, source, target):
    for name in "ab":
        domain(tmp_path, name, 1)
    pair = load_folders(tmp_path, source, target)
    assert pair.task.id == "a-b" and (pair.task.source, pair.task.target) == ("a", "b")
    assert pair.inventory.line().startswith("source a 3, target b 3 images")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
def test_composed_and_decomposed_letters_make_no_difference(tmp_path, form, asked):
    def spelled(name):
        return unicodedata.normalize(form, name)

    root = tmp_path / spelled("données")
    for name in (COMPOSED, "hiver"):
        for label in ("clé", "étoile"):
            # Of one domain, both spellings of a class.
            picture(root / spelled(name) / spelled(label) / "0.png")
            picture(root / spelled(name) / unicodedata.normalize("NFD", label) / "1.png")
    pair = load_folders(root, asked, "hiver")
    expected = ("clé", "étoile")
    assert pair.task.classes == expected and len(pair.source) == len(pair.target) == 4
    assert pair.task.source == COMPOSED
    assert pair.task.id == f"{short(COMPOSED)}-hiver" and pair.task.dataset == short("données")
    lines = f"{asked}/clé/1.png {spelled('clé')}\nhiver/{spelled('étoile')}/0.png étoile\n"
    (root / "liste.txt").write_text(lines)
    assert read_test(root, "liste.txt").classes == expected
    assert read_test(root, asked).domain == COMPOSED


def test_a_domain_in_both_spellings_is_refused(tmp_path):
    for name in (COMPOSED, DECOMPOSED, "hiver"):
        domain(tmp_path, name, 1)
    with pytest.raises(DataError, match="has the folder 'été' twice, with composed and with deco"):
        load_folders(tmp_path, "hiver", DECOMPOSED)


def test_ids_of_plain_names_are_as_they_were():
    names = ("Real World", "web-cam", "a (1)", "v.2", "A_b", "x/train")
    assert [short(name).lower() for name in names] == [
        *("real_world", "web_cam", "a__1_", "v.2", "a_b", "x_train"),
    ]


def test_names_of_other_scripts_have_ids_of_their_own(tmp_path):
    names = ("工場", "商店", "夜間", "昼間", "día", "dúa", "улица", "شارع", "a店", "a場")
    shorts = {short(name) for name in names}
    assert len(shorts) == len(names) and all(name.isascii() for name in shorts)
    assert short("día").startswith("d_a_") and short("a店").startswith("a_")
    for name in names[:4]:
        domain(tmp_path / "写真", name, 1)
    tasks = [load_folders(tmp_path / "写真", *pair).task for pair in (names[:2], names[2:4])]
    assert tasks[0].id != tasks[1].id and (tasks[0].source, tasks[0].target) == names[:2]
    assert tasks[0].dataset == short("写真")


def test_a_path_is_spelled_as_the_disk_does(tmp_path):
    (tmp_path / DECOMPOSED / DECOMPOSED).mkdir(parents=True)
    assert on_disk(tmp_path / COMPOSED / COMPOSED) == tmp_path / DECOMPOSED / DECOMPOSED
    for gone in (tmp_path / COMPOSED / "x", tmp_path / "gone" / COMPOSED):
        assert on_disk(gone) == gone
    assert tidy("./a//b/") == "a/b" and tidy(DECOMPOSED) == COMPOSED and tidy("") == ""


OTHER = "holds another task, 'a b' to 'c'.*another --artifacts"


def test_no_remedy_deletes_the_result_of_other_domains(tmp_path, cache):
    root = tmp_path / "shop"
    for name in ("a b", "a_b", "c"):
        domain(root, name, 1)
    config = ZeroShot.Config(model="demo-rn32", pretrained="demo")
    done = train("zero_shot", load_folders(root, "a b", "c"), config, out=tmp_path / "out")
    before = done.path.read_bytes()
    for words in ({}, {"restart": True}, {"resume": True}):
        with pytest.raises(ConfigError, match=OTHER) as caught:
            pair = load_folders(root, "a_b", "c")
            train("zero_shot", pair, config, out=tmp_path / "out", **words)
        assert "--restart" not in str(caught.value) and done.path.read_bytes() == before


@pytest.mark.parametrize("what", ["class", "domain"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"caf\xe9", r"/caf\xe9' is not UTF-8 text; rename the folder"),  # from an old archive
        (b"a\x1b[1mb", r"/a\x1b[1mb' has control characters; rename the folder"),
    ],
)
def test_a_folder_whose_name_cannot_be_shown_is_named_with_the_reason(
    tmp_path, what, name, message
):
    odd = os.fsdecode(name)
    one, label = ("a", odd) if what == "class" else (odd, "clé")
    for folder in (one, "b"):
        for inner in (label, "étoile"):
            picture(tmp_path / folder / inner / "0.png")
    with pytest.raises(DataError) as error:
        load_folders(tmp_path, one, "b")
    assert str(error.value).startswith(f"the name of the {what} folder '{tmp_path}")
    assert message in str(error.value)
