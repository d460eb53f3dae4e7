import pytest

from runtime import backends
from runtime.backends.names import gpu_of, index_of
from runtime.errors import BackendError
from tests.rtx import NEEDS_RTX


@pytest.mark.parametrize(
    ("device", "index"), [("cpu", None), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:12", 12)]
)
def test_a_gpu_is_named_by_its_number(device, index):
    assert index_of(device) == index
    if index is None:
        with pytest.raises(BackendError, match="it runs on a GPU, found device 'cpu'; pass"):
            gpu_of(device, "it runs")
    else:
        assert gpu_of(device, "it runs") == index


@pytest.mark.parametrize("device", ["tpu", "", "cpu:1", "cuda:", "cuda:-1", "cuda:1x", "cuda:²"])
def test_a_device_of_another_name_lists_the_known_ones(device):
    with pytest.raises(BackendError, match=f"unknown device '{device}'; available: cpu, cuda, and"):
        backends.load("ort", device, None)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_this_build_cannot_use_is_an_error(device, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"no CUDAExecutionProvider.*--device cpu"):
        backends.load("ort", device, None)


@pytest.mark.gpu
def test_a_gpu_beyond_the_last_one_is_an_error():
    with pytest.raises(BackendError, match="device 'cuda:99' not found"):
        backends.load("ort", "cuda:99", None)


@pytest.mark.parametrize("device", ["cpu", "gpu", "cuda:", "cuda:-1"])
def test_tensorrt_runs_on_a_gpu_and_never_quietly_elsewhere(device):
    with pytest.raises(BackendError, match=f"'trt' runs on a GPU, found device '{device}'"):
        backends.load("trt", device, None)


def test_an_unknown_backend_is_told_the_known_ones():
    names = ", ".join(sorted(backends.BACKENDS))
    with pytest.raises(BackendError, match=f"unknown backend 'tvm'; available: {names}$"):
        backends.load("tvm", "cpu", None)


def test_without_a_driver_onnxruntime_names_the_way_out(no_driver, monkeypatch, capfd):
    import onnxruntime

    known = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    missing = "Failed to load libcublasLt.so.13"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(missing), raising=False)
    with pytest.raises(BackendError, match=r"libcuda.so.1.*; install it, or choose --device cpu$"):
        backends.load("ort", "cuda", None)
    assert capfd.readouterr() == ("", "")


@NEEDS_RTX
def test_without_a_driver_tensorrt_offers_nothing_that_it_would_refuse(no_driver, tmp_path):
    with pytest.raises(BackendError, match=r"libcuda.so.1.*; install it$"):
        backends.load("trt", "cuda", None, tmp_path)
