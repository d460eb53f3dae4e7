"""The three lines of the README that make a table of pandas of predictions."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.cli import main

pandas = pytest.importorskip("pandas", reason="pandas is not installed (extra runtime-tests)")
README = Path(__file__).parents[2] / "README.md"


def test_three_lines_make_a_table_that_the_csv_file_holds_too(world, tmp_path):
    rng, paths = np.random.default_rng(0), []
    for number in range(9):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(paths[-1])
    (block,) = re.findall(r"```python\n(import pandas\n.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in block.splitlines() if line]) == 3
    with runtime.Session.open(world.path) as session:
        session.switch("a-d")
        names = {"session": session, "paths": paths}
        exec(block, names)
        found = [session.predict(path) for path in paths]
    table = names["table"]
    assert list(table.index) == paths
    assert list(table.columns) == ["task", "label", "score", "top", "calibration"]
    assert list(table["label"]) == [one.label for one in found]
    assert list(table["score"]) == pytest.approx([one.score for one in found])
    out = tmp_path / "o.csv"
    words = ["predict", str(world.path), *paths, "--task", "a-d", "--csv", str(out)]
    assert CliRunner().invoke(main, words).exit_code == 0
    read = pandas.read_csv(out, index_col="image")
    pandas.testing.assert_series_equal(read["label"], table["label"], check_names=False)
    assert list(read["score"]) == pytest.approx(list(table["score"]), rel=1e-5)
    assert read["error"].isna().all()
