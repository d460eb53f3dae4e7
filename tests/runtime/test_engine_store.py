"""Engines on disk: found by what they are made of, refused whenever that is not this machine."""

from __future__ import annotations

import dataclasses
import json

import pytest

from runtime.backends.trt.build import build_engine
from runtime.backends.trt.library import library
from runtime.backends.trt.profile import PROFILES, Span
from runtime.backends.trt.store import store_of
from runtime.errors import BackendError, FormatError
from runtime.storage.files import sha256
from tests.rtx import NEEDS_RTX
from tests.runtime.engines import A10, ORIN, SM86, built, head

pytestmark = NEEDS_RTX


def test_a_plan_is_the_librarys_own_file(world, store):
    """No header of ours in front of it, so trtexec and Triton read it."""
    engine = built(world, store)
    first = store.path(engine).read_bytes()[:64]
    assert b"trt" in first and not first.startswith(b"{")
    sidecar = json.loads((store.folder / f"{engine.slot}.json").read_bytes())
    assert sidecar["recipe"]["platform"]["version"] == library().version
    assert sidecar["recipe"]["profile"]["batch"] == {"min": 1, "opt": 1, "max": 8}
    assert sidecar["recipe"]["options"] == {
        "strongly_typed": True,
        "tf32": False,
        "compiler": "",
    }
    assert {"name": "logits", "input": False, "dtype": "float32", "shape": [-1, -1]} in sidecar[
        "tensors"
    ]


def test_the_key_tells_apart_whatever_makes_an_engine_another(world, store):
    recipe = built(world, store).recipe
    platform, profile = recipe.platform, recipe.profile
    others = [
        {"graph": "0" * 64},
        {"weights": "0" * 64},
        {"profile": dataclasses.replace(profile, batch=Span(1, 1, 9))},
        {"options": dataclasses.replace(recipe.options, tf32=True)},
        *(
            {"platform": dataclasses.replace(platform, **change)}
            for change in (
                {"library": "tensorrt"},
                {"version": "1.7.2"},
                {"generation": "sm80"},
                {"gpu": "NVIDIA A10"},
                {"cuda": "13.0"},
                {"driver": "580"},
            )
        ),
    ]
    keys = {dataclasses.replace(recipe, **change).key for change in others}
    assert len(keys) == len(others) and recipe.key not in keys


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({}, True),
        ({"gpu": "NVIDIA RTX A6000"}, True),
        ({"driver": "590.10"}, True),
        ({"generation": "sm89"}, False),
        ({"version": "1.7.2.5"}, False),
        ({"library": "tensorrt"}, False),
    ],
)
def test_an_engine_of_a_target_runs_on_all_gpus_of_it_with_the_same_library(
    world, store, change, runs
):
    engine = built(world, store)
    machine = dataclasses.replace(A10, **change)
    if runs:
        assert store.find(engine.recipe.content, machine) == engine
    else:
        with pytest.raises(BackendError):
            store.find(engine.recipe.content, machine)


@pytest.mark.parametrize("change", [{"driver": "590.1"}, {"cuda": "13.1"}, {"gpu": "NVIDIA A40"}])
def test_an_engine_of_one_gpu_runs_on_that_with_the_same_driver(world, store, change):
    plan = built(world, store)
    own = dataclasses.replace(plan.recipe, platform=A10)
    engine = dataclasses.replace(plan, recipe=own, key=own.key)
    store.install(engine, store.plan(plan))
    assert store.find(own.content, A10) == engine, "the engine of this very GPU comes first"
    (store.folder / f"{plan.slot}.json").unlink()
    with pytest.raises(BackendError, match="NVIDIA A10"):
        store.find(own.content, dataclasses.replace(A10, **change))


def test_a_foreign_engine_is_refused_with_both_platforms_and_the_command(world, store):
    engine = built(world, store)
    with pytest.raises(BackendError) as error:
        store.find(engine.recipe.content, ORIN)
    text = str(error.value)
    assert f"is for {SM86}" in text and str(ORIN) in text
    assert text.endswith(f"run: uda-runtime build {world.path}")


def test_a_missing_engine_is_an_error_that_names_the_command(world, tmp_path):
    other = store_of(world.path, tmp_path / "elsewhere")
    with pytest.raises(BackendError) as error:
        other.find(head(world).sha256, A10)
    command = f"uda-runtime build {world.path} --engines {tmp_path / 'elsewhere'}"
    assert str(error.value).endswith(f"run: {command}") and "no engine of graph" in str(error.value)


@pytest.mark.parametrize("harm", [lambda b: b[:-1], lambda b: b[:-1] + b"x", lambda b: b + b"x"])
def test_an_altered_plan_is_never_opened_and_a_build_mends_it(world, store, harm):
    engine = built(world, store)
    path = store.path(engine)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(FormatError, match="uda-runtime build"):
        store.plan(store.find(engine.recipe.content, A10))
    mended = build_engine(head(world), store, PROFILES["orin"], SM86)
    assert not mended.reused and store.plan(mended.engine)


def test_a_plan_that_is_gone_or_a_link_is_refused(world, store, tmp_path):
    engine = built(world, store)
    path = store.path(engine)
    path.rename(tmp_path / "plan")
    with pytest.raises(FormatError):
        store.plan(engine)
    path.symlink_to(tmp_path / "plan")
    with pytest.raises(
        FormatError, match="is a link, expected a file of machine code; run: uda-runtime build"
    ):
        store.plan(engine)


def hostile(change):
    """What somebody could write who knows how the digest is made."""

    def harm(content: bytes) -> bytes:
        document = json.loads(content)
        del document["sha256"]
        change(document)
        whole = json.dumps(document, sort_keys=True)
        return json.dumps({**document, "sha256": sha256(whole.encode())}).encode()

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"[" * 100_000,
        lambda content: b"\xff" + content,
        lambda content: b"[]",
        lambda content: b" " * (5 << 20),
        hostile(lambda d: d.update(kind="uda-bundle")),
        hostile(lambda d: d.update(schema=1)),
        hostile(lambda d: d.update(schema=3)),
        hostile(lambda d: d.update(schema=True)),
        hostile(lambda d: d.update(more=1)),
        hostile(lambda d: d.pop("plan")),
        hostile(lambda d: d.update(stem="../../etc/passwd")),
        hostile(lambda d: d.update(stem="a/b")),
        hostile(lambda d: d.update(stem="")),
        hostile(lambda d: d["plan"].update(sha256="../" * 21 + "x")),
        hostile(lambda d: d["plan"].update(bytes=-1)),
        hostile(lambda d: d["plan"].update(bytes=1 << 60)),
        hostile(lambda d: d["plan"].update(bytes=1.5)),
        hostile(lambda d: d["recipe"]["platform"].update(library="../tensorrt")),
        hostile(lambda d: d["recipe"]["platform"].update(generation="sm86/..")),
        hostile(lambda d: d["recipe"]["platform"].update(version="1.7.1.117")),
        hostile(lambda d: d["recipe"]["platform"].update(version="\x1b[2J")),
        hostile(lambda d: d["recipe"]["profile"]["batch"].update(max=1 << 40)),
        hostile(lambda d: d["recipe"].update(graph="zz")),
        hostile(lambda d: d["tensors"][0].update(shape=[0])),
        hostile(lambda d: d["tensors"][0].update(shape=[1] * 100)),
        hostile(lambda d: d["tensors"][0].update(name="\n")),
        hostile(lambda d: d.update(seconds=float("inf"))),
    ],
)
def test_a_damaged_or_hostile_description_is_one_error_and_opens_nothing(world, store, harm):
    engine = built(world, store)
    path = store.folder / f"{engine.slot}.json"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(FormatError, match="uda-runtime build") as error:
        store.find(engine.recipe.content, A10)
    assert "\x1b" not in str(error.value)
    assert not build_engine(head(world), store, PROFILES["orin"], SM86).reused
    assert store.find(engine.recipe.content, A10).tensors == engine.tensors


def paths(document, start=()):
    """Yield the way to each value of a JSON document."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        if isinstance(value, dict | list):
            yield from paths(value, (*start, key))
        else:
            yield (*start, key), value


def test_every_field_of_a_description_is_covered_by_its_digest(world, store):
    engine = built(world, store)
    path = store.folder / f"{engine.slot}.json"
    content = path.read_bytes()
    others = {str: "x" * 64, int: 7, bool: None, float: 0.5, type(None): "y"}
    fields = [*paths(json.loads(content))]
    assert len(fields) > 30
    for way, value in fields:
        document = json.loads(content)
        parent = document
        for key in way[:-1]:
            parent = parent[key]
        parent[way[-1]] = (not value) if isinstance(value, bool) else others[type(value)]
        path.write_bytes(json.dumps(document).encode())
        with pytest.raises(FormatError, match="uda-runtime build"):
            store.read(path)
        if way[0] not in ("kind", "schema"):
            with pytest.raises(FormatError, match="was altered: its digest does not match"):
                store.read(path)
    path.write_bytes(json.dumps(json.loads(content)).encode())
    assert store.read(path) == engine, "how it is laid out does not matter"


def test_a_description_of_the_first_schema_asks_for_a_build_and_goes_with_it(world, store):
    engine = built(world, store)
    path = store.folder / f"{engine.slot}.json"
    document = json.loads(path.read_bytes())
    del document["sha256"]
    path.write_text(json.dumps({**document, "schema": 1}))
    with pytest.raises(FormatError) as error:
        store.find(engine.recipe.content, A10)
    assert str(error.value) == (
        f"'{path}' has schema 1, in which no digest covers every field; this version reads 2; "
        f"run: uda-runtime build {world.path} --target sm86"
    )
    assert not build_engine(head(world), store, PROFILES["orin"], SM86).reused
    found = store.find(engine.recipe.content, A10)
    assert found.recipe == engine.recipe
    assert {*store.folder.iterdir()} == {path, store.path(found)}, "the former plan is gone"


def test_a_gpus_name_cannot_lead_out_of_the_folder():
    assert dataclasses.replace(A10, gpu="../../../GPU 0").slug == "tensorrt_rtx.sm86.gpu-0"
    with pytest.raises(ValueError, match="control characters"):
        dataclasses.replace(A10, gpu="GPU\x00")
