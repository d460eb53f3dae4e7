import subprocess
import sys

import pytest

import export
from runtime.errors import ConfigError
from runtime.sessions.session import Session


def test_a_bundle_is_exported_and_verified_through_the_package_alone(world, tmp_path):
    paths = [
        world.artifacts / "my-objects" / "p-a" / "cmkd-rst",
        str(world.artifacts / "my-objects" / "c-r" / "cmkd-rst" / "artifact.safetensors"),
    ]
    out, images, done = tmp_path / "two.bundle", export.ImagePaths(world.images), []
    made = export.export_bundle(
        paths, out, images=images, max_images=6, on_progress=lambda *step: done.append(step)
    )
    assert [(report.comparison.task, report.comparison.images) for report in made] == [
        ("p-a", 6),
        ("c-r", 6),
    ]
    assert ("p-a: bundle", 6, 6) in done
    (again,) = export.verify_bundle(
        str(out), world.artifacts, tasks=("c-r",), images=images, max_images=6
    )
    assert isinstance(again, export.TaskReport) and again == made[1]
    with Session.open(out) as session:
        assert session.tasks == ("p-a", "c-r")


def test_a_single_path_where_a_list_is_expected_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found a single path; pass \['made/one'\]"):
        export.export_bundle("made/one", tmp_path / "one.bundle")


def test_every_public_name_is_there_and_no_other():
    for name in export.__all__:
        assert getattr(export, name).__name__ == name and name in dir(export)
    with pytest.raises(AttributeError, match="has no attribute 'export_bundles'"):
        _ = export.export_bundles


def test_importing_the_package_loads_no_library():
    code = (
        "import sys, export; dir(export); "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'open_clip'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
