"""Torch-TensorRT without a GPU, up to the plan: `-m tests.export.without_gpu FILE=PRECISION ...`.

For each artifact, a line of JSON says what the engine would take and give. It is the package as it
comes, in its edition for TensorRT-RTX, of the same Python: that builds for a GPU which is not here.
What asks for the GPU of this machine is told of one, and nothing is run: that takes one.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network
from adapt.clip import model as clips
from export.torch_tensorrt.compiler import OPTIONS, compiled
from export.torch_tensorrt.deployed import Deployed
from runtime.backends.trt.library import library, trt
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.tensors import network_tensors
from runtime.errors import BackendError


class Done(Exception):
    """The plan is there, and cannot be opened without a GPU."""


def run(interpreter) -> None:
    """Do what `TRTInterpreter.run` does, for sm86."""
    interpreter._construct_trt_network_def()
    network, config = interpreter.ctx.net, interpreter._populate_trt_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(library().module.ComputeCapability.SM86, 0)
    plan = interpreter.builder.build_serialized_network(network, config)
    raise Done(
        {
            "tensors": [asdict(tensor) for tensor in network_tensors(network)],
            "flags": [name for name in ("TF32", "REFIT") if config.get_flag(flag(name))],
            "bytes": 0 if plan is None else plan.nbytes,
        }
    )


def flag(name: str):
    return getattr(trt.BuilderFlag, name)


def main() -> None:
    library()
    torch.cuda.current_device = lambda: 0
    torch.cuda.get_device_capability = lambda device=None: (8, 6)
    torch.cuda.mem_get_info = lambda device=None: (1 << 34, 1 << 34)
    import torch_tensorrt
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

    TRTInterpreter.run = run
    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    known = inspect.signature(convert).parameters
    unknown = {*OPTIONS, "arg_inputs", "timing_cache_path"} - known.keys()
    if unknown:
        sys.exit(f"torch-tensorrt {torch_tensorrt.__version__} knows no {', '.join(unknown)}")
    for argument in sys.argv[1:]:
        file, _, precision = argument.rpartition("=")
        artifact = Artifact.load(Path(file))
        clip = clips.load(artifact.base.architecture, artifact.config["pretrained"])
        spec = artifact.preprocess
        model = Deployed(Network.of(clip, artifact), spec, precision)
        with TemporaryDirectory() as folder:
            try:
                cache = Path(folder) / "cache"
                compiled(torch_tensorrt, model, PROFILES["orin"], cache)
            except BackendError as error:
                cause = error.__cause__
                while cause is not None and not isinstance(cause, Done):
                    cause = cause.__cause__
                if cause is None:
                    raise
                print(json.dumps(cause.args[0]), flush=True)


if __name__ == "__main__":
    main()
