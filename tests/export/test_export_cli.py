import pytest
from click.testing import CliRunner

from export.cli import main
from runtime.backends.openvino.engine import OpenvinoEngine
from runtime.bundles.bundle import Bundle
from runtime.sessions.session import Session


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_onnx_writes_a_bundle_and_baked_files_and_says_what_it_found(world, tmp_path):
    out = tmp_path / "demo.bundle"
    result = invoke(
        *("onnx", "--task", "p-a", "--task", "c-r", "--artifacts", world.artifacts),
        *("--out", out, "--images", world.images, "--baked"),
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    first = next(line.split() for line in lines if line.startswith("p-a"))
    assert first[:5] == ["p-a", "36", "of", "36", "100.00%"]
    assert lines[-1] == f"next       uda-runtime predict {out} --task p-a IMAGES..."
    assert lines[-3].startswith("routing    no task can be chosen for a frame; train and export")
    assert lines[-7:-4] == [
        f"wrote {out} (fp32, verified against PyTorch)",
        f"wrote {tmp_path / 'demo-p-a.onnx'}",
        f"wrote {tmp_path / 'demo-c-r.onnx'}",
    ]
    survives = [line.split() for line in lines if line.startswith("c-r")][-1]
    assert survives[1] == "cmkd-rst" and survives[4] == "100.0%"
    again = invoke(
        *("verify", out, "--task", "c-r", "--artifacts", world.artifacts),
        *("--images", world.images, "--max-images", 5),
    )
    assert again.exit_code == 0 and "5 of 36" in again.output and "p-a" not in again.output
    assert again.output.splitlines()[-1] == f"verified   {out}: 1 task compared, none differs"
    wrong = invoke("verify", out, "--artifacts", world.artifacts, "--device", "tpu")
    assert wrong.exit_code == 1 and "unknown device 'tpu'" in wrong.output


def test_another_backend_must_agree_too(world, tmp_path, monkeypatch):
    run = OpenvinoEngine.run

    def wrong(engine, inputs):
        return -run(engine, inputs)

    root, out = tmp_path / "artifacts", tmp_path / "o.bundle"
    world.train("c-r", base="demo-vit32", root=root)
    world.train("p-a", root=root)
    options = ("--artifacts", root, "--images", world.images, "--max-images", 3, "--out", out)
    for task, strategy in (("p-a", "engines"), ("c-r", "patch")):  # a ResNet, a transformer
        result = invoke("onnx", "--task", task, "--backend", "openvino", *options)
        assert result.exit_code == 0, result.output
        with Session.open(out, backend="openvino", strategy=strategy) as session:
            assert session.task == task
    monkeypatch.setattr(OpenvinoEngine, "run", lambda engine, inputs: wrong(engine, inputs))
    wrong_out = tmp_path / "wrong.bundle"
    result = invoke("onnx", "--task", "c-r", "--backend", "openvino", *options[:-1], wrong_out)
    assert result.exit_code == 1 and "the engine differs by" in result.output
    assert not wrong_out.exists()


def test_each_task_may_name_its_own_variant(world, tmp_path):
    root = tmp_path / "artifacts"
    for task, variant in (("p-a", "cmkd"), ("p-a", "cmkd-rst"), ("c-r", "cmkd"), ("c-r", "other")):
        world.train(task, root=root, variant=variant)
    options = ("--artifacts", root, "--images", world.images, "--max-images", 3)
    result = invoke(
        *("onnx", "--task", "p-a=cmkd-rst", "--task", "c-r", "--method", "cmkd", *options),
        *("--out", tmp_path / "o"),
    )
    assert result.exit_code == 0, result.output
    opened = Bundle.open(tmp_path / "o")
    assert [opened.entry(task).method for task in ("p-a", "c-r")] == ["cmkd-rst", "cmkd"]
    assert "replaces" not in result.output
    result = invoke("onnx", "--task", "c-r=cmkd", "--out", tmp_path / "o", *options)
    assert f"replaces {tmp_path / 'o'}, which also holds 'p-a'; name every task" in result.stderr
    assert Bundle.open(tmp_path / "o").tasks == ("c-r",)
    result = invoke("onnx", "--task", "p-a=ekda", "--out", tmp_path / "x", *options)
    assert result.exit_code == 1 and "was not trained with 'ekda'" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("onnx", "--task", "x-y", "--out", "o"), "no artifact of task 'x-y'"),
        (("onnx", "--task", "p-a", "--method", "ekda", "--out", "o"), "not trained with 'ekda'"),
        (("onnx", "--task", "p-a", "--out", "o"), "pass --images"),
        (("verify", "nowhere.bundle"), "'nowhere.bundle' does not exist"),
        (("onnx", "--task", "p-a", "--out", "o", "--images", "b"), "'b' not found"),
        (("onnx", "--task", "p-a", "--out", "o", "--images", "x-y=."), "unknown task 'x-y'"),
    ],
)
def test_errors_are_one_line_and_exit_code_one(world, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments, "--artifacts", world.artifacts)
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if line.strip()]
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert not (tmp_path / "o").exists()


def test_missing_options_are_usage_errors():
    assert invoke("onnx", "--task", "p-a").exit_code == 2
    assert invoke("onnx", "--task", "p-a", "--out", "o", "--precision", "int8").exit_code == 2


def test_help_shows_a_whole_summary_of_each_command():
    shown = invoke("--help").output
    for command in main.commands.values():
        assert command.short_help and len(command.short_help) <= 45
        assert f"{command.name}  " in shown and f"  {command.short_help}\n" in shown
