"""Annotated pictures within a budget: the oldest leave, and nobody else's files do."""

import io
import os
import resource
import shutil
import signal

import pytest

from runtime.errors import ConfigError, StorageError
from runtime.outputs.drawing import annotate
from runtime.watch.sinks import pictures
from runtime.watch.sinks.pictures import Pictures
from tests.runtime.watch.observed import FRAME, Program, failure, observation, until
from tests.users import in_child


def started(folder, **options):
    sink = Pictures(folder, **options)
    sink.start(Program())
    return sink


def saved(folder):
    return sorted(folder.rglob("*.jpg"), key=lambda path: path.name)


def give(sink, *observations):
    """Give observations one by one, each when the one before is saved: four may wait."""
    for each in observations:
        sink.take(each)
        stamp = f"-{each.frame.number}.jpg"
        until(lambda s=stamp: sink._saved and sink._saved[-1].name.endswith(s))


def test_a_picture_is_saved_by_source_and_time_with_its_label(tmp_path):
    sink = started(tmp_path / "new/save", every=0)
    sink.take(observation(7))
    sink.take(failure(8))
    sink.close()
    sink.close()
    (path,) = saved(tmp_path)
    found = path.relative_to(tmp_path)
    assert str(found) == "new/save/gate/20270115-0800/20270115-080007.250-7.jpg"
    wanted = io.BytesIO()
    annotate(FRAME, ["key 78.7%"]).save(wanted, "JPEG", quality=85)
    assert path.read_bytes() == wanted.getvalue()
    assert sorted(os.listdir(tmp_path / "new/save")) == ["gate"]  # the lock is gone


def test_the_oldest_pictures_leave_and_other_files_stay(tmp_path, monkeypatch):
    (tmp_path / "gate").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "gate/holiday.jpg").write_bytes(b"x" * 3_000_000)
    sink = started(tmp_path, budget=1, every=0)
    size = 0
    for number in range(24):
        source = ("gate", "yard")[number % 2]
        give(sink, observation(number * 120, source))
        size = size or saved(tmp_path / "gate/20270115-0800")[0].stat().st_size
    sink.close()
    ours = [path for path in saved(tmp_path) if path.name != "holiday.jpg"]
    assert [int(path.stem.split("-")[-1]) // 120 for path in ours] == list(
        range(24 - len(ours), 24)
    )
    total = sum(path.stat().st_size for path in ours)
    assert 1_000_000 - 1.2 * size < total <= 1_000_000
    assert (tmp_path / "gate/holiday.jpg").stat().st_size == 3_000_000
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "gate/20270115-0800").exists()  # empty folders leave as well


def test_what_an_earlier_run_left_counts_for_the_budget(tmp_path):
    first = started(tmp_path, budget=1, every=0)
    give(first, *(observation(number) for number in range(10)))
    first.close()
    before = saved(tmp_path)
    second = started(tmp_path, budget=1, every=0)
    give(second, *(observation(number) for number in range(10, 24)))
    second.close()
    total = sum(path.stat().st_size for path in saved(tmp_path))
    assert total <= 1_000_000 and not before[0].exists()


def test_the_number_of_pictures_is_bounded_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST", 3)
    sink = started(tmp_path, every=0)
    give(sink, *(observation(number) for number in range(8)))
    sink.close()
    assert [path.stem[-1] for path in saved(tmp_path)] == ["5", "6", "7"]


def test_one_picture_a_while_and_one_for_each_new_label_or_task(tmp_path):
    sink = started(tmp_path, every=1000)
    given = [
        *(observation(0), observation(2, best=2), observation(4, best=2, task="d-r")),
        *(observation(6, "yard"), observation(8, best=0)),
    ]
    for each in given:
        give(sink, each)
        for _ in range(3):
            same = observation(each.frame.number + 1, each.source)
            sink.take(same if each.source == "yard" else each)
    sink.close()
    assert [int(path.stem.split("-")[-1]) for path in saved(tmp_path)] == [0, 2, 4, 6, 8]


def test_two_processes_do_not_save_into_one_folder(tmp_path):
    sink = started(tmp_path)
    with pytest.raises(ConfigError, match="saves to .* choose another folder for --save"):
        started(tmp_path)
    sink.close()
    started(tmp_path).close()


def test_a_file_in_place_of_the_folder_is_an_error_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(StorageError, match="cannot write"):
            started(folder)


@pytest.mark.parametrize("options", [{"budget": 0}, {"budget": float("nan")}, {"every": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match="--save-.* must be at least"):
        Pictures(tmp_path, **options)


def test_a_picture_that_does_not_fit_leaves_nothing(tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    def save():
        sink = started(tmp_path)
        sink.take(observation())
        sink.close()
        assert sink.lost == 1

    assert in_child(limit, save) == ""
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_loses_pictures_and_nothing_else(tmp_path, capfd):
    sink = started(tmp_path / "save", every=0)
    give(sink, observation(0))
    shutil.rmtree(tmp_path / "save/gate")
    (tmp_path / "save/gate").write_text("in the way")
    sink.take(observation(1))
    until(lambda: sink.lost == 1)
    (tmp_path / "save/gate").unlink()
    give(sink, observation(2))
    shutil.rmtree(tmp_path / "save")
    give(sink, observation(3))  # the folder is made again
    sink.close()
    assert [path.stem[-1] for path in saved(tmp_path)] == ["3"]
    said = capfd.readouterr().err.splitlines()
    assert "warning: --save: cannot write" in said[0] and "1 picture lost so far" in said[0]
    assert len(said) == 2 and "goes on; 1 picture lost so far" in said[1]
