import json
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from runtime.benchmark.tasks import MixPlan, measure, mix, progress_calls, steps
from runtime.cli import main
from runtime.sessions.session import Session


@pytest.mark.parametrize(
    "tasks, wanted", [(2, (1, 2)), (5, (1, 2, 5)), (7, (1, 2, 5, 7)), (10, (1, 2, 5, 10))]
)
def test_steps_end_with_all_tasks(tasks, wanted):
    assert steps(tasks) == wanted


def test_a_mix_has_evenly_many_frames_of_each_task_and_an_array_for_each(frame):
    pairs = mix(["a-b", "a-c", "a-d"], 9, frame, 0)
    assert Counter(task for _, task in pairs) == {"a-b": 3, "a-c": 3, "a-d": 3}
    assert len({id(own) for own, _ in pairs}) == 9
    assert all(np.array_equal(own, frame) for own, _ in pairs)
    assert [t for _, t in pairs] != [t for _, t in mix(["a-b", "a-c", "a-d"], 9, frame, 1)]
    assert len(mix(["a-b", "a-c", "a-d"], 1, frame, 0)) == 3


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_every_row_and_every_part_is_there(world, frame, strategy):
    plan, done = MixPlan(tuple(world.tasks), frames=4, samples=5, warmup=7), []
    with Session.open(world.path, strategy=strategy) as session:
        first, *mixes = measure(session, plan, frame, lambda: done.append(1))
        assert first["loaded_bytes"] == session.task_bytes
    assert len(done) == progress_calls(plan)
    assert (first["kind"], first["tasks"]) == ("switch", 3)
    for what in ("switch_ms", "after_ms", "steady_ms"):
        assert first[what]["samples"] == 5, "what is warm-up does not count"
    assert [(m["kind"], m["tasks"], m["frames"]) for m in mixes] == [
        ("mix", 1, 4),
        ("mix", 2, 4),
        ("mix", 3, 4),
    ]
    assert all(m["grouped_per_second"] > 0 and m["one_by_one_per_second"] > 0 for m in mixes)


def test_the_command_prints_tables_and_writes_json(world, tmp_path):
    report = tmp_path / "bench.json"
    options = ["bench", str(world.path), "--tasks", "2", "--samples", "3", "--frames", "4"]
    done = CliRunner().invoke(main, [*options, "--json", str(report)])
    assert done.exit_code == 0, done.output
    assert "frame after a switch" in done.output and "tasks in the mix" in done.output
    assert (
        "onnxruntime" in done.output
        and "on cpu, strategy patch, fp32, frame 640x480" in done.output
    )
    rows = json.loads(report.read_text())["rows"]
    assert [row["tasks"] for row in rows] == [2, 1, 2]


def test_more_tasks_than_the_bundle_has_is_one_clear_sentence(world):
    done = CliRunner().invoke(main, ["bench", str(world.path), "--tasks", "4"])
    assert done.exit_code == 1
    assert "error: --tasks 4 needs as many tasks, found 3" in done.output


def test_a_batch_beside_a_number_of_tasks_is_refused_not_ignored(world):
    done = CliRunner().invoke(main, ["bench", str(world.path), "--tasks", "2", "--batch", "4"])
    assert done.exit_code == 1
    assert "error: --batch does not go with --tasks" in done.output
