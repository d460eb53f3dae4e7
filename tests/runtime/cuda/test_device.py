import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

from runtime.cuda import kernel
from runtime.cuda.device import CudaDevice
from runtime.cuda.driver import call
from runtime.cuda.driver import driver as cuda_driver
from runtime.errors import BackendError


def test_a_device_says_what_it_is(device, driver):
    assert (device.name, device.capability, device.driver) == ("Emulated GPU", (8, 7), 13000)
    assert device.index == 0
    assert device.stream > 0


def test_a_gpu_beyond_the_last_one_is_named_with_those_that_are(library):
    with pytest.raises(BackendError, match=r"device 'cuda:99' not found: the driver shows \d+ GPU"):
        CudaDevice(99)


@pytest.mark.parametrize(("gpus", "index"), [(1, 1), (2, 5), (1, -1)])
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(driver, monkeypatch, gpus, index):
    monkeypatch.setenv("EMULATED_GPUS", str(gpus))
    message = f"device 'cuda:{index}' not found: the driver shows {gpus} "
    with pytest.raises(BackendError, match=message):
        CudaDevice(index)


def test_a_machine_whose_driver_sees_no_gpu_is_told(driver):
    """In a process of its own: the driver is started once."""
    code = f"""
import ctypes, os
ctypes.CDLL({driver.path!r})
os.environ["EMULATED_GPUS"] = "0"
from runtime.cuda.device import CudaDevice
CudaDevice()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "CUDA_ERROR_NO_DEVICE); no GPU is visible; check nvidia-smi" in found.stderr


def test_memory_that_is_not_there_is_one_error(any_device):
    with pytest.raises(BackendError, match="out of memory.*free memory there, or lower"):
        any_device.allocate(1 << 50)
    any_device.allocate(1000)


def test_what_went_up_comes_down_on_every_kind_of_device(any_device):
    sent = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)
    buffer = any_device.allocate(1000)
    any_device.upload(sent, buffer.address)
    found = np.empty_like(sent)
    any_device.download(buffer.address, found)
    np.testing.assert_array_equal(found, sent)


def test_a_mailbox_goes_both_ways_and_copies_nothing_on_an_integrated_device(any_device, driver):
    names = ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"]
    before = driver.counts(*names)
    mailbox = any_device.mailbox(500)
    mailbox.host[:] = 7
    mailbox.push(500)
    any_device.synchronize()
    mailbox.host[100:] = 1
    mailbox.pull(300)
    any_device.synchronize()
    copies = np.subtract(driver.counts(*names), before).tolist()
    if any_device.integrated:
        assert copies == [0, 0]
    else:
        assert copies == [1, 1]
        assert mailbox.host.tolist() == [7] * 300 + [1] * 200
    mailbox.close()
    mailbox.close()
    assert mailbox.host.size == 0


def test_what_is_given_is_gone_and_what_is_freed_is_back(device):
    before = device.free_bytes()
    buffer = device.allocate(1 << 26)
    assert before - device.free_bytes() >= 1 << 26
    buffer.close()
    assert abs(device.free_bytes() - before) < 1 << 22


def test_memory_that_is_freed_while_work_is_recorded_disturbs_nothing(any_device):
    """Freeing puts an event onto the stream or waits for it; neither may meet what is recorded."""
    device = any_device
    out, given = device.allocate(8), [device.allocate(100) for _ in range(20)]
    given.append(device.mailbox(100))
    freed = []

    def disturb():
        device.synchronize()
        freed.extend(each.close() for each in given)

    other = threading.Thread(target=disturb)

    def work():
        other.start()
        other.join(0.1)
        device.copy(out.address + 4, out.address, 4)

    graph = device.record(work)
    other.join()
    assert len(freed) == len(given)
    device.upload(np.array([0, 7], np.uint32), out.address)
    graph.launch()
    found = np.empty(2, np.uint32)
    device.download(out.address, found)
    assert found.tolist() == [7, 7]
    graph.close()
    graph.close()


def test_memory_comes_while_a_library_records_another_device_for_all_threads(device):
    """As ONNX Runtime does; without its own mode, this thread's calls would fail and spoil it."""
    other = CudaDevice()
    stream, made = other.stream, []
    mode = cuda_driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
    buffer = other.allocate(8)

    def bring():
        made.append(device.mailbox(100))
        made.append(CudaDevice())

    def record():
        call("cuStreamBeginCapture", stream, mode)
        thread = threading.Thread(target=bring)
        thread.start()
        thread.join()
        other.copy(buffer.address, buffer.address + 4, 4)
        call("cuGraphDestroy", call("cuStreamEndCapture", stream))

    other.alone(record)
    assert len(made) == 2
    made[1].close()
    other.close()


def test_what_a_library_leaves_half_recorded_is_given_up(device):
    mode = cuda_driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
    buffer = device.allocate(8)

    def record():
        call("cuStreamBeginCapture", device.stream, mode)
        raise BackendError("not this one")

    with pytest.raises(BackendError, match="not this one"):
        device.alone(record)
    device.copy(buffer.address, buffer.address + 4, 4)
    device.synchronize()


def test_a_function_that_the_driver_lacks_is_one_error(driver):
    """As of an older driver than the package was made for."""
    with pytest.raises(BackendError, match="cannot be asked for cuCtxGetId: .*update the driver"):
        call("cuCtxGetId", 0)


def test_code_that_the_driver_does_not_take_is_told_from_a_broken_gpu(driver, monkeypatch):
    """As of a newer CUDA than the driver's."""
    monkeypatch.setattr(kernel, "kernels", lambda name, capability: b"code of a newer CUDA")
    message = "cuModuleLoadData: .*INVALID_IMAGE.*update the driver, or install nvidia-cuda-nvrtc"
    with pytest.raises(BackendError, match=message):
        CudaDevice()


def test_closing_leaves_no_context_current_that_may_be_gone(driver):
    device = CudaDevice()
    device.close()
    with pytest.raises(BackendError, match="INVALID_CONTEXT"):
        call("cuStreamCreate", 1)


def test_closing_frees_everything_and_is_final(driver):
    before = driver.live_bytes()
    device = CudaDevice()
    buffers = [device.allocate(4096) for _ in range(3)]
    device.mailbox(4096)
    buffers[0].close()
    device.close()
    device.close()
    for buffer in buffers:
        buffer.close()
    assert driver.live_bytes() == before
    for late in (partial(device.allocate, 1), device.synchronize, lambda: device.kernels):
        with pytest.raises(BackendError, match=r"'cuda:0' is closed; open a new session"):
            late()


def test_a_mailbox_for_which_the_host_has_no_room_leaves_nothing_behind(
    device, driver, monkeypatch
):
    before = driver.live_bytes()
    monkeypatch.setenv("EMULATED_HOST_BYTES", "100")
    with pytest.raises(BackendError, match="cuMemHostAlloc: out of memory"):
        device.mailbox(101)
    device.free_bytes()  # waits for the memory that was freed
    assert driver.live_bytes() == before


def test_closing_waits_for_a_thread_that_is_bringing_something_to_the_device(driver):
    """Without that it would use a stream that is gone, which a real driver does not notice."""
    before, device = driver.live_bytes(), CudaDevice()
    inside, outside = threading.Event(), threading.Event()
    activate, failed = device.activate, []

    def slowly():
        activate()
        if threading.current_thread() is thread and not inside.is_set():
            inside.set()
            outside.wait(0.2)

    def bring():
        try:
            while True:
                buffer = device.allocate(100)
                device.upload(np.ones(100, np.uint8), buffer.address)
        except BackendError as error:
            failed.append(str(error))

    device.activate = slowly
    thread = threading.Thread(target=bring)
    thread.start()
    inside.wait()
    device.close()
    outside.set()
    thread.join()
    assert failed == ["device 'cuda:0' is closed; open a new session"]
    assert driver.live_bytes() == before


@pytest.mark.parametrize("kind", ["allocate", "mailbox"])
def test_memory_that_a_thread_is_about_to_free_is_freed_by_closing(driver, kind):
    before, device = driver.live_bytes(), CudaDevice()
    thread = threading.Thread(target=getattr(device, kind)(100).close)
    with device._memory:
        thread.start()
        thread.join(0.05)
        device.close()
    thread.join()
    assert driver.live_bytes() == before


def test_a_device_that_has_failed_is_closed_without_another_error(driver):
    device = CudaDevice()
    buffer, mailbox = device.allocate(100), device.mailbox(100)
    graph = device.record(lambda: device.copy(buffer.address, buffer.address + 50, 50))
    driver.fail_for_good()
    with pytest.raises(BackendError, match="CUDA_ERROR_LAUNCH_FAILED.*start the program again"):
        device.synchronize()
    for each in (graph, mailbox, buffer, device, device):
        each.close()
    CudaDevice().close()


def test_a_device_that_does_not_start_is_one_error(driver):
    device = CudaDevice()
    driver.fail_for_good()
    with pytest.raises(BackendError, match="failed in cuStreamCreate"):
        CudaDevice()
    device.close()
