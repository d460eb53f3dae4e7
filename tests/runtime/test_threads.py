"""Many threads on one session: not one answer may differ from its task's own."""

import threading

import numpy as np

import runtime
from tests.runtime.conftest import SIZE


def stress(work, threads: int = 8) -> None:
    """Run `work(number)` on threads at once; raise what any of them raises."""
    errors: list[BaseException] = []
    start = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=[number]) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def answers(session, frames):
    return {
        task: [session.predict(frame, task).logits.tobytes() for frame in frames]
        for task in session.tasks
    }


def test_twenty_thousand_calls_of_eight_threads_give_each_tasks_own_answer(mixed):
    frames = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)
    calls = [0] * 8
    with runtime.Session.open(mixed.path, threads=1) as session:
        want = answers(session, frames)

        def work(number: int) -> None:
            own = np.random.default_rng(number)
            for task, i in zip(own.choice(session.tasks, 2500), own.integers(0, 6, 2500)):  # noqa: B905
                result = session.predict(frames[i], str(task))
                assert result.task == task
                assert result.logits.tobytes() == want[result.task][i]
                calls[number] += 1

        stress(work)
        assert sum(calls) == 20_000
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        assert answers(session, frames) == want


def test_threads_that_do_everything_at_once_within_a_bound_get_right_answers(mixed):
    frames = np.random.default_rng(1).integers(0, 256, (4, 23, 37, 3), dtype=np.uint8)
    with runtime.Session.open(mixed.path, threads=1) as free:
        want = answers(free, frames)
        sizes = {task: free.load(task) for task in free.tasks}
    bound = max(sizes.values()) + min(sizes.values())
    near = {task: [np.frombuffer(row, np.float32) for row in want[task]] for task in want}
    with runtime.Session.open(mixed.path, threads=1, max_task_bytes=bound) as session:

        def work(number: int) -> None:
            own = np.random.default_rng(number)
            for _ in range(150):
                i, task = int(own.integers(4)), str(own.choice(session.tasks))
                match number if number < 4 else int(own.integers(3)):
                    case 0:
                        assert session.predict(frames[i], task).logits.tobytes() == want[task][i]
                    case 1:  # no task named: whichever is current, but one task's own answer
                        session.switch(task)
                        result = session.predict(frames[i])
                        assert result.logits.tobytes() == want[result.task][i]
                    case 2:
                        tasks = own.choice(session.tasks, 5).tolist()
                        found = session.predict_many([(frames[i], t) for t in tasks])
                        for name, result in zip(tasks, found, strict=True):
                            assert result.task == name
                            np.testing.assert_allclose(
                                result.logits, near[name][i], rtol=1e-5, atol=0.01
                            )
                    case 3:
                        session.prefetch(*own.choice(session.tasks, 2).tolist())
                        session.refresh()

        session.switch("a-b")
        stress(work)
        assert session.task_bytes <= bound
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
