"""A file that another process shortens while it is read: an error, never SIGBUS."""

import os
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from runtime.bundles.weights_file import read_weights
from runtime.errors import UdaError
from runtime.frames.preprocess import read_image
from runtime.storage import checksummed
from runtime.storage.digest import tensors_sha256

SECONDS = 0.5
TENSORS = {"matrix": np.ones((2048, 1024), np.float32)}


def base(path):
    save_file(TENSORS, path)
    size, digest = path.stat().st_size, tensors_sha256(TENSORS)
    return lambda: read_weights(path, size, digest)


def artifact(path):
    checksummed.write(path, "k", 1, {}, TENSORS)
    return lambda: checksummed.read(path, "k", 1)


def bitmap(path):
    Image.new("L", (2048, 2048)).save(path, "bmp")
    return lambda: read_image(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", [base, artifact, bitmap])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path, kind):
    path = tmp_path / "x.bmp"
    read = kind(path)
    content = path.read_bytes()
    child = os.fork()
    if not child:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                read()
            except UdaError:
                pass
            except BaseException:
                os._exit(1)
        os._exit(0)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        with path.open("r+b") as stream:
            stream.truncate(200)
            stream.write(content)
            stream.flush()
            time.sleep(0.001)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
