"""Many threads on one session over trained tasks: not one answer may differ from its task's own."""

import shutil

import numpy as np
import pytest

from adapt import methods
from adapt.data import load_folders
from adapt.training.train import train
from benchmarks.switches import Storm
from export.pipeline import export_bundle
from export.verification.images import ImagePaths
from runtime.frames.preprocess import read_image
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session
from tests.export.test_every_method import SETTINGS
from tests.runtime.interrupts import ALL
from tests.runtime.test_threads import answers, stress

VARIANTS = {
    "cmkd": {"rst": True, "rst_threshold": 1e-4},
    "source_only": {"rst": True, "rst_threshold": 5e-4},
    "unimos": {},
    "zero_shot": {},
}
THREADS, CALLS = 8, 20_000 if ALL else 2_000


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """A bundle of demo-rn32: two tasks that patch the encoder, two that leave it alone."""
    root = tmp_path_factory.mktemp("stress")
    paths = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UDA_CACHE", str(root / "cache"))
        for name, own in VARIANTS.items():
            for domain in ("source", name):
                shutil.copytree(world.images, root / "shapes" / domain, dirs_exist_ok=True)
            cls = methods.get(name).Config
            known = {k: v for k, v in SETTINGS.items() if k in cls.__dataclass_fields__}
            config = cls(**{**known, "model": "demo-rn32", "pretrained": "demo", **own})
            pair = load_folders(root / "shapes", "source", name)
            paths.append(train(name, pair, config, out=root / "artifacts").path)
        export_bundle(paths, root / "four.bundle", images=ImagePaths(world.images), max_images=6)
    return root / "four.bundle"


def test_thousands_of_calls_of_eight_threads_on_trained_tasks_give_each_its_own_answer(world, made):
    frames = [read_image(file) for file in sorted(world.images.glob("*/1*.png"))]
    with Session.open(made, threads=1) as session:
        changed = {task.method: task.changed for task in session.bundle.manifest.tasks}
        assert [count > 0 for count in changed.values()] == [True, True, False, False], changed
        want = answers(session, frames)
        assert len({row for rows in want.values() for row in rows}) == len(want) * len(frames)

        def work(number: int) -> None:
            own, each = np.random.default_rng(number), CALLS // THREADS
            tasks, picks = own.choice(session.tasks, each), own.integers(0, len(frames), each)
            for task, pick in zip(tasks.tolist(), picks.tolist(), strict=True):
                result = session.predict(frames[pick], task)
                assert result.task == task
                assert result.logits.tobytes() == want[task][pick]

        stress(work, THREADS)
        assert answers(session, frames) == want
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


# What the handler raises while a callback of the garbage collector runs, such as Hypothesis's, is
# lost there; the next interrupt is not.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("strategy", ["patch", "engines", "pool"])
def test_interrupts_at_random_moments_change_no_answer_of_trained_tasks(world, made, strategy):
    """A little of what `make acceptance PART=switches` does."""
    held = "patch" if strategy == "pool" else strategy
    frames = [read_image(file) for file in sorted(world.images.glob("*/1*.png"))][:3]
    with Session.open(made, threads=1, strategy=held) as session:
        want = {t: [session.predict(f, t).logits for f in frames] for t in session.tasks}
    with Storm(frames, want) as storm:
        if strategy == "pool":
            with SessionPool.open(made, sessions=2, threads=1) as pool:
                storm.predictions(pool, 50)
        else:
            with Session.open(made, threads=1, strategy=strategy) as session:
                for task in session.tasks:
                    session.load(task)
                storm.switches(session, 5_000 if ALL else 2_500)
    assert storm.counts.faults == 0, storm.counts
    assert storm.counts.interrupts >= 50 and storm.counts.answers >= 50
