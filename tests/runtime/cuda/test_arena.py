import threading
from threading import Event

import numpy as np
import pytest

from runtime.cuda.arena import Arena
from runtime.cuda.base import DeviceArray
from runtime.cuda.driver import call
from runtime.cuda.graphs import Graphs
from runtime.cuda.tensors import Tensors
from runtime.errors import BackendError, FormatError
from runtime.patch import SparseTensor, merge
from runtime.storage.digest import tensors_sha256

SHAPES = {
    "a.weight": ("float16", (300, 700)),  # four pages, the last of them a part
    "a.bias": ("float32", (701,)),
    "b.weight": ("float32", (256, 512)),  # two whole pages
    "b.bias": ("float16", (1,)),
    "c.weight": ("float16", (65_537,)),
}


def base(seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal(shape).astype(t) for n, (t, shape) in SHAPES.items()}


def random_patch(rng, tensors, most=3000):
    patch = {}
    for name, array in tensors.items():
        if rng.random() < 0.25:
            continue
        count = int(rng.integers(1, min(most, array.size) + 1))
        edges = [e for e in (0, 65_535, 65_536, array.size - 1) if e < array.size]
        where = np.union1d(rng.choice(array.size, count, replace=False), rng.choice(edges, 2))
        values = rng.standard_normal(where.size).astype(array.dtype)
        patch[name] = SparseTensor(where.astype(np.uint32), values)
    return patch


def check(arena, want):
    for name, array in want.items():
        assert arena.read(name).tobytes() == array.tobytes(), name


def test_random_patches_in_any_order_equal_numpy_and_leave_the_base_bit_for_bit(any_device):
    tensors, rng = base(), np.random.default_rng(1)
    arena = Arena(any_device, tensors, lambda: tensors)
    patches = [random_patch(rng, tensors) for _ in range(8)] + [{}]
    ready = [arena.prepare(patch) for patch in patches]
    for number in rng.integers(0, len(patches), 60):
        arena.apply(ready[number])
        if rng.random() < 0.5:  # else the next switch comes before this one has happened
            check(arena, merge(tensors, patches[number]))
    assert arena.sha256() == tensors_sha256(tensors)
    arena.apply(None)
    check(arena, tensors)


def test_values_are_moved_as_bit_patterns(device):
    """Negative zeros and subnormal numbers: what arithmetic would lose."""
    tensors = {"h": np.zeros(9, np.float16), "f": np.zeros(9, np.float32)}
    patch = {
        "h": SparseTensor(np.array([3, 4], np.uint32), np.array([-0.0, 6e-8], np.float16)),
        "f": SparseTensor(np.array([0, 8], np.uint32), np.array([-0.0, 1e-45], np.float32)),
    }
    arena = Arena(device, tensors, lambda: tensors)
    arena.apply(arena.prepare(patch))
    check(arena, merge(tensors, patch))


def test_a_full_patch_of_every_entry_equals_numpy(device):
    tensors = base()
    patch = {
        name: SparseTensor(np.arange(a.size, dtype=np.uint32), -a.reshape(-1))
        for name, a in tensors.items()
    }
    arena = Arena(device, tensors, lambda: tensors)
    arena.apply(arena.prepare(patch))
    check(arena, merge(tensors, patch))
    arena.apply(None)
    check(arena, tensors)


def test_a_switch_is_two_launches_and_nothing_else(device, driver):
    tensors, rng = base(), np.random.default_rng(2)
    arena = Arena(device, tensors, lambda: tensors)
    one, two = (arena.prepare(random_patch(rng, tensors)) for _ in range(2))
    arena.apply(one)
    names = ["cuLaunchKernel", "cuStreamSynchronize", "cuMemcpyHtoDAsync_v2", "cuMemAllocAsync"]
    names += ["cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2", "cuMemFreeAsync", "cuEventRecord"]
    before = driver.counts(*names)
    arena.apply(two)
    assert np.subtract(driver.counts(*names), before).tolist() == [2, *[0] * 7]
    arena.apply(None)
    assert np.subtract(driver.counts(*names), before).tolist() == [3, *[0] * 7]


def test_a_frame_before_a_switch_sees_the_old_weights_and_one_after_it_the_new(device):
    tensors, rng = base(), np.random.default_rng(3)
    arena = Arena(device, tensors, lambda: tensors)
    patches = [random_patch(rng, tensors) for _ in range(5)]
    ready = [arena.prepare(patch) for patch in patches]
    name, seen = "a.weight", []
    for patch in ready:
        arena.apply(patch)
        frame = device.allocate(tensors[name].nbytes)  # reads the weights when its turn comes
        device.copy(arena.handles[name].address, frame.address, frame.nbytes)
        seen.append(frame)
    for patch, frame in zip(patches, seen, strict=True):
        found = np.empty_like(tensors[name])
        device.download(frame.address, found)
        np.testing.assert_array_equal(found, merge(tensors, patch)[name])


def test_a_task_that_leaves_memory_is_still_written_back(device, driver):
    tensors, rng = base(), np.random.default_rng(4)
    arena = Arena(device, tensors, lambda: tensors)
    live = driver.live_bytes()
    patches = [random_patch(rng, tensors) for _ in range(2)]
    one, two = (arena.prepare(patch) for patch in patches)
    arena.apply(one)
    arena.apply(two)  # writes the first one back, when its turn comes
    one.close()
    one.close()
    device.allocate(8)  # which waits for the stream of the copies, and so for what it frees
    check(arena, merge(tensors, patches[1]))
    arena.apply(None)
    two.close()
    check(arena, tensors)
    device.synchronize()
    arena.prepare(random_patch(rng, {"b.bias": tensors["b.bias"]})).close()
    undo = arena.nbytes - sum(-(-a.nbytes // 256) * 256 for a in tensors.values())
    assert 0 < driver.live_bytes() - live <= undo + 1024


def test_a_graph_that_was_recorded_once_sees_every_switch(device):
    tensors, rng = base(), np.random.default_rng(5)
    arena, graphs = Arena(device, tensors, lambda: tensors), Graphs(device)
    patches = [random_patch(rng, tensors) for _ in range(4)]
    ready = [arena.prepare(patch) for patch in patches]
    name = "b.weight"
    out = device.allocate(tensors[name].nbytes)

    def frame():
        device.copy(arena.handles[name].address, out.address, out.nbytes)

    for number in (*range(4), *reversed(range(4))):
        arena.apply(ready[number])
        graphs.run(1, frame)
        found = np.empty_like(tensors[name])
        device.download(out.address, found)
        np.testing.assert_array_equal(found, merge(tensors, patches[number])[name])
    graphs.clear()


def test_a_graph_is_recorded_the_second_time_and_launched_from_then_on(device, driver):
    graphs, out = Graphs(device, most=1), device.allocate(8)
    names = ["cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuMemcpyDtoDAsync_v2"]
    before = driver.counts(*names)
    for key in (1, 2, 1, 1, 2, 2):  # the second key takes the place of the first
        graphs.run(key, lambda: device.copy(out.address + 4, out.address, 4))
    assert np.subtract(driver.counts(*names), before).tolist() == [2, 2, 6]
    graphs.clear()


def test_work_that_cannot_be_recorded_runs_as_it_is_and_leaves_the_stream_usable(device):
    graphs = Graphs(device)
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 3:
            device.synchronize()  # which nothing can record

    for count in (1, 3, 4, 5):
        graphs.run(1, work)
        assert len(calls) == count
    device.synchronize()
    graphs.run(2, lambda: None)


def test_a_graph_for_which_there_is_no_memory_is_not_made(device, driver):
    graphs, out, failed = Graphs(device), device.allocate(8), 0
    device.upload(np.array([0, 7], np.uint32), out.address)
    for number in range(20):  # at any call of the driver while it is made

        def work():
            device.copy(out.address + 4, out.address, 4)

        graphs.run(number, work)
        driver.fail_call(number)
        try:
            graphs.run(number, work)
        except BackendError:  # the work itself, which ran again, failed for good
            failed += 1
        done = not driver.fail_call(-1)
        graphs.run(number, work)
        device.synchronize()
    assert done and failed == 0
    graphs.clear()


def test_a_graph_is_made_later_if_the_whole_gpu_is_taken(device, driver):
    graphs, out, ready, done = Graphs(device), device.allocate(8), *(Event() for _ in range(2))

    def work():
        device.copy(out.address + 4, out.address, 4)

    def hold():
        with device.whole_gpu:
            call("cuCtxSetCurrent", device._context)
            call("cuCtxSynchronize")
            ready.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait()
    names = ["cuGraphLaunch", "cuMemcpyDtoDAsync_v2"]
    before = driver.counts(*names)
    for _ in range(3):
        graphs.run(1, work)
    assert np.subtract(driver.counts(*names), before).tolist() == [0, 3]
    done.set()
    holder.join()
    for _ in range(2):
        graphs.run(1, work)
    assert np.subtract(driver.counts(*names), before).tolist() == [1, 5]
    graphs.clear()


def test_work_that_fails_by_itself_leaves_nothing_behind(device, driver):
    graphs, before = Graphs(device), driver.counts("graphs")
    calls = []

    def work():
        calls.append(1)
        device.copy(out.address, out.address + 4, 4)
        if len(calls) > 2:
            raise FormatError("not this time")

    out = device.allocate(8)
    graphs.run(1, work)
    with pytest.raises(FormatError, match="not this time"):
        graphs.run(1, work)
    assert driver.counts("graphs") == before
    device.synchronize()


def test_tasks_come_to_the_device_while_others_switch(device):
    tensors, rng = base(), np.random.default_rng(6)
    arena = Arena(device, tensors, lambda: tensors)
    patches = [random_patch(rng, tensors) for _ in range(3)]
    ready = [arena.prepare(patch) for patch in patches]
    more = [random_patch(np.random.default_rng(n), tensors, 40_000) for n in range(30)]
    made = []
    worker = threading.Thread(target=lambda: made.extend(arena.prepare(each) for each in more))
    worker.start()
    for number in rng.integers(0, 3, 200):
        arena.apply(ready[number])
    worker.join()
    check(arena, merge(tensors, patches[number]))
    for patch, each in zip(more, made, strict=True):
        arena.apply(each)
        check(arena, merge(tensors, patch))
    assert arena.sha256() == tensors_sha256(tensors)


def test_room_that_is_reserved_while_a_switch_takes_some_is_never_less(device):
    """What a patch replaces went over the end of it. Here the other thread comes at that moment."""
    tensors = {"w": np.zeros(4000, np.float32)}
    large, small = ({"w": SparseTensor(np.arange(n, dtype=np.uint32), np.ones(n, "f4"))}
                    for n in (4000, 100))  # fmt: skip
    arena, made = Arena(device, tensors, lambda: tensors), []
    ready, close = arena.prepare(large), arena._undo.close

    def meanwhile():
        close()
        made.append(arena.prepare(small))

    arena._undo.close = meanwhile
    arena.apply(ready)
    for patch, want in ((made[0], small), (ready, large), (None, {})):
        arena.apply(patch)
        check(arena, merge(tensors, want))


def test_a_launch_that_fails_leaves_the_base_or_the_old_task(device, driver):
    tensors, rng = base(), np.random.default_rng(7)
    arena = Arena(device, tensors, lambda: tensors)
    patches = [random_patch(rng, tensors) for _ in range(2)]
    one, two = (arena.prepare(patch) for patch in patches)
    arena.apply(one)
    for launches, want in ((0, merge(tensors, patches[0])), (1, tensors)):
        driver.fail_launches_after(launches)
        with pytest.raises(BackendError, match="cuLaunchKernel"):
            arena.apply(two)
        driver.fail_launches_after(-1)
        check(arena, want)
    arena.apply(two)
    check(arena, merge(tensors, patches[1]))


@pytest.mark.parametrize(
    ("name", "indices", "dtype", "message"),
    [
        ("z", [0], "float32", "which the base does not have"),
        ("a.bias", [701], "float32", "changes entry 701 of 701"),
        ("a.bias", [3, 3], "float32", "unsorted or repeated"),
        ("a.bias", [0], "float16", "expected float32"),
    ],
)
def test_a_patch_that_does_not_fit_never_reaches_the_device(device, name, indices, dtype, message):
    arena = Arena(device, base(), base)
    sparse = SparseTensor(np.array(indices, np.uint32), np.zeros(len(indices), dtype))
    with pytest.raises(FormatError, match=message):
        arena.prepare({name: sparse})


def test_a_patch_costs_two_bytes_beside_each_value(device):
    tensors = {"w": np.zeros(1 << 22, np.float16)}
    where = np.arange(0, 1 << 22, 200, dtype=np.uint32)
    patch = {"w": SparseTensor(where, np.ones(where.size, np.float16))}
    assert Arena(device, tensors, lambda: tensors).prepare(patch).nbytes == 4 * where.size + 16 * 64


def test_small_tensors_lie_aligned_and_are_copied_in_order(device):
    arrays = {"p": np.arange(5, dtype=np.float16), "q": np.arange(3, dtype=np.float32)}
    room = Tensors(device, {name: np.zeros_like(array) for name, array in arrays.items()})
    task = Tensors(device, arrays)
    room.copy_from(task)
    task.close()  # at once, though nothing has been copied yet
    for name, array in arrays.items():
        handle = room.handles[name]
        assert handle == DeviceArray(handle.address, array.dtype.name, array.shape)
        assert handle.address % 256 == 0
        found = np.empty_like(array)
        device.download(handle.address, found)
        np.testing.assert_array_equal(found, array)
