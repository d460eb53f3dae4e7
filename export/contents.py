"""Turn artifacts into the contents of a bundle: base tensors, graphs and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import merged
from adapt.clip.model import Clip, encoder_tensors
from adapt.optim.grid import GRIDS, Grid
from export.graphs import encoders
from export.graphs.builder import Arrays
from export.graphs.encoder import blocked_graph, deploy_tokens, encoder_graph
from export.graphs.encoders.base import Form
from export.graphs.heads import head_graph, head_shapes
from export.graphs.plain import join, write_plain
from export.merge import density, shared_base, survival, task_patch
from export.record import Survival, TaskRecord
from export.routing import routable, whitening_of, with_routing
from export.sources import Source
from runtime import backends
from runtime.bundles import bundle, manifest
from runtime.bundles.graphs import EncoderGraph, HeadGraph
from runtime.bundles.task import Task
from runtime.console import ProgressCallback
from runtime.models import BaseModel, Precision, Preprocess
from runtime.monitoring import confidence, statistics
from runtime.monitoring.whitening import MEMBER as WHITENING
from runtime.monitoring.whitening import Whitening
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256

_CARRIED = (statistics.MEMBER, confidence.MEMBER)
"""Optional members that tasks take over from artifacts as they are."""


@dataclass(frozen=True, eq=False)
class BundleContents:
    """The contents of a bundle; graphs of equal bytes are stored once."""

    base: BaseModel
    precision: Precision
    tensors: Arrays
    """Deploy tensors of the base."""
    encoders: dict[str, EncoderGraph]
    """Encoders by the digest of the graph that is not blocked."""
    heads: dict[str, HeadGraph]
    """Heads by the digest of their graph."""
    tasks: list[Task]
    """Tasks, in the order of their sources."""
    whitening: Whitening | None = None
    """By which a device chooses tasks; None where no source carries what that takes."""

    @property
    def blocked(self) -> bool:
        """Whether an encoder also has a graph of blocked convolutions."""
        return any(encoder.blocked for encoder in self.encoders.values())

    def write(self, path: Path, schema: int, report: Mapping[str, Any]) -> None:
        """Write the bundle; an existing one at `path` is replaced in one step.

        Args:
            path: Folder of the bundle.
            schema: Schema of the bundle, one of `runtime.bundles.manifest.WRITTEN`.
            report: Comparison of the engines with PyTorch, by task.

        Raises:
            FormatError: A value is not finite, or the schema lacks what a task requires.
            StorageError: The disk is full or not writable, or `path` is a folder of other files.
        """
        routed = self.whitening is not None and schema == manifest.SCHEMA
        used = {task.encoder for task in self.tasks}
        bundle.write(
            path,
            base=self.base,
            precision=self.precision,
            # The one of the bare base may serve routing alone, of which schema 2 knows nothing.
            encoders=[e for key, e in self.encoders.items() if routed or key in used],
            tensors=self.tensors,
            heads=list(self.heads.values()),
            tasks=self.tasks,
            report=report,
            schema=schema,
            optional={} if self.whitening is None else {WHITENING: self.whitening.encode()},
        )

    def write_plain(self, path: Path, task: Task) -> None:
        """Write one of the tasks as a plain ONNX file with constant weights.

        Raises:
            BaseModelError: The weights do not fit into one file.
            StorageError: The file cannot be written.
        """
        encoder, head = self.encoders[task.encoder], self.heads[task.head]
        graph = join(onnx.load_from_string(encoder.graph), onnx.load_from_string(head.graph))
        preprocess = replace(
            encoder.preprocess,
            resize=task.resize,
            interpolation=task.interpolation,
            background=task.background,
        )
        write_plain(path, graph, self.tensors, task, preprocess)


def make_contents(
    clip: Clip, sources: Sequence[Source], precision: Precision, on_progress: ProgressCallback
) -> BundleContents:
    """Return the contents of a bundle of all sources.

    Args:
        clip: Base model of the artifacts.
        sources: Artifacts that can share a bundle.
        precision: Precision of the deploy tensors and tokens.
        on_progress: Progress callback.

    Raises:
        BaseModelError: A source does not fit the base, the others or the precision.
        FormatError: A source is damaged.
    """
    grids = {source.artifact.config["grid"] for source in sources}
    # A folded filter is off the grid that its task was trained on.
    apart = grids != {"fp32"}
    forms = {low: encoders.get(clip.visual, apart=apart and low != "fp32") for low in GRIDS}
    form = forms[precision]
    tensors = shared_base(form, clip.visual, grids, precision)
    features = routable([source.artifact for source in sources])
    shared = whitening_of(features) if features else None
    contents = BundleContents(clip.info, precision, tensors, {}, {}, [], shared)
    # Where this machine has no blocked convolutions, nothing could verify their graph.
    blockable = backends.load("ort", "cpu", None).block > 1
    identity = tensors_sha256(tensors)
    for number, source in enumerate(sources):
        on_progress("merge", number, len(sources))
        artifact = source.artifact
        tokens = deploy_tokens(artifact.tokens, precision)
        encoder = _encoder(form, tensors, artifact.preprocess, tokens, blockable)
        kind, values = artifact.head, artifact.head_tensors
        head = HeadGraph(kind, head_graph(kind, values), head_shapes(kind, values))
        contents.encoders.setdefault(sha256(encoder.graph), encoder)
        contents.heads.setdefault(sha256(head.graph), head)
        patch = task_patch(form, tensors, merged(clip, artifact), precision)
        task = Task(
            info=artifact.task,
            method=source.variant,
            resize=artifact.preprocess.resize,
            interpolation=artifact.preprocess.interpolation,
            base_sha256=identity,
            encoder=sha256(encoder.graph),
            tokens=tokens,
            head=sha256(head.graph),
            head_tensors=values,
            patch=patch,
            record=asdict(_record(forms, clip, source, density(patch, tensors))),
            background=artifact.preprocess.background,
            requires=artifact.preprocess.requires,
            **_statistics(artifact),
        )
        contents.tasks.append(task if shared is None else with_routing(task, features, shared))
        if shared is not None and tokens:  # frames are looked at without them
            bare = _encoder(form, tensors, artifact.preprocess, {}, blockable)
            contents.encoders.setdefault(sha256(bare.graph), bare)
    return contents


def _statistics(artifact: Artifact) -> dict[str, Any]:
    """Return the optional members that a task takes over from its artifact, and their tensors."""
    own = {name: artifact.optional[name] for name in _CARRIED if name in artifact.optional}
    tensors = artifact.optional_tensors
    return {
        "optional": own,
        "optional_tensors": {n: a for n, a in tensors.items() if n.partition(".")[0] in own},
    }


def _record(
    forms: Mapping[Grid, Form], clip: Clip, source: Source, patch_density: float
) -> TaskRecord:
    artifact, tower = source.artifact, encoder_tensors(clip.visual)
    # Of an export at that precision, whatever this one is: its form says what stays float32.
    visible = {low: survival(forms[low], tower, artifact.residual, low) for low in GRIDS}
    return TaskRecord(
        artifact=source.sha256,
        variant=source.variant,
        density=artifact.density,
        patch_density=patch_density,
        survival=Survival(**visible),
        metrics=dict(artifact.metrics),
    )


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
