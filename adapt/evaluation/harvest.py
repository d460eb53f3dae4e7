"""Compare a task with others on held-out frames of a harvest, of which few have labels.

Without labels nobody can say which of two tasks is better: scores are higher on easier domains,
whoever is right. The share of frames on which two disagree only bounds how much their accuracies
differ. With labels of a person the difference is estimated: separately for frames that the old task
was sure of and for the others, since people mostly sort the latter. A kind without labels counts
with its bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapt.data.base import UNKNOWN, ImageSet
from adapt.data.harvest import Harvest
from adapt.evaluation.compare import Line
from adapt.evaluation.intervals import Z95
from adapt.evaluation.stored import ZERO_SHOT
from runtime.console import count_of

OLD = "old task"
HEADER = ("against", "differs on", "sorted frames", "only it is right", "only the other", "gain %")
Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Against:
    """A task and another one on the frames of a harvest. Shares are in [0, 1]."""

    other: str
    differs: float
    """Share of the held-out frames on which the two differ."""
    sorted: int
    """Number of frames that a person has sorted."""
    better: int
    """Number of these that only the task gets right."""
    worse: int
    """Number of these that only the other gets right."""
    gain: float
    """Accuracy of the task less the other's, estimated from labels; 0 without any."""
    low: float
    """Lower end of the gain's 95 % interval; without labels, the least gain that is possible."""
    high: float
    """Upper end; without labels, the largest gain that is possible."""


@dataclass(frozen=True)
class Comparison:
    """A task compared with others on a harvest."""

    held_out: int
    sorted: int
    verdict: Verdict
    reason: str
    below_zero_shot: bool
    """Whether labels show the task to be right less often than zero-shot CLIP."""
    against: tuple[Against, ...]

    def document(self) -> dict[str, Any]:
        """Return the JSON of the member."""
        return {"version": 1, **asdict(self)}

    def rows(self) -> list[list[str]]:
        """Return the comparisons as cells of a table, for people."""
        return [
            [
                each.other,
                f"{100 * each.differs:.1f} % of {self.held_out}",
                *(str(n) for n in (each.sorted, each.better, each.worse)),
                f"{100 * each.low:+.1f} to {100 * each.high:+.1f}",
            ]
            for each in self.against
        ]


@dataclass(frozen=True, eq=False)
class _Frames:
    """The answers of all variants for some frames: classes (N,), UNKNOWN (-1) for other ones."""

    sure: NDArray[np.bool_]
    """Whether the old task was among its surer half."""
    labels: NDArray[np.int64]
    answers: dict[str, NDArray[np.int64]]

    def part(self, rows: NDArray[np.bool_]) -> _Frames:
        """Return some of the frames."""
        answers = {name: found[rows] for name, found in self.answers.items()}
        return _Frames(self.sure[rows], self.labels[rows], answers)


def compare(
    harvest: Harvest, lines: Sequence[Line], sorted_lines: Sequence[Line], variant: str
) -> Comparison:
    """Return how a variant compares with the others and with the task that saw the frames.

    Args:
        harvest: Images of the harvest.
        lines: Variants, evaluated on the held-out images.
        sorted_lines: Variants, evaluated on the unsure images that were sorted; empty if there are
            none.
        variant: Name of the variant.
    """
    held_out = _frames(harvest, harvest.held_out, lines)
    unsure = _frames(harvest, harvest.unsure, sorted_lines) if sorted_lines else None
    others = [name for name in held_out.answers if name != variant]
    against = tuple(_against(held_out, unsure, variant, other) for other in others)
    verdict, reason = _verdict(against)
    known = [each for each in against if each.other == ZERO_SHOT and each.sorted]
    return Comparison(
        held_out=len(held_out.labels),
        sorted=max((each.sorted for each in against), default=0),
        verdict=verdict,
        reason=reason,
        below_zero_shot=any(each.gain < 0 for each in known),
        against=against,
    )


def _frames(harvest: Harvest, images: ImageSet, lines: Sequence[Line]) -> _Frames:
    common = sorted(set.intersection(*({*line.predictions.positions.tolist()} for line in lines)))
    answers = {}
    for line in lines:
        predicted = dict(
            zip(line.predictions.positions.tolist(), line.predictions.classes[:, 0], strict=True)
        )
        answers[line.variant] = np.array([predicted[row] for row in common], np.int64)
    entries = [harvest.entries[images.paths[row].name] for row in common]
    positions = {name: position for position, name in enumerate(images.classes)}
    old = [positions.get(entry.label, UNKNOWN) for entry in entries]
    answers[OLD] = np.array(old, np.int64)
    sure = np.array([entry.sure for entry in entries], bool)
    return _Frames(sure, images.labels[common], answers)


def _against(held_out: _Frames, unsure: _Frames | None, variant: str, other: str) -> Against:
    """Return the comparison with one other, by strata of sure and unsure frames."""
    middle = spread = bound = 0.0
    count = better = worse = 0
    for sure in (True, False):
        part = held_out.part(held_out.sure == sure)
        if not len(part.labels):
            continue
        weight = len(part.labels) / len(held_out.labels)
        wins = [_wins(part, variant, other)]
        if unsure is not None and not sure:
            wins.append(_wins(unsure, variant, other))
        n, more, less = (sum(each) for each in zip(*wins, strict=True))
        if n:
            gain, deviation = _bonett_price(n, more, less)
            middle += weight * gain
            spread += (weight * deviation) ** 2
        else:  # where answers agree, accuracies do
            bound += weight * _differs(part, variant, other)
        count, better, worse = count + n, better + more, worse + less
    reach = bound + Z95 * math.sqrt(spread)
    return Against(
        other=other,
        differs=_differs(held_out, variant, other),
        sorted=count,
        better=better,
        worse=worse,
        gain=middle,
        low=max(middle - reach, -1.0),
        high=min(middle + reach, 1.0),
    )


def _wins(frames: _Frames, variant: str, other: str) -> tuple[int, int, int]:
    """Return the numbers of sorted frames, and of those that only one of the two gets right."""
    own, others, truth = frames.answers[variant], frames.answers[other], frames.labels
    known = truth != UNKNOWN
    better = known & (own == truth) & (others != truth)
    worse = known & (own != truth) & (others == truth)
    return int(known.sum()), int(better.sum()), int(worse.sum())


def _differs(frames: _Frames, variant: str, other: str) -> float:
    return float((frames.answers[variant] != frames.answers[other]).mean())


def _bonett_price(count: int, better: int, worse: int) -> tuple[float, float]:
    """Return the difference of two shares on the same images and its standard error.

    Bonett and Price 2012 (doi:10.3102/1076998611411915), whose interval holds for few images.
    """
    more, less = (better + 1) / (count + 2), (worse + 1) / (count + 2)
    return more - less, math.sqrt(max(more + less - (more - less) ** 2, 0) / (count + 2))


def _verdict(against: Sequence[Against]) -> tuple[Verdict, str]:
    """Return whether labels show that a task is better than all others, and why or why not."""
    labelled = max((each.sorted for each in against), default=0)
    if not labelled:
        apart = ", ".join(f"{100 * each.differs:.0f} % from {each.other}" for each in against)
        return "cannot tell", (
            "no frame is sorted into a class, and without labels nobody knows which is right where "
            f"they differ ({apart} of the held-out frames)"
        )
    frames = count_of(labelled, "sorted frame")
    if lost := [
        each for each in against if each.high < 0 or (_is_zero_shot(each) and each.gain < 0)
    ]:
        return "worse", f"{_gains(lost)}, on {frames}"
    if unclear := [each for each in against if each.low <= 0]:
        return "cannot tell", f"{_gains(unclear)}, on {frames}; sort more"
    return "better", f"{_gains(against)}, on {frames}"


def _is_zero_shot(each: Against) -> bool:
    return each.other == ZERO_SHOT


def _gains(against: Sequence[Against]) -> str:
    return ", ".join(
        f"{100 * each.low:+.1f} to {100 * each.high:+.1f} % against {each.other}"
        for each in against
    )
