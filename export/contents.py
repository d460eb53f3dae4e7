"""From artifacts to the parts of a bundle: graphs, base tensors, tasks. Nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import onnx

from adapt.clip import Clip, encoder_tensors
from adapt.grid import GRIDS
from adapt.merge import merged
from export.facts import Facts, Survival
from export.graphs import encoders
from export.graphs.builder import Arrays
from export.graphs.encoder import blocked_graph, deploy_tokens, encoder_graph
from export.graphs.encoders.base import Form
from export.graphs.heads import head_graph, head_shapes
from export.merge import density, shared_base, survival, task_patch
from export.sources import Source
from runtime import backends
from runtime.bundles.graphs import EncoderGraph, HeadGraph
from runtime.bundles.task import Task
from runtime.spec import Precision, Preprocess
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256


@dataclass(frozen=True, eq=False)
class Parts:
    """What a bundle is made of. Graphs of the same bytes are there once."""

    tensors: Arrays
    """Deploy tensors of the base."""
    encoders: dict[str, EncoderGraph]
    """By the digest of the graph that is not blocked."""
    heads: dict[str, HeadGraph]
    """By digest."""
    tasks: list[Task]
    """One per source, in their order."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `runtime.bundles.bundle.write` that these parts give."""
        return {
            "encoders": list(self.encoders.values()),
            "tensors": self.tensors,
            "heads": list(self.heads.values()),
            "tasks": self.tasks,
        }

    def preprocess(self, task: Task) -> Preprocess:
        """Return how frames become pixels for one of the tasks."""
        return replace(
            self.encoders[task.encoder].preprocess,
            resize=task.resize,
            interpolation=task.interpolation,
            background=task.background,
        )

    def graphs(self, task: Task) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Return encoder and head of one of the tasks."""
        encoder, head = self.encoders[task.encoder], self.heads[task.head]
        return onnx.load_from_string(encoder.graph), onnx.load_from_string(head.graph)


def make_parts(
    clip: Clip, sources: Sequence[Source], precision: Precision, told: Callable[[int], None]
) -> Parts:
    """Return the parts of a bundle of all sources.

    Args:
        clip: Their base model.
        sources: Artifacts that can share a bundle.
        precision: Of the deploy tensors and tokens.
        told: Called with the number of sources done.

    Raises:
        BaseModelError: A source does not fit the base, the others or the precision.
        FormatError: A source is damaged.
    """
    grids = {source.artifact.config["grid"] for source in sources}
    # A folded filter is off the grid that its task was trained on.
    forms = {
        low: encoders.get(clip.visual, apart=low != "fp32" and grids != {"fp32"}) for low in GRIDS
    }
    form = forms[precision]
    tensors = shared_base(form, clip.visual, grids, precision)
    parts = Parts(tensors, {}, {}, [])
    # Where this machine has no blocked convolutions, nothing could verify their graph.
    blockable = backends.load("ort", "cpu", None).block > 1
    identity = tensors_sha256(tensors)
    for number, source in enumerate(sources):
        told(number)
        artifact = source.artifact
        tokens = deploy_tokens(artifact.tokens, precision)
        encoder = _encoder(form, tensors, artifact.preprocess, tokens, blockable)
        kind, values = artifact.head, artifact.head_tensors
        head = HeadGraph(kind, head_graph(kind, values), head_shapes(kind, values))
        parts.encoders.setdefault(sha256(encoder.graph), encoder)
        parts.heads.setdefault(sha256(head.graph), head)
        changes = task_patch(form, tensors, merged(clip, artifact), precision)
        tower = encoder_tensors(clip.visual)
        # Of an export at that precision, whatever this one is: its form says what stays float32.
        visible = {low: survival(forms[low], tower, artifact.residual, low) for low in GRIDS}
        facts = Facts(
            artifact=source.sha256,
            variant=source.variant,
            density=artifact.density,
            patch_density=density(changes, tensors),
            survival=Survival(**visible),
            metrics=dict(artifact.metrics),
        )
        parts.tasks.append(
            Task(
                info=artifact.task,
                method=source.variant,
                resize=artifact.preprocess.resize,
                interpolation=artifact.preprocess.interpolation,
                base_sha256=identity,
                encoder=sha256(encoder.graph),
                tokens=tokens,
                head=sha256(head.graph),
                head_tensors=artifact.head_tensors,
                patch=changes,
                facts=asdict(facts),
                background=artifact.preprocess.background,
                requires=artifact.preprocess.requires,
            )
        )
    return parts


def _encoder(
    form: Form, tensors: Arrays, preprocess: Preprocess, tokens: Arrays, blockable: bool
) -> EncoderGraph:
    graph = encoder_graph(form, tensors, preprocess, tokens)
    blocked = blocked_graph(form, tensors, preprocess) if blockable and not tokens else None
    return EncoderGraph(
        graph=graph.SerializeToString(deterministic=True),
        preprocess=preprocess,
        tokens={name: array.shape for name, array in tokens.items()},
        blocked=None if blocked is None else blocked.SerializeToString(deterministic=True),
    )
