"""Which candidate is chosen, and how it is said."""

import json

import numpy as np
import pytest

from runtime.benchmark.compare import show
from runtime.benchmark.compare.agreement import Agreement, problem, summed
from runtime.benchmark.compare.choice import choose, ratio
from runtime.markdown import markdown_text


def row(name, ms, memory=100, problem="", **more):
    """Return a row with these round medians and this many MB of memory."""
    return {
        "name": name,
        "chosen_by": f"--strategy {name}",
        "precision": "fp32",
        "predict_ms": {"p50": float(np.median(ms)), "p99": max(ms)},
        "round_ms": list(ms),
        "images_per_second": 1000 / float(np.median(ms)),
        "switch_ms": None,
        "peak_rss_bytes": memory * 10**6,
        "device_bytes": None,
        "problem": problem,
        "reference": False,
        "answers": None,
        **more,
    }


STEADY = (10.0, 10.1, 9.9, 10.0, 10.2, 9.8)


def times(factor):
    return [ms * factor for ms in STEADY]


def test_the_fastest_is_chosen_though_it_takes_more_memory():
    chosen = choose([row("a", STEADY, 100), row("b", times(0.8), 300)], False)
    assert chosen.row["name"] == "b"
    assert chosen.sentences == ("choose --strategy b: 8 ms, the fastest of the 2 that agree with "
                                "the reference",)  # fmt: skip


def test_of_equally_fast_ones_the_smallest_is_chosen_and_the_others_are_named():
    noisy = [ms * factor for ms, factor in zip(STEADY, (0.8, 1.3, 0.9, 1.1, 1.0, 1.2), strict=True)]
    chosen = choose([row("a", noisy, 100), row("b", STEADY, 300)], False)
    assert chosen.row["name"] == "a"
    assert "smallest of the 2 that agree with the reference and are as fast" in chosen.sentences[0]
    assert "(quartiles 0." in chosen.sentences[1] and "300.0 MB" not in chosen.sentences[0]


def test_memory_on_the_gpu_counts_as_well():
    rows = [row("a", STEADY, 100, device_bytes=900 * 10**6), row("b", STEADY, 300)]
    assert choose(rows, False).row["name"] == "b"


def test_one_that_is_faster_but_disagrees_is_not_chosen_and_said_so():
    bad = row("b", times(0.5), problem="has a different top class on 3 of 9 images")
    chosen = choose([row("a", STEADY), bad], False)
    assert chosen.row["name"] == "a"
    assert chosen.sentences[-1] == (
        "b would be faster (5 ms), but has a different top class on 3 of 9 images"
    )


def test_a_few_rounds_are_said_to_be_few():
    chosen = choose([row("a", (1.0, 1.0)), row("b", (2.0, 2.0))], False)
    assert chosen.row["name"] == "a" and "2 rounds of calls" in chosen.sentences[-1]


@pytest.mark.parametrize(
    ("rows", "interrupted", "message"),
    [
        ([], False, "nothing runs here"),
        ([], True, "it was interrupted before"),
        ([row("a", STEADY, problem=None)], True, "it was interrupted before"),
        ([row("a", STEADY, problem=None)], False, "every way failed before"),
        ([row("a", STEADY, predict_ms=None)], True, "it was interrupted before"),
    ],
)
def test_without_a_choice_there_is_a_reason(rows, interrupted, message):
    chosen = choose(rows, interrupted)
    assert chosen.row is None and message in chosen.sentences[0]


def test_ratios_are_of_the_rounds_that_both_took_part_in():
    found = ratio(row("a", (2.0, 30.0, 6.0)), row("b", (1.0, 10.0, 3.0), round_ms=[1, None, 3]))
    assert (found.middle, found.rounds) == (2.0, 2)


def counted(logits, reference, labels):
    counts = Agreement()
    for own, expected, label in zip(logits, reference, labels, strict=True):
        counts.add(np.array(own), np.array(expected), label)
    return summed([counts])


EXPECTED = [[0.0, 4.0], [3.0, 1.0], [0.0, 2.0]]


def test_agreement_counts_classes_differences_and_labels():
    found = counted([[0.0, 4.5], [1.0, 3.0], [0.0, 2.0]], EXPECTED, [1, 0, None])
    assert (found["frames"], found["same_top_class"], found["max_difference"]) == (3, 2, 2.0)
    assert found["spread"] == pytest.approx(8 / 3)
    assert found["max_share_of_spread"] == pytest.approx(0.75)
    assert (found["labelled"], found["right"], found["accuracy"]) == (2, 1, 50.0)
    assert summed([]) is None and summed([Agreement()]) is None


def test_what_counts_as_agreement_depends_on_precision_and_frames():
    same = counted(EXPECTED, EXPECTED, [1, 0, 1])
    near = counted([[0.0, 4.05], [3.0, 1.0], [0.0, 2.0]], EXPECTED, [1, 0, 1])
    other = counted([[5.0, 4.0], [3.0, 1.0], [0.0, 2.0]], EXPECTED, [1, 0, 1])
    assert problem(same, same, "fp32", noise=False) == ""
    assert "differs by 0.019 of the spread" in problem(near, same, "fp32", noise=False)
    assert problem(near, same, "fp16", noise=False) == problem(near, same, "fp16", noise=True) == ""
    assert problem(other, same, "fp16", noise=False) == "has a different top class on 1 of 3 images"
    assert "of the spread of the logits, allowed 0.05" in problem(other, same, "bf16", noise=True)
    labelled = {**near, "accuracy": 98.5}
    assert problem(labelled, {**same, "accuracy": 100.0}, "fp16", noise=False) == (
        "has 1.5 points less accuracy"
    )


def test_equal_logits_are_no_difference_even_without_a_spread():
    found = counted([[1.0, 1.0]], [[1.0, 1.0]], [None])
    assert found["max_share_of_spread"] == 0
    apart = counted([[1.0, 2.0]], [[1.0, 1.0]], [None])
    json.dumps(apart, allow_nan=False)
    assert problem(apart, found, "fp16", noise=True)


REPORT = {
    "tasks": [f"a-{n}" for n in range(9)],
    "samples": 4,
    "rounds": 4,
    "seed": 0,
    "warmup": 1,
    "batch": 8,
    "frame": "4x4",
    "threads": None,
    "machine": {"processor": "P", "cores": 2, "system": "S"},
    "rows": [],
    "left_out": [],
    "sentences": ["none"],
    "interrupted": False,
    "compared_on": "noise",
    "unread": {},
}


def test_names_cannot_break_a_table_or_control_a_terminal():
    name = "a|b*\x1b[2J<i>\nc"
    found = {**REPORT, "rows": [row(name, STEADY)]}
    found["left_out"] = [{"what": name, "reason": "`x`"}]
    text, page = show.text(found), show.markdown(found)
    assert "\x1b" not in text + page
    lines = page.splitlines()
    assert lines[2].startswith("| a\\|b\\*\\\\x1b\\[2J\\<i\\>\\\\nc | fp32 | 10.000 | 10.200 |")
    assert len({line.replace("\\|", "").count("|") for line in lines[:3]}) == 1
    assert "\n- a\\|b" in page and "\\`x\\`" in page


def test_an_underscore_is_escaped_only_where_it_would_mean_emphasis():
    assert markdown_text("source_only _x_ a_") == r"source_only \_x\_ a\_"


def test_columns_without_a_value_are_left_out_and_long_lists_cut():
    text = show.text({**REPORT, "rows": [row("a", STEADY)], "interrupted": True})
    assert "switch ms" not in text and "GPU memory" not in text and "accuracy" not in text
    assert "9 tasks in memory (a-0, a-1, a-2, a-3, a-4, a-5, ...)" in text
    assert "interrupted: this is what was measured until then" in text
