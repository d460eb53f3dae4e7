"""A harvest: what is kept where, within which bounds, and what a kill or a hostile file leaves."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from runtime import Harvester, Prediction, read_image
from runtime.errors import ConfigError, DataError, FormatError, StorageError, TaskError
from runtime.monitoring import harvested
from runtime.monitoring.coverage import Coverage
from runtime.monitoring.fit import task_statistics
from tests.runtime.interrupts import elsewhere, interrupted

SIZE, CLASSES = 4, ("x", "y")
PARTS = ("trusted", "unsure", "held-out")


@pytest.fixture(scope="module")
def own():
    features = np.random.default_rng(0).normal(1, 0.3, (100, SIZE)).astype(np.float32)
    return task_statistics(features, np.arange(100) % 2, 2)


def stream(own, count, seed=0, size=(24, 32)):
    """Yield frames and predictions, of which every second one is sure."""
    random = np.random.default_rng(seed)
    for index in range(count):
        frame = random.integers(0, 256, (*size, 3), np.uint8)
        sure = 5.0 if index % 2 else 0.5
        logits = np.array([sure + random.random() / 10, 0], np.float32)
        features = random.normal(1, 0.3, SIZE).astype(np.float32)
        yield frame, Prediction("a-c", CLASSES, logits, features, own)


def fill(folder, own, count=300, seed=0, **bounds):
    with Harvester(folder, every=1, **bounds) as harvester:
        for frame, prediction in stream(own, count, seed):
            harvester.offer(frame, prediction, wait=True)
        harvester.flush()
        return harvester.counts()


COUNTS = {"trusted": 20, "unsure": 10, "held-out": 10}


@pytest.fixture(scope="module")
def made(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("harvest") / "gate"
    assert fill(folder, own, images=40) == COUNTS
    return folder


@pytest.fixture
def whole(made, tmp_path):
    """A harvest of 300 frames within 40 images."""
    return shutil.copytree(made, tmp_path / "whole")


def files(folder):
    return {part: sorted(os.listdir(Path(folder) / part)) for part in PARTS}


def test_sure_frames_are_trusted_and_others_kept_apart(whole):
    folder = whole
    assert {part: len(found) for part, found in files(folder).items()} == COUNTS
    entries = harvested.read(folder)
    assert len(entries) == 40
    scores = {part: [e.score for e in entries if e.part == part] for part in PARTS}
    assert min(scores["trusted"]) > 0.9 > max(scores["unsure"])
    assert any(e.sure for e in entries if e.part == "held-out")
    assert any(not e.sure for e in entries if e.part == "held-out")
    for entry in entries:
        path, where = harvested.find(folder, entry, ())
        assert (where, path.name) == (entry.part, entry.file)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
        assert (entry.task, entry.label) == ("a-c", "x")
        assert len(entry.features()) == (SIZE if entry.part == "trusted" else 0)


def test_a_frame_is_stored_without_loss_and_large_ones_reduced(own, tmp_path):
    small = [frame.tobytes() for frame, _ in stream(own, 60)]
    fill(tmp_path / "small", own, 60)
    for part in PARTS:
        for name in files(tmp_path / "small")[part]:
            stored = read_image(tmp_path / "small" / part / name)
            assert stored.shape == (24, 32, 3) and stored.tobytes() in small
    with Harvester(tmp_path / "large", every=1, side=40) as harvester:
        for frame, prediction in stream(own, 24, size=(80, 120)):
            harvester.offer(frame, prediction, wait=True)
    found = [p for part in PARTS for p in (tmp_path / "large" / part).iterdir()]
    assert found and {read_image(path).shape for path in found} == {(40, 60, 3)}


def test_neighbours_are_held_out_together(own, whole):
    order = {frame.tobytes(): i for i, (frame, _) in enumerate(stream(own, 300))}
    for name in files(whole)["held-out"]:
        image = read_image(whole / "held-out" / name)
        assert order[image.tobytes()] // 25 % 5 == 4


def test_trusted_frames_are_spread_as_a_plain_search_would():
    random = np.random.default_rng(3)
    points = np.concatenate([random.normal(0, 0.05, (60, 2)), random.uniform(-3, 3, (60, 2))])
    points = points[random.permutation(120)].astype(np.float32)
    found, plain = Coverage(), {}
    for index, point in enumerate(points):
        name = str(index)
        if len(found) < 12:
            found.add(name, "b", point)
            plain[name] = point
            continue
        left = found.leaves("b", point)
        pairs = [(np.linalg.norm(plain[a] - plain[b]), a, b) for a in plain for b in plain if a < b]
        least, a, b = min(pairs)
        rest = [
            [np.linalg.norm(plain[o] - plain[x]) for x in plain if x not in (a, b)] for o in (a, b)
        ]
        victim = a if min(rest[0]) <= min(rest[1]) else b
        others = min(np.linalg.norm(plain[o] - point) for o in plain if o != victim)
        expected = victim if others > least else None
        assert left == expected
        if left is not None:
            found.remove(left)
            del plain[left]
            found.add(name, "b", point)
            plain[name] = point
    kept = np.array(list(plain.values()))
    cover = np.linalg.norm(points[:, None] - kept, axis=-1).min(1).max()
    chance = np.linalg.norm(points[:, None] - points[:12], axis=-1).min(1).max()
    assert cover < 0.8 * chance


def test_points_of_other_bases_come_in_and_are_not_compared():
    found = Coverage()
    for index in range(4):
        found.add(str(index), "old", np.array([float(index), 0], np.float32))
    assert found.leaves("new", np.zeros(3, np.float32)) in {"0", "1", "2", "3"}
    assert np.isinf(found.distances("new", np.zeros(2, np.float32))).all()
    assert found.is_new("new", np.zeros(2, np.float32))
    assert not found.is_new("old", np.zeros(2, np.float32))


def test_bytes_are_bounded_with_the_manifest(own, tmp_path):
    budget = 1 << 20
    with Harvester(tmp_path / "gate", budget, every=1) as harvester:
        for frame, prediction in stream(own, 200, size=(96, 128)):  # noise: 37 kB each
            harvester.offer(frame, prediction, wait=True)
            harvester.flush()
            used = sum(p.stat().st_size for p in (tmp_path / "gate").rglob("*") if p.is_file())
            assert used <= budget
    assert min(map(len, files(tmp_path / "gate").values())) >= 5


def test_the_manifest_does_not_grow_for_ever(own, tmp_path):
    fill(tmp_path / "gate", own, 1200, images=8)
    assert (tmp_path / "gate/manifest.jsonl").read_bytes().count(b"\n") < 300


def test_old_images_are_removed(own, tmp_path, monkeypatch):
    folder = tmp_path / "gate"
    fill(folder, own, 125, images=24)
    before = files(folder)
    later = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    fill(folder, own, 30, seed=1, days=1)
    after = files(folder)
    for part in PARTS:
        assert before[part] and not {*before[part]} & {*after[part]}


def test_a_clock_that_goes_back_loses_nothing(own, tmp_path, monkeypatch):
    folder = tmp_path / "gate"
    before = fill(folder, own, 40)
    monkeypatch.setattr(time, "time", lambda: 60.0)  # no clock of its own, after a power cut
    counts = fill(folder, own, 30, seed=1)
    assert all(counts[part] >= before[part] for part in PARTS) and counts != before


def test_a_later_process_goes_on_within_the_bounds(own, whole):
    features = {e.file: e.whitened for e in harvested.read(whole)}
    assert fill(whole, own, 5, seed=1, images=40) == COUNTS
    again = {e.file: e.whitened for e in harvested.read(whole)}
    assert len(features.keys() & again.keys()) > 33
    assert all(features[name] == again[name] for name in features.keys() & again.keys())
    assert fill(whole, own, 0, images=16) == {"trusted": 8, "unsure": 4, "held-out": 4}
    assert [len(files(whole)[part]) for part in PARTS] == [8, 4, 4]


def test_what_a_person_moved_stays_listed(own, whole):
    first, second, third = sorted((whole / "unsure").iterdir())[:3]
    for path, where in ((first, "sorted/x"), (second, "none-of-these"), (third, "trusted")):
        (whole / where).mkdir(parents=True, exist_ok=True)
        path.rename(whole / where / path.name)
    assert fill(whole, own, 0, images=80) == {"trusted": 21, "unsure": 7, "held-out": 10}
    places = {
        entry.file: harvested.find(whole, entry, harvested.sorted_classes(whole))[1]
        for entry in harvested.read(whole)
    }
    assert [places[path.name] for path in (first, second, third)] == [
        "sorted/x", "none-of-these", "trusted",
    ]  # fmt: skip


def test_blank_frames_are_not_collected(own, tmp_path):
    with Harvester(tmp_path / "gate", every=1) as harvester:
        for frame, p in stream(own, 60):
            blank = Prediction(p.task, p.classes, p.logits, p.features, p.statistics, blank=True)
            harvester.offer(frame, blank, wait=True)
    assert not any(files(tmp_path / "gate").values())


def test_one_frame_of_ten_is_looked_at(own, tmp_path):
    with Harvester(tmp_path / "gate") as harvester:
        for frame, prediction in stream(own, 300):
            harvester.offer(frame, prediction, wait=True)
        harvester.flush()
        assert sum(harvester.counts().values()) == 10  # of 30, 20 tell first what a sure one is


def test_a_busy_thread_skips_frames_instead_of_waiting(own, tmp_path):
    with Harvester(tmp_path / "gate", every=1) as harvester:
        for frame, prediction in stream(own, 100, size=(300, 400)):
            harvester.offer(frame, prediction)
        assert harvester.skipped > 0


def test_the_caller_may_change_a_frame_at_once(own, tmp_path):
    frame, seen = np.zeros((24, 32, 3), np.uint8), set()
    with Harvester(tmp_path / "gate", every=1) as harvester:
        for each, prediction in stream(own, 80):
            frame[:] = each
            seen.add(each.tobytes())
            harvester.offer(frame, prediction, wait=True)
            frame[:] = 0
    found = [p for part in PARTS for p in (tmp_path / "gate" / part).iterdir()]
    assert found and all(read_image(path).tobytes() in seen for path in found)


def test_only_this_user_may_look_into_it(own, tmp_path):
    before = os.umask(0)
    try:
        fill(tmp_path / "gate", own, 60)
    finally:
        os.umask(before)
    for path in (tmp_path / "gate", *(tmp_path / "gate" / part for part in PARTS)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(0o755)
    with pytest.raises(ConfigError, match=r"other users have access .*chmod 700"):
        Harvester(tmp_path / "open")


def test_another_folder_is_not_taken(own, tmp_path):
    (tmp_path / "mine").mkdir(0o700)
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty and not a harvest"):
        Harvester(tmp_path / "mine")
    assert [*(tmp_path / "mine").iterdir()] == [tmp_path / "mine/letter.txt"]
    with pytest.raises(StorageError):
        Harvester(tmp_path / "mine/letter.txt")


def test_two_processes_do_not_share_a_folder(own, tmp_path):
    with Harvester(tmp_path / "gate"), pytest.raises(ConfigError, match="is harvesting into"):
        Harvester(tmp_path / "gate")
    Harvester(tmp_path / "gate").close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12's, about threads
def test_a_closed_or_forked_harvest_says_so(own, tmp_path):
    frame, prediction = next(stream(own, 1))
    harvester = Harvester(tmp_path / "gate")
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            harvester.offer(frame, prediction)
        except ConfigError as error:
            harvester.close()  # leaves the parent's alone
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    harvester.offer(frame, prediction)
    harvester.close()
    harvester.close()
    with pytest.raises(ConfigError, match="is closed"):
        harvester.offer(frame, prediction)


@pytest.mark.parametrize(
    ("name", "value"),
    [("budget", 5), ("images", 3), ("images", 10**6), ("days", 0), ("days", float("nan"))]
    + [("every", 0), ("side", 1), ("budget", "1 GB")],
)
def test_bounds_are_checked_before_a_folder_is_made(tmp_path, name, value):
    with pytest.raises(ConfigError, match=name):
        Harvester(tmp_path / "gate", **{name: value})
    assert not (tmp_path / "gate").exists()


def test_unusable_frames_and_tasks_are_refused(own, tmp_path):
    frame, prediction = next(stream(own, 1))
    with Harvester(tmp_path / "gate", every=1) as harvester:
        with pytest.raises(DataError):
            harvester.offer(np.zeros((4, 4), np.uint8), prediction)
        with pytest.raises(TaskError, match="'a-c' has no statistics to harvest by"):
            harvester.offer(frame, Prediction("a-c", CLASSES, prediction.logits))


def test_a_folder_that_vanishes_is_reported_and_later_frames_are_taken(own, tmp_path):
    folder, frames = tmp_path / "gate", stream(own, 200)
    with Harvester(folder, every=1) as harvester:
        for _ in range(30):
            harvester.offer(*next(frames), wait=True)
        harvester.flush()
        for path in (folder / "trusted", folder / "unsure"):
            path.chmod(0o500)
        if os.access(folder / "trusted", os.W_OK):  # root may write anywhere
            for part in ("trusted", "unsure"):
                (folder / part).rename(tmp_path / part)
                (folder / part).write_text("")
        with pytest.raises(StorageError):
            for _ in range(10):
                harvester.offer(*next(frames), wait=True)
                harvester.flush()
        for part in ("trusted", "unsure"):
            if (tmp_path / part).exists():
                (folder / part).unlink()
                (tmp_path / part).rename(folder / part)
            (folder / part).chmod(0o700)
        before = harvester.counts()
        for _ in range(20):
            harvester.offer(*next(frames), wait=True)
        harvester.flush()
        assert sum(harvester.counts().values()) > sum(before.values())
    assert len(harvested.read(folder)) == sum(map(len, files(folder).values()))


@pytest.mark.parametrize("fails", ["image", "line"])
def test_a_full_disk_removes_nothing_that_was_there(own, whole, fails):
    """A limit of a file's size stands for the disk: images are smaller than the manifest."""
    before, listed = files(whole), {e.file for e in harvested.read(whole)}
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    failed = 0
    with Harvester(whole, images=40, every=1) as harvester:
        most = 100 if fails == "image" else (whole / "manifest.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            for frame, prediction in stream(own, 120, seed=1):
                try:
                    harvester.offer(frame, prediction, wait=True)
                    harvester.flush()
                except StorageError:
                    failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert failed > 5 and files(whole) == before
        assert {e.file for e in harvested.read(whole)} == listed
        for frame, prediction in stream(own, 60, seed=2):
            harvester.offer(frame, prediction, wait=True)
        harvester.flush()
        assert harvester.counts() == COUNTS and files(whole) != before
    assert {e.file for e in harvested.read(whole)} == set(sum(files(whole).values(), []))


def test_a_disk_without_room_for_images_does_not_fill_with_lines(own, whole):
    """Images have no room, lines have."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    manifest = whole / "manifest.jsonl"
    with Harvester(whole, images=40, every=1) as harvester:
        before, most = manifest.read_bytes(), 1 << 16
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            for frame, prediction in stream(own, 60, seed=1, size=(160, 200)):
                with contextlib.suppress(StorageError):
                    harvester.offer(frame, prediction, wait=True)
                    harvester.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert manifest.read_bytes() == before
        with contextlib.suppress(StorageError):
            harvester.flush()


def test_a_folder_that_is_moved_or_removed_is_not_made_again(own, tmp_path):
    for number, end in enumerate((shutil.rmtree, lambda folder: folder.rename(tmp_path / "old"))):
        folder, frames = tmp_path / f"{number}", stream(own, 80)
        harvester = Harvester(folder, every=1)
        for _ in range(30):
            harvester.offer(*next(frames), wait=True)
        harvester.flush()
        end(folder)
        with pytest.raises(StorageError, match=r"manifest\.jsonl"):
            for frame, prediction in frames:
                harvester.offer(frame, prediction, wait=True)
        with contextlib.suppress(StorageError):
            harvester.close()
        assert not folder.exists()


def test_a_manifest_that_was_replaced_is_not_written_to(own, whole):
    harvester = Harvester(whole, every=1)
    content = (whole / "manifest.jsonl").read_bytes()
    (whole / "new").write_bytes(content)
    (whole / "new").replace(whole / "manifest.jsonl")
    with pytest.raises(StorageError, match="replaced while it was being written"):
        for frame, prediction in stream(own, 60, seed=1):
            harvester.offer(frame, prediction, wait=True)
    with contextlib.suppress(StorageError):
        harvester.close()
    assert (whole / "manifest.jsonl").read_bytes() == content


def test_what_is_not_listed_is_not_removed(own, whole):
    others = {"0123456789abcdef.png": b"x", "mine.png": b"y"}
    for name, content in others.items():
        (whole / "trusted" / name).write_bytes(content)
    (whole / "unsure/fedcba9876543210.png").mkdir()
    fill(whole, own, 60, seed=1, images=40)
    assert {name: (whole / "trusted" / name).read_bytes() for name in others} == others
    assert (whole / "unsure/fedcba9876543210.png").is_dir()


def test_an_image_larger_than_the_budget_is_reported(own, tmp_path):
    with Harvester(tmp_path / "gate", 1 << 20, every=1) as harvester:
        with pytest.raises(ConfigError, match="give a larger budget, or a smaller side"):
            for frame, prediction in stream(own, 40, size=(600, 600)):
                harvester.offer(frame, prediction, wait=True)
                harvester.flush()
        with contextlib.suppress(ConfigError):
            harvester.flush()


def test_a_score_that_is_not_finite_is_refused(own, tmp_path):
    with Harvester(tmp_path / "gate", every=1) as harvester:
        frame, prediction = next(stream(own, 1))
        prediction.logits[:] = np.nan
        harvester.offer(frame, prediction, wait=True)
        with pytest.raises(DataError, match="'a-c' has a score of nan"):
            harvester.flush()
        harvester.offer(*next(stream(own, 1)), wait=True)
        harvester.flush()


def test_closing_ends_the_calls_of_other_threads(own, tmp_path):
    harvester, ended = Harvester(tmp_path / "gate", every=1), []

    def offer():
        with contextlib.suppress(ConfigError):
            for frame, prediction in stream(own, 10**6, size=(200, 200)):
                harvester.offer(frame, prediction, wait=True)
        ended.append("offer")

    def flush():
        with contextlib.suppress(ConfigError):
            while True:
                harvester.flush()
        ended.append("flush")

    threads = [threading.Thread(target=each, daemon=True) for each in (offer, flush) * 4]
    for thread in threads:
        thread.start()
    closing = [threading.Thread(target=harvester.close) for _ in range(3)]
    for thread in (*closing, *threads):
        if thread in closing:
            thread.start()
        thread.join(60)
    assert len(ended) == 8


def test_images_of_the_future_age_like_others_and_make_none_older(own, tmp_path, monkeypatch):
    folder, start = tmp_path / "gate", time.time()
    fill(folder, own, 40)
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: 4e9)
        fill(folder, own, 40, seed=1, days=1e5)
    before = sum(map(len, files(folder).values()))
    assert sum(fill(folder, own, 0).values()) == before > 30
    assert all(start <= entry.time <= time.time() for entry in harvested.read(folder))
    later = start + 11 * 86400
    monkeypatch.setattr(time, "time", lambda: later)
    assert sum(fill(folder, own, 0, days=10).values()) == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whatever_interrupts_its_calls_it_goes_on_and_ends(own, tmp_path):
    frames = stream(own, 10**6)
    harvester = Harvester(tmp_path / "gate", every=1, images=8)

    def call():
        harvester.offer(*next(frames), wait=True)
        harvester.counts()
        harvester.flush()

    for _ in interrupted(lambda: None, call, step=7, sample=100):
        elsewhere(lambda: harvester.offer(*next(frames), wait=True), 20)
        elsewhere(harvester.counts, 20)
        elsewhere(harvester.flush, 20)
    number = 0

    def again():
        nonlocal harvester, number
        number += 1
        harvester = Harvester(tmp_path / f"{number}", every=1)

    for _ in interrupted(again, lambda: harvester.close(), step=5, sample=100):
        elsewhere(harvester.close, 20)
        Harvester(tmp_path / f"{number}").close()


KILLED = """
import sys, numpy as np
from runtime import Harvester, Prediction, read_image
from runtime.monitoring.fit import task_statistics
from tests.runtime.interrupts import elsewhere, interrupted
random = np.random.default_rng(int(sys.argv[2]))
own = task_statistics(random.normal(1, 0.3, (40, 4)).astype(np.float32), np.arange(40) % 2, 2)
ready = False
with Harvester(sys.argv[1], every=1, images=24) as harvester:
    while True:
        if not ready and any(harvester.counts().values()):
            ready = True
            print("ready", flush=True)
        logits = np.array([5 * random.random(), 0], np.float32)
        features = random.normal(1, 0.3, 4).astype(np.float32)
        frame = random.integers(0, 256, (60, 80, 3), np.uint8)
        harvester.offer(frame, Prediction("a-c", ("x", "y"), logits, features, own), wait=True)
"""


def test_a_kill_leaves_whole_files(own, tmp_path):
    folder, random = tmp_path / "gate", np.random.default_rng(0)
    for seed in range(4):
        command = [sys.executable, "-c", KILLED, str(folder), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.15 * random.random())
            process.send_signal(signal.SIGKILL)
        for part in PARTS:
            for path in (folder / part).glob("*.png"):
                assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == path.stem
        listed = {e.file for e in harvested.read(folder)}
        there = {name for found in files(folder).values() for name in found if name[0] != "."}
        assert len(there - listed) <= 1 and len(listed - there) <= 1
    counts = fill(folder, own, 0, images=24)
    assert {part: len(found) for part, found in files(folder).items()} == counts
    assert len(harvested.read(folder)) == sum(counts.values()) > 0
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def line(**changes):
    digest = "0123456789abcdef" * 4
    entry = {
        "file": f"{digest[:16]}.png", "sha256": digest, "part": "trusted", "sure": True,
        "task": "a-c", "label": "x", "score": 0.5, "seen": 1, "time": 1.0,
        "basis": "b", "whitened": "ADw=",
    }  # fmt: skip
    return json.dumps(entry | changes).encode() + b"\n"


HEAD = b'{"kind": "uda-harvest", "schema": 1}\n'
DAMAGED = {
    "empty": b"",
    "another kind": b'{"kind": "x", "schema": 1}\n',
    "a later schema": b'{"kind": "uda-harvest", "schema": 2}\n' + line(),
    "not JSON": HEAD + b"\x00\x00\n",
    "a list": HEAD + b"[]\n",
    "a path": HEAD + line(file="../../etc/passwd"),
    "another name": HEAD + line(file="fedcba9876543210.png"),
    "another part": HEAD + line(part="../x"),
    "a bad digest": HEAD + line(sha256="x"),
    "an unknown key": HEAD + line(more=1),
    "a score of 2": HEAD + line(score=2.0),
    "a negative count": HEAD + line(seen=-1),
    "a time far away": HEAD + line(time=1e12),
    "an infinite time": HEAD + line().replace(b'"time": 1.0', b'"time": 1e999'),
    "features of infinity": HEAD + line(whitened="AHw="),
    "features cut off": HEAD + line(whitened="AA=="),
    "features that are no base64": HEAD + line(whitened="!"),
    "a long line": HEAD + line(label="x" * (1 << 14)),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_manifest_is_refused_and_nothing_removed(tmp_path, what):
    folder = tmp_path / "gate"
    (folder / "trusted").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "trusted/0123456789abcdef.png").write_bytes(b"x")
    (folder / "manifest.jsonl").write_bytes(DAMAGED[what])
    with pytest.raises(FormatError, match=r"manifest\.jsonl"):
        harvested.read(folder)
    with pytest.raises((FormatError, ConfigError)):
        Harvester(folder)
    assert (folder / "trusted/0123456789abcdef.png").exists()
    assert (folder / "manifest.jsonl").read_bytes() == DAMAGED[what]


def test_a_last_line_that_was_not_finished_is_left_out(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(HEAD + line() + line()[:50])
    assert [entry.file for entry in harvested.read(tmp_path)] == ["0123456789abcdef.png"]
    assert harvested.is_harvest(tmp_path)


def test_what_is_not_a_harvest_is_not_taken_for_one(tmp_path):
    assert not harvested.is_harvest(tmp_path)
    os.mkfifo(tmp_path / "manifest.jsonl")
    assert not harvested.is_harvest(tmp_path)
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "manifest.jsonl").write_bytes(b"\xff\x00" * 100)
    assert not harvested.is_harvest(tmp_path)
