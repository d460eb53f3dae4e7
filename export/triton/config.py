"""Write the config.pbtxt of a Triton model: ModelConfig of model_config.proto, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MARK = "# Written by uda-export triton."
"""First line of every config.pbtxt that we write: such a model may be replaced."""
LABELS = "labels.txt"
_DELAY = 2_000  # microseconds; frames of a camera are 33,000 apart
_BACKENDS = {"onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt"}


@dataclass(frozen=True)
class Model:
    """A model of a repository: one task, one kind of engine."""

    name: str
    platform: Literal["onnxruntime_onnx", "tensorrt_plan"]
    side: int
    """Height and width of `pixels`."""
    classes: int
    max_batch: int
    size: int
    """Bytes of its files."""
    plans: Mapping[str, str] = field(default_factory=dict)
    """File names of TensorRT plans by GPU generation, such as `sm86`."""
    notes: tuple[str, ...] = ()
    """Comments at the top of the file."""


def config(model: Model) -> str:
    """Return the text of a model's config.pbtxt."""
    shape = f"[ {model.side}, {model.side}, 3 ]"
    files = "".join(
        f'cc_model_filenames {{ key: "{capability(sm)}" value: "{name}" }}\n'
        for sm, name in sorted(model.plans.items())
    )
    notes = "".join(f"# {note}\n" for note in model.notes)
    return f"""{MARK}
{notes}name: "{model.name}"
platform: "{model.platform}"
backend: "{_BACKENDS[model.platform]}"
max_batch_size: {model.max_batch}
input [ {{ name: "pixels" data_type: TYPE_UINT8 dims: {shape} }} ]
output [
  {{
    name: "logits"
    data_type: TYPE_FP32
    dims: [ {model.classes} ]
    label_filename: "{LABELS}"
  }}
]
dynamic_batching {{ max_queue_delay_microseconds: {_DELAY} }}
{files}model_warmup [
  {{
    name: "one black frame"
    batch_size: 1
    inputs {{
      key: "pixels"
      value: {{ data_type: TYPE_UINT8 dims: {shape} zero_data: true }}
    }}
  }}
]
"""


def capability(generation: str) -> str:
    """Return a compute capability as Triton writes it: `8.6` for `sm86`."""
    digits = generation.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1]}"
