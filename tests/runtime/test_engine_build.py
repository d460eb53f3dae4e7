"""Engines of a bundle, built without a GPU, and when one takes the place of another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from runtime.backends.trt.build import build_engine, platforms
from runtime.backends.trt.engine_file import EngineFile
from runtime.backends.trt.graphs import TensorSpec, baked_graphs, check, check_profile, graphs_of
from runtime.backends.trt.profile import PROFILES, Profile, Span
from runtime.backends.trt.sets import build_all
from runtime.backends.trt.store import store_of
from runtime.backends.trt.tensors import Tensor
from runtime.bundles import install
from runtime.bundles.bundle import Bundle, write
from runtime.errors import BackendError, ConfigError, FormatError, StorageError
from tests.rtx import NEEDS_RTX
from tests.runtime.engines import A10, SM86, SM89, built, head
from tests.runtime.helpers import tree

pytestmark = NEEDS_RTX


def test_every_graph_gets_an_engine_for_each_target_and_a_second_build_keeps_them(mixed):
    bundle = Bundle.open(mixed.path)
    store = store_of(mixed.path, None)
    graphs = graphs_of(bundle)
    assert [graph.stem for graph in graphs] == ["encoder", "encoder", "head-linear", "head-affine"]
    for platform in (SM86, SM89):
        rows = [build_engine(graph, store, PROFILES["server"], platform) for graph in graphs]
        assert not any(row.reused for row in rows)
        for graph, row in zip(graphs, rows, strict=True):
            assert row.path.read_bytes() == store.plan(row.engine)
            assert row.path.stat().st_size == row.engine.plan.bytes and not row.engine.tested
            machine = dataclasses.replace(A10, generation=platform.generation)
            assert store.find(graph.sha256, machine) == row.engine
            tokens = {"prompts.0", "prompts.1"} & {tensor.name for tensor in row.engine.tensors}
            assert bool(tokens) == (graph is graphs[1])
        again = [build_engine(graph, store, PROFILES["server"], platform) for graph in graphs]
        assert [row.path for row in again] == [row.path for row in rows]
        assert all(row.reused for row in again)
    assert len(list(store.folder.glob("*.plan"))) == len(list(store.folder.glob("*.json"))) == 8


def test_a_new_profile_takes_the_place_of_the_former_engine(world, store):
    first = built(world, store)
    second = built(world, store, profile=PROFILES["server"])
    assert second.key != first.key
    assert store.find(first.recipe.content, A10) == second
    assert [path.name for path in store.folder.glob("*.plan")] == [second.plan_name]


def test_the_last_good_engine_stays_if_the_new_one_fails_its_test(world, store):
    first, before = built(world, store), tree(store.folder)

    def fail(engine: EngineFile, plan: bytes) -> None:
        raise BackendError("it computes nonsense")

    with pytest.raises(BackendError, match="nonsense"):
        built(world, store, profile=PROFILES["server"], test=fail)
    assert tree(store.folder) == before and store.find(first.recipe.content, A10) == first


def test_an_engine_that_never_ran_is_built_and_tested_where_it_can_run(world, store):
    assert not built(world, store).tested
    seen = []
    engine = built(world, store, test=lambda engine, plan: seen.append(len(plan)))
    assert engine.tested and seen == [engine.plan.bytes]
    assert built(world, store, test=lambda engine, plan: seen.append(0)) == engine
    assert len(seen) == 1, "what was tested once is kept"


def test_targets_that_the_library_has_not_are_refused_with_those_it_has():
    with pytest.raises(BackendError, match=r"cannot build for 'sm87'; available: .*sm86"):
        platforms(["sm86", "sm87"], None, "")
    with pytest.raises(BackendError, match=r"no GPU to build for: no driver, or build .*sm86"):
        platforms([], None, "no driver")
    assert platforms([], A10, "") == [A10]
    assert platforms(["sm86", "sm86"], A10, "") == [SM86]


def test_a_task_with_more_classes_than_the_profile_takes_is_refused(world):
    small = Profile("small", Span(1, 1, 1), Span(2, 2, 3))
    with pytest.raises(ConfigError, match="'a-d' has 4 classes, .*'small' take 2 to 3"):
        check_profile(Bundle.open(world.path), small)
    check_profile(Bundle.open(world.path), PROFILES["orin"])


def test_what_a_graph_takes_is_compared_with_the_bundle(world):
    graph = head(world)
    good = [
        Tensor("features", True, "float32", (-1, 6)),
        Tensor("weight", True, "float32", (-1, 6)),
        Tensor("logits", False, "float32", (-1, -1)),
    ]
    check(graph, good)
    for wrong, message in [
        (good[:1] + good[2:], "should have weight .*, found none"),
        ([*good, Tensor("bias", True, "float32", (-1,))], "has bias"),
        ([good[0], Tensor("weight", True, "float16", (-1, 6)), good[2]], "float16"),
        ([good[0], Tensor("weight", True, "float32", (-1, 7)), good[2]], r"\[-1, 7\]"),
        ([Tensor("features", True, "float32", (1, 6)), *good[1:]], r"\[1, 6\]"),
        ([*good[:2], Tensor("logits", True, "float32", (-1, -1))], "should have logits"),
    ]:
        with pytest.raises(FormatError, match=message):
            check(graph, wrong)
    exact = TensorSpec("w", True, "float32", (3, 4))
    assert not exact.fits(Tensor("w", True, "float32", (-1, 4)))


def test_export_and_install_leave_the_folder_of_engines_alone(make_world, tmp_path):
    first = make_world("first.bundle", tasks=2)
    store = store_of(first.path, None)
    built(first, store)
    before = tree(store.folder)
    other = make_world("second.bundle", tasks=3)
    task_file = next(
        other.path / entry.file.path
        for entry in Bundle.open(other.path).manifest.tasks
        if entry.id not in Bundle.open(first.path).tasks
    )
    install.install(first.path, task_file)
    install.remove(first.path, "a-b")
    write(first.path, **make_world("third.bundle", tasks=1).parts)
    assert tree(store.folder) == before


def test_a_folder_with_engines_and_no_bundle_is_nobodys_to_write_over(world, tmp_path):
    store = store_of(tmp_path / "lost", None)
    built(world, store)
    with pytest.raises(StorageError, match="holds other files"):
        write(tmp_path / "lost", **world.parts)
    assert Path(store.folder).is_dir()


def test_a_build_removes_what_the_bundle_had_before_and_nothing_else(mixed, make_world):
    list(build_all(Bundle.open(mixed.path), None, PROFILES["orin"], ["sm86", "sm89"]))
    store = store_of(mixed.path, None)
    (store.folder / "notes.json").write_text("{}")
    (store.folder / "mine.plan").write_bytes(b"mine")
    (left := store.folder / ".encoder-x.tmp").write_bytes(b"of somebody")
    write(mixed.path, **make_world("other.bundle").parts)  # no tokens, one head
    list(build_all(Bundle.open(mixed.path), None, PROFILES["orin"], ["sm86"]))
    kept = {path.name for path in store.folder.iterdir()}
    graphs = {graph.sha256[:16] for graph in graphs_of(Bundle.open(mixed.path))}
    assert {name.split(".")[0][-16:] for name in kept if "sm8" in name} == graphs
    assert len(kept) == 2 * 2 * 2 + 3, "both targets of both graphs, and files of others"
    assert left.is_file()


def test_a_build_removes_engines_of_tasks_that_an_export_has_left_out(world, make_world):
    bundle = Bundle.open(world.path)
    first = list(build_all(bundle, None, PROFILES["orin"], ["sm86"], graphs=baked_graphs(bundle)))
    write(world.path, **make_world("other.bundle", tasks=1).parts)
    list(build_all(Bundle.open(world.path), None, PROFILES["orin"], ["sm86"]))
    kept = [row.engine.stem for row in first if row.path.exists()]
    assert kept == ["encoder-a-b", "head-linear"]


def test_a_build_of_baked_engines_replaces_those_of_a_former_version(world):
    bundle = Bundle.open(world.path)
    first = list(build_all(bundle, None, PROFILES["orin"], ["sm86"], graphs=baked_graphs(bundle)))
    assert [row.engine.stem for row in first] == [
        *("encoder-a-b", "encoder-a-c", "encoder-a-d", "head-linear")
    ]
    graph = next(baked_graphs(bundle))
    graph.baked["first.weight"][0, 0] += 1
    again = list(build_all(bundle, None, PROFILES["orin"], ["sm86"], graphs=[graph]))
    assert not again[0].reused and not first[0].path.exists()
    assert all(row.path.exists() for row in (*again, *first[1:]))


def test_what_a_killed_build_left_goes_with_the_next_one(world, store):
    engine = built(world, store)
    whole = {path.name for path in store.folder.iterdir()}
    (plan,) = store.folder.glob("*.plan")
    for left in (".lock", f".{engine.plan_name}.01234567.lock", f"{engine.slot}-{'0' * 16}.plan"):
        (store.folder / left).write_bytes(plan.read_bytes())
    (store.folder / f".{engine.plan_name}.01234567.tmp").write_bytes(b"half of a plan")
    store.clean()
    assert {path.name for path in store.folder.iterdir()} == whole
